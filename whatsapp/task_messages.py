"""What callers are told of a task's messages, one per recipient (contract.md, Tasks): as JSON, NDJSON, CSV.

Pure: from rows as the store has them to objects and lines.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import msgspec

from store.records import RowView
from whatsapp.events import place_of, rfc3339

__all__ = ["CSV_HEAD", "csv_lines", "message_of", "ndjson_lines"]

CSV_HEAD = (
    "n",
    "message_id",
    "contact",
    "address",
    "state",
    "attempt",
    "wamids",
    "error_code",
    "error",
    "created_at",
    "sent_at",
    "delivered_at",
    "read_at",
    "ended_at",
    "callback_data",
    "fallback",
    "played_at",
    "billable",
    "pricing_category",
    "pricing_type",
    "pricing_model",
)
"""The columns; several ``wamids`` stand between blanks."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula, or passes over before one."""


class _Recipient(msgspec.Struct):
    to: str = ""
    recipient: str = ""


def message_of(view: RowView) -> dict[str, Any]:
    """A row as callers see it. ``address``: as it was asked for; ``contact``: our permanent key of them;
    ``fallback``: whether its fallback is what is sent; ``pricing``: as Meta told it last."""
    row = view.row
    return {
        "n": place_of(row.id),
        "message_id": row.id,
        "to": {"contact": row.contact, "address": _address(row.payload)},
        "state": row.state.value,
        "attempt": row.attempt,
        "wamids": list(view.wamids),
        "error": msgspec.json.decode(view.error) if view.error else None,
        "created_at": rfc3339(row.created_at),
        "sent_at": _time(view.sent_at),
        "delivered_at": _time(view.delivered_at),
        "read_at": _time(view.read_at),
        "ended_at": _time(view.ended_at),
        "callback_data": row.callback_data or None,
        "fallback": row.fell_back,
        "played_at": _time(view.played_at),
        "pricing": msgspec.json.decode(view.pricing) if view.pricing else None,
    }


def ndjson_lines(views: Iterable[RowView]) -> bytes:
    """A line for each."""
    return b"".join(msgspec.json.encode(message_of(view)) + b"\n" for view in views)


def csv_lines(views: Iterable[RowView]) -> bytes:
    """A line for each, in the order of :data:`CSV_HEAD`. No cell is a formula to a spreadsheet: what begins
    like one has a ``'`` before it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(
        [_cell(value) for value in _cells(message_of(view))] for view in views
    )
    return text.getvalue().encode()


def _cells(message: dict[str, Any]) -> Iterable[object]:
    error, pricing = message["error"] or {}, message["pricing"] or {}
    flat = {
        **message,
        **message["to"],
        "wamids": " ".join(message["wamids"]),
        "error_code": error.get("code"),
        "error": error.get("details") or error.get("title"),
        "fallback": _flag(message["fallback"]),
        "billable": _flag(pricing.get("billable")),
        "pricing_category": pricing.get("category"),
        "pricing_type": pricing.get("type"),
        "pricing_model": pricing.get("pricing_model"),
    }
    return [flat[column] for column in CSV_HEAD]


def _flag(value: bool | None) -> str | None:
    return None if value is None else "true" if value else "false"


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _address(payload: bytes) -> str | None:
    try:
        found = msgspec.json.decode(payload, type=_Recipient)
    except msgspec.MsgspecError:
        return None
    return found.to or found.recipient or None


def _time(at: int) -> str | None:
    return rfc3339(at) if at else None
