"""Row 12: accepting ``send-bulk`` of 100,000 recipients as one request and one durable task.

The clock runs from the first byte of the request to its answer, which comes once every row is on the disk.
Meanwhile webhooks come in on other connections, as many a second as Meta asks room for with a number at 80
messages a second, each signed and durable before its 200. They count from when they were due, so that
nothing that holds them up is left out, and only those due before the answer are counted.

The event loop is watched from within (``programs/probed_gateway.py``), and for two seconds longer: what is
let go of at the end, and the lane that wakes up, hold it after the answer. Before the request all is measured
for some seconds without it, which tells what is the machine's.

Nothing is held back: the lane, at its default of 80 a second, sends to the sandbox as a process of its own.
But it sees a task only once all of it is stored, so that it is accepting alone that is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import msgspec

from tests.bench.bench import Bench
from tests.bench.bulk import bulk_post, people
from tests.bench.children import Child, Memory
from tests.bench.gateway import Served, probed_gateway, sandbox
from tests.bench.http import Load, call, drive, drive_steadily, request, subscribe
from tests.bench.machine import fsync_ms
from tests.bench.measure import BenchError, Gap, Line, Series, never_over, percentile, under
from tests.bench.webhooks import text_posts

__all__ = ["measure", "profile"]

T = TypeVar("T")

_RECIPIENTS = 100_000
_WEBHOOKS_A_SECOND = 264
_WEBHOOKS_MOST = 60 * _WEBHOOKS_A_SECOND
_CONNECTIONS = 32
_SENDERS = 1000
_WARM_UP = 2000
_REST_S = 3.0
_AFTERWARDS_S = 2.0
_STRAGGLERS_S = 10.0


class _Posts:
    """All requests, made before the clock starts."""

    def __init__(self, count: int) -> None:
        self.recipients = count
        self.bulk = bulk_post(people(count))
        self.warm_up = text_posts(0, _WARM_UP, _SENDERS)
        self.rest = text_posts(_WARM_UP, _WEBHOOKS_MOST, _SENDERS)
        self.meanwhile = text_posts(_WARM_UP + _WEBHOOKS_MOST, _WEBHOOKS_MOST, _SENDERS)


@dataclass(frozen=True, slots=True)
class _Watched:
    """Webhooks for a while, and the loop that took them."""

    load: Load
    gaps: list[Gap]
    """The longest first."""

    def webhooks_ms(self, percent: float) -> float:
        """So many percent were answered in this time."""
        return 1000 * percentile(self.load.latencies_s, percent)

    @property
    def gap_ms(self) -> float:
        """The longest."""
        return 1000 * self.gaps[0].seconds


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A request that was accepted."""

    seconds: float
    """Until it was answered."""
    core_share: float
    """Part of the server's core that the gateway had until then."""
    before: _Watched
    meanwhile: _Watched
    memory_before: Memory | None
    memory_after: Memory | None


async def measure(bench: Bench) -> list[Line]:
    """The lines of row 12: the time, the loop, the webhooks, the memory."""
    posts = _Posts(bench.count(_RECIPIENTS))
    fsync = fsync_ms(bench.folder)
    runs = []
    for run in range(bench.runs):
        bench.say(f"  run {run + 1} of {bench.runs}")
        runs.append(await _accept(bench, posts))
    return [_time(runs, posts, fsync), _loop(runs), _webhooks(runs), *_memory(runs)]


async def profile(bench: Bench, file: Path) -> list[float]:
    """One run under cProfile, and the processor time of each thread."""
    cpu: list[float] = []
    await _accept(bench, _Posts(bench.count(_RECIPIENTS)), profile=file, cpu=cpu)
    return cpu


# -- the lines -------------------------------------------------------------------------------------------


def _time(runs: list[_Accepted], posts: _Posts, fsync: float) -> Line:
    return Line(
        row="12",
        what=f"accepting send-bulk of {posts.recipients:,} recipients, all durable before the answer",
        unit=" s",
        ours=Series(tuple(run.seconds for run in runs)),
        goal=under(5, " s"),
        fsync_ms=fsync,
        notes=(
            f"one request of {len(posts.bulk) / 1e6:.1f} MB, each recipient with a text of their own;"
            f" meanwhile {_WEBHOOKS_A_SECOND} webhooks a second",
            f"the gateway had {median(run.core_share for run in runs):.0%} of the server's core",
        ),
    )


def _loop(runs: list[_Accepted]) -> Line:
    return Line(
        row="12",
        what="the longest that its event loop was held, meanwhile and shortly after",
        unit=" ms",
        ours=Series(tuple(run.meanwhile.gap_ms for run in runs), max),
        goal=never_over(50, " ms"),
        notes=(
            "looked at each millisecond from within; waits for the interpreter's lock and the core are in it",
            "processor time of the gateway's threads in that gap:"
            f" {_each(1000 * run.meanwhile.gaps[0].cpu_s for run in runs)} ms; the rest is a neighbour's",
            f"the longest without the request: {_each(run.before.gap_ms for run in runs)} ms",
        ),
    )


def _webhooks(runs: list[_Accepted]) -> Line:
    return Line(
        row="12",
        what="p99 of webhooks that arrive meanwhile",
        unit=" ms",
        ours=Series(tuple(run.meanwhile.webhooks_ms(99) for run in runs)),
        goal=under(250, " ms"),
        notes=(
            f"{_WEBHOOKS_A_SECOND} a second over {_CONNECTIONS} connections, from {_SENDERS:,} senders,"
            " counted from when each was due",
            f"p50 {_each(run.meanwhile.webhooks_ms(50) for run in runs)} ms,"
            f" the longest {_each(run.meanwhile.webhooks_ms(100) for run in runs)} ms",
            f"without the request: p50 {_each(run.before.webhooks_ms(50) for run in runs)} ms,"
            f" p99 {_each(run.before.webhooks_ms(99) for run in runs)} ms",
            f"the load used {median(run.meanwhile.load.cpu_share for run in runs):.0%} of its core",
        ),
    )


def _memory(runs: list[_Accepted]) -> list[Line]:
    """No line where the system is silent."""
    before = [run.memory_before for run in runs if run.memory_before is not None]
    after = [run.memory_after for run in runs if run.memory_after is not None]
    if not before:
        return []
    peaks = tuple(late.peak - early.now for early, late in zip(before, after, strict=True))
    line = Line(
        row="12",
        what="memory at its peak, above that before",
        unit=" MB",
        ours=Series(peaks),
        notes=(
            f"before {_each(memory.now for memory in before)} MB, at its peak"
            f" {_each(memory.peak for memory in after)} MB, {_AFTERWARDS_S:g} seconds after the answer"
            f" {_each(memory.now for memory in after)} MB",
        ),
    )
    return [line]


def _each(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


# -- ours ------------------------------------------------------------------------------------------------


async def _accept(
    bench: Bench, posts: _Posts, *, profile: Path | None = None, cpu: list[float] | None = None
) -> _Accepted:
    async with (
        sandbox(bench, ["--status-delays", "none"]) as played,
        probed_gateway(bench, base_url=f"http://127.0.0.1:{played.port}", profile=profile) as served,
    ):
        child = served.child
        watcher = await subscribe(served.port, "/ws?types=message.received", chained=False)
        await drive(served.port, posts.warm_up, connections=_CONNECTIONS)
        before, _ = await _watch(served, posts.rest, asyncio.sleep(_REST_S, b""))
        memory_before, cpu_before = child.memory(), sum(child.cpu_seconds())
        meanwhile, (answer, seconds, cpu_s) = await _watch(
            served, posts.meanwhile, _timed(served, posts.bulk), _AFTERWARDS_S
        )
        memory_after = child.memory()
        await _confirm(served.port, answer, posts.recipients)
        webhooks = len(posts.warm_up) + sum(len(each.load.latencies_s) for each in (before, meanwhile))
        await watcher.received(webhooks, _STRAGGLERS_S)
        watcher.close()
        if cpu is not None:
            cpu += child.cpu_seconds()
    return _Accepted(seconds, (cpu_s - cpu_before) / seconds, before, meanwhile, memory_before, memory_after)


async def _timed(served: Served, post: bytes) -> tuple[bytes, float, float]:
    """The answer, how long it took, and what processor time the gateway has used by then."""
    start = time.perf_counter()
    answer = await call(served.port, post)
    return answer, time.perf_counter() - start, sum(served.child.cpu_seconds())


async def _watch(
    served: Served, webhooks: list[bytes], work: Coroutine[Any, Any, T], longer_s: float = 0.0
) -> tuple[_Watched, T]:
    """Webhooks for as long as the work takes, and the loop for a while longer; also what the work gave."""
    await _gaps(served.child)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        load = await drive_steadily(
            served.port,
            webhooks,
            per_second=_WEBHOOKS_A_SECOND,
            connections=_CONNECTIONS,
            until=task,
        )
    await asyncio.sleep(longer_s)
    return _Watched(load, await _gaps(served.child)), task.result()


async def _gaps(child: Child) -> list[Gap]:
    """The longest since they were last asked for."""
    child.go()
    while not (line := await child.line()).startswith("["):
        pass  # the rest of its greeting
    return msgspec.json.decode(line, type=list[Gap])


async def _confirm(port: int, answer: bytes, rows: int) -> None:
    """What was answered is in the store."""
    task_id = msgspec.json.decode(answer)["task_id"]
    status = msgspec.json.decode(await call(port, request("GET", f"/api/task-status/{task_id}")))
    if sum(status["counts"].values()) != rows:
        raise BenchError(f"not all rows are there: {status}")
