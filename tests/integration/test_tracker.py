"""What the log says about rows, carried to the rows of the real embedded store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tornado.ioloop import IOLoop

from store.errors import LeaseLost, StoreUnavailable
from store.log import Log
from store.records import Change, Cursor, DeadFilter, Event, NewEvent, Row, RowView
from store.sqlite import SqliteStore
from store.states import State
from tests.support.faulty_store import FaultyStore
from tests.support.rows import TASK
from tests.support.store_values import add_task, bring, lane_lease, new_row, view
from tests.support.webhooks import OUR_ID, PHONE, body, entry, message_value
from whatsapp.attempt_history import attempts_of
from whatsapp.contacts import Contacts
from whatsapp.errors import GraphError, classify
from whatsapp.intake import Intake
from whatsapp.outcome import cancelled, expired, held_too_long, requeued, resolve_unknown, taken, unanswered
from whatsapp.outcome import refused as refusal
from whatsapp.retry import RetryPolicy
from whatsapp.task_control import Retried, TaskControl
from whatsapp.tracker import StatusEvent, Tracker, change_of_status

S = State
ROW = f"{TASK}-0"
NOW = 1_700_000_000_000
POLICY = RetryPolicy()


def status(name: str, wamid: str = "wamid.A", *, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    """A status about an attempt at :data:`ROW`; with ``attempt`` 0 it has no reference of ours."""
    found: dict[str, Any] = {"id": wamid, "status": name, "timestamp": "1700000000", "recipient_id": PHONE}
    if attempt:
        found["biz_opaque_callback_data"] = f"{ROW}.{attempt}"
    return {**found, **fields}


class Rig:
    """A tracker that gets what comes in when the test says so, and the clock of both."""

    def __init__(self, store: FaultyStore) -> None:
        self.now = NOW
        self.store = store
        self.log = Log(self.store.as_store())
        self.tracker = Tracker(
            self.store.as_store(), policy=RetryPolicy(), random=lambda: 0.5, now_ms=lambda: self.now
        )
        contacts = Contacts(self.store.as_store())
        self._intake = Intake(self.log, contacts, self.store.as_store(), now_ms=lambda: self.now)

    async def start(self) -> None:
        await self.log.start()
        store = self.store.as_store()
        self.lane = await lane_lease(store)
        self.lease = await lane_lease(store, name="consumer:tracker")

    async def add_rows(self, count: int = 1) -> None:
        rows = [new_row(n, lane=OUR_ID, contact=PHONE) for n in range(count)]
        await add_task(self.store.as_store(), TASK, rows)

    async def bring(self, state: State, row_id: str = ROW) -> Row:
        """Take a row to this state, as the lane does; the row then."""
        await bring(self.store.as_store(), self.lane, {row_id: state})
        return (await self.view(row_id)).row

    async def view(self, row_id: str = ROW) -> RowView:
        return await view(self.store.as_store(), row_id)

    async def state(self) -> State:
        return (await self.view()).row.state

    async def settle(self, change: Change, *events: NewEvent) -> None:
        """Store an outcome, as the lane does."""
        await self.store.as_store().apply([change], events)

    async def take(self, *statuses: dict[str, Any], field: str = "messages") -> None:
        """These statuses come in by one webhook."""
        await self._intake.take(body(entry(message_value(statuses=list(statuses)), field)))

    async def track(self) -> None:
        """Handle all that the tracker has not seen."""
        await self.handle(await self.log.read(await self.cursor(), 1000))

    async def handle(self, events: Sequence[Event]) -> None:
        if events:
            await self.tracker.handle(events, Cursor("tracker", events[-1].offset), self.lease)

    async def cursor(self) -> int:
        return await self.store.as_store().load_cursor("tracker")

    async def hear(self, *statuses: dict[str, Any]) -> RowView:
        """These come in, one webhook each, and are handled; the row then."""
        for one in statuses:
            await self.take(one)
        await self.track()
        return await self.view()

    async def events(self, type: str) -> list[dict[str, Any]]:
        """``data`` of every event of this type."""
        events = await self.store.as_store().events_after(0, 1000)
        return [msgspec.json.decode(event.body)["data"] for event in events if event.type == type]

    async def told(self, type: str) -> list[dict[str, Any]]:
        """``data`` of every event of this type that is not itself a status of Meta's."""
        events = await self.store.as_store().events_after(0, 1000)
        found = [event for event in events if event.type == type and not event.key.startswith("st:")]
        return [msgspec.json.decode(event.body)["data"] for event in found]


@pytest.fixture
def rig(io_loop: IOLoop, tmp_path: Path) -> Iterator[Rig]:
    store = SqliteStore(tmp_path / "store.db")
    io_loop.run_sync(store.open)
    rig = Rig(FaultyStore(store))
    io_loop.run_sync(rig.start)
    yield rig
    io_loop.run_sync(store.close)


class _LooseStore(FaultyStore):
    atomic = False


@pytest.fixture
def loose(rig: Rig, io_loop: IOLoop) -> Rig:
    """The same over a store that does not commit log and rows as one."""
    loose = Rig(_LooseStore(rig.store.as_store()))
    io_loop.run_sync(loose.start)
    return loose


# -- a status moves its row --------------------------------------------------------------------------------

PROOFS = {"sent": S.SENT, "delivered": S.DELIVERED, "read": S.READ, "played": S.PLAYED}


@pytest.mark.parametrize("before", [S.SENDING, S.UNKNOWN])
@pytest.mark.parametrize(("name", "after"), PROOFS.items())
async def test_a_status_with_our_reference_settles_its_row(
    rig: Rig, before: State, name: str, after: State
) -> None:
    await rig.add_rows()
    await rig.bring(before)
    seen = await rig.hear(status(name))
    assert (seen.row.state, seen.wamids, seen.sent_at) == (after, ("wamid.A",), NOW)


@pytest.mark.parametrize(("name", "after"), PROOFS.items())
async def test_a_status_without_our_reference_finds_its_row_by_metas_id(
    rig: Rig, name: str, after: State
) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    assert (await rig.hear(status(name, attempt=0))).row.state is after


async def test_a_status_without_our_reference_waits_for_the_answer_that_it_overtook(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.SENDING)
    assert (
        await rig.hear(status("delivered", attempt=0), status("read", "wamid.other", attempt=0))
    ).row == row
    await rig.settle(*taken(row, "wamid.A", b"{}", NOW))
    await rig.track()
    seen = await rig.view()
    assert (seen.row.state, seen.wamids, seen.sent_at > 0) == (S.DELIVERED, ("wamid.A",), True)


async def test_a_status_without_our_reference_waits_where_log_and_rows_are_not_one(loose: Rig) -> None:
    await loose.add_rows()
    row = await loose.bring(S.SENDING)
    _, event = taken(row, "wamid.A", b"{}", NOW)
    # A crash, or a moment, between the event and the move: both come in one batch.
    await loose.take(status("delivered", attempt=0))
    await loose.store.as_store().append_events([event])
    await loose.track()
    assert await loose.state() is S.DELIVERED


async def test_a_status_waits_for_a_minute_at_most(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.SENDING)
    await rig.hear(status("delivered", attempt=0))
    rig.now += 60_000
    await rig.hear(status("read", "wamid.other", attempt=0))
    await rig.settle(*taken(row, "wamid.A", b"{}", NOW))
    await rig.track()
    assert await rig.state() is S.SENT


async def test_statuses_move_a_row_forward_and_set_its_times(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.SENDING)
    for n, name in enumerate(("sent", "delivered", "read", "played")):
        rig.now = NOW + 9000 + 1000 * n
        seen = await rig.hear(status(name, timestamp=str(NOW // 1000 + n)))
        assert seen.row.state is PROOFS[name]
    # Meta's own times, at the end of its whole seconds; when it was first known to have it, by our clock.
    times = (NOW + 1999, NOW + 2999, NOW + 3999)
    assert (seen.sent_at, seen.delivered_at, seen.read_at, seen.played_at) == (NOW + 9000, *times)


async def test_a_time_that_meta_does_not_tell_or_that_is_to_come_is_ours(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.SENDING)
    seen = await rig.hear(status("delivered", timestamp=None), status("read", timestamp="9999999999"))
    assert (seen.delivered_at, seen.read_at) == (NOW, NOW)


async def test_the_price_is_kept_also_where_the_status_moves_nothing(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    price = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "utility"}
    seen = await rig.hear(status("sent", pricing=price))
    assert seen.row.state is S.SENT
    assert msgspec.json.decode(seen.pricing) == price
    seen = await rig.hear(status("delivered", pricing={**price, "category": "service"}), status("read"))
    assert msgspec.json.decode(seen.pricing)["category"] == "service"


async def test_statuses_in_the_wrong_order_leave_the_row_where_it_came_furthest(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.SENDING)
    assert (await rig.hear(status("read"), status("sent"), status("delivered"))).row.state is S.READ


async def test_a_status_that_overtakes_the_answer_stands_when_the_answer_comes(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.SENDING)
    await rig.hear(status("delivered"))
    await rig.settle(*taken(row, "wamid.A", b"{}", NOW))
    seen = await rig.view()
    assert (seen.row.state, seen.wamids) == (S.DELIVERED, ("wamid.A",))


async def test_a_status_of_an_earlier_attempt_settles_a_row_that_waits_to_be_sent_again(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.UNKNOWN)
    await rig.settle(resolve_unknown(row, True, POLICY, NOW))
    assert await rig.state() is S.QUEUED
    assert (await rig.hear(status("delivered"))).row.state is S.DELIVERED


async def test_statuses_out_of_standby_settle_rows_too(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.take(status("delivered"), field="standby")
    await rig.track()
    assert await rig.state() is S.DELIVERED


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(status("held_for_quality_assessment"), id="a status we do not know"),
        pytest.param(status("warning"), id="one that settles nothing"),
        pytest.param(status("delivered", attempt=0), id="an id we do not know"),
        pytest.param(status("delivered", biz_opaque_callback_data=f"{TASK}-7.1"), id="a row we do not have"),
        pytest.param(status("delivered", biz_opaque_callback_data="order-7"), id="somebody else's reference"),
        pytest.param(status("delivered", type="payment"), id="about something else than a message"),
    ],
)
async def test_other_statuses_are_passed_over(rig: Rig, other: dict[str, Any]) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    assert (await rig.hear(other)).row.state is S.UNKNOWN
    assert await rig.cursor() == rig.log.head == 1
    assert await rig.told("message.sent") == []


@pytest.mark.parametrize(
    "content", [b"{}", b'{"data":[]}', b'{"data":{"status":7}}', b'{"data":{}}', b"7", b"{"]
)
@pytest.mark.parametrize(
    ("key", "type"), [("st:x", "message.delivered"), (f"row:{ROW}:1:failed", "message.failed")]
)
async def test_an_event_that_cannot_be_read_is_passed_over(
    loose: Rig, key: str, type: str, content: bytes
) -> None:
    await loose.add_rows()
    await loose.bring(S.SENDING)
    await loose.log.append([NewEvent(key, type, NOW, content, OUR_ID, PHONE, ROW)])
    await loose.track()
    assert await loose.state() is S.SENDING
    assert await loose.cursor() == 1


async def test_proof_without_an_id_of_metas_is_proof(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.SENDING)
    content = b'{"data":{"status":{"status":"delivered"},"attempt":1}}'
    await rig.log.append([NewEvent("st:x", "message.delivered", NOW, content, OUR_ID, PHONE, ROW)])
    await rig.track()
    seen = await rig.view()
    assert (seen.row.state, seen.wamids) == (S.DELIVERED, ())
    assert [told["wamid"] for told in await rig.told("message.sent")] == [None]


# -- failures ----------------------------------------------------------------------------------------------

REASON = {"code": 131026, "title": "Message undeliverable", "error_data": {"details": "no such user"}}


@pytest.mark.parametrize("before", [S.SENDING, S.UNKNOWN, S.SENT])
async def test_a_failure_settles_the_attempt_that_it_is_about(rig: Rig, before: State) -> None:
    await rig.add_rows()
    await rig.bring(before)
    seen = await rig.hear(status("failed", errors=[REASON]))
    assert (seen.row.state, seen.ended_at, seen.wamids) == (S.FAILED, NOW, ("wamid.A",))
    error = msgspec.json.decode(seen.error)
    assert error.pop("advice").startswith("The recipient is not on WhatsApp")
    assert error == {
        "code": 131026,
        "subcode": None,
        "title": "Message undeliverable",
        "details": "no such user",
        "fbtrace_id": "",
        "name": "undeliverable",
    }
    (event,) = await rig.events("message.failed")
    assert event["error"] == msgspec.json.decode(seen.error)
    store = rig.store.as_store()
    (told,) = attempts_of(seen, await store.find_history(ROW))
    assert (told["attempt"], told["outcome"], told["wamid"]) == (1, "failed", "wamid.A")
    assert told["error"] == event["error"]
    only = DeadFilter(error_name="undeliverable", error_code=131026)
    assert [dead.row.id for dead in await store.dead_letters(9, only=only)] == [ROW]
    await rig.track()
    assert (await store.find_history(ROW)).notes[1:] == ()


async def test_a_failure_of_an_earlier_attempt_is_not_the_rows(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.UNKNOWN)
    await rig.settle(resolve_unknown(row, True, POLICY, NOW))
    await rig.bring(S.SENDING)
    seen = await rig.hear(status("failed", attempt=1, errors=[REASON]))
    assert (seen.row.state, seen.row.attempt, seen.error) == (S.SENDING, 2, b"")
    assert seen.wamids == ("wamid.A",)  # Meta's id is kept all the same
    assert (await rig.hear(status("failed", "wamid.B", attempt=2))).row.state is S.FAILED


async def test_a_failure_without_our_reference_is_not_that_of_an_attempt_under_way(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    assert (await rig.hear(status("failed", attempt=0))).row.state is S.FAILED
    # A person has it sent again; then there is another word about the first attempt.
    await rig.store.as_store().apply([Change(ROW, S.QUEUED, NOW, due=NOW)])
    await rig.bring(S.SENDING)
    again = status("failed", attempt=0, recipient_id="16505550000")
    assert (await rig.hear(again)).row.state is S.SENDING


@pytest.mark.parametrize("before", [S.DELIVERED, S.READ, S.PLAYED])
async def test_what_arrived_does_not_fail_afterwards(rig: Rig, before: State) -> None:
    await rig.add_rows()
    await rig.bring(before)
    assert (await rig.hear(status("failed"))).row.state is before


@pytest.mark.parametrize("errors", [None, [], {}, "x", [7], [{}], [{"code": "x"}]])
async def test_a_failure_without_a_reason_is_one_too(rig: Rig, errors: object) -> None:
    await rig.add_rows()
    await rig.bring(S.SENT)
    seen = await rig.hear(status("failed", errors=errors))
    assert seen.row.state is S.FAILED
    assert msgspec.json.decode(seen.error)["code"] is None


async def test_a_row_that_a_status_fails_is_told_as_dead_once(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    seen = await rig.hear(status("failed", errors=[REASON]))
    (dead,) = await rig.told("message.dead")
    assert dead == {
        "task_id": TASK,
        "message_id": ROW,
        "wamid": "wamid.A",
        "attempt": 1,
        "callback_data": None,
        "error": msgspec.json.decode(seen.error),
        "attempts": 1,
        "retried": 0,
    }
    # Another status about the same attempt, and all of the log once more: a crash came before the cursor.
    await rig.hear(status("failed", recipient_id="16505550000"))
    await rig.handle(await rig.log.read(0, 1000))
    assert await rig.told("message.dead") == [dead]


async def test_a_row_that_a_call_fails_is_told_as_dead_each_time(rig: Rig) -> None:
    await rig.add_rows()
    error = GraphError(code=100, http_status=400, from_graph=True, title="t")
    for turn in range(2):
        row = await rig.bring(S.SENDING)
        await rig.settle(refusal(row, 1, error, classify(error), POLICY, lambda: 0.5, NOW + turn))
        await rig.track()
        told = await rig.told("message.dead")
        assert [(dead["attempts"], dead["retried"]) for dead in told] == [(1, 0), (2, 1)][: turn + 1]
        assert told[-1]["error"]["name"] == classify(error).name
        await rig.settle(requeued((await rig.view()).row, NOW))
    await rig.track()
    assert len(await rig.told("message.dead")) == 2


async def test_a_row_that_is_unknown_for_good_is_told_as_dead(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.UNKNOWN)
    await rig.settle(resolve_unknown(row, False, POLICY, NOW))
    await rig.track()
    (dead,) = await rig.told("message.dead")
    assert dead["error"]["name"] == "no_word" and dead["error"]["advice"]


PAUSED = GraphError(code=132015, http_status=400, from_graph=True, title="t")


async def test_a_row_that_is_given_up_while_it_waits_is_told_as_dead_before_its_move_is_made(
    loose: Rig,
) -> None:
    await loose.add_rows()
    change = held_too_long((await loose.view()).row, classify(PAUSED), NOW)
    assert change.event is not None
    # On such a store the log is ahead of the row for a moment, and for good where the process dies then.
    await loose.log.append([change.event])
    await loose.track()
    seen = await loose.view()
    assert (seen.row.state, seen.row.failures) == (S.FAILED, 0)
    assert msgspec.json.decode(seen.error) == msgspec.json.decode(change.error)
    (told,) = attempts_of(seen, await loose.store.as_store().find_history(ROW))
    assert told["outcome"] == "given_up"
    assert [dead["attempts"] for dead in await loose.told("message.dead")] == [0]
    assert len(await loose.told("task.completed")) == 1


async def test_a_row_that_was_given_up_and_sent_anew_since_is_left_by_a_repetition(loose: Rig) -> None:
    await loose.add_rows()
    await loose.settle(held_too_long((await loose.view()).row, classify(PAUSED), NOW))
    await loose.settle(requeued((await loose.view()).row, NOW))
    await loose.track()
    await loose.handle(await loose.log.read(0, 1000))
    row = (await loose.view()).row
    assert (row.state, row.retried, row.failures) == (S.QUEUED, 1, 0)
    # It is given up once more: another event, another death.
    await loose.settle(held_too_long(row, classify(PAUSED), NOW))
    await loose.track()
    assert [dead["retried"] for dead in await loose.told("message.dead")] == [1]


async def test_a_row_that_lives_on_is_not_told_as_dead(rig: Rig) -> None:
    rows = [new_row(n, lane=OUR_ID, contact=PHONE, fallback=b'{"type":"template"}') for n in range(2)]
    await add_task(rig.store.as_store(), TASK, rows)
    # Its fallback goes; it was delivered; a failure of an attempt before the last one.
    await rig.bring(S.SENT)
    await rig.hear(status("failed", errors=[{"code": 131047}]))
    assert await rig.state() is S.QUEUED
    other = f"{TASK}-1"
    await rig.bring(S.DELIVERED, other)
    await rig.hear(status("failed", "wamid.B", biz_opaque_callback_data=f"{other}.1"))
    assert await rig.told("message.dead") == []


async def test_a_closed_window_of_an_earlier_attempt_revives_no_dead_letter(rig: Rig) -> None:
    row = new_row(0, lane=OUR_ID, contact=PHONE, fallback=b'{"type":"template"}')
    await add_task(rig.store.as_store(), TASK, [row])
    await rig.settle(resolve_unknown(await rig.bring(S.UNKNOWN), True, POLICY, NOW))
    error = GraphError(code=100, http_status=400, from_graph=True, title="t")
    row = await rig.bring(S.SENDING)
    await rig.settle(refusal(row, 1, error, classify(error), POLICY, lambda: 0.5, NOW))
    await rig.track()
    seen = await rig.hear(status("failed", attempt=1, errors=[{"code": 131047}]))
    assert (seen.row.state, seen.row.attempt, seen.row.fell_back) == (S.FAILED, 2, False)
    assert [dead["attempts"] for dead in await rig.told("message.dead")] == [2]


async def test_a_closed_window_without_our_reference_revives_no_dead_letter(rig: Rig) -> None:
    row = new_row(0, lane=OUR_ID, contact=PHONE, fallback=b'{"type":"template"}')
    await add_task(rig.store.as_store(), TASK, [row])
    await rig.settle(resolve_unknown(await rig.bring(S.UNKNOWN), True, POLICY, NOW))
    error = GraphError(code=100, http_status=400, from_graph=True, title="t")
    row = await rig.bring(S.SENDING)
    await rig.settle(refusal(row, 1, error, classify(error), POLICY, lambda: 0.5, NOW))
    # Its first attempt had been taken after all, and then failed.
    assert (await rig.hear(status("sent"))).wamids == ("wamid.A",)
    seen = await rig.hear(status("failed", attempt=0, errors=[{"code": 131047}]))
    assert (seen.row.state, seen.row.fell_back) == (S.FAILED, False)
    assert [dead["error"]["code"] for dead in await rig.told("message.dead")] == [100]


async def test_late_proof_beats_a_failure(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.hear(status("failed"))
    assert (await rig.hear(status("delivered"))).row.state is S.DELIVERED


def test_a_failure_is_guarded_and_a_proof_is_not() -> None:
    def change(state: State, attempt: int) -> Change:
        error = {"code": 7, "name": "seven"} if state is S.FAILED else None
        return change_of_status(StatusEvent(ROW, state, attempt, "wamid.A", NOW, error))

    assert change(S.FAILED, 3) == Change(
        ROW,
        S.FAILED,
        NOW,
        attempt=3,
        only_from=(S.SENT, S.SENDING, S.UNKNOWN),
        wamid="wamid.A",
        error=b'{"code":7,"name":"seven"}',
        error_name="seven",
        error_code=7,
    )
    assert change(S.FAILED, 0).only_from == (S.SENT,)
    assert change(S.READ, 3) == Change(ROW, S.READ, NOW, word_of=3, wamid="wamid.A")


# -- message.sent, once ------------------------------------------------------------------------------------


async def test_the_first_proof_is_told_as_sent_and_later_ones_are_not(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.hear(status("delivered"), status("sent"), status("read"))
    await rig.hear(status("played"))
    (told,) = await rig.told("message.sent")
    assert told == {
        "task_id": TASK,
        "message_id": ROW,
        "wamid": "wamid.A",
        "attempt": 1,
        "callback_data": None,
        "proof": "delivered",
    }


async def test_what_the_lane_has_told_is_not_told_again(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    await rig.hear(status("sent"), status("delivered"))
    assert len(await rig.told("message.sent")) == 1
    assert "answer" in (await rig.told("message.sent"))[0]


async def test_an_answer_after_the_first_proof_is_not_told_again(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.SENDING)
    await rig.hear(status("sent"))
    await rig.settle(*taken(row, "wamid.A", b"{}", NOW))
    assert [told.get("proof") for told in await rig.told("message.sent")] == ["sent"]


async def test_proof_after_a_row_was_given_up_is_told(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.UNKNOWN)
    await rig.settle(resolve_unknown(row, False, POLICY, NOW))
    assert await rig.state() is S.FAILED
    await rig.hear(status("delivered"))
    assert [told["proof"] for told in await rig.told("message.sent")] == ["delivered"]


async def test_a_row_known_as_sent_is_not_told_again_when_the_log_has_forgotten(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.SENT)  # what told of it was kept for a while only
    await rig.hear(status("delivered"), status("read"))
    assert await rig.told("message.sent") == []


async def test_a_failure_proves_nothing(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.hear(status("failed"))
    assert await rig.told("message.sent") == []


# -- message.doubled ---------------------------------------------------------------------------------------


async def test_a_second_id_is_told_as_a_double(rig: Rig) -> None:
    await rig.add_rows()
    row = await rig.bring(S.UNKNOWN)
    await rig.settle(resolve_unknown(row, True, POLICY, NOW))
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.B", b"{}", NOW))
    rig.now += 1
    seen = await rig.hear(status("delivered", "wamid.A", attempt=1), status("read", "wamid.A", attempt=1))
    assert set(seen.wamids) == {"wamid.A", "wamid.B"}
    (told,) = await rig.told("message.doubled")
    assert told["message_id"] == ROW
    assert set(told["wamids"]) == {"wamid.A", "wamid.B"}


async def test_two_new_ids_at_once_are_a_double(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.take(status("delivered", "wamid.A"), status("delivered", "wamid.B", attempt=2))
    await rig.track()
    assert [told["wamids"] for told in await rig.told("message.doubled")] == [["wamid.A", "wamid.B"]]


async def test_one_id_is_no_double(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    await rig.hear(status("sent"), status("delivered"), status("read", attempt=0))
    assert await rig.told("message.doubled") == []


async def test_proof_without_an_id_is_no_double(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    content = b'{"data":{"status":{"status":"delivered"},"attempt":1}}'
    await rig.log.append([NewEvent("st:x", "message.delivered", NOW, content, OUR_ID, PHONE, ROW)])
    await rig.track()
    assert await rig.state() is S.DELIVERED
    assert await rig.told("message.doubled") == []


# -- task.completed ----------------------------------------------------------------------------------------


async def test_a_task_is_complete_when_its_last_row_has_ended(rig: Rig) -> None:
    await rig.add_rows(2)
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    await rig.track()
    assert await rig.told("task.completed") == []
    other = await rig.bring(S.SENDING, f"{TASK}-1")
    await rig.settle(*no_answer(other))
    await rig.track()
    assert await rig.told("task.completed") == []
    await rig.settle(resolve_unknown((await rig.view(other.id)).row, False, POLICY, NOW))
    rig.now += 5
    await rig.track()
    assert await rig.told("task.completed") == [{"task_id": TASK, "counts": {"sent": 1, "failed": 1}}]
    task = await rig.store.as_store().find_task(TASK)
    assert task is not None
    assert task.completed_at == NOW + 5


async def test_a_status_may_be_what_completes_a_task(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.hear(status("read"))
    assert await rig.told("task.completed") == [{"task_id": TASK, "counts": {"read": 1}}]


async def test_an_expired_row_completes_a_task(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(expired((await rig.view()).row, NOW))
    await rig.track()
    assert await rig.told("task.completed") == [{"task_id": TASK, "counts": {"expired": 1}}]


async def test_a_task_is_told_complete_once(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*taken(await rig.bring(S.SENDING), "wamid.A", b"{}", NOW))
    await rig.track()
    await rig.hear(status("sent"), status("delivered"))
    await rig.hear(status("failed"), status("read"))
    assert len(await rig.told("task.completed")) == 1


# -- a store that a crash may leave with its log ahead -----------------------------------------------------


Outcome = tuple[Change, NewEvent]


def told(change: Change) -> Outcome:
    assert change.event is not None
    return change, change.event


def final_refusal(row: Row) -> Outcome:
    error = GraphError(code=100, http_status=400, from_graph=True, title="Invalid parameter")
    return told(refusal(row, 0, error, classify(error), POLICY, lambda: 0.5, NOW))


def no_answer(row: Row) -> Outcome:
    return told(refusal(row, 0, *unanswered(), POLICY, lambda: 0.5, NOW))


def answered(row: Row) -> Outcome:
    return taken(row, "wamid.A", b"{}", NOW)


@pytest.mark.parametrize(
    ("outcome", "state", "burnt", "doubt"),
    [(answered, S.SENT, 0, False), (final_refusal, S.FAILED, 1, False), (no_answer, S.UNKNOWN, 0, True)],
)
async def test_an_outcome_that_only_the_log_has_is_carried_to_its_row(
    loose: Rig, outcome: Callable[[Row], Outcome], state: State, burnt: int, doubt: bool
) -> None:
    await loose.add_rows()
    row = await loose.bring(S.SENDING)
    await loose.log.append([outcome(row)[1]])
    await loose.track()
    seen = await loose.view()
    assert (seen.row.state, seen.row.failures, seen.row.doubt) == (state, burnt, doubt)
    assert seen.wamids == (("wamid.A",) if state is S.SENT else ())
    assert bool(seen.error) == (state is not S.SENT)


@pytest.mark.parametrize("outcome", [answered, final_refusal, no_answer])
async def test_an_outcome_that_its_row_has_is_not_carried_again(
    loose: Rig, outcome: Callable[[Row], Outcome]
) -> None:
    await loose.add_rows()
    await loose.settle(*outcome(await loose.bring(S.SENDING)))
    before = await loose.view()
    await loose.track()
    assert await loose.view() == before


async def test_an_outcome_of_an_earlier_attempt_is_not_carried_to_a_later_one(loose: Rig) -> None:
    await loose.add_rows()
    row = await loose.bring(S.UNKNOWN)
    await loose.settle(resolve_unknown(row, True, POLICY, NOW))
    await loose.bring(S.SENDING)
    await loose.log.append([final_refusal(row)[1]])
    await loose.track()
    assert await loose.state() is S.SENDING


async def test_an_outcome_is_not_carried_to_a_row_that_a_person_has_queued_again(loose: Rig) -> None:
    await loose.add_rows()
    await loose.settle(*final_refusal(await loose.bring(S.SENDING)))
    await loose.store.as_store().apply([Change(ROW, S.QUEUED, NOW, due=NOW)])
    await loose.track()
    assert await loose.state() is S.QUEUED


# -- again, and faults -------------------------------------------------------------------------------------


async def test_a_batch_handled_again_changes_nothing(rig: Rig) -> None:
    await rig.add_rows(2)
    await rig.bring(S.UNKNOWN)
    await rig.bring(S.SENT, f"{TASK}-1")
    await rig.take(
        status("delivered", "wamid.A"),
        status("delivered", "wamid.B", attempt=2),
        status("failed", "wamid.C", biz_opaque_callback_data=f"{TASK}-1.1"),
    )
    events = await rig.log.read(0, 1000)
    await rig.handle(events)
    before = (await rig.view(), await rig.view(f"{TASK}-1"), await rig.store.as_store().events_after(0, 1000))
    rig.now += 60_000
    await rig.handle(events)
    after = (await rig.view(), await rig.view(f"{TASK}-1"), await rig.store.as_store().events_after(0, 1000))
    assert after == before
    assert len(await rig.told("task.completed")) == 1


@pytest.mark.parametrize("call", ["find_rows", "apply", "finished_tasks", "complete_tasks", "save_cursor"])
async def test_where_the_store_is_away_the_batch_is_handled_when_it_is_back(rig: Rig, call: str) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.take(status("delivered"), status("delivered", "wamid.B", attempt=2))
    rig.store.fail(call)
    with pytest.raises(StoreUnavailable):
        await rig.track()
    assert await rig.cursor() == 0
    rig.store.heal()
    await rig.track()
    assert await rig.state() is S.DELIVERED
    for type in ("message.sent", "message.doubled", "task.completed"):
        assert len(await rig.told(type)) == 1
    assert await rig.cursor() >= 2


async def test_without_its_lease_a_tracker_saves_no_place(rig: Rig) -> None:
    await rig.add_rows()
    await rig.bring(S.UNKNOWN)
    await rig.take(status("delivered"))
    await rig.store.as_store().release_lease(rig.lease)
    await lane_lease(rig.store.as_store(), "another", "consumer:tracker")
    with pytest.raises(LeaseLost):
        await rig.track()
    assert await rig.cursor() == 0


async def test_a_batch_without_anything_for_rows_only_moves_the_cursor(rig: Rig) -> None:
    await rig.take(status("delivered", attempt=0))
    await rig.track()
    assert await rig.cursor() == 1
    assert rig.store.calls["apply"] == 0


async def test_a_failure_after_the_grace_is_carried_to_a_row_that_is_unknown_still(loose: Rig) -> None:
    # The tracker of another process reads the event before the lane has moved the row.
    await loose.add_rows()
    gone = resolve_unknown(await loose.bring(S.UNKNOWN), False, POLICY, NOW)
    await loose.log.append([told(gone)[1]])
    await loose.track()
    assert await loose.state() is S.FAILED
    assert len(await loose.told("task.completed")) == 1
    await loose.settle(gone)
    assert len(await loose.told("message.failed")) == 1


# -- what a person does ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [cancelled, expired])
async def test_an_end_before_it_left_that_only_the_log_has_is_carried_to_its_row(
    loose: Rig, end: Callable[[Row, int], Change]
) -> None:
    await loose.add_rows()
    change, event = told(end((await loose.view()).row, NOW))
    await loose.log.append([event])
    await loose.track()
    assert await loose.state() is change.to
    assert len(await loose.told("task.completed")) == 1


async def test_a_cancellation_does_not_end_a_row_that_left_before_it(loose: Rig) -> None:
    await loose.add_rows()
    event = told(cancelled((await loose.view()).row, NOW))[1]
    await loose.bring(S.SENDING)
    await loose.log.append([event])
    await loose.track()
    assert await loose.state() is S.SENDING


async def test_a_retry_between_the_end_and_its_telling_is_no_end(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*final_refusal(await rig.bring(S.SENDING)))
    rig.store.hold("find_task")
    tracking = asyncio.ensure_future(rig.track())
    await rig.store.arrived("find_task")
    await rig.settle(requeued((await rig.view()).row, NOW))
    rig.store.heal()
    await tracking
    assert await rig.told("task.completed") == []
    await rig.settle(*final_refusal(await rig.bring(S.SENDING)))
    await rig.track()
    assert len(await rig.told("task.completed")) == 1


async def test_a_retry_between_the_telling_of_the_end_and_its_marking_is_told_an_end_of_its_own(
    rig: Rig,
) -> None:
    await rig.add_rows()
    await rig.settle(*final_refusal(await rig.bring(S.SENDING)))
    rig.store.hold("complete_tasks")
    tracking = asyncio.ensure_future(rig.track())
    await rig.store.arrived("complete_tasks")
    await rig.settle(requeued((await rig.view()).row, NOW))
    rig.store.heal()
    await tracking
    assert len(await rig.told("task.completed")) == 1
    await rig.settle(*final_refusal(await rig.bring(S.SENDING)))
    await rig.track()
    assert len(await rig.told("task.completed")) == 2


async def test_what_was_taken_and_failed_and_is_sent_anew_is_no_double_and_is_told_as_sent(rig: Rig) -> None:
    await rig.add_rows()
    await rig.settle(*answered(await rig.bring(S.SENDING)))
    await rig.hear(status("failed"))
    await rig.settle(requeued((await rig.view()).row, NOW))
    await rig.bring(S.UNKNOWN)
    await rig.hear(status("delivered", "wamid.B", attempt=2))
    assert await rig.state() is S.DELIVERED
    assert len(await rig.told("message.sent")) == 2
    assert await rig.told("message.doubled") == []
    await rig.hear(status("delivered", "wamid.C", attempt=2))
    assert len(await rig.told("message.doubled")) == 1


async def test_a_retry_by_a_person_that_only_the_log_has_is_carried_to_its_row(loose: Rig) -> None:
    await loose.add_rows()
    await loose.settle(*final_refusal(await loose.bring(S.SENDING)))
    await loose.track()
    again = told(requeued((await loose.view()).row, NOW))
    await loose.log.append([again[1]])
    await loose.track()
    seen = await loose.view()
    assert (seen.row.state, seen.row.failures, seen.row.retried, seen.row.due) == (S.QUEUED, 0, 1, NOW)
    await loose.settle(*final_refusal(await loose.bring(S.SENDING)))
    await loose.handle(await loose.log.read(0, 1000))
    seen = await loose.view()
    assert (seen.row.state, seen.row.retried) == (S.FAILED, 1)
    assert len(await loose.told("task.completed")) == 2


async def test_a_row_that_the_tracker_has_queued_first_counts_as_retried(loose: Rig) -> None:
    # As where the tracker of another process reads the event before the row is moved.
    await loose.add_rows(2)
    for n in range(2):
        await loose.settle(*final_refusal(await loose.bring(S.SENDING, f"{TASK}-{n}")))
    loose.store.hold("apply")
    control = TaskControl(loose.store.as_store(), now_ms=lambda: NOW)
    retrying = asyncio.ensure_future(control.retry(TASK, None))
    await loose.store.arrived("apply")
    real = loose.store._real
    await real.apply([requeued((await loose.view()).row, NOW)])
    loose.store.heal()
    assert await retrying == Retried(2, 0)
    assert await loose.told("task.retried") == [{"task_id": TASK, "count": 2}]
