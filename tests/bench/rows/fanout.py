"""Row 6: fan-out against a plain loop of ``socket.send``.

A thousand subscribers, events of 500 bytes of JSON, one at a time. Ours is the hub with its real log and
socket handler in a process without webhooks (``programs/hub_process.py`` says why). The clock runs from
the word to begin until every subscriber has every byte; the frames of one are looked at one by one.
"""

from __future__ import annotations

import time
from statistics import median

from tests.bench.bench import Bench
from tests.bench.children import Child, start
from tests.bench.drain import Drain
from tests.bench.events import frame_of
from tests.bench.measure import BenchError, Line, Run, Series, at_least, costs

__all__ = ["measure"]

_SUBSCRIBERS = 1000
_EVENTS = 500
_SIZE = 500
_MOST_S = 120.0


async def measure(bench: Bench) -> list[Line]:
    """The line of row 6."""
    events = bench.count(_EVENTS)
    ours, plain = await bench.alternate(lambda: _ours(bench, events), lambda: _plain(bench, events))
    deliveries = events * _SUBSCRIBERS
    line = Line(
        row="6",
        what=f"fan-out to {_SUBSCRIBERS:,} subscribers, {_SIZE}-byte events one at a time",
        unit=" deliveries/s",
        ours=Series.of([run for run, _ in ours]),
        against="loop of socket.send",
        other=Series.of([run for run, _ in plain]),
        goal=at_least(0.9),
        notes=(
            f"{events:,} events a run: {deliveries:,} frames of {len(frame_of(1, _SIZE))} bytes, all counted",
            f"the receiver used {median(share for _, share in ours):.0%} of its core with ours,"
            f" {median(share for _, share in plain):.0%} with the other",
            costs([run for run, _ in ours], [run for run, _ in plain]),
        ),
    )
    return [line]


async def _ours(bench: Bench, events: int) -> tuple[Run, float]:
    arguments = ["-m", "tests.bench.programs.hub_process", str(events), str(_SIZE)]
    drain = Drain()
    try:
        async with start("hub", arguments, cores=bench.cores.server, folder=bench.new_folder("hub")) as child:
            drain.subscribe(await child.port(), _SUBSCRIBERS)
            taken = _take(child, drain, events)
    finally:
        drain.close()
    if drain.kept != b"".join(frame_of(n, _SIZE) for n in range(1, events + 1)):
        raise BenchError("a subscriber was not sent the events as they are, in order")
    return taken


async def _plain(bench: Bench, events: int) -> tuple[Run, float]:
    arguments = ["-m", "tests.bench.programs.send_loop", str(_SUBSCRIBERS), str(events), str(_SIZE)]
    drain = Drain()
    try:
        async with start(
            "send-loop", arguments, cores=bench.cores.server, folder=bench.new_folder("send-loop")
        ) as child:
            drain.connect(await child.port(), _SUBSCRIBERS)
            await child.line()
            return _take(child, drain, events)
    finally:
        drain.close()


def _take(child: Child, drain: Drain, events: int) -> tuple[Run, float]:
    """Let it begin and take everything; also the share of its core that taking used."""
    before, begun = sum(child.cpu_seconds()), time.perf_counter()
    child.go()
    share = drain.take(events * len(frame_of(1, _SIZE)), _MOST_S)
    seconds = time.perf_counter() - begun
    return Run(events * _SUBSCRIBERS, seconds, sum(child.cpu_seconds()) - before), share
