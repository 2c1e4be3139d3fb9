"""What a measurement is: figures of ours and of the other, their ratio, the goal. Where the goal is a bound,
nothing is measured beside ours.

Pure: numbers in, values out. Nothing here runs anything; how a figure is shown is in ``page.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

__all__ = [
    "BenchError",
    "Gap",
    "Goal",
    "Line",
    "Run",
    "Series",
    "at_least",
    "at_most",
    "costs",
    "never_over",
    "percentile",
    "under",
]


class BenchError(Exception):
    """A measurement that cannot be made, or whose figures mean nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Run:
    """So many units of work done in a time, and what that cost the process that is measured."""

    units: int
    seconds: float
    cpu_s: float
    """Processor time of all its threads."""

    @property
    def per_second(self) -> float:
        """The rate."""
        return self.units / self.seconds


def costs(ours: Sequence[Run], other: Sequence[Run]) -> str:
    """The processor time of a unit on each side, and how much of its core each had: medians of the runs.

    With much less than all of the core, something else ran there, or the disk or the load was waited for.
    """
    (our_us, our_share), (other_us, other_share) = map(_cost, (ours, other))
    return (
        f"processor time for each: ours {our_us:.1f} us, the other {other_us:.1f} us;"
        f" they had {our_share:.0%} and {other_share:.0%} of the server's core"
    )


def _cost(runs: Sequence[Run]) -> tuple[float, float]:
    return median(1e6 * run.cpu_s / run.units for run in runs), median(
        run.cpu_s / run.seconds for run in runs
    )


class Gap(NamedTuple):
    """How long an event loop did not come round. The longer is the greater."""

    seconds: float
    cpu_s: float
    """Processor time of the process in it."""
    at_s: float
    """When it began, from when gaps were first looked for."""


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one side, one for each run."""

    values: tuple[float, ...]
    choose: Callable[[Sequence[float]], float] = median
    """Which of them counts."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Series:
        """The rates of these runs."""
        return cls(tuple(run.per_second for run in runs))

    @property
    def figure(self) -> float:
        """What counts."""
        return self.choose(self.values)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio of ours to the other is to be; without another, what ours is to be."""

    text: str
    holds: Callable[[float], bool]


def at_least(ratio: float) -> Goal:
    """Ours is so many times the other, or more: for rates."""
    return Goal(f"at least {ratio:g}x", lambda measured: measured >= ratio)


def at_most(ratio: float) -> Goal:
    """Ours is so many times the other, or less: for times and memory."""
    return Goal(f"at most {ratio:g}x", lambda measured: measured <= ratio)


def under(bound: float, unit: str) -> Goal:
    """Ours is less."""
    return Goal(f"under {bound:g}{unit}", lambda measured: measured < bound)


def never_over(bound: float, unit: str) -> Goal:
    """Ours is no more, in any run: the series must choose its worst."""
    return Goal(f"never over {bound:g}{unit}", lambda measured: measured <= bound)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    row: str
    """Number of the goal."""
    what: str
    unit: str
    ours: Series
    against: str = ""
    other: Series | None = None
    goal: Goal | None = None
    fsync_ms: float | None = None
    """Median of an fsync just before, where the figure hangs on the disk."""
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Ours to the other; None without another."""
        return None if self.other is None else self.ours.figure / self.other.figure

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        ratio = self.ratio
        return None if self.goal is None else self.goal.holds(self.ours.figure if ratio is None else ratio)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed. Raises ValueError for no values."""
    if not values:
        raise ValueError("there are no values")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
