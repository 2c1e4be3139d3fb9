"""Conversations: their list, their messages, and what a person does to them (contract.md, Conversations)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from handlers.base import BaseHandler, NotFound
from handlers.fields import convert, refusal
from handlers.pages import query_of
from handlers.parameters import ConversationsQuery, ThreadQuery
from handlers.requests import MarkRequest
from store.threads import Said
from whatsapp.contacts import Contacts
from whatsapp.conversations import Conversations
from whatsapp.read_marks import ReadMarks

__all__ = ["ConversationList", "ConversationMessages", "MarkRead", "ShowTyping"]


class ConversationHandler(BaseHandler):
    """What the paths of conversations share. ``numbers``: those that send, the default first."""

    conversations: Conversations
    contacts: Contacts
    read_marks: ReadMarks
    numbers: Sequence[str]


class ConversationList(ConversationHandler):
    """``GET /api/conversations``."""

    async def get(self) -> None:
        """200 with a page, those in which something was said last first."""
        query = query_of(self, ConversationsQuery, ["limit", "before"])
        numbers = [query.phone_number_id] if query.phone_number_id else self.numbers
        found = await self.conversations.page(
            numbers, query.limit + 1, query.before, unread=query.unread == "true"
        )
        page = found[: query.limit]
        more = len(found) > len(page)
        self.answer({"conversations": page, "next": page[-1]["position"] if more else None})


class ConversationMessages(ConversationHandler):
    """``GET /api/conversations/<contact>/messages``."""

    async def get(self, who: str) -> None:
        """200 with a page, the oldest of it first, and where to go on in both directions."""
        query = query_of(self, ThreadQuery, ["limit", "before", "after"])
        if query.before is not None and query.after is not None:
            raise refusal([("after", "does not go with before")])
        contact = await self.contacts.find_text(who)
        found = await self.conversations.messages(
            contact,
            query.limit + 1,
            before=query.before,
            after=query.after,
            phone_number_id=query.phone_number_id,
        )
        more = len(found) > query.limit
        page = found[: query.limit] if query.after is not None else found[-query.limit :]
        self.answer(
            {
                "contact": contact,
                "messages": await self.conversations.tell(page),
                "older": _older(page, query, more),
                "newer": page[-1].offset if page else query.after or (query.before or 1) - 1,
            }
        )


class MarkHandler(ConversationHandler):
    """What is told to Meta of a customer's last message: that it was read."""

    async def tell_meta(self, who: str, **more: Any) -> None:
        """200 with the message that was marked; 404 where the contact has written nothing."""
        request, _ = convert(self.read_json() if self.request.body else {}, MarkRequest, strict=True)
        contact = await self.contacts.find_text(who)
        found = await self.conversations.heard_last(contact, request.phone_number_id)
        if found is None or not found[1].wamid:
            number = request.phone_number_id
            where = f"to phone_number_id {number[:100]}" if number else "that is known here"
            raise NotFound(f"the contact {who[:100]} has written nothing {where}")
        thread, said = found
        if thread.phone_number_id not in self.numbers:
            raise refusal([("phone_number_id", f"{thread.phone_number_id[:100]} is no number that sends")])
        if thread.unread or more:
            mark = {"messaging_product": "whatsapp", "status": "read", "message_id": said.wamid, **more}
            await self.read_marks.mark(thread.phone_number_id, msgspec.json.encode(mark))
        self.answer(
            {
                "success": True,
                "contact": contact,
                "phone_number_id": thread.phone_number_id,
                "wamid": said.wamid,
                "position": said.offset,
            }
        )


class MarkRead(MarkHandler):
    """``POST /api/conversations/<contact>/read``."""

    async def post(self, who: str) -> None:
        """200, also where all was read before."""
        await self.tell_meta(who)


class ShowTyping(MarkHandler):
    """``POST /api/conversations/<contact>/typing``."""

    async def post(self, who: str) -> None:
        """200 once Meta shows it; it marks as read too (CLOUD_API.md 1.3)."""
        await self.tell_meta(who, typing_indicator={"type": "text"})


def _older(page: Sequence[Said], query: ThreadQuery, more: bool) -> int | None:
    """Where to go on towards the beginning; None where that is reached."""
    if query.after is not None:
        return page[0].offset if page else query.after + 1
    return page[0].offset if more else None
