"""``GET /api/messages``: a message's whole life; its ``POST`` is in ``own_messages.py``."""

from __future__ import annotations

from handlers.base import NotFound
from handlers.fields import refusal
from handlers.own_messages import OwnMessages
from handlers.pages import query_of
from handlers.parameters import MessageQuery
from whatsapp.message_life import MessageLives

__all__ = ["Messages"]


class Messages(OwnMessages):
    """``/api/messages``."""

    lives: MessageLives

    async def get(self) -> None:
        """200 with all that is known of one message; 404 where that is nothing."""
        query = query_of(self, MessageQuery, [])
        if bool(query.wamid) == bool(query.message_id):
            raise refusal([("wamid", "is needed, or message_id, and not both")])
        if query.wamid:
            # They are base64 and hold no blank: it is a + that was not escaped.
            found = await self.lives.of_wamid(query.wamid.replace(" ", "+"))
        else:
            found = await self.lives.of_row(query.message_id)
        if found is None:
            raise NotFound(f"nothing is known of the message {(query.wamid or query.message_id)[:100]}")
        self.answer(found)
