"""The window of a lane through long runs of arrivals, failures, brakes and deaths, in simulated time.

Beside ``test_queue_machine.py``, which tries short sequences of every kind: here the clock goes on, rows
compete for a pace that is too slow for them, and each wait has a bound.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.records import Priority
from tests.support.lane_run import SHARE, Arrival, LaneRun, Plan
from tests.support.outbox import ORDERED_S
from whatsapp.queue import PRIORITIES

HIGH, NORMAL, LOW = PRIORITIES
CONTACTS = ("ana", "ben", "eva", "gus", "ida")
TICKS = 90
FATES = ("sent", "sent", "sent", "undelivered", "retry", "back", "pair", "taken", "lost")

ticks = st.integers(1, TICKS)
spans = st.tuples(ticks, st.integers(1, 15)).map(lambda span: frozenset(range(span[0], sum(span))))
arrivals = st.builds(
    Arrival,
    tick=ticks,
    contact=st.sampled_from(CONTACTS),
    priority=st.sampled_from(PRIORITIES),
    count=st.integers(1, 7),
    later=st.sampled_from([0, 0, 0, 5, 25]),
    ordered=st.sampled_from([False, False, True]),
    template=st.sampled_from([False, False, True]),
)
plans = st.builds(
    Plan,
    ticks=st.just(TICKS),
    arrivals=st.lists(arrivals, min_size=1, max_size=16),
    fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=12),
    rate=st.integers(1, 3),
    deaths=st.lists(ticks, max_size=4, unique=True),
    down=st.integers(1, 6),
    away=st.one_of(st.just(frozenset[int]()), spans),
    braked=st.one_of(st.just(frozenset[int]()), spans),
    stopped=st.one_of(st.just(frozenset[int]()), spans),
)


@settings(max_examples=300, deadline=None)
@given(plans)
def test_whatever_happens_order_holds_and_nothing_starves_stands_still_or_is_left(plan: Plan) -> None:
    run = LaneRun(plan)
    run.run()
    assert {entry.n for _, entry in run.left} == {entry.n for entry in run.outbox.entries}
    # Normal and low may be due for their turn together: then one is taken after the other. And one more may
    # pass while the only row that waits has to be read again, since its contact was held back until now.
    assert max(run.overtaken.values(), default=0) <= SHARE + 2


def flood(priority: Priority, first: int = 0, every: int = 1) -> list[Arrival]:
    """Rows of one priority, to somebody else each, from this tick on."""
    return [Arrival(tick, f"{priority}-{tick}", priority, 1) for tick in range(1 + first, TICKS, every)]


@pytest.mark.parametrize("deaths", [(), (20, 41, 62)])
def test_a_flood_of_replies_starves_no_broadcast(deaths: tuple[int, ...]) -> None:
    # As many replies as the pace takes, for as long as it lasts, and a broadcast beside them.
    low = [Arrival(1, f"low-{n}", LOW, 1) for n in range(40)]
    run = LaneRun(Plan(TICKS, [*flood(HIGH), *low], rate=1, deaths=deaths))
    run.run()
    turns = [entry.priority for tick, entry in run.left if tick <= TICKS]
    worked = TICKS - len(deaths) * run.plan.down
    assert turns.count(LOW) >= worked // (SHARE + 1) - 1 - len(deaths)
    assert turns.count(HIGH) >= turns.count(LOW) * SHARE - SHARE


def test_a_broadcast_delays_no_reply() -> None:
    low = [Arrival(1, f"low-{n}", LOW, 1) for n in range(80)]
    run = LaneRun(Plan(TICKS, [*low, *flood(HIGH, every=7)], rate=1))
    run.run()
    waits = [
        tick - int(entry.contact.partition("-")[2]) for tick, entry in run.left if entry.priority == HIGH
    ]
    assert waits and max(waits) <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["undelivered", "sent", "taken", "retry"]), min_size=1, max_size=6),
    st.lists(ticks, max_size=3, unique=True),
)
def test_a_wait_for_delivery_ends(fates: list[str], deaths: list[int]) -> None:
    ordered = Arrival(1, "ana", NORMAL, 4, ordered=True)
    plan = Plan(4 * TICKS, [ordered], fates=fates, deaths=deaths, down=1)
    run = LaneRun(plan)
    run.run()
    # Each row waits for the one before, for its own attempts, and for what a death leaves in doubt.
    each = 10 * ORDERED_S + 15 + 7 + 12
    attempts = len(run.left)
    assert run.left[-1][0] <= attempts * each + sum(15 + plan.down for _ in deaths) + 12


def test_rows_to_one_contact_hold_up_no_other() -> None:
    blocked = [Arrival(1, "ana", NORMAL, 7, ordered=True), Arrival(1, "ben", NORMAL, 7)]
    others = [Arrival(tick, f"c{tick}", NORMAL, 1) for tick in range(2, 60)]
    run = LaneRun(Plan(TICKS, [*blocked, *others], fates=("undelivered",), rate=2))
    run.run()
    waits = [tick - int(e.contact[1:]) for tick, e in run.left if e.contact[0] == "c"]
    assert max(waits) <= 4


def test_a_template_that_is_stopped_holds_up_no_other_message_even_to_the_same_contact() -> None:
    held = Arrival(1, "ana", NORMAL, 5, template=True)
    others = [Arrival(tick, "ana", NORMAL, 1) for tick in range(4, 64, 20)]
    run = LaneRun(Plan(TICKS, [held, *others], rate=2, stopped=frozenset(range(2, 80))))
    run.run()
    left = [(tick, entry.template) for tick, entry in run.left]
    assert [tick for tick, template in left if not template] == [4, 24, 44]
    assert [tick >= 80 for tick, template in left if template] == [False, *[True] * 5]


def test_a_run_that_forgets_who_blocks_is_found_out() -> None:
    """The checks can fail: a process that begins without looking back sends out of turn."""
    plan = Plan(40, [Arrival(1, "ana", NORMAL, 3)], fates=("lost",), deaths=(4,), down=1)
    LaneRun(plan).run()
    careless = LaneRun(replace(plan))
    careless._take_over = lambda life: setattr(life, "ready", True)  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        careless.run()
