"""A bound on how often one contact is answered automatically: two machines that answer each other would go on
for ever.

Pure. In memory only: after a restart the count begins anew.
"""

from __future__ import annotations

__all__ = ["LoopGuard"]

_MINUTE_MS = 60_000
_SWEEP = 10_000


class LoopGuard:
    """``most``: answers to a contact within a minute."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._given: dict[str, dict[str, int]] = {}

    def forget(self) -> None:
        """Begin anew."""
        self._given = {}

    def has_room(self, contact: str, token: str, now: int) -> bool:
        """Whether one more may be given. One of a token that was counted is given again."""
        given = _recent(self._given.get(contact, {}), now)
        return token in given or len(given) < self._most

    def count(self, contact: str, token: str, now: int) -> None:
        """One was given."""
        if len(self._given) > _SWEEP:
            self._given = {who: given for who, given in self._given.items() if _recent(given, now)}
        given = self._given[contact] = _recent(self._given.get(contact, {}), now)
        given.setdefault(token, now)


def _recent(given: dict[str, int], now: int) -> dict[str, int]:
    return {token: at for token, at in given.items() if now - at < _MINUTE_MS}
