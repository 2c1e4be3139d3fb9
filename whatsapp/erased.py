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
from collections.abc import Callable, Iterable, Mapping, Sequence

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
_PAGE = 500
_LIFE_MS = 600_000
"""After which opt-outs are read anew: those of a process that was killed before it told of them."""
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
        self._silent: Mapping[str, Suppression] = {}
        self._stale = True
        self._read_at = 0

    async def load(self) -> None:
        """Read who was erased, or is to be, and whose opt-outs are remembered, where that may have changed.
        Raises StoreUnavailable."""
        if not self._secret:
            self._secret = await self._find_secret()
        found = await self._store.list_erasures(self._now_ms() - _REPEATS_MS)
        self._recent = frozenset(
            one for each in found for one in msgspec.json.decode(each.body, type=_Prints).fingerprints
        )
        if self._stale or self._now_ms() - self._read_at > _LIFE_MS:
            self._stale, self._read_at = False, self._now_ms()
            try:
                self._silent = {one.contact: one for one in await self._remembered()}
            except BaseException:
                self._stale = True
                raise

    def notice(self, batch: Sequence[Event]) -> None:
        """A listener of the log: somebody was erased, or an opt-out ended, maybe by another process."""
        if any(
            event.type == EventType.CONTACT_ERASED or event.contact.startswith(REMEMBERED) for event in batch
        ):
            self._stale = True

    async def _remembered(self) -> list[Suppression]:
        found: list[Suppression] = []
        after = REMEMBERED
        while page := await self._store.list_suppressions(_PAGE, after):
            found += (one for one in page if one.contact.startswith(REMEMBERED))
            after = page[-1].contact
            if not after.startswith(REMEMBERED):
                break
        return found

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
        if not self._silent:
            return
        words = []
        for alias in aliases:
            kept = self._silent.get(REMEMBERED + self.fingerprint(alias.alias))
            if kept is not None:
                words.append(msgspec.structs.replace(kept, contact=alias.contact))
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
