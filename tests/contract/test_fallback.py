"""A fallback's turn on every store, as the tracker and the lane find it: whatever comes late, or twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.states import State
from tests.support.rows import TASK
from tests.support.tracked import ANSWER, NOW, Tracked, status
from whatsapp.errors import GraphError, classify
from whatsapp.outcome import refused, shut_out, taken
from whatsapp.retry import RetryPolicy

CLOSED = {"code": 131047, "title": "Re-engagement message"}


def failed(**fields: Any) -> dict[str, Any]:
    return status("failed", errors=[CLOSED], **fields)


class Rig(Tracked):
    """A row with a fallback."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, fallback=b"{2}")

    async def falls_back(self) -> None:
        """It is queued with its fallback, and was told so once."""
        row = (await self.view()).row
        assert (row.state, row.payload, row.fell_back) == (State.QUEUED, b"{2}", True)
        assert len(await self.told("message.retrying")) == 1
        task = await self.store.find_task(TASK)
        assert task is not None and task.completed_at == 0


@pytest.fixture
def rig(io_loop: IOLoop, store: Store) -> Iterator[Rig]:
    rig = Rig(store)
    io_loop.run_sync(rig.start)
    yield rig


@pytest.mark.parametrize("together", [True, False])
async def test_what_meta_took_and_then_refused_falls_back(rig: Rig, together: bool) -> None:
    await rig.answer()
    if not together:
        await rig.track()
    await rig.hear(status("sent"))
    await rig.hear(failed())
    batch = await rig.track()
    await rig.falls_back()
    # The cursor was not saved, and all of it comes again: also once the fallback is under way, and taken.
    await rig.handle(batch)
    await rig.falls_back()
    await rig.send()
    await rig.handle(batch)
    assert (await rig.view()).row.state is State.SENDING
    await rig.answer("wamid.B")
    await rig.handle(batch)
    found = await rig.view()
    assert (found.row.state, found.wamids) == (State.SENT, ("wamid.A", "wamid.B"))
    assert await rig.told("message.doubled") == []


async def test_the_answer_of_the_refused_attempt_may_come_after_all(rig: Rig) -> None:
    late = (await rig.view()).row
    await rig.hear(failed())
    await rig.track()
    change, event = taken(late, "wamid.A", ANSWER, NOW)
    assert await rig.store.apply([change], [event]) == [False]
    await rig.hear(status("sent"))
    await rig.track()
    await rig.falls_back()


@pytest.mark.parametrize("by_meta", [True, False])
async def test_a_row_refused_at_once_falls_back(rig: Rig, by_meta: bool) -> None:
    row = (await rig.view()).row
    error = GraphError(code=131047, http_status=400, from_graph=True, title="closed")
    change = shut_out(row, 0, NOW)
    if by_meta:
        change = refused(row, 0, error, classify(error), RetryPolicy(), lambda: 0.5, NOW)
    if not rig.store.atomic:
        # A crash between the log and the rows leaves the event alone; the tracker carries it over.
        assert change.event is not None
        await rig.store.append_events([change.event])
    else:
        assert await rig.store.apply([change]) == [True]
    batch = await rig.track()
    await rig.falls_back()
    await rig.send()
    await rig.handle(batch)
    assert (await rig.view()).row.state is State.SENDING


async def test_a_failure_without_our_reference_ends_its_own_attempt_only(rig: Rig) -> None:
    await rig.answer()
    await rig.track()
    await rig.hear(failed(attempt=0))
    batch = await rig.track()
    await rig.falls_back()
    await rig.send()
    await rig.answer("wamid.B")
    await rig.handle(batch)
    assert (await rig.view()).row.state is State.SENT


async def test_a_fallback_that_fails_has_failed(rig: Rig) -> None:
    await rig.answer()
    await rig.hear(failed())
    await rig.track()
    await rig.send()
    await rig.answer("wamid.B")
    await rig.hear(failed(attempt=2, wamid="wamid.B"))
    await rig.track()
    assert (await rig.view()).row.state is State.FAILED
    assert [event.type for event in await rig.told("task.completed")] == ["task.completed"]
