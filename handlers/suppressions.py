"""Who has opted out of broadcasts: looked at, added to and taken from by an operator (contract.md,
Suppressions)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from handlers.base import BaseHandler, NotFound
from handlers.drafting import address_of, given_address
from handlers.fields import convert, refuse_if
from handlers.pages import cursor_of, place_of_cursor, query_of
from handlers.parameters import SuppressionsQuery
from handlers.requests import SuppressManyRequest, SuppressOne, SuppressRequest
from store.base import Store
from store.records import Suppression
from whatsapp.contacts import Contacts
from whatsapp.identity import Address
from whatsapp.opt_out import BLOCKED, OPTED_OUT, told_suppression
from whatsapp.suppressions import Suppressions
from whatsapp.validate import Findings, validate

__all__ = ["SuppressionList", "SuppressionPage"]

_CHUNK = 500
"""Contacts that are looked up and stored at once, so that other work gets in between."""


class _SuppressionHandler(BaseHandler):
    """What both paths share."""

    store: Store
    contacts: Contacts
    suppressions: Suppressions
    now_ms: Callable[[], int]

    def time_of(self, text: str | None, path: str, findings: Findings) -> int:
        """Milliseconds since 1970; now where none is given."""
        now = self.now_ms()
        if text is None:
            return now
        try:
            at = int(datetime.fromisoformat(text.upper()).timestamp() * 1000)
        except (ValueError, OverflowError):
            findings.fault(path, "is no time that there is")
            return now
        if not 0 < at <= now:
            findings.fault(path, "must not be in the future, nor before 1970")
            return now
        return at


class SuppressionList(_SuppressionHandler):
    """``/api/suppressions``."""

    async def get(self) -> None:
        """200 with a page, in the order of contacts, and the next page's cursor; null where this is the
        last."""
        query = query_of(self, SuppressionsQuery, ["limit"])
        after = place_of_cursor(query.cursor)[1] if query.cursor else ""
        found = await self.store.list_suppressions(query.limit + 1, after)
        page = found[: query.limit]
        more = len(found) > len(page)
        self.answer(
            {
                "suppressions": [told_suppression(one) for one in page],
                "next": cursor_of(0, page[-1].contact) if more else None,
            }
        )

    async def post(self) -> None:
        """200 once all of a list are suppressed; 400 naming each that is nobody, and then none is."""
        request, _ = convert(self.read_json(), SuppressManyRequest, strict=True)
        findings = Findings()
        asked = []
        for n, item in enumerate(request.contacts):
            if n % _CHUNK == 0:
                await asyncio.sleep(0)
            asked.append(self._one(item, f"contacts[{n}]", findings))
        refuse_if(findings.problems)
        in_force = 0
        for start in range(0, len(asked), _CHUNK):
            chunk = [one for one in asked[start : start + _CHUNK] if one is not None]
            keys = await self.contacts.resolve({address for address, _, _ in chunk})
            words = [
                _word(keys[address], since, request.reason, "import", note or request.note)
                for address, since, note in chunk
            ]
            in_force += sum(one.in_force for one in await self.suppressions.put(words))
        total = len(asked)
        self.answer(
            {
                "success": True,
                "message": f"{in_force} of {total} contacts are suppressed",
                "total": total,
                "suppressed": in_force,
            }
        )

    def _one(self, item: Any, path: str, findings: Findings) -> tuple[Address, int, str] | None:
        """Who, since when, and with which note."""
        if not isinstance(item, dict):
            address = given_address(item, findings, path)
            return (address, self.now_ms(), "") if address else None
        unknown = len(findings.unknown)
        one = validate(item, SuppressOne, findings, path)
        findings.problems += [
            (where, f"is no field here{hint}") for where, hint in findings.unknown[unknown:]
        ]
        if one is None:
            return None
        address = given_address(one.contact, findings, f"{path}.contact")
        since = self.time_of(one.since, f"{path}.since", findings)
        return (address, since, one.note) if address else None


class SuppressionPage(_SuppressionHandler):
    """``/api/suppressions/<phone, user id or key>``."""

    async def get(self, contact: str) -> None:
        """200 with how it stands; 404 where it is not suppressed."""
        self.answer(told_suppression(await self._find(contact)))

    async def put(self, contact: str) -> None:
        """200 with how it stands, which an older ``since`` may not have changed."""
        body = self.read_json() if self.request.body else {}
        request, _ = convert(body, SuppressRequest, strict=True)
        findings = Findings()
        address = address_of(contact, findings, "contact")
        since = self.time_of(request.since, "since", findings)
        refuse_if(findings.problems)
        assert address is not None
        key = (await self.contacts.resolve([address]))[address]
        (after,) = await self.suppressions.put([_word(key, since, request.reason, "api", request.note)])
        self.answer(told_suppression(after))

    async def delete(self, contact: str) -> None:
        """200 once broadcasts reach it again; 404 where it is not suppressed."""
        found = await self._find(contact)
        now = max(self.now_ms(), found.since)
        (after,) = await self.suppressions.put([Suppression(found.contact, 0, now, found.reason, "api")])
        self.answer(told_suppression(after))

    async def _find(self, contact: str) -> Suppression:
        key = await self.contacts.find_text(contact)
        found = (await self.store.find_suppressions([key])).get(key)
        if found is None:
            raise NotFound(f"{contact[:100]} is not suppressed")
        return found


def _word(contact: str, since: int, reason: str, source: str, note: str) -> Suppression:
    return Suppression(contact, since, 0, reason or OPTED_OUT, source, note, firm=reason == BLOCKED)
