"""Keeps in mind, also over restarts and for all processes, which accounts Meta does not let send.

Owns the memo in the store that holds it, and the telling. What a webhook says of an account is read in
``account_standing.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from store.base import Store
from store.errors import StoreError
from store.records import Event, Memo
from whatsapp.account_standing import Account, Standing, in_force, joined, standing_of

__all__ = ["AccountWatch"]

_log = logging.getLogger(__name__)

_MEMO = "accounts"
_AGAIN_S = 5.0
_MOST = 100
"""Accounts that are kept; those with the latest news."""


class AccountWatch:
    """One per process; all of them share the memo, and hear the same log."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._standing: Standing = {}
        self._heard = asyncio.Event()

    def notice(self, batch: Sequence[Event]) -> None:
        """A listener of the log."""
        news = standing_of(batch)
        if news:
            for _, word in in_force(news, self._now_ms()):
                _log.warning("%s", word.why)
            self._standing = joined(self._standing, news)
            self._heard.set()

    async def run(self) -> None:
        """Take over what the memo has, and keep there what is heard. Until cancelled."""
        while True:
            self._heard.clear()
            try:
                if await self._keep():
                    await self._heard.wait()
            except StoreError as error:
                _log.info("what Meta says of accounts is kept later: %s", error.message)
                await asyncio.sleep(_AGAIN_S)

    def trouble(self) -> list[dict[str, Any]]:
        """What stands against accounts now: ``{what, account, why}``, ``what`` being ``account``."""
        against = in_force(self._standing, self._now_ms())
        return [{"what": "account", "account": id, "why": word.why} for id, word in against]

    async def _keep(self) -> bool:
        """Whether the memo has all that is known; another process may have changed it just now."""
        memo = await self._store.find_memo(_MEMO)
        kept = msgspec.json.decode(memo.body, type=dict[str, Account]) if memo else {}
        self._standing = _newest(joined(kept, self._standing))
        if self._standing == kept:
            return True
        version = memo.version + 1 if memo else 1
        return await self._store.put_memo(Memo(_MEMO, version, msgspec.json.encode(self._standing)))


def _newest(standing: Standing) -> Standing:
    def latest(account: Account) -> int:
        return max([account.lifted_at, *(word.at for word in account.words.values())])

    return dict(sorted(standing.items(), key=lambda item: latest(item[1]))[-_MOST:])
