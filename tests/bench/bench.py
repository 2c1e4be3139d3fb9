"""What every row is given: where to work, on which cores, how often, how much.

Owns the order of runs (ours, the other, ours, the other, ...), so that a machine that slows down slows both.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.bench.machine import Cores

__all__ = ["Bench"]

Mine = TypeVar("Mine")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class Bench:
    """The circumstances of all rows."""

    folder: Path
    """On the disk that the gateway would use; removed at the end."""
    cores: Cores
    runs: int
    scale: float
    """1 for figures that count; less for a quick look, whose figures do not."""

    def count(self, full: int) -> int:
        """How many of something, by scale."""
        return max(1, round(full * self.scale))

    def new_folder(self, name: str) -> Path:
        """A folder for one run."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def say(self, text: str) -> None:
        """Tell who waits how far it is."""
        print(text, file=sys.stderr, flush=True)

    async def alternate(
        self, ours: Callable[[], Awaitable[Mine]], other: Callable[[], Awaitable[Other]]
    ) -> tuple[list[Mine], list[Other]]:
        """The results of ``runs`` runs of each."""
        mine: list[Mine] = []
        others: list[Other] = []
        for run in range(self.runs):
            self.say(f"  run {run + 1} of {self.runs}: ours")
            mine.append(await ours())
            self.say(f"  run {run + 1} of {self.runs}: the other")
            others.append(await other())
        return mine, others
