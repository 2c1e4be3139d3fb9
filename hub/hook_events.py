"""The events about outside receivers: one is paused, goes on, goes on elsewhere in the log, or missed some.

Pure. ``which`` names the happening among those of its type and receiver, so that a repetition is told once.
"""

from __future__ import annotations

from typing import Any

from hub.delivery import Reason, Record
from store.records import Event, NewEvent
from whatsapp.events import EventType, build_event, rfc3339

__all__ = ["missed", "paused", "replayed", "resumed", "skipped", "subject"]

_KEY = "hook:"


def subject(event: Event) -> str:
    """The name of the receiver that an event is about; empty where it is about none."""
    return event.key.split(":", 2)[1] if event.key.startswith(_KEY) else ""


def paused(name: str, which: str, reason: Reason, record: Record, cursor: int, now: int) -> NewEvent:
    """It gets nothing any more. ``record``: how it stood before."""
    data = {
        "reason": reason,
        "why": record.why or None,
        "failing_since": rfc3339(record.failing_since) if record.failing_since else None,
        "offset": cursor,
    }
    return _event(EventType.HOOK_PAUSED, name, which, now, data)


def resumed(name: str, which: str, cursor: int, now: int) -> NewEvent:
    """It goes on past ``cursor``."""
    return _event(EventType.HOOK_RESUMED, name, which, now, {"offset": cursor})


def replayed(name: str, which: str, cursor: int, to: int, now: int) -> NewEvent:
    """It goes on past ``to`` in place of ``cursor``."""
    return _event(EventType.HOOK_REPLAYED, name, which, now, {"from": cursor, "to": to})


def skipped(name: str, which: str, event: Event, record: Record, now: int) -> NewEvent:
    """It refused an event for too long."""
    data = {
        "reason": "refused",
        "offset": event.offset,
        "event": event.type,
        "why": record.why,
        "refused_since": rfc3339(record.refused_since),
    }
    return _event(EventType.HOOK_SKIPPED, name, f"{which}:{event.offset}", now, data)


def missed(name: str, which: str, after: int, through: int, now: int) -> NewEvent:
    """Events past ``after`` up to ``through`` were removed from the log before it had them."""
    data = {"reason": "removed", "after": after, "through": through}
    return _event(EventType.HOOK_SKIPPED, name, f"{which}:{after}:{through}", now, data)


def _event(type: str, name: str, which: str, now: int, data: dict[str, Any]) -> NewEvent:
    return build_event(type, f"{_KEY}{name}:{type}:{which}", now, {"hook": name, **data})
