"""Whom a number has written to lately, read from a real log, whose offsets are the store's own."""

from __future__ import annotations

from store.base import Store
from store.records import NewEvent
from whatsapp.clock import Clock
from whatsapp.pacing import PairPacer
from whatsapp.pair_history import PairHistory

LANE = "100"
NOW_MS = 1_700_000_000_000


async def test_all_of_a_burst_is_known_again_however_offsets_grow(store: Store) -> None:
    for n in range(60):
        event = NewEvent(
            f"row:{n}", "message.sent", NOW_MS - (60 - n) * 1000, b"{}", LANE, "ana", f"task-{n}"
        )
        await store.append_events([event])
    pairs = PairPacer(burst=1, interval_s=6.0)
    clock = Clock(lambda: NOW_MS, lambda: 0.0)
    await PairHistory(LANE, pairs, store=store, clock=clock, span_s=270.0).read(lambda: False)
    assert pairs.ready_at("ana", 0.0) == 60 * 6.0 - 60.0
