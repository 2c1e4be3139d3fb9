"""Which faults the sandbox takes, and how they are used up."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.sandbox_faults import _MUST, _OBJECTS, FaultBook, Faults
from whatsapp.sandbox_rules import SandboxError


def book(**faults: Any) -> FaultBook:
    made = FaultBook(random.Random(1))
    made.change(faults)
    return made


def shown(faults: FaultBook) -> Any:
    return faults.told


def test_nothing_goes_wrong_unless_asked() -> None:
    faults = FaultBook(random.Random(1))
    assert shown(faults) == {}
    assert faults.take_error() is None
    assert faults.take_http() == 0
    assert not (faults.drops_answer() or faults.duplicates() or faults.reorders())


def test_only_what_is_named_changes() -> None:
    faults = book(delay_ms=5, bad_token=True)
    faults.change({"rate_limit": 3, "delay_ms": None})
    assert shown(faults) == {"rate_limit": 3.0, "bad_token": True}


def test_reset_ends_all_before_the_others_begin() -> None:
    faults = book(delay_ms=5, bad_token=True)
    faults.change({"reset": True, "statuses": False})
    assert shown(faults) == {"statuses": False}
    faults.change({"reset": True})
    assert faults.now == Faults()


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"dely_ms": 5}, "dely_ms"),
        ({"dely_ms": None}, "dely_ms: is no fault; these are: rate_limit, "),
        ({"drop_answers": 1.5}, "drop_answers"),
        ({"reorder_webhooks": -1}, "reorder_webhooks"),
        ({"rate_limit": -1}, "rate_limit"),
        ({"delay_ms": "5"}, "delay_ms"),
        ({"statuses": "off"}, "statuses"),
        ({"error": {"http": 400}}, "error.code: is required"),
        ({"error": 131016}, "error: must be an object"),
        ({"http_5xx": 503}, "http_5xx: must be an object"),
        ({"error": {"code": 1, "http": 200}}, "error.http"),
        ({"error": {"code": 1, "cout": 2}}, "error.cout: is no field; these are: code, http, count, message"),
        ({"error": {"code": 1, "count": None}}, "error.count"),
        ({"error": {"code": 1, "count": 0}}, "error.count"),
        ({"http_5xx": {"status": 404}}, "http_5xx.status"),
        ({"reset": 1}, "reset"),
        ([], "JSON object"),
        (None, "JSON object"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_changes_nothing(wanted: Any, named: str) -> None:
    faults = book(delay_ms=5)
    with pytest.raises(SandboxError, match=named):
        faults.change({"bad_token": True, **wanted} if isinstance(wanted, dict) else wanted)
    assert shown(faults) == {"delay_ms": 5}


def test_there_are_words_for_what_each_may_be() -> None:
    inner = {f"{name}.{field}" for name, kind in _OBJECTS.items() for field in kind.__struct_fields__}
    assert set(_MUST) == set(Faults.__struct_fields__) | inner


@pytest.mark.parametrize("path", _MUST)
@pytest.mark.parametrize("value", ["", [], "1"])
def test_a_value_of_another_type_is_told_in_our_words(path: str, value: Any) -> None:
    name, _, field = path.partition(".")
    if field == "message":
        value = 5
    needed = {"code": 1} if name == "error" else {}
    with pytest.raises(SandboxError) as refused:
        book(**{name: {**needed, field: value} if field else value})
    assert refused.value.message == f"{path}: must be {_MUST[path]}"
    assert refused.value.details == ((path, f"must be {_MUST[path]}"),)


def test_an_error_that_is_told_later_refuses_no_call() -> None:
    faults = book(error={"code": 131042, "later": True})
    assert faults.take_error() is None
    later = faults.take_error(later=True)
    assert later is not None
    assert later.number == 131042
    assert faults.take_error(later=True) is None


def test_an_error_is_given_as_often_as_asked() -> None:
    faults = book(error={"code": 131056, "count": 2, "message": "Slow"})
    first = faults.take_error()
    assert first is not None
    assert (first.number, first.http, first.message) == (131056, 400, "(#131056) Slow")
    left = {"code": 131056, "http": None, "count": 1, "message": "Slow", "later": False}
    assert shown(faults) == {"error": left}
    assert faults.take_error() is not None
    assert faults.take_error() is None
    assert shown(faults) == {}


def test_an_error_has_the_http_status_asked_for() -> None:
    refused = book(error={"code": 131000, "http": 503}).take_error()
    assert refused is not None
    assert refused.http == 503


def test_a_proxy_fails_as_often_as_asked() -> None:
    faults = book(http_5xx={"status": 502, "count": 2})
    assert [faults.take_http() for _ in range(3)] == [502, 502, 0]


def test_a_proxy_fails_once_with_503_unless_told_otherwise() -> None:
    faults = book(http_5xx={})
    assert [faults.take_http() for _ in range(2)] == [503, 0]


@pytest.mark.parametrize(("value", "expected"), [(True, 1000), (1, 1000), (False, 0), (0.0, 0)])
def test_reordering_is_all_or_nothing_or_a_part(value: bool | float, expected: int) -> None:
    faults = book(reorder_webhooks=value)
    assert sum(faults.reorders() for _ in range(1000)) == expected


@given(st.floats(0, 1), st.integers())
def test_a_fraction_hits_about_its_part(fraction: float, seed: int) -> None:
    faults = FaultBook(random.Random(seed))
    faults.change({"drop_answers": fraction, "duplicate_webhooks": fraction})
    hits = sum(faults.drops_answer() + faults.duplicates() for _ in range(500)) / 1000
    # Seven standard deviations: by chance less than once in 10^11.
    assert abs(hits - fraction) < 0.12
