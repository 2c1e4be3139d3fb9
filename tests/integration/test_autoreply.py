"""The consumer that answers, over the real embedded store: whom it answers, and that it does so once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from store.errors import StoreError, StoreUnavailable
from store.log import Log
from store.records import Cursor, Event, Place, Row
from store.sqlite import SqliteStore
from store.threads import Said, ThreadNews
from tests.support.faulty_store import FaultyStore
from tests.support.webhooks import OUR_ID, PHONE, USER_ID, body, entry, message_value, text_message
from whatsapp.autoreply import Automation, AutoReply
from whatsapp.contacts import Contacts
from whatsapp.intake import Intake
from whatsapp.outbox import HIGH, Outbox
from whatsapp.rules import Conditions, Rule, compile_pattern, phrase

OURS = "15550783881"
OTHER = "16505550000"
NOBODY: dict[str, Any] = {"from": None}
COOLDOWN_S, MAX_AGE_S = 60.0, 300.0


def answering(
    name: str, *keywords: str, text: str, cooldown_s: float = COOLDOWN_S, **rule: Any
) -> Automation:
    """A rule that answers these keywords with a text."""
    when = Conditions(phrases=tuple(map(phrase, keywords)))
    content = {"type": "text", "text": {"body": text}}
    return Automation(Rule(name, when, cooldown_ms=int(cooldown_s * 1000), **rule), "text", content)


def rules(cooldown_s: float = COOLDOWN_S) -> list[Automation]:
    return [
        answering("greeting", "hola", "hello", text="Welcome!", cooldown_s=cooldown_s),
        answering("help", "ayuda", text="A person will be with you.", cooldown_s=cooldown_s),
    ]


class Rig:
    """What comes in by webhook is handled at once; the test sets the clock."""

    def __init__(self, store: SqliteStore) -> None:
        self.now = 1_700_000_000_000
        self.store = FaultyStore(store)
        self.log = Log(self.store.as_store())
        self.contacts = Contacts(self.store.as_store())
        self.outbox = Outbox(self.store.as_store(), self.log, self.contacts, now_ms=lambda: self.now)
        self.replies = self.consumer()
        self._intake = Intake(self.log, self.contacts, self.store.as_store(), now_ms=lambda: self.now)

    async def start(self) -> None:
        await self.log.start()
        lease = await self.store.as_store().acquire_lease("consumer:autoreply", "me", 10**9)
        assert lease is not None
        self.lease = lease

    def consumer(
        self, automations: Sequence[Automation] = (), *, cooldown_s: float = COOLDOWN_S, most: int = 100
    ) -> AutoReply:
        return AutoReply(
            automations or rules(cooldown_s),
            store=self.store.as_store(),
            outbox=self.outbox,
            numbers=[OUR_ID],
            max_age_s=MAX_AGE_S,
            max_per_minute=most,
            now_ms=lambda: self.now,
        )

    async def take(self, *messages: dict[str, Any], field: str = "messages", **parts: Any) -> list[Event]:
        """These messages come in; the events made of them."""
        head = self.log.head
        value = message_value(**({"messages": list(messages)} if messages else {}), **parts)
        await self._intake.take(body(entry(value, field)))
        return list(await self.log.read(head, 100))

    async def handle(self, events: Sequence[Event]) -> None:
        """One batch, as the consumer hands it over."""
        offset = events[-1].offset if events else self.log.head
        await self.replies.handle(events, Cursor("autoreply", offset), self.lease)

    async def receive(self, *messages: dict[str, Any], **more: Any) -> None:
        """These come in and are handled."""
        await self.handle(await self.take(*messages, **more))

    async def rows(self) -> list[Row]:
        """What is to be sent, in order."""
        return await self.store.as_store().read_ahead(OUR_ID, HIGH, Place(0, 0), 2**53, 100)

    async def tasks(self) -> int:
        """How many were made, for whichever number."""
        events = await self.store.as_store().events_after(0, 1000)
        return sum(event.type == "task.created" for event in events)

    async def told(self, type: str) -> list[dict[str, Any]]:
        """``data`` of all events of this type."""
        events = await self.store.as_store().events_after(0, 1000)
        return [json.loads(event.body)["data"] for event in events if event.type == type]

    async def note_threads(self, events: Sequence[Event]) -> None:
        """As the keeper of conversations does."""
        lease = await self.store.as_store().acquire_lease("consumer:threads", "me", 10**9)
        assert lease is not None
        said = tuple(Said(e.offset, e.contact, e.phone_number_id, e.at, "in") for e in events)
        cursor = Cursor("threads", events[-1].offset)
        await self.store.as_store().note_threads(ThreadNews(said), cursor, lease)

    async def texts(self) -> list[str]:
        return [json.loads(row.payload)["text"]["body"] for row in await self.rows()]


@pytest.fixture
def rig(io_loop: IOLoop, tmp_path: Path) -> Iterator[Rig]:
    store = SqliteStore(tmp_path / "store.db")
    io_loop.run_sync(store.open)
    rig = Rig(store)
    io_loop.run_sync(rig.start)
    yield rig
    rig.outbox.close()
    io_loop.run_sync(store.close)


# -- whom it answers ---------------------------------------------------------------------------------------


async def test_a_keyword_is_answered_to_its_sender(rig: Rig) -> None:
    await rig.receive(text_message("wamid.A", "¡Hola!"))
    (row,) = await rig.rows()
    assert json.loads(row.payload)["to"] == f"+{PHONE}"
    assert await rig.texts() == ["Welcome!"]
    assert (row.lane, row.contact, row.priority) == (OUR_ID, PHONE, HIGH)
    task = await rig.store.as_store().find_task(row.task_id)
    assert task is not None
    assert (task.task.source, task.task.total) == ("autoreply:greeting", 1)


async def test_the_cursor_is_saved_whether_or_not_something_was_answered(rig: Rig) -> None:
    for n, text in enumerate(("hola", "nothing to answer")):
        events = await rig.take(text_message(f"wamid.{n}", text))
        await rig.handle(events)
        assert await rig.store.as_store().load_cursor("autoreply") == events[-1].offset


async def test_contacts_are_answered_side_by_side_and_each_in_order(rig: Rig) -> None:
    rig.replies = rig.consumer(cooldown_s=0.0)
    events = await rig.take(
        text_message("wamid.A", "hola"),
        text_message("wamid.B", "hola", **{"from": "5215550002222"}),
        text_message("wamid.C", "ayuda"),
    )
    rig.store.hold("claim_once")
    handling = asyncio.Task(rig.handle(events))
    # One of each contact waits for the store, and the second of the first waits for the first.
    await rig.store.arrived("claim_once", 2)
    assert rig.store.calls["claim_once"] == 2
    rig.store.heal()
    await handling
    rows = await rig.rows()
    assert len(rows) == 3
    mine = [json.loads(row.payload)["text"]["body"] for row in rows if row.contact == PHONE]
    assert mine == ["Welcome!", "A person will be with you."]


async def test_a_batch_that_fails_at_one_contact_is_ended_before_it_comes_again(rig: Rig) -> None:
    events = await rig.take(
        text_message("wamid.A", "hola"), text_message("wamid.B", "hola", **{"from": "5215550002222"})
    )
    rig.store.fail("create_task")
    with pytest.raises(StoreUnavailable):
        await rig.handle(events)
    assert rig.store.calls["create_task"] == 2
    rig.store.heal()
    for _ in range(2):
        await rig.handle(events)
    assert len(await rig.rows()) == 2


async def test_a_sender_without_a_phone_is_answered_by_user_id(rig: Rig) -> None:
    message = text_message("wamid.A", "hola", from_user_id=USER_ID, **NOBODY)
    await rig.receive(message)
    (row,) = await rig.rows()
    payload = json.loads(row.payload)
    assert payload["recipient"] == USER_ID
    assert "to" not in payload
    assert row.contact == USER_ID


async def test_a_sender_with_both_is_answered_by_phone(rig: Rig) -> None:
    await rig.receive(text_message("wamid.A", "hola", from_user_id=USER_ID))
    (row,) = await rig.rows()
    assert json.loads(row.payload)["to"] == f"+{PHONE}"
    assert "recipient" not in json.loads(row.payload)


async def test_a_plus_before_the_sender_is_not_doubled(rig: Rig) -> None:
    await rig.receive(text_message("wamid.A", "hola", **{"from": f"+{PHONE}"}))
    (row,) = await rig.rows()
    assert json.loads(row.payload)["to"] == f"+{PHONE}"


async def test_the_text_of_a_button_is_answered_too(rig: Rig) -> None:
    reply = {"type": "button_reply", "button_reply": {"id": "b1", "title": "Ayuda"}}
    await rig.receive(text_message("wamid.A", None, type="interactive", interactive=reply))
    assert await rig.texts() == ["A person will be with you."]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(text_message(text="good morning"), id="no keyword"),
        pytest.param(text_message(text=""), id="an empty text"),
        pytest.param(text_message(text=None, type="sticker", sticker={"id": "1"}), id="no text at all"),
        pytest.param(text_message(text="hola", group_id="Y2FwaV9ncm91cA"), id="in a group"),
        pytest.param(text_message(text="hola", **{"from": OURS}), id="from our own number"),
        pytest.param(text_message(text="hola", **NOBODY), id="from nobody"),
        pytest.param(
            text_message(text="hola", **{**NOBODY, "from": 16505551234}), id="from a number that is no text"
        ),
        pytest.param(text_message(text="hola", group_id=7), id="with a field of another type"),
    ],
)
async def test_these_are_not_answered(rig: Rig, message: dict[str, Any]) -> None:
    await rig.receive(message)
    assert await rig.rows() == []


@pytest.mark.parametrize("display", [OURS, f"+{OURS}", "+1 555-078-3881"])
async def test_our_own_number_is_known_in_any_spelling(rig: Rig, display: str) -> None:
    metadata = {"display_phone_number": display, "phone_number_id": OUR_ID}
    await rig.receive(text_message(text="hola", **{"from": OURS}), metadata=metadata)
    assert await rig.rows() == []


@pytest.mark.parametrize("metadata", [None, {"phone_number_id": OUR_ID}])
async def test_without_our_display_number_a_customer_is_answered_all_the_same(
    rig: Rig, metadata: dict[str, Any] | None
) -> None:
    (event,) = await rig.take(text_message(text="hola"), metadata=metadata)
    await rig.handle([event])
    # Without our id nobody knows from which number to answer.
    assert await rig.tasks() == (1 if metadata else 0)


async def test_a_message_to_a_number_that_is_not_ours_is_not_answered(rig: Rig) -> None:
    metadata = {"display_phone_number": OURS, "phone_number_id": "999"}
    await rig.receive(text_message(text="hola"), metadata=metadata)
    assert await rig.tasks() == 0


@pytest.mark.parametrize("field", ["standby", "message_echoes", "smb_message_echoes", "history"])
async def test_what_is_no_message_to_us_is_not_answered(rig: Rig, field: str) -> None:
    assert await rig.take(text_message("wamid.A", "hola", to=PHONE), field=field)
    await rig.handle(await rig.log.read(0, 100))
    assert await rig.rows() == []


@pytest.mark.parametrize(("age_s", "answers"), [(MAX_AGE_S, 1), (MAX_AGE_S + 0.001, 0), (86_400.0, 0)])
async def test_what_is_too_old_is_not_answered(rig: Rig, age_s: float, answers: int) -> None:
    events = await rig.take(text_message(text="hola"))
    rig.now += int(age_s * 1000)
    await rig.handle(events)
    assert len(await rig.rows()) == answers


@pytest.mark.parametrize(
    ("written", "answers"),
    [
        (str(1_700_000_000 - int(MAX_AGE_S)), 1),
        (str(1_700_000_000 - int(MAX_AGE_S) - 1), 0),
        (1_600_000_000, 0),
        ("1800000000", 1),
        ("", 1),
        ("yesterday", 1),
        ("9" * 40, 1),
        (None, 1),
        (["1"], 1),
    ],
)
async def test_what_was_written_too_long_ago_is_not_answered_when_it_comes_in(
    rig: Rig, written: object, answers: int
) -> None:
    await rig.receive(text_message(text="hola", timestamp=written))
    assert len(await rig.rows()) == answers


# -- once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cooldown_s", [COOLDOWN_S, 0.0])
async def test_an_event_is_answered_once_however_often_it_is_handled(rig: Rig, cooldown_s: float) -> None:
    events = await rig.take(text_message("wamid.A", "hola"))
    for _ in range(3):
        rig.replies = rig.consumer(cooldown_s=cooldown_s)  # a new process each time
        await rig.handle(events)
        rig.now += 1
    assert len(await rig.rows()) == 1


async def test_a_batch_handled_again_is_answered_as_before(rig: Rig) -> None:
    first = await rig.take(text_message("wamid.A", "hola"))
    rig.now += int(COOLDOWN_S * 1000)
    second = await rig.take(text_message("wamid.B", "hola"), text_message("wamid.C", "hola"))
    for _ in range(2):
        await rig.handle([*first, *second])
    assert len(await rig.rows()) == 1  # all three within one cooldown, by the time they are handled


async def test_within_the_cooldown_a_rule_answers_a_person_once(rig: Rig) -> None:
    await rig.receive(text_message("wamid.A", "hola"))
    rig.now += int(COOLDOWN_S * 1000) - 1
    await rig.receive(text_message("wamid.B", "hello"))
    assert await rig.texts() == ["Welcome!"]
    rig.now += 1
    await rig.receive(text_message("wamid.C", "hola"))
    assert await rig.texts() == ["Welcome!"] * 2


async def test_each_rule_and_each_person_has_a_cooldown_of_its_own(rig: Rig) -> None:
    await rig.receive(
        text_message("wamid.A", "hola"),
        text_message("wamid.B", "ayuda"),
        text_message("wamid.C", "hola", **{"from": OTHER}),
        text_message("wamid.D", "ayuda"),
    )
    assert sorted(await rig.texts()) == ["A person will be with you.", "Welcome!", "Welcome!"]


async def test_a_person_known_by_two_addresses_has_one_cooldown(rig: Rig) -> None:
    await rig.receive(text_message("wamid.A", "hola", from_user_id=USER_ID))
    await rig.receive(text_message("wamid.B", "hola", from_user_id=USER_ID, **NOBODY))
    assert await rig.texts() == ["Welcome!"]


async def test_without_a_cooldown_each_message_is_answered(rig: Rig) -> None:
    rig.replies = rig.consumer(cooldown_s=0.0)
    for n in range(3):
        await rig.receive(text_message(f"wamid.{n}", "hola"))
    assert len(await rig.rows()) == 3


# -- by other rules ----------------------------------------------------------------------------------------


def by(conditions: Conditions, text: str = "met", name: str = "one", **rule: Any) -> Automation:
    content = {"type": "text", "text": {"body": text}}
    return Automation(Rule(name, conditions, **rule), "text", content)


async def test_a_message_without_text_is_answered_by_its_type(rig: Rig) -> None:
    rig.replies = rig.consumer([by(Conditions(types=frozenset({"sticker"})))])
    await rig.receive(text_message(text=None, type="sticker", sticker={"id": "1"}), text_message("wamid.B"))
    assert await rig.texts() == ["met"]


@pytest.mark.parametrize(
    "chosen",
    [
        {"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "yes"}}},
        {"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "yes"}}},
        {"type": "button", "button": {"payload": "yes", "text": "Sure"}},
    ],
)
async def test_a_button_or_row_is_known_by_its_id(rig: Rig, chosen: dict[str, Any]) -> None:
    rig.replies = rig.consumer([by(Conditions(buttons=frozenset({"yes"})))])
    await rig.receive(text_message(text=None, **chosen))
    assert await rig.texts() == ["met"]


@pytest.mark.parametrize("odd", [[], "x", {"button_reply": 7}, {"list_reply": {"id": 7}}, None])
async def test_an_odd_button_is_none(rig: Rig, odd: object) -> None:
    rig.replies = rig.consumer([by(Conditions(buttons=frozenset({"yes"})))])
    await rig.receive(text_message(text=None, type="interactive", interactive=odd, button=odd))
    assert await rig.texts() == []


async def test_the_answer_holds_the_contacts_name_and_what_was_matched(rig: Rig) -> None:
    order = Conditions(patterns=(compile_pattern(r"pedido (\d+)"),))
    rig.replies = rig.consumer([by(order, "Hola {name|amigo}: {1} ({match})")])
    person = {"profile": {"name": 'Ana "{match}"'}, "wa_id": PHONE}
    await rig.receive(text_message("wamid.A", "mi PEDIDO 77"), contacts=[person])
    await rig.receive(text_message("wamid.B", "pedido 78"))
    assert await rig.texts() == ['Hola Ana "{match}": 77 (PEDIDO 77)', "Hola amigo: 78 (pedido 78)"]


async def test_an_answer_may_quote_the_message(rig: Rig) -> None:
    content = {"type": "text", "text": {"body": "{match}"}, "context": {"message_id": "{message_id}"}}
    wamid = "wamid." + "A" * 300
    rig.replies = rig.consumer([Automation(Rule("quote", Conditions()), "text", content)])
    await rig.receive(text_message(wamid, "x" * 4096))
    (row,) = await rig.rows()
    assert json.loads(row.payload)["context"] == {"message_id": wamid}


async def test_an_answer_that_cannot_be_sent_is_told_and_keeps_no_other_waiting(rig: Rig) -> None:
    rig.replies = rig.consumer([by(Conditions(), "{name}", stop=False), by(Conditions(), "second", "two")])
    await rig.receive(text_message("wamid.A", "hola"))
    assert await rig.texts() == ["second"]
    (failed,) = await rig.told("automation.failed")
    assert (failed["rule"], failed["what"], failed["offset"]) == ("one", "answer", 1)
    assert failed["error"].startswith("text.body: must not be empty")


async def test_a_message_is_handed_over_by_an_event_once(rig: Rig) -> None:
    rule = Rule("bot", Conditions(phrases=(phrase("hola"),)))
    rig.replies = rig.consumer([Automation(rule, hand_over="crm")])
    events = await rig.take(text_message("wamid.A", "¡Hola!"))
    for _ in range(2):
        await rig.handle(events)
    (asked,) = await rig.told("automation.handover")
    assert asked == {"rule": "bot", "handover": "crm", "offset": events[0].offset, "match": ["hola"]}
    assert await rig.rows() == []


async def test_a_contact_who_is_answered_too_often_is_not_and_that_is_told_once_a_minute(rig: Rig) -> None:
    rig.now = 1_700_000_040_000
    rig.replies = rig.consumer([by(Conditions())], most=3)
    for n in range(6):
        await rig.receive(text_message(f"wamid.{n}", "hola"))
    await rig.receive(text_message("wamid.x", "hola", **{"from": OTHER}))
    assert len(await rig.rows()) == 4
    (limited,) = await rig.told("automation.limited")
    assert limited["rule"] == "one"
    rig.now += 60_000
    await rig.receive(text_message("wamid.y", "hola"))
    assert len(await rig.rows()) == 5


async def test_a_rule_that_was_passed_over_for_that_acts_once_there_is_room(rig: Rig) -> None:
    rig.replies = rig.consumer([by(Conditions(), cooldown_ms=3_600_000)], most=1)
    rig.replies._guard.count(PHONE, "another", rig.now)
    await rig.receive(text_message("wamid.A", "hola"))
    assert await rig.rows() == []
    rig.now += 60_000
    await rig.receive(text_message("wamid.B", "hola"))
    assert len(await rig.rows()) == 1


async def test_who_writes_for_the_first_time_is_greeted_once(rig: Rig) -> None:
    rig.replies = rig.consumer([by(Conditions(first_within_ms=0))])
    await rig.receive(text_message("wamid.A", "hola"), text_message("wamid.B", "hola"))
    await rig.receive(text_message("wamid.C", "hola"), text_message("wamid.D", "x", **{"from": OTHER}))
    assert len(await rig.rows()) == 2


async def test_who_wrote_before_this_process_started_is_known_by_the_threads(rig: Rig) -> None:
    hour = 3_600_000
    rig.replies = rig.consumer([by(Conditions(first_within_ms=hour))])
    before = await rig.take(text_message("wamid.A", "hola"))
    rig.now += hour - 1
    soon = await rig.take(text_message("wamid.B", "hola"))
    rig.now += hour
    later = await rig.take(text_message("wamid.C", "hola"))
    # The threads may be behind what is looked at, or ahead of it.
    await rig.note_threads([*before, *soon, *later])
    await rig.handle(soon)
    assert await rig.rows() == []
    rig.now = later[0].at
    rig.replies = rig.consumer([by(Conditions(first_within_ms=hour))])
    await rig.handle(later)
    assert len(await rig.rows()) == 1


async def test_nothing_is_remembered_of_who_was_erased(rig: Rig) -> None:
    rig.replies = rig.consumer([by(Conditions(first_within_ms=0))], most=1)
    await rig.receive(text_message("wamid.A", "one"))
    await rig.receive(text_message("wamid.B", "two"))
    rig.replies.forget()
    await rig.receive(text_message("wamid.C", "three"))
    assert len(await rig.rows()) == 2


async def test_who_wrote_in_what_is_too_old_to_be_answered_writes_for_the_first_time_no_more(
    rig: Rig,
) -> None:
    rig.replies = rig.consumer([by(Conditions(first_within_ms=0))])
    old = await rig.take(text_message("wamid.A", "hola"))
    rig.now += int(MAX_AGE_S * 1000) + 1
    fresh = await rig.take(text_message("wamid.B", "hola"), text_message("wamid.C", "x", **{"from": OTHER}))
    await rig.handle([*old, *fresh])
    (row,) = await rig.rows()
    assert json.loads(row.payload)["to"] == f"+{OTHER}"
    assert rig.store.calls["threads_of"] <= 2


async def test_what_is_handed_over_of_a_first_contact_is_so_when_its_telling_failed(rig: Rig) -> None:
    rule = Rule("bot", Conditions(first_within_ms=0))
    rig.replies = rig.consumer([Automation(rule, hand_over="crm")])
    events = await rig.take(text_message("wamid.A", "hola"))
    rig.store.fail("apply")
    with pytest.raises(StoreUnavailable):
        await rig.handle(events)
    rig.store.heal()
    await rig.note_threads(events)
    await rig.handle(events)
    assert len(await rig.told("automation.handover")) == 1


async def test_a_batch_that_comes_again_finds_the_same_first_contacts(rig: Rig) -> None:
    rig.replies = rig.consumer([by(Conditions(first_within_ms=0))])
    events = await rig.take(text_message("wamid.A", "hola"), text_message("wamid.B", "hola"))
    rig.store.fail("save_cursor")
    with pytest.raises(StoreUnavailable):
        await rig.handle(events)
    rig.store.heal()
    await rig.note_threads(events)
    await rig.handle(events)
    assert len(await rig.rows()) == 1


# -- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["claim_once", "create_task", "save_cursor"])
async def test_where_the_store_is_away_the_batch_comes_again_and_is_answered_once(
    rig: Rig, call: str
) -> None:
    events = await rig.take(text_message("wamid.A", "hola"))
    rig.store.fail(call)
    with pytest.raises(StoreUnavailable):
        await rig.handle(events)
    assert await rig.store.as_store().load_cursor("autoreply") == 0
    rig.store.heal()
    await rig.handle(events)
    assert await rig.texts() == ["Welcome!"]


async def test_while_the_gateway_stops_nothing_is_answered_and_nothing_passed_over(rig: Rig) -> None:
    events = await rig.take(text_message("wamid.A", "hola"))
    rig.outbox.drain()
    with pytest.raises(StoreError, match="stopping"):
        await rig.handle(events)
    assert await rig.store.as_store().load_cursor("autoreply") == 0
    assert await rig.rows() == []
