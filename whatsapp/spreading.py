"""How the lanes are spread over the processes that share a store: who gives which up, who seeks which.

Pure: what is held by whom goes in, a decision comes out; time is counted in looks. Every process decides for
itself from the same view, and all decide alike: each is due its share, the shares differ by one at most, and
the larger ones go to those who hold most already, so that nothing moves once all have theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Spreading", "SpreadingMoves", "shares"]

_PATIENCE = 5
"""Looks in which a lane is found free before somebody takes it beyond their share: who is due it may have
other numbers in its configuration, or be in trouble."""
_KEPT = 300
"""Looks for which such a lane is not given up again: a few minutes, so that it does not go to and fro."""


class SpreadingMoves(NamedTuple):
    """What a process is to do now."""

    give_up: tuple[str, ...] = ()
    """Lanes to be drained, whose leases are then given back."""
    seek: tuple[str, ...] = ()
    """Lanes whose leases are to be taken."""


def shares(held: Mapping[str, int], lanes: int) -> dict[str, int]:
    """How many of so many lanes each process is due, by how many each holds."""
    least, more = divmod(lanes, len(held))
    by_most = sorted(held, key=lambda process: (-held[process], process))
    return {process: least + (place < more) for place, process in enumerate(by_most)}


class Spreading:
    """The decisions of one process, ``me``, which may work the lanes of ``numbers``."""

    def __init__(self, me: str, numbers: Sequence[str]) -> None:
        self._me = me
        self._numbers = tuple(numbers)
        self._free: Counter[str] = Counter()
        self._kept: dict[str, int] = {}
        self._processes: frozenset[str] = frozenset()

    def look(
        self, holders: Mapping[str, str], processes: Collection[str], ending: Collection[str] = ()
    ) -> SpreadingMoves:
        """Decide by who holds which lane and which processes live. ``ending``: lanes that we give up already.

        To be called once a beat; what is sought and not had is sought again at the next look.
        """
        everybody = frozenset(processes) | {self._me}
        self._remember(holders, everybody)
        held = dict.fromkeys(sorted(everybody), 0)
        for number in self._numbers:
            if holders.get(number) in held:
                held[holders[number]] += 1
        due = shares(held, len(self._numbers))
        return SpreadingMoves(
            self._give_up(holders, held[self._me] - due[self._me], ending),
            self._seek(held, due),
        )

    def _remember(self, holders: Mapping[str, str], everybody: frozenset[str]) -> None:
        self._free = Counter({n: self._free[n] + 1 for n in self._numbers if n not in holders})
        self._kept = {number: looks - 1 for number, looks in self._kept.items() if looks > 1}
        if everybody != self._processes:
            self._kept.clear()
        self._processes = everybody

    def _give_up(self, holders: Mapping[str, str], too_many: int, ending: Collection[str]) -> tuple[str, ...]:
        mine = [number for number in self._numbers if holders.get(number) == self._me]
        too_many -= sum(number in ending for number in mine)
        may = [number for number in mine if number not in ending and number not in self._kept]
        return tuple(may[-too_many:]) if too_many > 0 else ()

    def _seek(self, held: Mapping[str, int], due: Mapping[str, int]) -> tuple[str, ...]:
        """Those free ones that are ours when all who lack some take them in turn; and what nobody takes."""
        free = [number for number in self._numbers if number in self._free]
        wanting = (process for process in held for _ in range(due[process] - held[process]))
        ours = [n for n, process in zip(free, wanting, strict=False) if process == self._me]
        forgotten = [n for n in free if self._free[n] > _PATIENCE and n not in ours]
        self._kept |= dict.fromkeys(forgotten, _KEPT)
        return (*ours, *forgotten)
