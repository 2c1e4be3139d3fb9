"""Which goals are measured, and by whom. A new one is a file in ``rows/`` and a line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.measure import Line
from tests.bench.rows import accept, fanout, intake, queue

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One goal of docs/GOALS.md."""

    title: str
    measure: Callable[[Bench], Awaitable[list[Line]]]
    profile: Callable[[Bench, Path], Awaitable[list[float]]] | None = None
    """Runs ours once with cProfile writing to the path; returns the processor seconds of each thread."""


ROWS: Mapping[str, Row] = {
    "1": Row("webhook intake", intake.measure, intake.profile),
    "4": Row("queue", queue.measure, queue.profile),
    "6": Row("fan-out", fanout.measure),
    "12": Row("accepting a broadcast", accept.measure, accept.profile),
}
