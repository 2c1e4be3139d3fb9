"""What a store is asked when all that concerns a contact is to be erased.

Owns the shapes, and the one rule that both stores share: what counts as a mention of somebody's address.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

import msgspec

__all__ = ["Erasure", "Found", "Mentions", "Shelf"]

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
    """Somebody, or several: the keys of their contacts, and their addresses, to be looked for in texts."""

    def __init__(self, contacts: Collection[str], addresses: Collection[str]) -> None:
        self.contacts = frozenset(contacts)
        words = sorted(map(_word, addresses))
        # Without any, what nothing is equal to.
        self._pattern = re.compile("|".join(words) or r"(?!)")
        self._bytes = re.compile("|".join(words).encode() or rb"(?!)")

    def among(self, text: str | bytes) -> bool:
        """Whether one of the addresses stands in it, by itself."""
        if isinstance(text, bytes):
            return self._bytes.search(text) is not None
        return self._pattern.search(text) is not None

    def without(self, text: str, instead: str) -> str:
        """The text with this in place of each."""
        return self._pattern.sub(instead, text)

    def claims(self, key: str) -> bool:
        """Whether a claim's key, which may end with a contact's, is about them."""
        return self.among(key) or any(key.endswith(f":{contact}") for contact in self.contacts)


def _word(address: str) -> str:
    """Not within a longer number, nor at the beginning of a longer id."""
    edge = "[0-9]" if address.isdigit() else "[0-9A-Za-z]"
    return f"(?<![0-9]){re.escape(address)}(?!{edge})"
