"""What callers are told of a task's messages, as objects and as lines."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import RowView
from store.states import State
from tests.support.rows import TASK, make_row, make_view
from whatsapp.task_messages import CSV_HEAD, csv_lines, message_of, ndjson_lines


def cells(*views: RowView) -> list[dict[str, str]]:
    text = csv_lines(views).decode()
    return [dict(zip(CSV_HEAD, row, strict=True)) for row in csv.reader(io.StringIO(text, newline=""))]


def test_a_row_without_a_fate_has_empty_fields() -> None:
    found = message_of(make_view(make_row(3)))
    assert (found["n"], found["message_id"], found["state"]) == (3, f"{TASK}-3", "queued")
    assert found["to"] == {"contact": "16505551234", "address": None}
    nothing = ("error", "sent_at", "delivered_at", "read_at", "ended_at", "callback_data")
    assert [found[name] for name in nothing] == [None] * len(nothing)
    assert found["created_at"] == "1970-01-01T00:00:01.000Z"


@pytest.mark.parametrize(
    ("payload", "address"),
    [
        (b'{"to":"+16505551234"}', "+16505551234"),
        (b'{"recipient":"US.1"}', "US.1"),
        (b'{"to":7}', None),
        (b"no JSON", None),
    ],
)
def test_the_address_is_the_one_asked_for(payload: bytes, address: str | None) -> None:
    assert message_of(make_view(make_row(payload=payload)))["to"]["address"] == address


def test_times_are_told_in_rfc3339() -> None:
    view = msgspec.structs.replace(
        make_view(make_row(state=State.READ)), sent_at=1, delivered_at=2, read_at=1000, ended_at=61_000
    )
    found = message_of(view)
    assert [found[name][-13:] for name in ("sent_at", "delivered_at", "read_at", "ended_at")] == [
        "00:00:00.001Z",
        "00:00:00.002Z",
        "00:00:01.000Z",
        "00:01:01.000Z",
    ]


def test_lines_of_json_are_the_same_objects() -> None:
    views = [make_view(make_row(n, callback_data="a\nb"), "wamid.A") for n in range(3)]
    lines = ndjson_lines(views).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [message_of(view) for view in views]


def test_a_line_of_csv_has_all_that_is_known() -> None:
    error = msgspec.json.encode({"code": 131026, "title": "t", "details": "Message, undeliverable"})
    row = make_row(1, state=State.FAILED, attempt=2, callback_data='say "hi"')
    view = msgspec.structs.replace(make_view(row, "wamid.A", "wamid.B"), error=error)
    (found,) = cells(view)
    assert found["wamids"] == "wamid.A wamid.B"
    assert (found["error_code"], found["error"]) == ("131026", "Message, undeliverable")
    assert (found["state"], found["attempt"], found["callback_data"]) == ("failed", "2", 'say "hi"')


@pytest.mark.parametrize(("fell_back", "told"), [(True, "true"), (False, "false")])
def test_csv_says_true_and_false_as_json_does(fell_back: bool, told: str) -> None:
    (found,) = cells(make_view(make_row(fell_back=fell_back)))
    assert found["fallback"] == told


def test_the_price_is_told_as_meta_told_it() -> None:
    price = {"billable": False, "pricing_model": "PMP", "type": "regular", "category": "utility"}
    view = msgspec.structs.replace(
        make_view(make_row()), pricing=msgspec.json.encode(price), played_at=61_000
    )
    assert (message_of(view)["pricing"], message_of(view)["played_at"][-13:]) == (price, "00:01:01.000Z")
    (found,) = cells(view)
    columns = ("billable", "pricing_category", "pricing_type", "pricing_model")
    assert [found[name] for name in columns] == ["false", "utility", "regular", "PMP"]
    (found,) = cells(make_view(make_row()))
    assert [found[name] for name in columns] == [""] * 4


@pytest.mark.parametrize("begin", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_a_formula(begin: str) -> None:
    error = msgspec.json.encode({"code": -1, "title": begin})
    row = make_row(contact=begin, callback_data=begin, payload=msgspec.json.encode({"to": begin}))
    (found,) = cells(msgspec.structs.replace(make_view(row, begin), error=error))
    for column in ("contact", "address", "wamids", "error", "callback_data"):
        assert found[column] == f"'{begin}"
    assert found["error_code"] == "'-1"


@given(text=st.text(), more=st.text())
def test_whatever_is_in_a_cell_stays_in_it(text: str, more: str) -> None:
    row = make_row(contact=more, callback_data=text)
    (found,) = cells(make_view(row))
    assert found["callback_data"].removeprefix("'") == text.removeprefix("'")
    assert not found["callback_data"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
