"""``kill -9`` at any moment loses nothing that was acknowledged.

One trial for each store, of those that ``tests/support/killing.py`` makes; ``make soak`` makes many more.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.killing import STORES, TRIALS, kill_and_count


@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", STORES)
async def test_kill_9_loses_nothing_that_was_acknowledged(store: str, tmp_path: Path) -> None:
    trial = TRIALS[store]
    turns = {"sqlite": 3, "mongo": 1}[store]
    # At each of its moments so often; the soak goes on from there.
    trial = trial._replace(kills=turns * len(trial.moments))
    counted = await kill_and_count(tmp_path, store, trial, f"kill {store}")
    # Else no kill met a call under way, and nothing of this was tried.
    assert counted.count.unknowns and counted.count.doubles, counted
    sys.stdout.write(f"\n{store}: {counted}\n")
