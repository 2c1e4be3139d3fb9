"""Memory at a steady load: half the limits, messages going out and coming in, for minutes.

Measures the resident memory of the gateway's process. What it must hold for a while (events for subscribers,
recipients' pace, whom it knows) fills up at first; after that it should stay where it is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from tests.soak.gateway_run import GatewayRun, running, told

__all__ = ["Steady", "stay_flat"]

_RATE = 80
_PEOPLE = 4_000
"""Few enough for nearly all of them to be known once the memory has filled up: what is remembered of a person
is bounded, and no part of what a message costs."""
_EACH_S = 5.0
"""Between two requests to send, and between two looks at the memory."""
_FILLED = 0.25
"""Part of the time in which the memory fills up."""
_MB = 1024 * 1024


class Steady(NamedTuple):
    """How long on which store."""

    store: str
    minutes: float


async def stay_flat(folder: Path, wanted: Steady, seed: str) -> dict[str, Any]:
    """One run in this folder: the memory, by time. Fails where a message is lost or doubled."""
    rng = random.Random(seed)
    async with running(folder, wanted.store) as run:
        memory = await _load(run, wanted, rng)
        count = await run.proven()
        stats = await run.meta.stats()
    return {
        "store": wanted.store,
        "minutes": wanted.minutes,
        "sends": sum(map(len, run.record.sends.values())),
        "inbound": stats.get("inbound", 0),
        "refused": stats.get("error_130429", 0) + stats.get("error_131056", 0),
        **told(count),
        **_judged(memory),
    }


async def _load(run: GatewayRun, wanted: Steady, rng: random.Random) -> list[tuple[float, float]]:
    """Half of the limit in all, half of that each way; (minutes, MB) at each look."""
    memory: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    began, each_way = loop.time(), round(_RATE / 4 * _EACH_S)
    for turn in range(round(wanted.minutes * 60 / _EACH_S)):
        people = [f"4915155{n:06d}" for n in rng.sample(range(_PEOPLE), each_way)]
        texts = [{"phone": phone, "message": f"message {turn}"} for phone in people]
        await run.caller.send("/api/send-bulk", {"recipients": texts}, people)
        for n in range(each_way):
            await asyncio.sleep(max(0.0, began + (turn + n / each_way) * _EACH_S - loop.time()))
            await run.written_by(f"4915155{rng.randrange(_PEOPLE):06d}", f"order {turn}")
        memory.append(((loop.time() - began) / 60, run.process.resident_bytes / _MB))
    return memory


def _judged(memory: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The memory after it has filled up: its level at first and at last, and its slope between."""
    level = memory[int(_FILLED * len(memory)) :]
    part = max(1, len(level) // 5)
    return {
        "mb_at_start": round(memory[0][1], 1),
        "mb_then": round(median(mb for _, mb in level[:part]), 1),
        "mb_at_end": round(median(mb for _, mb in level[-part:]), 1),
        "mb_most": round(max(mb for _, mb in memory), 1),
        "mb_per_hour": round(60 * _slope(level), 1),
    }


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares; MB a minute."""
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
