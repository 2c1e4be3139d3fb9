"""All that is known of a contact, as callers read it (contract.md, Contacts).

Owns what belongs to it and where that is looked up; nothing is stored for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from store.base import Store
from store.threads import Thread
from whatsapp.contacts import Contacts
from whatsapp.conversations import Conversations
from whatsapp.events import rfc3339
from whatsapp.opt_out import told_suppression
from whatsapp.window import WindowState
from whatsapp.windows import Windows

__all__ = ["ContactViews"]

_WINDOW_MS = 24 * 3600 * 1000


class ContactViews:
    """``numbers``: those of ours that send."""

    def __init__(
        self,
        store: Store,
        contacts: Contacts,
        windows: Windows,
        conversations: Conversations,
        numbers: Sequence[str],
    ) -> None:
        self._store = store
        self._contacts = contacts
        self._windows = windows
        self._conversations = conversations
        self._numbers = numbers

    async def find(self, text: str) -> dict[str, Any] | None:
        """Whom a caller names by phone, user id or key; None where nothing is known of anybody of that name.
        Raises StoreUnavailable."""
        contact = await self._contacts.find_text(text)
        aliases = [alias.alias for alias in await self._store.aliases_of(contact)]
        threads = await self._conversations.threads(contact)
        windows = await self._windows.states(contact, self._numbers)
        suppression = (await self._store.find_suppressions([contact])).get(contact)
        heard = [at for _, at in windows.values() if at] + [one.heard_at for one in threads if one.heard_at]
        if not (aliases or threads or heard or suppression):
            return None
        told = await self._conversations.told(
            offset for one in threads for offset in (one.heard_offset, one.spoke_offset)
        )
        first = [one.first_heard_at for one in threads if one.first_heard_at]
        return {
            "contact": contact,
            "name": next((one.name for one in threads if one.name), None),
            "phones": [alias for alias in aliases if alias.isdigit()],
            "user_ids": [alias for alias in aliases if not alias.isdigit()],
            "first_heard_at": rfc3339(min(first)) if first else None,
            "last_heard_at": rfc3339(max(heard)) if heard else None,
            "windows": [_window(number, *state) for number, state in windows.items()],
            "last_received": told.get(max((one.heard_offset for one in threads), default=0)),
            "last_sent": told.get(max((one.spoke_offset for one in threads), default=0)),
            "preferences": _preferences(threads),
            "suppression": told_suppression(suppression) if suppression is not None else None,
        }


def _window(number: str, state: WindowState, heard_at: int | None) -> dict[str, Any]:
    return {
        "phone_number_id": number,
        "state": state.value,
        "until": rfc3339(heard_at + _WINDOW_MS) if heard_at else None,
        "last_heard_at": rfc3339(heard_at) if heard_at else None,
    }


def _preferences(threads: Sequence[Thread]) -> Any:
    told = next((one.preferences for one in threads if one.preferences), b"")
    return msgspec.Raw(told) if told else None
