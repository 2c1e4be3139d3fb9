"""Rounds of ``kill -9`` under load, until there were as many kills as GOALS.md asks for."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

from tests.soak.rounds import held
from tests.soak.state import State
from tests.support.killing import TRIALS, Trial, kill_and_count

__all__ = ["GOAL", "MOST_FAILURES", "part", "soak_kills"]

GOAL = 1000
"""Kills for each store."""
MOST_FAILURES = 5
"""In one call; more tell nothing new."""
_KILLS = {"sqlite": 30, "mongo": 10}
"""In one round."""
_MOMENTS = ("starting", "listening", *["answers"] * 4, *["anywhen"] * 4)
_MOMENTS_OF = {"sqlite": (*_MOMENTS, "recovering"), "mongo": _MOMENTS}


def part(store: str) -> str:
    """Under which name the kills of a store are kept."""
    return f"kills {store}"


async def soak_kills(state: State, store: str, kills: int | None, folder: Path) -> bool:
    """Rounds until there are :data:`GOAL` kills in all; or so many more. Whether all rounds held.

    A round that does not hold is kept in ``folder``, and counts no kills.
    """
    wanted = GOAL - done(state, store) if kills is None else kills
    failures = 0
    while wanted > 0 and failures < MOST_FAILURES:
        seed = f"{store} {state.begin(part(store))}"
        trial = _trial(store, seed, wanted)
        print(f"{store}: {wanted} kills to go, round {seed!r} of {trial.kills}", flush=True)
        work = partial(_count, store=store, trial=trial, seed=seed)
        if await held(state, part(store), seed, folder, work):
            wanted -= trial.kills
        else:
            failures += 1
    return failures == 0


def done(state: State, store: str) -> int:
    """Kills so far, in rounds that held."""
    return sum(found["kills"] for found in state.rounds(part(store)))


def _trial(store: str, seed: str, wanted: int) -> Trial:
    rng = random.Random(f"moments {seed}")
    kills = min(_KILLS[store], wanted)
    # The first life has no past, and nothing to take over or to send again.
    moments = ("answers", *(rng.choice(_MOMENTS_OF[store]) for _ in range(kills - 1)))
    return TRIALS[store]._replace(kills=kills, moments=moments)


async def _count(folder: Path, store: str, trial: Trial, seed: str) -> dict[str, Any]:
    counted = await kill_and_count(folder, store, trial, seed)
    return counted._asdict() | {"count": counted.count._asdict()}
