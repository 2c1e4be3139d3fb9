"""The history of a number that was in the Business app before, as Meta tells it: by parts and threads.

Pure. Owns the walk over one item of the field ``history`` (CLOUD_API.md 4.7). A part may hold thousands of
messages. Each becomes an event of its own, so that no event grows with the history, each is found by its
contact, and one that is told again is known by its id; the last event of a part says that it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from whatsapp.webhook_items import (
    MESSAGES,
    Frame,
    Unreadable,
    Update,
    items_of,
    read_error,
    read_past,
    read_progress,
    unparsed,
)

__all__ = ["read_history"]

_THREADS = "threads"


def read_history(frame: Frame, item: Any, where: str) -> Iterator[Update]:
    """Its messages and errors, then ``history.progress``; what is broken is set aside where it stands."""
    if not isinstance(item, dict):
        yield unparsed(frame, item, where, "a part of the history must be an object")
        return
    threads = messages = 0
    for path, thread, why in items_of(item.get(_THREADS), f"{where}.{_THREADS}"):
        if why or not isinstance(thread, dict):
            yield unparsed(frame, thread, path, why or "a thread must be an object")
            continue
        threads += 1
        for update in _read_thread(frame, thread, path):
            messages += 1
            yield update
    for path, error, why in items_of(item.get("errors"), f"{where}.errors"):
        try:
            yield unparsed(frame, error, path, why) if why else read_error(frame, "errors", error)
        except Unreadable as fault:
            yield unparsed(frame, error, path, str(fault))
    yield read_progress(frame, item, leave_out=_THREADS, threads=threads, messages=messages)


def _read_thread(frame: Frame, thread: dict[str, Any], where: str) -> Iterator[Update]:
    about = {name: value for name, value in thread.items() if name != MESSAGES}
    for path, message, why in items_of(thread.get(MESSAGES), f"{where}.{MESSAGES}"):
        try:
            yield unparsed(frame, message, path, why) if why else read_past(frame, MESSAGES, message, about)
        except Unreadable as fault:
            yield unparsed(frame, message, path, str(fault))
