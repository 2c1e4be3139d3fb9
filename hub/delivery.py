"""What follows when an outside receiver does not take an event: try again, skip the event, or pause.

Pure: answers, times and a random source go in, a decision and what is to be remembered come out. Order
holds for each receiver, so an event that is not taken keeps back all that follow. Three faults are told
apart:

========  =====================================================  ==========================================
fault     what the receiver said                                 what follows
========  =====================================================  ==========================================
AWAY      nothing, or anything that is not in the next two rows  tried again for as long as it takes
REFUSED   400, 413, 414, 415, 422: this event is no good to it   tried again for ``max_age_s``, then skipped
GONE      410: nobody is here any more                           paused at once
========  =====================================================  ==========================================

A receiver that has taken nothing for ``pause_after_s`` is paused in any case. A pause is ended by a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Literal, NamedTuple

import msgspec

from whatsapp.errors import retry_after
from whatsapp.retry import RetryPolicy

__all__ = [
    "NOWHERE",
    "Again",
    "Failure",
    "Fault",
    "Pause",
    "Reason",
    "Record",
    "Rules",
    "Skip",
    "decide",
    "failure_of",
    "troubled",
]

_REFUSALS = frozenset({400, 413, 414, 415, 422})
_GONE = 410
_LONGEST_WAIT_S = 3600.0
"""However long a Retry-After is."""
_TRIES_BEFORE_PAUSE = 5
"""Since the start: a process that was stopped for days does not pause at its first try."""
NOWHERE = -1
"""In place of an offset."""

Reason = Literal["person", "gone", "refused", "failing"]
"""Why a receiver gets nothing for the time being."""


class Fault(Enum):
    """See the module's docstring."""

    AWAY = "away"
    REFUSED = "refused"
    GONE = "gone"


class Failure(NamedTuple):
    """Why events were not taken."""

    fault: Fault
    why: str
    """One sentence, with nothing in it that the receiver wrote."""
    retry_after_s: float = 0.0


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of a receiver over restarts, and shared by all processes. Times are milliseconds
    since 1970; 0: not so."""

    paused_at: int = 0
    reason: Reason | None = None
    """Of the pause."""
    go_to: int = NOWHERE
    """Where a person wants it to go on, until it does."""
    failing_since: int = 0
    """It has taken nothing since."""
    failing_at: int = 0
    """Offset of the event that it did not take last."""
    refused_since: int = 0
    """It has been refusing that event since."""
    why: str = ""
    """The last failure."""


class Rules(msgspec.Struct, frozen=True):
    """How long what is tried."""

    backoff: RetryPolicy = RetryPolicy()
    max_age_s: float = 3600.0
    pause_after_s: float = 3 * 86_400.0
    """May be infinite."""
    skips_refused: bool = True
    """Else a receiver is paused that refuses an event for too long."""


class Again(NamedTuple):
    """Try the same again after so many seconds."""

    delay_s: float


class Skip(NamedTuple):
    """Go on with the next event, and tell that this one was not taken."""


class Pause(NamedTuple):
    """Try nothing more until a person has it go on, and tell so."""

    reason: Reason


def failure_of(status: int, headers: Mapping[str, str], now: int) -> Failure | None:
    """What an HTTP status says of the events that were posted; None: they were taken. ``now``: milliseconds
    since 1970."""
    if 200 <= status < 300:
        return None
    why = f"HTTP {status}"
    if status == _GONE:
        return Failure(Fault.GONE, why)
    if status in _REFUSALS:
        return Failure(Fault.REFUSED, why)
    if 300 <= status < 400:
        why += ": redirects are not followed"
    return Failure(Fault.AWAY, why, retry_after(headers.get("Retry-After", ""), now))


def troubled(record: Record, failure: Failure, offset: int, now: int) -> Record:
    """The record after the event at ``offset`` was not taken."""
    refused_since = record.refused_since if record.failing_at == offset else 0
    if failure.fault is Fault.REFUSED:
        refused_since = refused_since or now
    return msgspec.structs.replace(
        record,
        failing_since=record.failing_since or now,
        failing_at=offset,
        refused_since=refused_since,
        why=failure.why,
    )


def decide(
    rules: Rules, record: Record, failure: Failure, tries: int, now: int, random: Callable[[], float]
) -> Again | Skip | Pause:
    """What to do after so many tries in a row, 1 or more, ``record`` being that after the last of them."""
    if failure.fault is Fault.GONE:
        return Pause("gone")
    if failure.fault is Fault.REFUSED and now - record.refused_since >= rules.max_age_s * 1000:
        return Skip() if rules.skips_refused else Pause("refused")
    if tries >= _TRIES_BEFORE_PAUSE and now - record.failing_since >= rules.pause_after_s * 1000:
        return Pause("failing")
    wait_s = min(failure.retry_after_s, _LONGEST_WAIT_S)
    return Again(rules.backoff.delay(tries, random, retry_after_s=wait_s))
