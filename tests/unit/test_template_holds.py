"""Which templates of a number are held, what lets them go, and what becomes of their messages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Event, Row
from tests.support.rows import make_row
from whatsapp.errors import GraphError, Verdict, classify
from whatsapp.template_holds import News, Pass, Template, TemplateHolds, news_of, template_of, usable_of
from whatsapp.templates import read_template

HOUR = 3600.0
DAY_MS = 86_400_000
PROMO = Template("promo", "es_mx")


def payload(name: str = "promo", language: str = "es_MX") -> bytes:
    template = {"name": name, "language": {"code": language}, "components": []}
    return msgspec.json.encode({"to": "1", "type": "template", "template": template})


def row(n: int = 0, name: str = "promo", language: str = "es_MX", **fields: Any) -> Row:
    return make_row(n, payload=payload(name, language), **fields)


def verdict(code: int) -> Verdict:
    return classify(GraphError(code=code, http_status=400, from_graph=True))


class Bench:
    def __init__(self, code: int = 132015) -> None:
        self.holds = TemplateHolds(86_400.0)
        self.now = 0.0
        if code:
            assert self.holds.refused(row(99), verdict(code), 0.0) == PROMO

    def judge(self, found: Row, wall: int = 2_000) -> Pass:
        return self.holds.judge(found, self.now, wall)


def test_only_messages_of_that_template_in_that_language_wait() -> None:
    bench = Bench()
    assert bench.judge(row(1)) is Pass.ASIDE
    assert bench.judge(row(2, language="es-mx")) is Pass.ASIDE
    for other in (row(3, language="en"), row(4, name="promo2"), make_row(5), make_row(6, payload=b"{")):
        assert bench.judge(other) is Pass.GO


def test_a_refusal_of_something_that_is_no_template_holds_nothing() -> None:
    bench = Bench(0)
    assert bench.holds.refused(make_row(0), verdict(132069), 0.0) is None
    assert not bench.holds


@pytest.mark.parametrize(
    ("code", "first_s"), [(132001, 60), (132007, HOUR), (132015, 3 * HOUR), (132069, HOUR), (134101, 600)]
)
def test_one_message_is_tried_after_a_while_and_the_others_wait_for_it(code: int, first_s: float) -> None:
    bench = Bench(code)
    bench.now = first_s - 0.1
    assert bench.judge(row(1)) is Pass.ASIDE
    bench.now = first_s
    assert bench.judge(row(1)) is Pass.GO
    assert bench.judge(row(2)) is Pass.ASIDE
    assert bench.judge(row(1)) is Pass.GO


def test_when_meta_takes_it_the_template_goes_on() -> None:
    bench = Bench()
    bench.judge(row(1, due=1_500))
    bench.judge(row(2, due=1_200))
    bench.now = 3 * HOUR
    bench.judge(row(1))
    assert bench.holds.accepted(row(7), bench.now) is None, "it had left before"
    assert bench.holds.accepted(row(1), bench.now) == PROMO
    assert bench.holds.released() == 1_200
    assert bench.holds.released() is None
    assert not bench.holds


def test_when_meta_refuses_it_the_next_is_tried_after_twice_as_long() -> None:
    bench = Bench(132001)
    waits = []
    for n in range(12):
        before = bench.now
        while bench.judge(row(n)) is not Pass.GO:
            bench.now += 15.0
        waits.append(bench.now - before)
        assert bench.holds.refused(row(n), verdict(132001), bench.now) is None
    assert waits == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 21600, 21600, 21600]


@pytest.mark.parametrize("code", [132015, 132016])
def test_where_a_person_says_that_it_is_well_one_is_tried_at_once_and_the_others_wait_for_it(
    code: int,
) -> None:
    bench = Bench(code)
    assert bench.judge(row(1)) is Pass.ASIDE
    assert bench.holds.resume(PROMO, bench.now)
    assert bench.holds.trials(bench.now)[0] == [row(1).id]
    assert bench.judge(row(1)) is Pass.GO
    assert bench.judge(row(2)) is Pass.ASIDE
    assert bench.holds.accepted(row(1), bench.now) == PROMO


def test_where_a_person_says_so_and_none_waits_it_is_let_go() -> None:
    bench = Bench(132016)
    assert bench.holds.resume(PROMO, bench.now) and not bench.holds
    assert not bench.holds.resume(PROMO, bench.now)


def test_what_a_person_says_does_not_hasten_a_trial_that_is_under_way() -> None:
    bench = Bench()
    bench.now = 3 * HOUR
    assert (bench.judge(row(1)), bench.judge(row(2))) == (Pass.GO, Pass.ASIDE)
    bench.holds.resume(PROMO, bench.now)
    assert bench.judge(row(2)) is Pass.ASIDE


def test_the_next_need_not_wait_for_the_end_of_a_trial_that_was_refused() -> None:
    bench = Bench()
    bench.holds = TemplateHolds(86_400.0)
    bench.holds.refused(row(99), msgspec.structs.replace(verdict(134101), delay_s=1.0), 0.0)
    bench.now = 1.0
    assert bench.judge(row(1)) is Pass.GO
    bench.holds.refused(row(1), msgspec.structs.replace(verdict(134101), delay_s=1.0), 1.5)
    bench.now = 3.5
    assert bench.judge(row(2)) is Pass.GO


def test_refusals_of_what_was_under_way_change_nothing() -> None:
    bench = Bench()
    assert bench.holds.refused(row(1), verdict(132015), 10.0) is None
    bench.now = 3 * HOUR
    assert bench.judge(row(2)) is Pass.GO


def test_a_trial_that_is_not_answered_is_followed_by_another() -> None:
    bench = Bench()
    bench.now = 3 * HOUR
    assert bench.judge(row(1)) is Pass.GO
    bench.now += 61.0
    assert bench.judge(row(2)) is Pass.GO
    assert bench.judge(row(1)) is Pass.ASIDE


def test_one_that_is_only_read_is_not_tried_by_that() -> None:
    bench = Bench()
    assert bench.holds.waits(row(1), 3 * HOUR - 1, 2_000)
    bench.now = 3 * HOUR
    assert not bench.holds.waits(row(1), bench.now, 2_000)
    assert bench.judge(row(2)) is Pass.GO, "the first that leaves is"
    assert bench.holds.waits(row(1), bench.now, 2_000)


def test_a_disabled_template_is_tried_ever_less_often_and_forgotten_where_nobody_sends_it() -> None:
    bench = Bench(132016)
    (told,) = bench.holds.status(0.0)
    assert (told["name"], told["language"], told["trial_in_s"]) == (*PROMO, HOUR)
    assert "disabled" in told["why"]
    bench.now = HOUR
    assert bench.judge(row(1)) is Pass.GO
    bench.holds.refused(row(1), verdict(132016), bench.now)
    bench.now = 3 * HOUR - 1
    assert bench.judge(row(2)) is Pass.ASIDE
    bench.now = 3 * HOUR
    assert bench.judge(row(2)) is Pass.GO
    bench.holds.accepted(row(2), bench.now)
    assert not bench.holds
    bench.holds.refused(row(3), verdict(132016), bench.now + HOUR)
    bench.holds.trials(bench.now + 3 * HOUR)
    assert not bench.holds


@pytest.mark.parametrize("code", [132015, 132016])
def test_one_that_is_refused_for_its_status_goes_on_once_the_list_has_it_as_approved(code: int) -> None:
    bench = Bench(code)
    bench.judge(row(1, due=1_500))
    assert bench.holds.listed({Template("promo", "en")}, 5.0, 6.0) == [], "another language"
    assert bench.holds.listed({PROMO}, 0.0, 6.0) == [], "asked for before Meta stopped it"
    assert bench.holds.listed({PROMO}, 5.0, 6.0) == [PROMO]
    assert (bench.holds.released(), bool(bench.holds)) == (1_500, False)


def test_a_list_that_was_wrong_of_a_template_is_not_believed_again_for_hours() -> None:
    bench = Bench(132016)
    assert bench.holds.listed({PROMO}, 5.0, 6.0) == [PROMO]
    bench.holds.refused(row(1), verdict(132016), 10.0)
    assert bench.holds.listed({PROMO}, 20.0, 21.0) == []
    assert bench.holds.listed({PROMO}, 20.0, 6.0 + 6 * HOUR) == [PROMO]


def test_what_the_list_says_does_not_matter_to_one_that_is_refused_for_something_else() -> None:
    assert Bench(132007).holds.listed({PROMO}, 5.0, 6.0) == []


def test_only_what_may_be_sent_counts_of_the_list() -> None:
    listed = [{"name": "promo", "language": "es_MX", "status": status} for status in ("APPROVED", "PAUSED")]
    listed[1]["name"] = "other"
    assert usable_of([one for item in listed if (one := read_template(item))]) == {PROMO}


def test_one_that_is_held_again_soon_after_was_not_well() -> None:
    bench = Bench(132001)
    bench.now = 60.0
    bench.judge(row(1))
    bench.holds.accepted(row(1), 60.0)
    bench.holds.refused(row(2), verdict(132001), 600.0)
    bench.now = 719.0
    assert bench.judge(row(3)) is Pass.ASIDE
    bench.now = 720.0
    assert bench.judge(row(3)) is Pass.GO


def test_what_has_waited_too_long_is_given_up_and_what_expires_is_let_through() -> None:
    bench = Bench()
    late = row(1, due=5_000, created_at=1_000)
    assert bench.judge(late, 5_000 + DAY_MS - 1) is Pass.ASIDE
    assert bench.judge(late, 5_000 + DAY_MS) is Pass.GIVE_UP
    assert bench.judge(row(2, expires_at=9_000), 8_999) is Pass.ASIDE
    assert bench.judge(row(2, expires_at=9_000), 9_000) is Pass.GO
    why = bench.holds.why(late)
    assert why is not None and why.code == 132015
    assert bench.holds.why(make_row(3)) is None


def test_the_oldest_that_waits_is_tried_first_and_one_that_is_gone_is_not_named_again() -> None:
    bench = Bench()
    for n in range(20):
        bench.judge(row(n, due=2_000 - 10 * n))
    bench.now = 3 * HOUR - 1
    assert bench.holds.trials(bench.now) == ([], 0)
    bench.now = 3 * HOUR
    named = []
    while (found := bench.holds.trials(bench.now)) and found[0]:
        named += found[0]
    assert named == [row(n).id for n in reversed(range(12, 20))]
    assert found == ([], 1_810), "then all are read again from there on"
    assert bench.holds.trials(bench.now) == ([], 0)


def test_a_template_that_nobody_sends_is_forgotten_an_hour_after_one_could_have_been_tried() -> None:
    bench = Bench(0)
    for n in range(100):
        bench.holds.refused(row(n, name=f"wrong{n}"), verdict(132001), 0.0)
    bench.holds.trials(60.0 + HOUR - 1)
    assert len(bench.holds.status(0.0)) == 100
    bench.holds.trials(60.0 + HOUR)
    assert not bench.holds


def test_a_template_of_which_messages_wait_or_were_just_seen_is_not_forgotten() -> None:
    bench = Bench(132001)
    assert bench.holds.waits(row(1), 1.0, 2_000)
    bench.now = 10 * HOUR
    assert bench.holds.trials(bench.now) == ([row(1).id], 0)
    assert not bench.holds.waits(row(1), bench.now, 2_000)
    assert bench.holds.trials(bench.now) == ([], 1_000), "none of the others is known"
    bench.holds.trials(bench.now + HOUR - 1)
    assert bench.holds
    bench.holds.trials(bench.now + HOUR)
    assert not bench.holds


def event(value: dict[str, Any] | None = None, field: str = "message_template_status_update") -> Event:
    usual = {"event": "PAUSED", "message_template_name": "promo", "message_template_language": "es_MX"}
    data = {"field": field, "value": usual | (value or {}), "entry_id": "1", "time": 1_700}
    return Event(1, 0, "k", "template.status", 1, msgspec.json.encode({"data": data}))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, 132015),
        ({"event": "DISABLED", "disable_info": {"disable_date": "today"}}, 132016),
        ({"event": "ARCHIVED"}, 132001),
        ({"event": "APPROVED"}, None),
        ({"event": "REINSTATED"}, None),
        ({"event": "UNARCHIVED"}, None),
        ({"other_info": {"title": "UNPAUSE"}}, None),
        ({"other_info": None}, 132015),
    ],
)
def test_what_meta_says_of_a_template(value: dict[str, Any], code: int | None) -> None:
    news = news_of(event(value))
    assert news is not None
    assert (news.template, news.at) == (PROMO, 1_700)
    assert (news.stops and news.stops.code) == code


@pytest.mark.parametrize(
    "other",
    [
        event({"event": "FLAGGED"}),
        event({"event": "PENDING"}),
        event({"message_template_name": ""}),
        event(field="message_template_quality_update"),
        Event(1, 0, "k", "template.status", 1, b'{"data":{"field":"x","value":[]}}'),
    ],
)
def test_what_concerns_no_message(other: Event) -> None:
    assert news_of(other) is None


def test_metas_word_holds_and_lets_go() -> None:
    bench = Bench(0)
    assert bench.holds.heard(News(PROMO, verdict(132015), 5), 0.0)
    assert bench.judge(row(1)) is Pass.ASIDE
    assert bench.holds.heard(News(PROMO, None, 6), 1.0)
    assert bench.judge(row(1)) is Pass.GO
    assert bench.holds.released() == 1_000


def test_metas_word_lets_go_what_was_refused_as_disabled() -> None:
    bench = Bench(132016)
    assert bench.holds.heard(News(PROMO, None, 6), 1.0)
    assert bench.judge(row(1)) is Pass.GO


def test_one_that_is_disabled_by_news_is_tried_since_the_news_may_be_of_another_account() -> None:
    bench = Bench(0)
    assert bench.holds.heard(News(PROMO, verdict(132016), 5), 0.0)
    bench.now = HOUR - 1
    assert bench.judge(row(1)) is Pass.ASIDE
    bench.now = HOUR
    assert bench.judge(row(1)) is Pass.GO


def test_old_news_that_come_late_change_nothing() -> None:
    bench = Bench(0)
    assert not bench.holds.heard(News(PROMO, None, 6), 0.0)
    assert not bench.holds.heard(News(PROMO, verdict(132015), 5), 1.0)
    assert not bench.holds
    assert bench.holds.heard(News(PROMO, verdict(132015), 7), 2.0)
    assert not bench.holds.heard(News(PROMO, verdict(132015), 8), 3.0), "it is held already"


def test_one_that_is_disabled_while_it_is_paused_is_told_as_disabled_and_tried_when_it_was_to_be() -> None:
    bench = Bench(0)
    bench.holds.heard(News(PROMO, verdict(132015), 5), 0.0)
    (paused,) = bench.holds.status(60.0)
    assert bench.holds.heard(News(PROMO, verdict(132016), 6), 60.0)
    (disabled,) = bench.holds.status(60.0)
    assert disabled == paused | {"why": verdict(132016).operator}
    assert not bench.holds.heard(News(PROMO, verdict(132016), 7), 61.0)


@given(st.binary())
def test_any_payload_is_a_template_or_none(noise: bytes) -> None:
    assert template_of(noise) is None or isinstance(template_of(noise), Template)
    assert template_of(b'{"template":' + noise + b"}") is None or noise
