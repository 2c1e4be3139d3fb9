"""What Graph's headers say of an app's calls, and what its numbers make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.app_limit import AppLimit, read_usage

APP, CASE = "X-App-Usage", "X-Business-Use-Case-Usage"


@pytest.mark.parametrize(
    ("headers", "used"),
    [
        ({}, None),
        ({APP: '{"call_count":28,"total_time":25,"total_cputime":31.5}'}, 31.5),
        ({CASE: '{"1":[{"type":"whatsapp","call_count":7,"total_cputime":1,"total_time":90}]}'}, 90.0),
        ({CASE: '{"1":[{"call_count":7}],"2":[{"call_count":5},{"call_count":120}]}'}, 120.0),
        ({APP: '{"call_count":10}', CASE: '{"1":[{"call_count":7}]}'}, 10.0),
        ({APP: '{"call_count":0}'}, 0.0),
        ({APP: '{"call_count":-3}'}, 0.0),
        ({APP: ""}, None),
        ({APP: "no JSON"}, None),
        ({APP: "[]"}, None),
        ({APP: '{"call_count":"28"}'}, None),
        ({APP: '{"call_count":true}'}, None),
        ({APP: '{"call_count":null,"estimated_time_to_regain_access":90}'}, None),
        ({CASE: '{"1":{"call_count":50}}'}, None),
        ({APP: "[" * 100_000}, None),
    ],
)
def test_what_the_headers_say(headers: dict[str, str], used: float | None) -> None:
    assert read_usage(headers) == used


@given(st.text(), st.text())
def test_no_header_is_too_odd(app: str, case: str) -> None:
    used = read_usage({APP: app, CASE: case})
    assert used is None or used >= 0.0


def heard(percent: float, now: float = 0.0) -> AppLimit:
    app = AppLimit()
    app.heard({APP: f'{{"call_count":{percent}}}'}, now)
    return app


@pytest.mark.parametrize(
    ("percent", "share"), [(0, 1), (80, 1), (90, 0.5), (95, 0.25), (100, 0.05), (400, 0.05)]
)
def test_the_more_is_used_up_the_less_is_taken(percent: float, share: float) -> None:
    assert heard(percent).share(1.0) == pytest.approx(share)


def test_nothing_is_known_at_first_nor_long_after() -> None:
    assert AppLimit().share(1e6) == 1.0
    app = heard(100.0, 10.0)
    assert app.share(309.0) < 1.0
    assert (app.share(310.0), app.used(310.0)) == (1.0, 0.0)


def test_an_answer_without_the_headers_changes_nothing() -> None:
    app = heard(100.0)
    app.heard({"Content-Type": "application/json"}, 1.0)
    assert app.used(2.0) == 100.0


def test_a_longer_pause_is_not_cut_short() -> None:
    app = AppLimit()
    app.pause(60.0, "the longer")
    app.pause(30.0, "the shorter")
    assert (app.paused_until, app.why(59.0), app.why(60.0)) == (60.0, "the longer", "")


def test_a_pause_can_be_ended() -> None:
    app = AppLimit()
    app.pause(60.0, "why")
    app.resume()
    assert (app.paused_until, app.why(1.0)) == (0.0, "")
