"""Contacts: all that is known of one, and the erasing of it (contract.md, Contacts)."""

from __future__ import annotations

from handlers.base import BaseHandler, NotFound
from whatsapp.contact_view import ContactViews
from whatsapp.erasure import Erasures, told_erasure

__all__ = ["ContactPage", "ErasurePage"]


class ContactPage(BaseHandler):
    """``/api/contacts/<id>``; the id is a phone, a user id, or our key."""

    views: ContactViews
    erasures: Erasures

    async def get(self, who: str) -> None:
        """200 with all that is known; 404 where that is nothing."""
        found = await self.views.find(who)
        if found is None:
            raise NotFound(f"nothing is known of the contact {who[:100]}")
        self.answer(found)

    async def delete(self, who: str) -> None:
        """202 once the request is durable, by which all that is kept of them is erased; 404 for a name that
        is no address, and nobody's key."""
        asked = await self.erasures.ask(who)
        if asked is None:
            raise NotFound(f"nothing is known of the contact {who[:100]}")
        told = told_erasure(asked)
        message = f"what is kept of the contact will be erased: GET /api/erasures/{asked.id} tells when it is"
        self.answer({"success": True, "message": message, **told}, 202)


class ErasurePage(BaseHandler):
    """``/api/erasures/<id>``."""

    erasures: Erasures

    async def get(self, id: str) -> None:
        """200 with how a request stands; 404 where there is none, or it was done long ago."""
        found = await self.erasures.find(id)
        if found is None:
            raise NotFound(f"there is no erasure {id[:100]}")
        self.answer(found)
