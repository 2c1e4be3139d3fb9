"""Contacts: all that is known of one (contract.md, Contacts)."""

from __future__ import annotations

from handlers.base import BaseHandler, NotFound
from whatsapp.contact_view import ContactViews

__all__ = ["ContactPage"]


class ContactPage(BaseHandler):
    """``/api/contacts/<id>``; the id is a phone, a user id, or our key."""

    views: ContactViews

    async def get(self, who: str) -> None:
        """200 with all that is known; 404 where that is nothing."""
        found = await self.views.find(who)
        if found is None:
            raise NotFound(f"nothing is known of the contact {who[:100]}")
        self.answer(found)
