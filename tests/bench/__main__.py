"""``python -m tests.bench``: measure the rows, print the table, save it as ``docs/benchmarks.md``.

Everything that it starts is on loopback, and ends with it. The page is written only by a whole run: all
rows, full size, three runs or more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvloop

from tests.bench.bench import Bench
from tests.bench.children import REPOSITORY
from tests.bench.machine import allow_many_files, facts, pinned_to, take_cores
from tests.bench.measure import BenchError, Line
from tests.bench.page import page
from tests.bench.profiling import report
from tests.bench.registry import ROWS

__all__ = ["main"]

_PAGE = REPOSITORY / "docs" / "benchmarks.md"
_RUNS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The process entry; the exit status, which does not depend on whether a goal is met."""
    options = _parser().parse_args(arguments)
    try:
        cores = take_cores()
        allow_many_files()
        with (
            _folder() as folder,
            pinned_to(cores.load),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            bench = Bench(folder, cores, options.runs, options.scale)
            runner.run(_end_on_sigterm(bench, options))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.bench", description="Measures the gateway beside its peers."
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--runs", type=int, default=_RUNS, help="of each side, in turn")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="less than 1: a quick look, not to be quoted"
    )
    profiled = [number for number, row in ROWS.items() if row.profile is not None]
    parser.add_argument("--profile", choices=profiled, metavar="ROW", help="where the time goes in this row")
    return parser


async def _end_on_sigterm(bench: Bench, options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if options.profile:
        await _profile(bench, options.profile)
    else:
        await _measure(bench, options.rows or list(ROWS))


async def _measure(bench: Bench, numbers: Sequence[str]) -> None:
    lines: list[Line] = []
    for number in numbers:
        bench.say(f"row {number}: {ROWS[number].title}")
        lines += await ROWS[number].measure(bench)
    text = page(lines, facts(bench.cores))
    print(text)
    if bench.scale >= 1 and bench.runs >= _RUNS and set(numbers) == set(ROWS):
        _PAGE.write_text(text)
        bench.say(f"saved as {_PAGE.relative_to(REPOSITORY)}")
    else:
        bench.say("not saved: that takes all rows, at full scale, three runs each")


async def _profile(bench: Bench, number: str) -> None:
    row = ROWS[number]
    assert row.profile is not None
    file = bench.folder / "profile"
    cpu = await row.profile(bench, file)
    print(f"Row {number}, {row.title}\n{report(file, cpu)}")


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder on the disk that the gateway would use, gone at the end."""
    data = REPOSITORY / "data"
    data.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=data) as folder:
            yield Path(folder)
    finally:
        if not os.listdir(data):
            data.rmdir()


if __name__ == "__main__":
    sys.exit(main())
