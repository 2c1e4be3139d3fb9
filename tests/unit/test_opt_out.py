"""What events say of who opts out and comes back, and which messages are marketing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import OptOutSettings
from store.records import Event, Suppression
from whatsapp.compose import as_marketing, text_message
from whatsapp.events import EventType
from whatsapp.identity import Address
from whatsapp.opt_out import OptOutWords, Said, event_of, marketing_names, promotes, said
from whatsapp.templates import Needs, Template

AT = 1_700_000_005_000
WORDS = OptOutWords(OptOutSettings().words, OptOutSettings().return_words)


def event(type: str, data: Any, contact: str = "5215550001111") -> Event:
    return Event(7, 6, "key", type, AT, json.dumps({"data": data}).encode(), "100", contact)


def received(text: object, **message: object) -> Event:
    message = {"from": "5215550001111", "timestamp": "1700000000", **message}
    return event(EventType.MESSAGE_RECEIVED, {"message": message, "text": text})


def preference(value: object, contacts: object = (), **fields: object) -> Event:
    one = {"wa_id": "5215550001111", "category": "marketing_messages", "value": value, **fields}
    told = {"user_preferences": [one], "contacts": contacts}
    return event(EventType.WEBHOOK_OTHER, {"field": "user_preferences", "value": told}, "")


def all_of(event: Event) -> list[Said]:
    return list(said(event, WORDS))


@pytest.mark.parametrize("text", ["stop", "STOP", " Stop. ", "¡Baja!", "*BAJA*", "Darme  de baja", "stop!!!"])
def test_a_message_that_is_one_of_the_words_opts_out(text: str) -> None:
    (one,) = all_of(received(text))
    assert (one.comes_back, one.source, one.contact) == (False, "word", "5215550001111")
    assert (one.at, one.note) == (1_700_000_000_999, text.strip())
    assert one.by("key") == Suppression("key", one.at, 0, "opted_out", "word", text.strip())


def test_it_counts_in_a_thread_that_somebody_else_answers() -> None:
    data = {"message": {"from": "5215550001111", "timestamp": "1700000000"}, "text": "stop"}
    (one,) = all_of(event(EventType.STANDBY_MESSAGE, data))
    assert not one.comes_back


@pytest.mark.parametrize("text", ["start", "ALTA", "álta", "Darme de alta"])
def test_a_message_that_is_one_of_the_return_words_comes_back(text: str) -> None:
    (one,) = all_of(received(text))
    assert one.comes_back
    assert not one.by("key").in_force


@pytest.mark.parametrize(
    "message",
    [
        received("please do not stop"),
        received("stop the music"),
        received("bajamar"),
        received(""),
        received("..."),
        received(None),
        received(7),
        received("stop", group_id="Y2FwaV9ncm91cDo"),
        received("stop " * 30),
        event(EventType.MESSAGE_RECEIVED, {"text": "stop"}),
        event(EventType.MESSAGE_RECEIVED, {"message": {}, "text": "stop"}, contact=""),
        event(EventType.MESSAGE_ECHO, {"message": {}, "text": "stop"}),
        event(EventType.WEBHOOK_OTHER, {"field": "standby", "value": {}, "text": "stop"}),
    ],
)
def test_these_say_nothing(message: Event) -> None:
    assert all_of(message) == []


def test_a_time_that_is_ahead_is_not_taken() -> None:
    (one,) = all_of(received("stop", timestamp="1800000000"))
    assert one.at == AT


def test_without_words_none_counts() -> None:
    assert list(said(received("stop"), OptOutWords((), ()))) == []
    assert list(said(received(""), OptOutWords(("", "!"), ()))) == []


@pytest.mark.parametrize(("value", "comes_back"), [("stop", False), ("resume", True), ("signup", True)])
def test_a_preference_at_meta_counts(value: str, comes_back: bool) -> None:
    (one,) = all_of(preference(value, timestamp=1_700_000_000, detail="User requested to stop"))
    assert (one.comes_back, one.source, one.contact) == (comes_back, "preference", "")
    assert one.address == Address("5215550001111")
    assert (one.at, one.note) == (1_700_000_000_999, "User requested to stop")


def test_a_preference_in_an_event_of_its_own_counts() -> None:
    one = {"wa_id": "5215550001111", "category": "marketing_messages", "value": "stop"}
    (found,) = all_of(event(EventType.CONTACT_PREFERENCES, {"value": one}, "key"))
    assert (found.comes_back, found.contact, found.at) == (False, "key", AT)
    assert all_of(event(EventType.CONTACT_PREFERENCES, {"value": [one]})) == []
    assert all_of(event(EventType.CONTACT_PREFERENCES, [])) == []


def test_a_preference_of_somebody_without_a_phone_counts() -> None:
    (one,) = all_of(preference("stop", wa_id=None, user_id="MX.1"))
    assert one.address == Address(user_id="MX.1")


@pytest.mark.parametrize(
    "one",
    [
        preference("stop", category="utility_messages"),
        preference("pause"),
        preference(None),
        preference({"stop": 1}),
        preference("stop", wa_id=None),
        preference("stop", wa_id=["1"], user_id={}),
        event(EventType.WEBHOOK_OTHER, {"field": "user_preferences", "value": ["user_preferences"]}),
        event(EventType.WEBHOOK_OTHER, {"field": "user_preferences", "value": {"user_preferences": 7}}),
        event(EventType.WEBHOOK_OTHER, {"field": "calls", "value": {"user_preferences": [{}]}}),
        event(EventType.WEBHOOK_OTHER, "user_preferences"),
        received('"user_preferences"'),
    ],
)
def test_other_preferences_say_nothing(one: Event) -> None:
    assert all_of(one) == []


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        ({"error": {"code": 131050}}, True),
        ({"error": {"code": 131049, "details": "131050"}}, False),
        ({"error": None, "status": {"errors": [{"code": 131050}]}}, False),
        ({"error": "131050"}, False),
    ],
)
def test_metas_refusal_of_marketing_opts_out(data: object, counts: bool) -> None:
    found = all_of(event(EventType.MESSAGE_FAILED, data))
    assert [(one.contact, one.at, one.source) for one in found] == (
        [("5215550001111", AT, "refusal")] if counts else []
    )


NAMES = st.sampled_from(["wa_id", "user_id", "category", "value", "timestamp", "detail"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["stop", "resume"]),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(value=JSON, contacts=JSON)
def test_nothing_that_meta_may_send_breaks_the_reading(value: Any, contacts: Any) -> None:
    all_of(preference(value, contacts, timestamp=value, detail=value))
    told = {"field": "user_preferences", "value": {"user_preferences": value, "contacts": contacts}}
    all_of(event(EventType.WEBHOOK_OTHER, told))
    all_of(event(EventType.CONTACT_PREFERENCES, {"value": value}))
    all_of(received(value, group_id=value, timestamp=value))


def test_each_change_has_an_event_of_its_own_that_is_the_same_when_told_again() -> None:
    begun = Suppression("c", 1000, 0, "opted_out", "word", "stop")
    ended = Suppression("c", 1000, 5000, "opted_out", "word", "stop")
    keys = [event_of(one, at).key for one in (begun, ended) for at in (1, 2)]
    assert len(set(keys)) == 2
    assert event_of(begun, 1).type == EventType.CONTACT_SUPPRESSED
    told = json.loads(event_of(ended, 1, "100", "preference").body)
    assert (told["event"], told["contact"], told["phone_number_id"]) == ("contact.restored", "c", "100")
    assert told["data"] == {
        "reason": "opted_out",
        "source": "preference",
        "note": "stop",
        "since": "1970-01-01T00:00:01.000Z",
        "until": "1970-01-01T00:00:05.000Z",
    }


# -- marketing ---------------------------------------------------------------------------------------------


def template(name: str, category: str, language: str = "es") -> Template:
    return Template(name, language, "APPROVED", category, False, Needs())


def test_what_is_marketing_is_known_by_its_path_or_its_template() -> None:
    names = marketing_names([template("sale", "MARKETING"), template("receipt", "UTILITY")])
    assert marketing_names(None) == frozenset()

    def message(name: str, language: str = "es") -> bytes:
        part = {"name": name, "language": {"code": language}}
        return json.dumps({"to": "+1", "type": "template", "template": part}).encode()

    assert promotes(message("sale"), names)
    assert not promotes(message("receipt"), names)
    assert promotes(message("sale", "es-mx"), marketing_names([template("sale", "MARKETING", "es_MX")]))
    assert not promotes(message("sale", "en"), names)
    assert not promotes(message("sale"), frozenset())
    assert promotes(
        as_marketing({"product_policy": "STRICT"}, message("receipt").replace(b": ", b":")), names
    )
    assert not promotes(text_message(Address("5215550001111"), 'the "template" of a sale'), names)
