"""Row 1: webhook intake against a bare Tornado handler.

One text message per POST over 32 kept-alive connections. Ours checks the signature, drops doubles, has
the event durable in SQLite before the 200, and hands it to one ``/ws`` subscriber, which must get all of
them without a gap. The bare handler gets the same bytes. Each run begins with a fresh process and store,
and a warm-up in which every sender is met once.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.bench.bench import Bench
from tests.bench.children import Child, start
from tests.bench.gateway import gateway
from tests.bench.http import Load, drive, subscribe
from tests.bench.machine import fsync_ms
from tests.bench.measure import BenchError, Line, Run, Series, at_least, costs, percentile
from tests.bench.webhooks import text_posts

__all__ = ["measure", "profile"]

_CONNECTIONS = 32
_SENDERS = 1000
_WARM_UP = 2000
_REQUESTS = 20_000
_STRAGGLERS_S = 5.0


async def measure(bench: Bench) -> list[Line]:
    """The line of row 1."""
    warm_up = text_posts(0, _WARM_UP, _SENDERS)
    requests = text_posts(_WARM_UP, bench.count(_REQUESTS), _SENDERS)
    fsync = fsync_ms(bench.folder)
    ours, bare = await bench.alternate(
        lambda: _ours(bench, warm_up, requests), lambda: _bare(bench, warm_up, requests)
    )
    size = round(median(map(len, requests)))
    line = Line(
        row="1",
        what="webhook intake, one message a POST, durable before the 200",
        unit="/s",
        ours=Series.of([run for run, _ in ours]),
        against="bare Tornado handler",
        other=Series.of([run for run, _ in bare]),
        goal=at_least(1.1),
        fsync_ms=fsync,
        notes=(
            f"{len(requests):,} requests of {size:,} bytes a run, {_CONNECTIONS} connections,"
            f" {_SENDERS:,} senders; one subscriber got each event, in order",
            f"ours: {_latencies([load for _, load in ours])}",
            f"bare handler: {_latencies([load for _, load in bare])}",
            costs([run for run, _ in ours], [run for run, _ in bare]),
        ),
    )
    return [line]


async def profile(bench: Bench, file: Path) -> list[float]:
    """One run of ours under cProfile, and the processor time of each thread."""
    warm_up = text_posts(0, _WARM_UP, _SENDERS)
    requests = text_posts(_WARM_UP, bench.count(_REQUESTS), _SENDERS)
    cpu: list[float] = []
    await _ours(bench, warm_up, requests, profile=file, cpu=cpu)
    return cpu


async def _ours(
    bench: Bench,
    warm_up: list[bytes],
    requests: list[bytes],
    *,
    profile: Path | None = None,
    cpu: list[float] | None = None,
) -> tuple[Run, Load]:
    async with gateway(bench, profile=profile) as served:
        subscriber = await subscribe(served.port)
        driven = await _drive(served.child, served.port, warm_up, requests)
        await subscriber.received(len(warm_up) + len(requests), _STRAGGLERS_S)
        if set(subscriber.counts) != {"message.received"}:
            raise BenchError(f"other events than messages came: {subscriber.counts}")
        subscriber.close()
        if cpu is not None:
            cpu += served.child.cpu_seconds()
    return driven


async def _bare(bench: Bench, warm_up: list[bytes], requests: list[bytes]) -> tuple[Run, Load]:
    async with start(
        "bare-tornado",
        ["-m", "tests.bench.programs.bare_tornado"],
        cores=bench.cores.server,
        folder=bench.new_folder("bare"),
    ) as child:
        return await _drive(child, await child.port(), warm_up, requests)


async def _drive(child: Child, port: int, warm_up: list[bytes], requests: list[bytes]) -> tuple[Run, Load]:
    await drive(port, warm_up, connections=_CONNECTIONS)
    before = sum(child.cpu_seconds())
    load = await drive(port, requests, connections=_CONNECTIONS)
    return Run(len(requests), load.seconds, sum(child.cpu_seconds()) - before), load


def _latencies(loads: list[Load]) -> str:
    """Of the answers, and how busy the load was itself: medians of the runs."""
    half = median(1000 * percentile(load.latencies_s, 50) for load in loads)
    most = median(1000 * percentile(load.latencies_s, 99) for load in loads)
    share = median(load.cpu_share for load in loads)
    return f"p50 {half:.1f} ms, p99 {most:.1f} ms; the load used {share:.0%} of its core"
