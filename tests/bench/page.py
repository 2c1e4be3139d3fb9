"""The table, for the terminal and for ``docs/benchmarks.md``.

Pure: lines and facts in, text out. Every number on the page comes from a run.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.measure import Line, Series

__all__ = ["page", "table"]

_HEAD = ("row", "what", "ours", "against", "the other", "ratio", "goal", "met", "fsync")
_INTRODUCTION = """\
# Benchmarks

Written by `make bench`; every number comes from its last whole run. Ours and the other ran in turn, run
after run, on the same machine, with the same event loop (uvloop) and kept-alive connections; what counts
is the median of the runs. The ratio is what the goals of [GOALS.md](GOALS.md) are about: a slow machine
changes the figures much, and the ratio little. `fsync`, where the figure hangs on the disk, is the median
time of one on it, measured just before. Where a goal is a bound there is no other, and a slow or busy machine
shows in the figure; where it says never, the worst run counts.
"""


def table(lines: Sequence[Line]) -> str:
    """The table in Markdown, in columns."""
    cells = [_HEAD, *map(_cells, lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join((rows[0], rule, *rows[1:]))


def page(lines: Sequence[Line], facts: Sequence[str]) -> str:
    """The whole page."""
    machine = "\n".join(f"- {fact}" for fact in facts)
    return "\n".join(
        (_INTRODUCTION, table(lines), "\n## Machine\n", machine, "\n## Runs\n", *map(_details, lines))
    )


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.row,
        line.what,
        _figure(line.ours.figure) + line.unit,
        line.against,
        "" if line.other is None else _figure(line.other.figure) + line.unit,
        "" if line.ratio is None else f"{line.ratio:.2f}x",
        line.goal.text if line.goal else "",
        {True: "yes", False: "no", None: ""}[line.met],
        "" if line.fsync_ms is None else f"{line.fsync_ms:.2f} ms",
    )


def _details(line: Line) -> str:
    notes = "".join(f"- {note}\n" for note in line.notes)
    other = "" if line.other is None else f"; the other {_runs(line.other)}"
    runs = f"- runs: ours {_runs(line.ours)}{other}\n"
    return f"Row {line.row}, {line.what}:\n\n{notes}{runs}"


def _runs(series: Series) -> str:
    return ", ".join(map(_figure, series.values))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
