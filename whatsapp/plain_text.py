"""The best plain text of a message: what a person would read in its bubble.

Pure. Owns which part of each kind of message that is (CLOUD_API.md 4.5, CLOUD_API_2026.md 8). Never raises: a
message is Meta's own decoded object, any part of which may be missing or of another type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["plain_text"]


def plain_text(message: dict[str, Any]) -> str:
    """Body, caption, button or list title, emoji, place, names, or the error's title; empty if it has none.

    Of a reaction that was removed it is empty, of an edit the new text. A kind not known here gives the first
    usual text field of its content.
    """
    kind = message.get("type")
    if not isinstance(kind, str):
        return ""
    if kind in _FROM_ERRORS:
        return _error_title(message.get("errors"))
    content = message.get(kind)
    if (reader := _READERS.get(kind)) is not None:
        return reader(content)
    return _first(content, "body", "caption", "text", "title")


def _first(content: Any, *names: str) -> str:
    """The first of these fields that is a text and not empty."""
    if isinstance(content, dict):
        for name in names:
            value = content.get(name)
            if isinstance(value, str) and value:
                return value
    return ""


def _body(content: Any) -> str:
    return _first(content, "body")


def _caption(content: Any) -> str:
    return _first(content, "caption")


def _text(content: Any) -> str:
    return _first(content, "text")


def _emoji(content: Any) -> str:
    return _first(content, "emoji")


def _interactive(content: Any) -> str:
    """Title of a button or list row, body of a flow's reply; of one of ours the text that it shows."""
    kind = _first(content, "type")
    if not kind:
        return ""
    return _first(content.get(kind), "title", "body", "text") or _first(content.get("body"), "text")


def _location(content: Any) -> str:
    parts = (_first(content, "name"), _first(content, "address"))
    return ", ".join(part for part in parts if part)


def _names(cards: Any) -> str:
    if not isinstance(cards, list):
        return ""
    names = (_name(card.get("name")) or _of_vcard(card) for card in cards if isinstance(card, dict))
    return ", ".join(name for name in names if name)


def _of_vcard(card: dict[str, Any]) -> str:
    """The name in its text, where a shared number brings nothing else (CLOUD_API_2026.md 2.6)."""
    found = _FORMATTED_NAME.search(_first(card, "vcard"))
    return found[1].strip() if found else ""


def _name(name: Any) -> str:
    parts = (_first(name, "first_name"), _first(name, "last_name"))
    return _first(name, "formatted_name") or " ".join(part for part in parts if part)


def _edited(content: Any) -> str:
    """The text after the edit. An edit inside an edit is not followed."""
    inner = content.get("message") if isinstance(content, dict) else None
    return plain_text(inner) if isinstance(inner, dict) and inner.get("type") != "edit" else ""


def _error_title(errors: Any) -> str:
    first = errors[0] if isinstance(errors, list) and errors else None
    return _first(first, "title", "message")


_FORMATTED_NAME = re.compile(r"^FN(?:;[^:\r\n]*)?:(.*)$", re.MULTILINE | re.IGNORECASE)
"""The line of a vCard that says how a person is called (RFC 6350, section 6.2.1)."""

_FROM_ERRORS = frozenset({"unsupported", "unknown"})

_READERS: dict[str, Callable[[Any], str]] = {
    "text": _body,
    "image": _caption,
    "video": _caption,
    "document": _caption,
    "button": _text,
    "interactive": _interactive,
    "reaction": _emoji,
    "location": _location,
    "contacts": _names,
    "order": _text,
    "system": _body,
    "edit": _edited,
}
