"""What is remembered of a row's attempts, and how callers read it (contract.md, Dead letters).

Pure. Owns the notes: one for each end of an attempt that was no plain success, in the words of
:class:`Ending`. The store keeps them with the row, in the write that moves it, and never looks into them.
What became of an attempt that no note tells of is read from the row's own times: a message that is taken at
once costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from store.records import Change, Event, History, Row, RowView
from store.states import TAKEN, State
from whatsapp.events import rfc3339

__all__ = ["Ending", "attempts_of", "noted", "noted_by_event"]


class Ending(StrEnum):
    """How an attempt ended, or what was done about it since."""

    RETRYING = "retrying"
    """Refused for now: it is tried again."""
    FAILED = "failed"
    """Refused for good, or the last that might be made; also by a status, after Meta had taken it."""
    UNKNOWN = "unknown"
    """Nobody knows: no answer came, or the process died during the call."""
    RESENT = "resent"
    """It was unknown, no word came within the grace, and the message is sent again."""
    NOT_SENT = "not_sent"
    """The request never left."""
    FALLBACK = "fallback"
    """The window was closed: its fallback is sent from then on."""
    GIVEN_UP = "given_up"
    """It failed while it waited, before another attempt was made."""
    RETRIED = "retried"
    """It had failed, and a person has it sent anew."""
    SENT = "sent"
    """Meta took it."""
    SENDING = "sending"
    """It is under way."""


_BETWEEN = frozenset({Ending.GIVEN_UP, Ending.RETRIED})
"""Those between two attempts: they name the one before, and not its beginning."""


class _Note(msgspec.Struct, omit_defaults=True):
    attempt: int
    outcome: str
    ended_at: int
    started_at: int = 0
    error: msgspec.Raw | UnsetType = UNSET
    wamid: str = ""
    burnt: bool = False
    doubt: bool = False
    retry_in_ms: int | None = None


def noted(change: Change, row: Row, ending: Ending, error: bytes = b"") -> Change:
    """The change with a note of what it ends; ``error``: JSON, where the change itself keeps none."""
    return _with_note(change, row.attempt, ending, row.claimed_at, error)


def noted_by_event(change: Change, event: Event, attempt: int, ending: Ending) -> Change:
    """As :func:`noted`, for a change that is read from its event: the row is not at hand."""
    assert event.message_id == change.row_id
    return _with_note(change, attempt, ending, 0, b"")


def _with_note(change: Change, attempt: int, ending: Ending, started_at: int, error: bytes) -> Change:
    error = error or change.error
    note = _Note(
        attempt=attempt,
        outcome=ending.value,
        ended_at=change.at,
        started_at=0 if ending in _BETWEEN else started_at,
        error=msgspec.Raw(error) if error else UNSET,
        wamid=change.wamid,
        burnt=change.burn,
        doubt=change.doubt,
        retry_in_ms=max(0, change.due - change.at) if change.to is State.QUEUED else None,
    )
    return msgspec.structs.replace(change, note=msgspec.json.encode(note))


def attempts_of(view: RowView, history: History) -> list[dict[str, Any]]:
    """All that is known of a row's attempts, oldest first, as callers read it."""
    notes = [msgspec.json.decode(note, type=_Note) for note in history.notes]
    return [_told(note, view.row) for note in (*notes, *_last(view))]


def _last(view: RowView) -> Iterator[_Note]:
    """What no note tells of: an attempt under way, or one that Meta took."""
    row = view.row
    if row.state is State.SENDING:
        yield _Note(row.attempt, Ending.SENDING.value, 0, row.claimed_at)
    elif row.state in TAKEN:
        wamid = view.wamids[-1] if view.wamids else ""
        yield _Note(row.attempt, Ending.SENT.value, _taken_at(view), row.claimed_at, wamid=wamid)


def _taken_at(view: RowView) -> int:
    """When the last attempt was first known to have been taken: of what was sent anew, ``sent_at`` tells of
    an earlier one."""
    times = (view.sent_at, view.last_sent_at, view.delivered_at, view.read_at)
    return min((at for at in times if at >= max(1, view.row.claimed_at)), default=0)


def _told(note: _Note, row: Row) -> dict[str, Any]:
    started_at = note.started_at
    if not started_at and note.attempt == row.attempt and note.outcome not in _BETWEEN:
        started_at = row.claimed_at
    return {
        "attempt": note.attempt,
        "outcome": note.outcome,
        "started_at": rfc3339(started_at) if started_at else None,
        "ended_at": rfc3339(note.ended_at) if note.ended_at else None,
        "error": msgspec.json.decode(note.error) if note.error is not UNSET else None,
        "wamid": note.wamid or None,
        "burnt": note.burnt,
        "doubt": note.doubt,
        "retry_in_ms": note.retry_in_ms,
    }
