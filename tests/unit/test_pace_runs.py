"""The pacers against the limits that the sandbox holds, in simulated time: what is refused, how fast it goes.

The same as ``python -m tests.soak limits`` shows on sockets, where a busy machine blurs it.
"""

from __future__ import annotations

import random

import pytest

from tests.support.pace_run import PaceRun

SEEDS = (1, 2, 3)


def strangers(count: int) -> list[str]:
    """So many people, each of whom is sent one message."""
    return [f"p{n}" for n in range(count)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("inbound_per_s", [0.0, 1.0, 5.0])
def test_a_broadcast_is_not_refused_though_customers_write_and_some_messages_come_late(
    seed: int, inbound_per_s: float
) -> None:
    run = PaceRun(
        strangers(10_000), random.Random(seed), lambda at: 80.0, inbound_per_s=inbound_per_s, late=0.02
    )
    run.run()
    assert run.refused == []
    assert run.rate(1.0, 120.0) + inbound_per_s >= 76.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_limit_that_is_lowered_in_secret_is_found_within_a_minute(seed: int) -> None:
    run = PaceRun(strangers(8000), random.Random(seed), lambda at: 80.0 if at < 20 else 40.0, late=0.0)
    run.run()
    end = max(run.taken) - 2.0
    assert run.rate(80.0, end) >= 36.0
    assert run.count(130429, since=80.0) <= 2 * (end - 80.0) / 60


@pytest.mark.parametrize("seed", range(10))
def test_many_messages_to_one_person_are_not_refused_though_their_ways_differ(seed: int) -> None:
    run = PaceRun(["ana"] * 60, random.Random(seed), lambda at: 80.0, late=0.2)
    run.run()
    assert run.refused == []
