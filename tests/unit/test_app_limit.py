"""What Graph's headers say of the calls of an app and its accounts, and what numbers make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.app_limit import AppLimit, Quota, read_usage

APP, CASE = "X-App-Usage", "X-Business-Use-Case-Usage"
NUMBER, OTHER = "100", "200"


THE_APP = Quota()


@pytest.mark.parametrize(
    ("headers", "used"),
    [
        ({}, {}),
        ({APP: '{"call_count":28,"total_time":25,"total_cputime":31.5}'}, {THE_APP: 31.5}),
        (
            {CASE: '{"1":[{"type":"whatsapp","call_count":7,"total_cputime":1,"total_time":90}]}'},
            {Quota("1", "whatsapp"): 90.0},
        ),
        (
            {CASE: '{"1":[{"call_count":7}],"2":[{"type":"a","call_count":5},{"type":"b","call_count":12}]}'},
            {Quota("1"): 7.0, Quota("2", "a"): 5.0, Quota("2", "b"): 12.0},
        ),
        (
            {APP: '{"call_count":10}', CASE: '{"1":[{"call_count":7},{"call_count":9}]}'},
            {THE_APP: 10.0, Quota("1"): 9.0},
        ),
        ({APP: '{"call_count":0}'}, {THE_APP: 0.0}),
        ({APP: '{"call_count":-3}'}, {THE_APP: 0.0}),
        ({APP: ""}, {}),
        ({APP: "no JSON"}, {}),
        ({APP: "[]"}, {}),
        ({APP: '{"call_count":"28"}'}, {}),
        ({APP: '{"call_count":true}'}, {}),
        ({APP: '{"call_count":null,"estimated_time_to_regain_access":90}'}, {}),
        ({CASE: '{"1":{"call_count":50}}'}, {}),
        ({CASE: '{"":[{"call_count":50}]}'}, {}),
        ({CASE: '{"1":[{"call_count":50,"type":[]}]}'}, {Quota("1"): 50.0}),
        ({APP: "[" * 100_000}, {}),
    ],
)
def test_what_the_headers_say(headers: dict[str, str], used: dict[Quota, float]) -> None:
    assert read_usage(headers) == used


@given(st.text(), st.text())
def test_no_header_is_too_odd(app: str, case: str) -> None:
    assert all(used >= 0.0 for used in read_usage({APP: app, CASE: case}).values())


def of_account(account: str, percent: float, kind: str = "whatsapp") -> dict[str, str]:
    return {CASE: f'{{"{account}":[{{"type":"{kind}","call_count":{percent}}}]}}'}


def heard(percent: float, now: float = 0.0) -> AppLimit:
    app = AppLimit()
    app.heard(NUMBER, {APP: f'{{"call_count":{percent}}}'}, now)
    return app


@pytest.mark.parametrize(
    ("percent", "share"), [(0, 1), (80, 1), (90, 0.5), (95, 0.25), (100, 0.05), (400, 0.05)]
)
def test_the_more_is_used_up_the_less_is_taken(percent: float, share: float) -> None:
    assert heard(percent).share(NUMBER, 1.0) == pytest.approx(share)


def test_nothing_is_known_at_first_nor_long_after() -> None:
    assert AppLimit().share(NUMBER, 1e6) == 1.0
    app = heard(100.0, 10.0)
    assert app.share(NUMBER, 309.0) < 1.0
    assert (app.share(NUMBER, 310.0), app.used(NUMBER, 310.0)) == (1.0, 0.0)


def test_an_answer_without_the_headers_changes_nothing() -> None:
    app = heard(100.0)
    app.heard(NUMBER, {"Content-Type": "application/json"}, 1.0)
    assert app.used(NUMBER, 2.0) == 100.0


def test_what_is_used_up_of_the_app_counts_for_all_numbers() -> None:
    assert heard(90.0).used(OTHER, 1.0) == 90.0


def test_what_is_used_up_of_an_account_counts_for_its_numbers_alone() -> None:
    app = AppLimit()
    app.heard(NUMBER, of_account("1", 95.0), 0.0)
    app.heard(OTHER, of_account("2", 10.0), 1.0)
    assert (app.used(NUMBER, 2.0), app.used(OTHER, 2.0)) == (95.0, 10.0)
    app.heard("another of the first account", of_account("1", 85.0), 3.0)
    assert (app.used(NUMBER, 4.0), app.used(OTHER, 4.0)) == (85.0, 10.0)


def test_the_worst_that_is_fresh_decides() -> None:
    app = heard(30.0)
    app.heard(NUMBER, of_account("1", 90.0), 100.0)
    app.heard(NUMBER, of_account("1", 50.0, "another kind"), 200.0)
    assert app.used(NUMBER, 399.0) == 90.0
    assert app.used(NUMBER, 400.0) == 50.0
    app.heard(NUMBER, of_account("1", 20.0, "another kind"), 499.0)
    assert app.used(NUMBER, 500.0) == 20.0


def test_a_longer_pause_is_not_cut_short() -> None:
    app = AppLimit()
    app.pause(60.0, "the longer")
    app.pause(30.0, "the shorter")
    assert app.paused_until(NUMBER) == 60.0
    assert (app.why(NUMBER, 59.0), app.why(NUMBER, 60.0)) == ("the longer", "")


def test_a_pause_can_be_ended() -> None:
    app = AppLimit()
    app.pause(60.0, "why")
    app.resume()
    assert (app.paused_until(NUMBER), app.why(NUMBER, 1.0)) == (0.0, "")


def test_a_refusal_for_an_account_pauses_its_numbers_alone() -> None:
    app = AppLimit()
    app.heard(NUMBER, of_account("1", 100.0), 0.0)
    app.heard(OTHER, of_account("2", 10.0), 0.0)
    app.heard("another of the first account", of_account("1", 100.0), 0.0)
    app.pause_account(NUMBER, 600.0, "the account")
    assert (app.paused_until(NUMBER), app.why(NUMBER, 599.0)) == (600.0, "the account")
    assert app.paused_until("another of the first account") == 600.0
    assert (app.paused_until(OTHER), app.why(OTHER, 1.0)) == (0.0, "")


def test_where_the_account_is_not_known_all_numbers_are_paused() -> None:
    app = AppLimit()
    app.pause_account(NUMBER, 60.0, "why")
    assert app.paused_until(OTHER) == 60.0
