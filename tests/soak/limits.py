"""Two broadcasts to a Meta that holds its limits: one within them, one while a limit is lowered in secret.

The first goes to mixed recipients, some of them many times in a row, while customers write; no send of it
should be refused for a rate. In the second the gateway learns only by refusals that the number's limit has
changed: within a minute it should send at the new one. Nothing may be lost in either.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.soak.gateway_run import GatewayRun, running, told
from tests.support.load import Caller
from tests.support.process import SandboxProcess
from tests.support.waiting import eventually

__all__ = ["LIMIT", "LOWERED", "SETTLED_S", "Broadcasts", "broadcast_within_limits"]

LIMIT = 80
"""Messages a second, in and out."""
LOWERED = 40
"""In place of it."""
SETTLED_S = 60
"""Within which the gateway should have found the new limit."""
_BEFORE_S = 20
"""How long the second broadcast runs before."""
_OFTEN = (10, 60)
"""So many people get so many messages in a row, more than may be borrowed at once."""
_SOMETIMES = (300, 5)
_RATE = "error_130429"
_PAIR = "error_131056"
_LONG_S = 1800.0

Sample = dict[str, float]


class Broadcasts(NamedTuple):
    """How much of it."""

    store: str
    first: int
    """Messages within the limits."""
    inbound_per_s: float
    """What customers write meanwhile."""
    second: int
    """Messages while the limit is lowered."""


async def broadcast_within_limits(folder: Path, wanted: Broadcasts, seed: str) -> dict[str, Any]:
    """Both broadcasts in this folder; what Meta counted. Fails where a message is lost or doubled."""
    rng = random.Random(seed)
    async with running(folder, wanted.store) as run:
        within = await _within(run, wanted, rng)
        print(f"within the limits: {within}", flush=True)
        lowered = await _lowered(run, wanted)
        print(f"with a lowered one: {lowered}", flush=True)
        count = await run.proven()
    return {"store": wanted.store, "within": within, "lowered": lowered, **told(count)}


async def _within(run: GatewayRun, wanted: Broadcasts, rng: random.Random) -> dict[str, Any]:
    people = _mixed(wanted.first, rng)
    async with _sampled(run.meta) as samples, _writing(run, people, wanted.inbound_per_s, rng):
        await _broadcast(run.caller, people)
        await eventually(lambda: _accepted(run.meta, len(people)), "the first broadcast", _LONG_S)
    last = samples[-1]
    return {
        "sends": wanted.first,
        "inbound": last["inbound"],
        "seconds": round(last["at"]),
        "per_s": round(last["accepted"] / last["at"], 1),
        "refused_rate": last[_RATE],
        "refused_pair": last[_PAIR],
    }


async def _lowered(run: GatewayRun, wanted: Broadcasts) -> dict[str, Any]:
    meta = run.meta
    people = [f"4915188{n:06d}" for n in range(wanted.second)]
    before = (await meta.stats())["accepted"]
    async with _sampled(meta) as samples:
        await _broadcast(run.caller, people)
        await asyncio.sleep(_BEFORE_S)
        lowered_at = samples[-1]["at"]
        await meta.faults(rate_limit=LOWERED)
        await eventually(lambda: _accepted(meta, before + len(people)), "the second broadcast", _LONG_S)
    await meta.faults(reset=True)
    start, settled_at = _at(samples, lowered_at), _at(samples, lowered_at + SETTLED_S)
    # The last seconds have fewer messages left than may leave.
    end = samples[-3]
    return {
        "sends": wanted.second,
        "limit": LOWERED,
        "per_s": _per_s(settled_at, end),
        "least_per_s": min(_tens(samples, settled_at["at"], end["at"])),
        "most_per_s": max(_tens(samples, settled_at["at"], end["at"])),
        "refused_first_minute": settled_at[_RATE] - start[_RATE],
        "refused_after": end[_RATE] - settled_at[_RATE],
        "refused_pair": end[_PAIR] - start[_PAIR],
        "minutes_after": round((end["at"] - settled_at["at"]) / 60, 1),
        "tens": _tens(samples, lowered_at, end["at"]),
    }


def _mixed(count: int, rng: random.Random) -> list[str]:
    """Recipients of the first broadcast: some in a row, some now and then, most of them once."""
    often = [f"4915177{n:06d}" for n in range(_OFTEN[0])] * _OFTEN[1]
    sometimes = [f"4915178{n:06d}" for n in range(_SOMETIMES[0])] * _SOMETIMES[1]
    often, sometimes = often[: count // 10], sometimes[: count // 5]
    once = [f"4915179{n:06d}" for n in range(count - len(often) - len(sometimes))]
    rest = sometimes + once
    rng.shuffle(rest)
    return often + rest


async def _broadcast(caller: Caller, people: Sequence[str]) -> None:
    texts = [{"phone": phone, "message": f"message {n}"} for n, phone in enumerate(people)]
    await caller.send("/api/send-bulk", {"recipients": texts}, list(people))


async def _accepted(meta: SandboxProcess, count: int) -> bool:
    return bool((await meta.stats())["accepted"] >= count)


@asynccontextmanager
async def _writing(
    run: GatewayRun, people: Sequence[str], per_s: float, rng: random.Random
) -> AsyncIterator[None]:
    """Those people write to us meanwhile, at random, so many a second."""

    async def write() -> None:
        while True:
            await asyncio.sleep(rng.expovariate(per_s))
            await run.written_by(rng.choice(people), "thanks")

    async with _beside(write):
        yield


@asynccontextmanager
async def _sampled(meta: SandboxProcess) -> AsyncIterator[list[Sample]]:
    """What Meta has counted, each second, from now on; each sample has its time (``at``, seconds)."""
    samples: list[Sample] = []
    loop = asyncio.get_running_loop()
    began, first = loop.time(), await meta.stats()

    async def sample() -> None:
        stats = await meta.stats()
        counted = {
            name: stats.get(name, 0) - first.get(name, 0) for name in ("accepted", _RATE, _PAIR, "inbound")
        }
        samples.append({"at": loop.time() - began, **counted})

    async def go_on() -> None:
        while True:
            await sample()
            await asyncio.sleep(1)

    async with _beside(go_on):
        yield samples
    await sample()


@asynccontextmanager
async def _beside(work: Callable[[], Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        failed = task.done()
        task.cancel()
        await asyncio.wait([task])
        if failed:
            task.result()


def _at(samples: Sequence[Sample], at: float) -> Sample:
    return next(sample for sample in samples if sample["at"] >= at)


def _per_s(start: Sample, end: Sample) -> float:
    return round((end["accepted"] - start["accepted"]) / (end["at"] - start["at"]), 1)


def _tens(samples: Sequence[Sample], start: float, end: float) -> list[float]:
    """What was taken a second, in each ten seconds between these."""
    times = [start + 10 * n for n in range(int((end - start) / 10) + 1)]
    marks = [_at(samples, at) for at in times]
    return [_per_s(one, other) for one, other in pairwise(marks)]
