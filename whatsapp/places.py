"""Places in the texts of an answer: ``{name}``, ``{match}``, ``{1}``, filled with what a customer wrote.

Pure. ``{name|friend}`` says what stands there where there is nothing to fill in. What is filled in is text
and nothing else: it never becomes a part of the message's form, in an address it is escaped, and it is cut
where the whole would be longer than Meta takes. Other braces are left as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from whatsapp.payloads import Content
from whatsapp.validate import Findings, validate

__all__ = ["MESSAGE_ID", "NAME", "fill", "places_of", "settled"]

NAME = "name"
MESSAGE_ID = "message_id"
"""Meta's id of the customer's message: it is put in whole."""
_PLACE = re.compile(r"\{([A-Za-z_]\w{0,31}|[0-9]{1,2})(?:\|([^{}]{0,200}))?\}")
_ADDRESSES = frozenset({"url", "link"})
_LONGEST = 1000
_CUTS = (_LONGEST, 200, 60, 30, 20, 12, 6, 3, 1)
"""Characters of each value: the first with which the message is one that Meta takes."""
_MARKS = str.maketrans("", "", "*_~`")


def places_of(value: Any) -> Iterator[str]:
    """The names of all places in the texts of a message."""
    if isinstance(value, str):
        yield from (found[1] for found in _PLACE.finditer(value))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from places_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from places_of(inner)


def settled(content: Mapping[str, Any], values: Mapping[str, str]) -> tuple[dict[str, Any], Findings]:
    """A content with its places filled, and what is wrong with it even with the shortest values."""
    clean = {name: _clean(name, value) for name, value in values.items()}
    for most in _CUTS:
        findings = Findings()
        cut = {name: text if name == MESSAGE_ID else _cut(text, most) for name, text in clean.items()}
        filled = fill(content, cut)
        validate(filled, Content, findings)
        if not findings.problems:
            break
    return filled, findings


def fill(value: Any, values: Mapping[str, str], key: str = "") -> Any:
    """A message with these in its places; one that has no value is what its place says, else empty."""
    if isinstance(value, str):
        in_address = key in _ADDRESSES

        def put(found: re.Match[str]) -> str:
            text = values.get(found[1]) or found[2] or ""
            return quote(text, safe="") if in_address else text

        return _PLACE.sub(put, value)
    if isinstance(value, Mapping):
        return {name: fill(inner, values, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, values, key) for inner in value]
    return value


def _clean(name: str, value: str) -> str:
    """On one line, since parameters of templates must be; of a name the marks of bold and the like left
    out."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "" for c in value).split())
    return (text.translate(_MARKS) if name == NAME else text)[:_LONGEST]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
