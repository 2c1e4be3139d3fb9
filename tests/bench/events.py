"""Events whose JSON, as subscribers see it, has an exact number of bytes.

The place in front of an event grows with its digits, so the text inside is cut to fit.
"""

from __future__ import annotations

from functools import cache

from hub.frames import event_frame, event_json
from store.records import Event

__all__ = ["event_of", "frame_of"]

_AT = 1_767_225_600_000
_OPENING = b'{"event":"message.received","at":"2026-01-01T00:00:00.000Z","data":{"text":"'
_CLOSING = b'"}}'


def event_of(offset: int, size: int) -> Event:
    """The event at this offset, of so many bytes. Raises ValueError where it cannot be as small."""
    body = _body(len(str(offset)), len(str(offset - 1)), size)
    return Event(offset, offset - 1, f"in:messages:{offset}", "message.received", _AT, body)


def frame_of(offset: int, size: int) -> bytes:
    """Its frame."""
    return event_frame(event_of(offset, size))


@cache
def _body(digits: int, prev_digits: int, size: int) -> bytes:
    sample = Event(10 ** (digits - 1), 10 ** (prev_digits - 1), "", "", 0, _OPENING + _CLOSING)
    missing = size - len(event_json(sample))
    if missing < 0:
        raise ValueError(f"an event has at least {size - missing} bytes, not {size}")
    return _OPENING + b"x" * missing + _CLOSING
