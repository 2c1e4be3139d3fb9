"""Where the time of the event loop's thread goes: what cProfile wrote, cut down to what can be acted upon.

cProfile sees that thread only, and makes calls look dearer than they are; the processor time of all
threads, which it does not change much, is told beside it.

Figures that cannot be are left out: of a coroutine into which an exception was thrown (a timeout, as in
the waiting of a loop) it may book more own time than cumulative time, all of it waiting.
"""

from __future__ import annotations

import pstats
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.children import REPOSITORY

__all__ = ["report"]

_SHOWN = 3
_ROOMS = ("handlers", "hub", "whatsapp", "store")


class _Cost(NamedTuple):
    name: str
    calls: int
    own_s: float
    cumulative_s: float


def report(file: Path, cpu_seconds: Sequence[float]) -> str:
    """The three functions of ours that cost most, by own and cumulative time; the shares of all packages."""
    ours: list[_Cost] = []
    packages: Counter[str] = Counter()
    for (path, line, name), (_, calls, own, cumulative, _) in pstats.Stats(str(file)).stats.items():  # type: ignore[attr-defined]
        if own > cumulative:
            continue
        packages[_package(path)] += own
        if (place := _in_a_room(path)) is not None:
            ours.append(_Cost(f"{place}:{line} {name}", calls, own, cumulative))
    total = sum(packages.values())
    by_own = sorted(ours, key=lambda cost: -cost.own_s)[:_SHOWN]
    by_cumulative = sorted(ours, key=lambda cost: -cost.cumulative_s)[:_SHOWN]
    shares = ", ".join(f"{name} {own / total:.0%}" for name, own in packages.most_common(10))
    return "\n".join(
        (
            "Largest by own time:",
            *(f"  {_shown(cost.own_s, total)}  {cost.calls:>9,} calls  {cost.name}" for cost in by_own),
            "Largest by cumulative time:",
            *(
                f"  {_shown(cost.cumulative_s, total)}  {cost.calls:>9,} calls  {cost.name}"
                for cost in by_cumulative
            ),
            f"Own time by package: {shares}",
            f"Processor time by thread, the event loop first: {', '.join(f'{s:.1f} s' for s in cpu_seconds)}",
        )
    )


def _shown(seconds: float, total: float) -> str:
    return f"{seconds:6.2f} s {seconds / total:5.1%}"


def _in_a_room(path: str) -> str | None:
    """The file's place in the repository, if it is in one of the rooms below ``server.py``."""
    try:
        place = Path(path).relative_to(REPOSITORY)
    except ValueError:
        return None
    return str(place) if place.parts[0] in _ROOMS else None


def _package(path: str) -> str:
    parts = Path(path).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    if (place := _in_a_room(path)) is not None:
        return place.split("/")[0]
    if path.startswith("~"):
        return "built-in"
    return parts[-2] if len(parts) > 1 else path
