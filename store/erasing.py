"""What a store is asked when all that concerns a contact is to be erased.

Owns the shapes, and the one rule that both stores share: what counts as a mention of somebody's address.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

import msgspec

__all__ = ["Erasure", "Found", "Mentions", "Shelf"]

_WORDS = (re.compile(r"[0-9]{5,}"), re.compile(r"[A-Z]{2}\.(?:ENT\.)?[0-9A-Za-z]+"))
"""What phones and user ids look like."""
_RAW_WORDS = tuple(re.compile(pattern.pattern.encode()) for pattern in _WORDS)

Shelf = Literal["rows", "said", "claims", "answers"]
"""Where things about contacts lie, beside the log: messages of ours; what was said in conversations; claims;
answers kept for repetitions."""


class Erasure(msgspec.Struct, frozen=True, gc=False):
    """A request to erase somebody."""

    id: str
    asked_at: int
    body: bytes
    """JSON, how far it is; whoever does it looks into that alone."""
    done_at: int = 0


class Found(NamedTuple):
    """What a part of a shelf has."""

    ids: list[str]
    after: str
    """Where to look on; empty at the end."""


class Mentions:
    """Somebody, or several: the keys of their contacts, and their addresses, to be looked for in texts.

    An address counts where it stands by itself: not within a longer number, nor as the beginning of a longer
    id. A text is gone through as often for one as for a hundred.
    """

    def __init__(self, contacts: Collection[str], addresses: Collection[str]) -> None:
        self.contacts = frozenset(contacts)
        self._words = frozenset(addresses)
        self._raw = frozenset(address.encode() for address in addresses)
        odd = [one for one in addresses if not any(pattern.fullmatch(one) for pattern in _WORDS)]
        # Of a key that is no address there are few.
        self._odd = [re.compile(rf"(?<![0-9]){re.escape(one)}(?![0-9A-Za-z])") for one in odd]
        self._odd_raw = [re.compile(pattern.pattern.encode()) for pattern in self._odd]

    def among(self, text: str | bytes) -> bool:
        """Whether one of the addresses stands in it."""
        if isinstance(text, bytes):
            return any(not self._raw.isdisjoint(pattern.findall(text)) for pattern in _RAW_WORDS) or any(
                pattern.search(text) for pattern in self._odd_raw
            )
        return any(not self._words.isdisjoint(pattern.findall(text)) for pattern in _WORDS) or any(
            pattern.search(text) for pattern in self._odd
        )

    def without(self, text: str, instead: str) -> str:
        """The text with this in place of each."""
        for pattern in self._odd:
            text = pattern.sub(instead, text)
        for pattern in _WORDS:
            text = pattern.sub(lambda found: instead if found[0] in self._words else found[0], text)
        return text

    def claims(self, key: str) -> bool:
        """Whether a claim's key, which may end with a contact's, is about them."""
        return self.among(key) or any(key.endswith(f":{contact}") for contact in self.contacts)
