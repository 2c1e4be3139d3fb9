"""Lists that are answered page by page: their query, and the cursor from one page to the next.

A cursor is a text that callers give back as it came: a time, and what tells apart what is of the same time.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

from tornado.web import RequestHandler

from handlers.fields import convert, refusal
from whatsapp.failures import InvalidRequest
from whatsapp.validate import Checked

__all__ = ["cursor_of", "foreign_cursor", "place_of_cursor", "query_of"]

Q = TypeVar("Q", bound=Checked)


def query_of(handler: RequestHandler, kind: type[Q], numbers: Sequence[str], lists: Sequence[str] = ()) -> Q:
    """A request's query, of which these are numbers, and these lists whose repetitions go on. Raises
    InvalidRequest."""
    given: dict[str, Any] = {
        name: handler.get_query_argument(name) for name in handler.request.query_arguments
    }
    for name in lists:
        if name in given:
            given[name] = ",".join(handler.get_query_arguments(name))
    for name in numbers:
        text = given.get(name, "")
        if text.removeprefix("-").isdecimal() and text.isascii():
            given[name] = int(text[:18])
    return convert(given, kind, strict=True)[0]


def cursor_of(at: int, which: str) -> str:
    """The cursor past what is of this time and of this name."""
    return base64.urlsafe_b64encode(f"{at}:{which}".encode()).decode().rstrip("=")


def place_of_cursor(cursor: str) -> tuple[int, str]:
    """What :func:`cursor_of` was given. Raises InvalidRequest for what is no cursor of ours."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    at, _, which = text.partition(":")
    if not (at.isascii() and at.isdecimal() and len(at) < 18 and which):
        raise foreign_cursor()
    return int(at), which


def foreign_cursor() -> InvalidRequest:
    """What to raise for a cursor that the path has not given."""
    return refusal([("cursor", "is none that this path has given")])
