"""Dead letters: messages that failed for good, and their retry (contract.md, Dead letters)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from handlers.base import BaseHandler, NotFound
from handlers.fields import convert, refusal
from handlers.messages import counted
from handlers.pages import cursor_of, foreign_cursor, place_of_cursor, query_of
from handlers.parameters import DeadFields, DeadQuery
from handlers.requests import ReviveRequest
from store.records import DeadFilter, Place
from whatsapp.contacts import Contacts
from whatsapp.dead_letters import DeadLetters, Revived, dead_letter

__all__ = ["DeadLetterList", "DeadLetterPage", "RetryDeadLetter", "RetryDeadLetters"]

_AT_ONCE = 1000
"""How many a retry by filter looks at unless told."""


class DeadLetterHandler(BaseHandler):
    """What the paths of dead letters share."""

    dead: DeadLetters
    contacts: Contacts

    async def filter(self, asked: DeadFields, path: str = "") -> DeadFilter:
        """As the store has it. ``path``: what the names of its fields begin with. Raises InvalidRequest,
        StoreUnavailable."""
        return DeadFilter(
            lane=asked.phone_number_id,
            task_id=asked.task_id,
            contact=await self.contacts.find_text(asked.contact) if asked.contact else "",
            error_name=asked.name,
            error_code=asked.code or 0,
            since=_time(asked.since, f"{path}since"),
            until=_time(asked.until, f"{path}until"),
        )

    def not_found(self, message_id: str) -> NotFound:
        """What to raise where no message has this id."""
        return NotFound(f"there is no message {message_id[:100]}")

    def answer_retry(self, done: Revived, **more: Any) -> None:
        """200 with what a retry has done."""
        self.answer(
            {
                "success": True,
                "message": f"{counted(done.retried)} queued again",
                "retried": done.retried,
                "skipped": dict(done.skipped),
                **more,
            }
        )


class DeadLetterList(DeadLetterHandler):
    """``GET /api/dead-letters``."""

    async def get(self) -> None:
        """200 with a page, those that failed last first, and the next page's cursor; null where this is the
        last."""
        query = query_of(self, DeadQuery, ["limit", "code"])
        found = await self.dead.page(query.limit + 1, _place(query.cursor), await self.filter(query))
        page = found[: query.limit]
        more = len(found) > len(page)
        self.answer(
            {
                "dead_letters": [dead_letter(view) for view in page],
                "next": cursor_of(page[-1].ended_at, str(page[-1].row.seq)) if more else None,
            }
        )


class DeadLetterPage(DeadLetterHandler):
    """``GET /api/dead-letters/<message id>``."""

    async def get(self, message_id: str) -> None:
        """200 with all that is known of a message, failed or not any more; 404 where there is none."""
        found = await self.dead.find(message_id)
        if found is None:
            raise self.not_found(message_id)
        self.answer(found)


class RetryDeadLetter(DeadLetterHandler):
    """``POST /api/dead-letters/<message id>/retry``."""

    async def post(self, message_id: str) -> None:
        """200, whether it is queued again or there was nothing to do; 404 where there is no such message."""
        done = await self.dead.retry([message_id])
        if "not_found" in done.skipped:
            raise self.not_found(message_id)
        self.answer_retry(done)


class RetryDeadLetters(DeadLetterHandler):
    """``POST /api/dead-letters/retry``."""

    async def post(self) -> None:
        """200 with how many are queued again, and how many are not, by the reason."""
        request, _ = convert(self.read_json(), ReviveRequest, strict=True)
        if request.filter is None:
            self.answer_retry(await self.dead.retry(request.message_ids or ()), more=False)
            return
        only = await self.filter(request.filter, "filter.")
        done = await self.dead.retry_all(only, request.limit or _AT_ONCE)
        self.answer_retry(done, more=done.more)


def _time(text: str | None, path: str) -> int:
    """Milliseconds since 1970; 0 where there is none. Raises InvalidRequest."""
    if text is None:
        return 0
    try:
        # 0 would stand for none.
        return max(1, int(datetime.fromisoformat(text.upper()).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise refusal([(path, "is no time that there is")]) from None


def _place(cursor: str) -> Place | None:
    """Raises InvalidRequest for what is no cursor of ours."""
    if not cursor:
        return None
    failed_at, seq = place_of_cursor(cursor)
    if not (seq.isascii() and seq.isdecimal() and len(seq) < 18):
        raise foreign_cursor()
    return Place(failed_at, int(seq))
