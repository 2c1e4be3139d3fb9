"""The sandbox's checks, error bodies and rates."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.sandbox_rules import (
    ERRORS,
    PairRate,
    Refused,
    Throughput,
    check_send,
    retry_delay,
    tour_refusal,
    unknown_object,
)

SENDER = "15550000001"
PHONE = "+16505551234"
USER_ID = "US.13491208655302741918"
LINK = "https://example.com/a"


def send(**changes: Any) -> dict[str, Any]:
    """A text to :data:`PHONE`; a field given as None is left out."""
    body = {
        "messaging_product": "whatsapp",
        "to": PHONE,
        "type": "text",
        "text": {"body": "Hello"},
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def refusal(body: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        check_send(body, SENDER)
    return caught.value


# -- sends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "phone", "user_id", "group", "input_"),
    [
        (send(), "16505551234", "", "", PHONE),
        (send(to="16505551234"), "16505551234", "", "", "16505551234"),
        (send(to="+1 (650) 555-1234"), "16505551234", "", "", "+1 (650) 555-1234"),
        (send(type=None), "16505551234", "", "", PHONE),
        (send(to=None, recipient=USER_ID), "", USER_ID, "", USER_ID),
        (send(recipient=USER_ID), "16505551234", USER_ID, "", PHONE),
        (send(to="Y2FwaV9ncm91cDo", recipient_type="group"), "", "", "Y2FwaV9ncm91cDo", "Y2FwaV9ncm91cDo"),
    ],
)
def test_a_send_goes_where_it_says(
    body: dict[str, Any], phone: str, user_id: str, group: str, input_: str
) -> None:
    taken = check_send(body, SENDER)
    assert (taken.phone, taken.user_id, taken.group, taken.input) == (phone, user_id, group, input_)
    assert taken.type == "text"


@pytest.mark.parametrize(
    "content",
    [
        {"type": "image", "image": {"link": LINK, "caption": "x"}},
        {"type": "document", "document": {"id": "123", "filename": "a.pdf"}},
        {"type": "reaction", "reaction": {"message_id": "wamid.A", "emoji": ""}},
        {"type": "location", "location": {"latitude": 0, "longitude": "0.5"}},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": "Ann"}}]},
        {"type": "interactive", "interactive": {"type": "button", "action": {"buttons": []}}},
        {"type": "template", "template": {"name": "t", "language": {"code": "es"}}},
        {"type": "text", "text": {"body": "x" * 4096}, "biz_opaque_callback_data": "c" * 512},
    ],
)
def test_every_kind_with_its_essentials_is_taken(content: dict[str, Any]) -> None:
    taken = check_send(send(**{"text": None, **content}), SENDER)
    assert taken.type == content["type"]
    assert taken.callback == content.get("biz_opaque_callback_data")


@pytest.mark.parametrize(
    ("body", "number", "problem"),
    [
        ([], 100, "JSON object"),
        (send(messaging_product=None), 100, "messaging_product"),
        (send(messaging_product="sms"), 100, "messaging_product"),
        (send(to=None), 131008, "to or recipient"),
        (send(to=""), 131008, "to or recipient"),
        (send(to=16505551234), 131009, "to must be a text"),
        (send(to="nobody"), 131009, "to must be a phone number"),
        (send(to=USER_ID), 131009, "to must be a phone number"),
        (send(to=None, recipient="16505551234"), 131009, "recipient must be a user id"),
        (send(to=f"+{SENDER}"), 131021, "the number that sends"),
        (send(type="fax"), 131051, "'fax'"),
        (send(type=["text"]), 131051, "type"),
        (send(text=None), 131008, "text is missing"),
        (send(text="Hello"), 131009, "text must be an object"),
        (send(text={"body": ""}), 131008, "text.body is missing"),
        (send(text={"body": 7}), 131009, "text.body must be a text"),
        (send(text={"body": "x" * 4097}), 100, "text.body must be at most 4096"),
        (send(type="image", image={}), 131009, "exactly one of id and link"),
        (send(type="image", image={"id": "1", "link": LINK}), 131009, "exactly one of id and link"),
        (send(type="video", video={"id": "1", "caption": "x" * 1025}), 100, "video.caption"),
        (send(type="contacts", contacts=[]), 131009, "contacts"),
        (send(type="template", template={"name": "t"}), 131008, "template.language"),
        (send(type="interactive", interactive={"type": "list"}), 131008, "interactive.action"),
        (send(biz_opaque_callback_data="c" * 513), 100, "biz_opaque_callback_data"),
        (send(biz_opaque_callback_data=5), 100, "biz_opaque_callback_data"),
    ],
)
def test_a_send_that_meta_would_not_take_is_refused(body: Any, number: int, problem: str) -> None:
    refused = refusal(body)
    assert refused.number == number
    assert problem in refused.problem


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
fields = ["messaging_product", "to", "recipient", "recipient_type", "type", "text", "image", "contacts"]


@given(st.dictionaries(st.sampled_from(fields), json_values), st.booleans())
def test_any_json_is_taken_or_refused(body: dict[str, Any], valid_beside: bool) -> None:
    try:
        taken = check_send({**send(), **body} if valid_beside else body, SENDER)
    except Refused as refused:
        assert refused.number in ERRORS
    else:
        assert taken.phone or taken.user_id or taken.group


# -- refusals ----------------------------------------------------------------------------------------------


def test_a_refusal_has_metas_shape() -> None:
    assert Refused(130429, "Too many.").body("trace") == {
        "error": {
            "message": "(#130429) Rate limit hit",
            "type": "OAuthException",
            "code": 130429,
            "error_data": {"messaging_product": "whatsapp", "details": "Too many."},
            "fbtrace_id": "trace",
        }
    }


def test_an_unknown_object_has_graphs_shape() -> None:
    refused = unknown_object("7")
    error = refused.body("trace")["error"]
    assert (refused.http, error["code"], error["error_subcode"]) == (400, 100, 33)
    assert error["type"] == "GraphMethodException"


def test_a_refusal_in_a_status_has_metas_shape() -> None:
    error = Refused(131026, "Not on WhatsApp.").in_status()
    assert error.keys() == {"code", "title", "message", "error_data", "href"}
    assert (error["code"], error["error_data"]) == (131026, {"details": "Not on WhatsApp."})


@pytest.mark.parametrize(
    ("number", "http"),
    [(190, 401), (10, 403), (130429, 400), (131000, 500), (132001, 404), (2, 503), (999999, 400)],
)
def test_the_http_status_follows_the_code(number: int, http: int) -> None:
    assert Refused(number).http == http


def test_a_refusal_may_say_otherwise() -> None:
    refused = Refused(1, http=418, title="Teapot")
    assert (refused.http, refused.message) == (418, "(#1) Teapot")


@pytest.mark.parametrize(
    ("phone", "later", "number"),
    [("16577131026", True, 131026), ("491599131047", False, 131047), ("16599130429", False, 130429)],
)
def test_a_phone_may_ask_to_be_refused(phone: str, later: bool, number: int) -> None:
    planned = tour_refusal(phone)
    assert planned is not None
    assert (planned[0], planned[1].number) == (later, number)


@pytest.mark.parametrize("phone", ["16505551234", "16577000100", "16577999999", "16588131026", "131026", ""])
def test_other_phones_do_not(phone: str) -> None:
    assert tour_refusal(phone) is None


# -- rates -------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 2.0]), st.booleans()), min_size=1, max_size=200
)


@given(steps, st.integers(1, 20))
def test_a_number_admits_what_fits_into_a_second_and_no_more(
    steps: list[tuple[float, bool]], rate: int
) -> None:
    throughput = Throughput()
    now, counted = 0.0, list[float]()
    for step, comes_in in steps:
        now += step
        if comes_in:
            throughput.count(now)
            counted.append(now)
            continue
        before = sum(at > now - Throughput.SPAN_S for at in counted)
        admitted = throughput.admits(now, rate)
        assert admitted == (before < rate)
        if admitted:
            counted.append(now)


def test_a_sender_that_keeps_the_rate_is_never_refused() -> None:
    throughput, rng = Throughput(), random.Random(7)
    times = sorted(n / 80 + rng.uniform(0, 0.02) for n in range(1000))
    assert all(throughput.admits(at, 80) for at in times)


def test_a_rate_of_nothing_admits_nothing() -> None:
    assert not Throughput().admits(1.0, 0)


def test_a_pair_has_its_burst_and_then_one_in_six_seconds() -> None:
    pairs = PairRate()
    assert [pairs.admits("1", "US.a", 0.0) for _ in range(46)] == [True] * 45 + [False]
    assert not pairs.admits("1", "US.a", 5.9)
    assert pairs.admits("1", "US.a", 6.0)
    assert not pairs.admits("1", "US.a", 6.0)


def test_pairs_do_not_hinder_each_other() -> None:
    pairs = PairRate(burst=1)
    assert pairs.admits("1", "US.a", 0.0)
    assert not pairs.admits("1", "US.a", 0.0)
    assert pairs.admits("2", "US.a", 0.0)
    assert pairs.admits("1", "US.b", 0.0)


def test_pairs_that_owe_nothing_are_forgotten_and_the_others_are_not() -> None:
    pairs = PairRate(burst=1)
    assert pairs.admits("1", "US.late", 5.0)
    assert all(pairs.admits("1", f"US.{n}", 5.0) for n in range(49_998))
    assert pairs.admits("1", "US.new", 10.0)
    assert pairs.admits("1", "US.newer", 11.5)
    assert not pairs.admits("1", "US.new", 11.5)
    assert pairs.admits("1", "US.late", 11.5)


@given(steps, st.integers(1, 10))
def test_no_span_of_time_admits_more_than_burst_and_rate(steps: list[tuple[float, bool]], burst: int) -> None:
    pairs = PairRate(every_s=0.5, burst=burst)
    now, admitted = 0.0, list[float]()
    for step, _ in steps:
        now += step
        if pairs.admits("1", "US.a", now):
            admitted.append(now)
    for first, start in enumerate(admitted):
        for last, end in enumerate(admitted[first:], first):
            assert last - first + 1 <= burst + (end - start) / 0.5 + 1e-6


@given(st.integers(1, 50), st.integers(0, 1000))
def test_the_delay_before_a_retry_grows_to_five_seconds(tries: int, seed: int) -> None:
    delay = retry_delay(tries, random.Random(seed))
    full = min(5.0, 0.1 * 2 ** (tries - 1))
    assert full / 2 <= delay <= full
