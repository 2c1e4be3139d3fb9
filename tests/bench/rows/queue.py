"""Row 4: the queue against a bare aiohttp client loop.

``send-bulk`` of 20,000 to as many people, to the sandbox as a process of its own and without Meta's
limits, with the lane's limit lifted. The clock runs from the POST until ``task.completed`` tells a
subscriber that every row is settled, which ``task-status`` then confirms. Settled is durable: outcome and
row are one transaction. Once more with statuses coming back by webhook; there the clock stops at the same
moment, and the time until the last status is applied is in the notes.

The peer posts the same messages over as many connections and keeps nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from tests.bench.bench import Bench
from tests.bench.bulk import bulk_post, people
from tests.bench.children import start
from tests.bench.gateway import NUMBER, TOKEN, Served, gateway, sandbox
from tests.bench.http import call, request, subscribe
from tests.bench.machine import fsync_ms
from tests.bench.measure import BenchError, Line, Run, Series, at_least, costs
from tests.support.ports import free_port
from whatsapp.compose import text_message
from whatsapp.graph import with_reference
from whatsapp.identity import Address

__all__ = ["measure", "profile"]

_RECIPIENTS = 20_000
_CONCURRENCY = 256
_LIFTED_RATE = "1000000"
_MOST_S = 120.0
_POLL_S = 0.25
_TAKEN = ("sent", "delivered", "read")
_VERSION = "v26.0"


@dataclass(frozen=True, slots=True)
class _Sent:
    """A broadcast that is over."""

    run: Run
    """Until the last row was settled."""
    accepted_s: float
    """Until the POST was answered."""
    read_s: float
    """Until the last status was applied; 0 without statuses."""


async def measure(bench: Bench) -> list[Line]:
    """The lines of row 4: without statuses, and with."""
    recipients = people(bench.count(_RECIPIENTS))
    fsync = fsync_ms(bench.folder)
    ours, bare = await bench.alternate(
        lambda: _ours(bench, recipients, statuses=False), lambda: _bare(bench, recipients)
    )
    told = []
    for run in range(bench.runs):
        bench.say(f"  run {run + 1} of {bench.runs}: ours, with statuses")
        told.append(await _ours(bench, recipients, statuses=True))
    return [
        _line(ours, bare, fsync, "queue, until all rows are settled and durable", goal=True),
        _line(told, bare, fsync, "the same with status webhooks coming back", goal=False),
    ]


async def profile(bench: Bench, file: Path) -> list[float]:
    """One run of ours without statuses under cProfile, and the processor time of each thread."""
    cpu: list[float] = []
    await _ours(bench, people(bench.count(_RECIPIENTS)), statuses=False, profile=file, cpu=cpu)
    return cpu


def _line(ours: list[_Sent], bare: list[Run], fsync: float, what: str, *, goal: bool) -> Line:
    rows = bare[0].units
    runs = [sent.run for sent in ours]
    notes = [
        f"{rows:,} rows, {_CONCURRENCY} at once; the send-bulk itself was answered after"
        f" {median(sent.accepted_s for sent in ours):.2f} s, which is in the figure",
        costs(runs, bare),
    ]
    if not goal:
        read_s = median(sent.read_s for sent in ours)
        notes.append(f"all {3 * rows:,} statuses were applied {read_s:.2f} s after the start")
    return Line(
        row="4",
        what=what,
        unit=" rows/s",
        ours=Series.of(runs),
        against="bare aiohttp client loop",
        other=Series.of(bare),
        goal=at_least(0.6) if goal else None,
        fsync_ms=fsync,
        notes=tuple(notes),
    )


# -- ours ------------------------------------------------------------------------------------------------


async def _ours(
    bench: Bench,
    recipients: list[dict[str, str]],
    *,
    statuses: bool,
    profile: Path | None = None,
    cpu: list[float] | None = None,
) -> _Sent:
    async with _gateway_and_sandbox(bench, statuses, profile) as (served, played):
        post = bulk_post(recipients)
        watcher = await subscribe(served.port, "/ws?types=task.completed", chained=False)
        before, start = sum(served.child.cpu_seconds()), time.perf_counter()
        task_id = msgspec.json.decode(await call(served.port, post))["task_id"]
        accepted_s = time.perf_counter() - start
        await watcher.received(1, _MOST_S)
        settled_s = time.perf_counter() - start
        run = Run(len(recipients), settled_s, sum(served.child.cpu_seconds()) - before)
        await _confirm(served.port, task_id, len(recipients))
        if statuses:
            await _all_read(served.port, task_id, len(recipients))
        read_s = time.perf_counter() - start if statuses else 0.0
        watcher.close()
        stats = msgspec.json.decode(await call(played.port, request("GET", "/sandbox/stats")))
        if stats["accepted"] != len(recipients):
            raise BenchError(f"the sandbox took {stats['accepted']} messages, not {len(recipients)}")
        if cpu is not None:
            cpu += served.child.cpu_seconds()
    return _Sent(run, accepted_s, read_s)


@asynccontextmanager
async def _gateway_and_sandbox(
    bench: Bench, statuses: bool, profile: Path | None
) -> AsyncIterator[tuple[Served, Served]]:
    port = free_port()
    options = ["--webhook", f"http://127.0.0.1:{port}/webhook"] if statuses else ["--status-delays", "none"]
    settings = {"LANE_RATE": _LIFTED_RATE, "LANE_CONCURRENCY": str(_CONCURRENCY), "PORT": str(port)}
    async with (
        sandbox(bench, options) as played,
        gateway(bench, base_url=f"http://127.0.0.1:{played.port}", profile=profile, **settings) as served,
    ):
        yield served, played


async def _confirm(port: int, task_id: str, rows: int) -> None:
    status = await _task_status(port, task_id)
    taken = sum(status["counts"][state] for state in _TAKEN)
    if status["status"] != "SUCCESS" or taken != rows:
        raise BenchError(f"the task is not settled: {status}")


async def _all_read(port: int, task_id: str, rows: int) -> None:
    """Wait until the last status of each row is applied. Nothing tells of that, so it is asked for."""
    try:
        async with asyncio.timeout(_MOST_S):
            while True:
                status = await _task_status(port, task_id)
                if status["counts"]["read"] == rows:
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise BenchError(f"not all rows are read after {_MOST_S:g} seconds") from None


async def _task_status(port: int, task_id: str) -> dict[str, Any]:
    answer = await call(port, request("GET", f"/api/task-status/{task_id}"))
    return msgspec.json.decode(answer, type=dict[str, Any])


# -- the other -------------------------------------------------------------------------------------------


async def _bare(bench: Bench, recipients: list[dict[str, str]]) -> Run:
    folder = bench.new_folder("aiohttp")
    bodies = folder / "bodies"
    bodies.write_bytes(b"\n".join(_as_sent(n, recipient) for n, recipient in enumerate(recipients)))
    async with sandbox(bench, ["--status-delays", "none"]) as played:
        url = f"http://127.0.0.1:{played.port}/{_VERSION}/{NUMBER}/messages"
        arguments = ["-m", "tests.bench.programs.aiohttp_loop", url, TOKEN, str(_CONCURRENCY), str(bodies)]
        async with start("aiohttp-loop", arguments, cores=bench.cores.server, folder=folder) as child:
            await child.line()
            child.go()
            seconds, cpu_s = map(float, (await child.line(_MOST_S)).split())
    return Run(len(recipients), seconds, cpu_s)


def _as_sent(n: int, recipient: dict[str, str]) -> bytes:
    """The bytes that the gateway would post for this recipient."""
    message = text_message(Address(phone=recipient["phone"]), recipient["message"])
    return with_reference(message, f"00000000-0000-4000-8000-000000000000-{n}.1")
