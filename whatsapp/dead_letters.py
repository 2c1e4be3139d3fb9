"""Dead letters: messages that failed for good, and what a person may do with them.

Owns what a retry passes over, and the portions in which many are queued anew, so that lanes and other writers
get in between. How one is told is said by :func:`dead_letter`; rows are queued by ``requeue.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from store.base import Store
from store.records import DeadFilter, Place, Row, RowView
from store.states import State
from whatsapp.attempt_history import attempts_of
from whatsapp.events import rfc3339
from whatsapp.outcome import NO_WORD
from whatsapp.requeue import PORTION, Requeue
from whatsapp.task_messages import message_of

__all__ = ["DeadLetters", "Revived", "Skip", "dead_letter"]

Skip = Literal["not_found", "not_failed", "expired"]
"""Why a message is not sent anew: there is none of this id; it has not failed, or not any more; its
``expires_at`` has passed, so that it would only expire."""

_NO_ADVICE = "Nothing more is known of why it failed: look at its attempts, and send it anew if it is wanted."
_DOUBT = " An earlier attempt may have reached the recipient all the same: sent anew, they may have it twice."


class Revived(NamedTuple):
    """What a retry has done."""

    retried: int
    skipped: Counter[Skip]
    more: bool
    """Whether there are more that the filter fits, past those that were looked at."""


class DeadLetters:
    """Lists, looks into, and retries. A call that broke off is made good by the same call again."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def page(self, limit: int, before: Place | None, only: DeadFilter) -> list[RowView]:
        """Those that failed last first. Raises StoreUnavailable."""
        return await self._store.dead_letters(limit, before, only)

    async def find(self, message_id: str) -> dict[str, Any] | None:
        """All that is known of one, or of a message that has not failed, or not any more; None where there is
        none of this id. Raises StoreUnavailable."""
        view = (await self._store.find_rows([message_id])).get(message_id)
        if view is None:
            return None
        history = await self._store.find_history(message_id)
        return {
            **dead_letter(view),
            "message": msgspec.Raw(view.row.payload),
            "advice": advice_on(view) if view.row.state is State.FAILED else None,
            "attempts": attempts_of(view, history),
            "attempts_left_out": history.left_out,
        }

    async def retry(self, message_ids: Sequence[str]) -> Revived:
        """Queue these anew. Raises StoreUnavailable."""
        requeue = Requeue(self._store, self._now_ms())
        skipped: Counter[Skip] = Counter()
        wanted = list(dict.fromkeys(message_ids))
        try:
            for start in range(0, len(wanted), PORTION):
                ids = wanted[start : start + PORTION]
                found = await self._store.find_rows(ids)
                skipped["not_found"] += len(ids) - len(found)
                await self._revive([view.row for view in found.values()], requeue, skipped)
        finally:
            await requeue.tell()
        return Revived(requeue.count, +skipped, more=False)

    async def retry_all(self, only: DeadFilter, limit: int) -> Revived:
        """Queue those that the filter fits anew, the last that failed first; at most ``limit`` are looked at.
        Raises StoreUnavailable."""
        requeue = Requeue(self._store, self._now_ms())
        skipped: Counter[Skip] = Counter()
        before: Place | None = None
        try:
            # Downwards in time: what fails again meanwhile is not met a second time.
            while limit > 0 and (views := await self.page(min(limit, PORTION), before, only)):
                limit -= len(views)
                before = Place(views[-1].ended_at, views[-1].row.seq)
                await self._revive([view.row for view in views], requeue, skipped)
        finally:
            await requeue.tell()
        more = limit == 0 and bool(await self.page(1, before, only))
        return Revived(requeue.count, +skipped, more)

    async def _revive(self, rows: Sequence[Row], requeue: Requeue, skipped: Counter[Skip]) -> None:
        now = self._now_ms()
        failed = [row for row in rows if row.state is State.FAILED]
        timely = [row for row in failed if not row.expires_at or row.expires_at > now]
        queued = await requeue.queue(timely) if timely else []
        skipped["expired"] += len(failed) - len(timely)
        # Those too that somebody else has taken on since they were read.
        skipped["not_failed"] += len(rows) - len(failed) + len(timely) - len(queued)


def dead_letter(view: RowView) -> dict[str, Any]:
    """One as lists show it."""
    row = view.row
    return {
        "message_id": row.id,
        "task_id": row.task_id,
        "phone_number_id": row.lane,
        **{name: value for name, value in message_of(view).items() if name not in ("n", "ended_at")},
        "failed_at": rfc3339(view.ended_at) if row.state is State.FAILED else None,
        "retried": row.retried,
        "doubt": row.doubt,
    }


def advice_on(view: RowView) -> str:
    """What the operator is to do about a message that failed."""
    error: dict[str, Any] = msgspec.json.decode(view.error) if view.error else {}
    advice: str = error.get("advice") or _NO_ADVICE
    # Without a word the doubt is what the advice is about.
    return advice + (_DOUBT if view.row.doubt and error.get("name") != NO_WORD else "")
