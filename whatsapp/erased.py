"""Who was erased, known by fingerprints alone: so that nothing of them comes back by the wrong way.

Owns the secret of the fingerprints, and what follows from one that is met again:

- What Meta repeats of an event that was erased is not told as new, nor a late status of a message of ours
  that was; for as long as Meta repeats.
- Somebody who had opted out, and is met again as a new contact, is not written to unasked still.

Costs nothing where nobody was erased.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence

import msgspec

from store.base import Store
from store.records import Alias, Event, Memo, Suppression
from whatsapp.erasure_rules import hidden_key
from whatsapp.events import EventType
from whatsapp.webhook import Update

__all__ = ["REMEMBERED", "Erased"]

_MEMO = "erasure"
_REPEATS_MS = 8 * 24 * 3600 * 1000
"""Meta repeats for seven days (CLOUD_API_2026.md 7)."""
_TOGETHER = 500
REMEMBERED = "erased:"
"""Before a fingerprint, where the key of a contact stands else: an opt-out that outlives its contact."""


class _Prints(msgspec.Struct):
    fingerprints: list[str] = []


class Erased:
    """One per process. Call :meth:`load` first, and now and then."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._secret = b""
        self._recent: frozenset[str] = frozenset()
        self._any_silent = False
        self._stale = True

    async def load(self) -> None:
        """Read who was erased, or is to be, and whether opt-outs are remembered. Raises StoreUnavailable."""
        if not self._secret:
            self._secret = await self._find_secret()
        self._stale = False
        try:
            found = await self._store.list_erasures(self._now_ms() - _REPEATS_MS)
            first = await self._store.list_suppressions(1, REMEMBERED)
        except BaseException:
            self._stale = True
            raise
        self._recent = frozenset(
            one for each in found for one in msgspec.json.decode(each.body, type=_Prints).fingerprints
        )
        self._any_silent = any(one.contact.startswith(REMEMBERED) for one in first)

    def notice(self, batch: Sequence[Event]) -> None:
        """A listener of the log: somebody was erased, maybe by another process."""
        if any(event.type == EventType.CONTACT_ERASED for event in batch):
            self._stale = True

    def fingerprint(self, name: str) -> str:
        """Of an address or a key."""
        return hmac.digest(self._secret, name.encode("utf-8", "surrogatepass"), hashlib.sha256)[:16].hex()

    async def not_told(self, updates: Sequence[Update]) -> Sequence[Update]:
        """Without those of people who were erased that were told before that, or are about what is gone.
        Raises StoreUnavailable."""
        if self._stale:
            await self.load()
        if not self._recent:
            return updates
        theirs = [update for update in updates if self._is_recent(update.address)]
        if not theirs:
            return updates
        told = await self._store.known_keys({hidden_key(update.key) for update in theirs})
        about = {update.message_id for update in theirs if update.message_id}
        rows = await self._store.find_rows(about) if about else {}
        dropped = {
            update.key
            for update in theirs
            if hidden_key(update.key) in told or (update.message_id and update.message_id not in rows)
        }
        return [update for update in updates if update.key not in dropped]

    async def returning(self, aliases: Sequence[Alias]) -> None:
        """Somebody is met for the first time under these addresses: keep their contact silent who was when
        they were erased. Raises StoreUnavailable."""
        if self._stale:
            await self.load()
        if not self._any_silent:
            return
        names = {REMEMBERED + self.fingerprint(alias.alias): alias for alias in aliases}
        wanted = list(names)
        words: list[Suppression] = []
        for start in range(0, len(wanted), _TOGETHER):
            found = await self._store.find_suppressions(wanted[start : start + _TOGETHER])
            words += [
                msgspec.structs.replace(kept, contact=names[one].contact) for one, kept in found.items()
            ]
        if words:
            await self._store.put_suppressions(words, by_operator=any(word.firm for word in words))

    def _is_recent(self, parts: Iterable[str]) -> bool:
        return any(part and self.fingerprint(part) in self._recent for part in parts)

    async def _find_secret(self) -> bytes:
        if await self._store.find_memo(_MEMO) is None:
            # Of two processes at once one comes first, and both read what it has kept.
            await self._store.put_memo(Memo(_MEMO, 1, msgspec.json.encode(secrets.token_hex(32))))
        memo = await self._store.find_memo(_MEMO)
        assert memo is not None
        return bytes.fromhex(msgspec.json.decode(memo.body, type=str))
