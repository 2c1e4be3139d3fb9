"""The life of an outbox row: every state, every allowed move, in one table.

Both stores turn this table into the guard of their updates, so a row can only move along it whoever writes.
A status of Meta's moves a row forward only; a late or repeated one changes nothing.

========== ================================================ ==============================================
state      who puts a row there                             what a crash makes of it
========== ================================================ ==============================================
queued     the request; a retry; a stop before the call     nothing: the lane reads it again
sending    the lane, durably, just before the call          ``unknown``, when the lane's lease is next taken
unknown    a call without a clear answer; a crash           stays; the grace begins anew
sent       Meta's answer, or a status that proves it        stays; statuses move it on, or queue it again
delivered  a status                                         stays
read       a status                                         stays
played     a status (voice notes)                           stays
failed     a refusal, too many attempts, a failed status    stays; a person, or its fallback, queues it again
cancelled  a person, before it left                         stays
expired    its ``expires_at`` passed before it left         stays
========== ================================================ ==============================================
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ENDED", "MOVES", "OPEN", "TAKEN", "State", "can_move", "sources_of"]


class State(StrEnum):
    """Where a row is. The values are stored and answered as they stand."""

    QUEUED = "queued"
    SENDING = "sending"
    UNKNOWN = "unknown"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_S = State

TAKEN: frozenset[State] = frozenset({State.SENT, State.DELIVERED, State.READ, State.PLAYED})
"""States that prove that Meta took the message."""

_LATE_PROOFS = TAKEN - {_S.SENT}

MOVES: dict[State, frozenset[State]] = {
    # With proofs: a status for an earlier, doubtful attempt came while the row waited to be sent again.
    _S.QUEUED: TAKEN | {_S.SENDING, _S.CANCELLED, _S.EXPIRED, _S.FAILED},
    # A status may overtake the answer of the call.
    _S.SENDING: TAKEN | {_S.QUEUED, _S.FAILED, _S.UNKNOWN},
    _S.UNKNOWN: TAKEN | {_S.FAILED, _S.QUEUED},
    # Meta may fail what it took: for good, or so that it is sent again.
    _S.SENT: _LATE_PROOFS | {_S.FAILED, _S.EXPIRED, _S.QUEUED},
    _S.DELIVERED: frozenset({_S.READ, _S.PLAYED}),
    _S.READ: frozenset({_S.PLAYED}),
    _S.PLAYED: frozenset(),
    # Late proof that it arrived after all, a person's retry, or its fallback's turn.
    _S.FAILED: _LATE_PROOFS | {_S.QUEUED},
    _S.CANCELLED: frozenset(),
    _S.EXPIRED: _LATE_PROOFS,
}

OPEN: frozenset[State] = frozenset({_S.QUEUED, _S.SENDING, _S.UNKNOWN})
"""States in which the gateway still has something to do; a task is complete when no row is in one."""

ENDED: frozenset[State] = frozenset(State) - OPEN


def can_move(source: State, target: State) -> bool:
    """Whether a row in ``source`` may move to ``target``."""
    return target in MOVES[source]


def sources_of(target: State) -> frozenset[State]:
    """The states from which a row may move to ``target``."""
    return frozenset(state for state, targets in MOVES.items() if target in targets)
