"""Messages with buttons or a list (CLOUD_API.md 1.3, interactive), from our request fields.

Pure. Without any button an interactive message is what Meta can carry instead: a text, or a media message
with the body as its caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import field

from store.errors import Problem
from whatsapp.compose import Composed, Names, media_source
from whatsapp.validate import Checked

__all__ = ["Button", "ListRow", "ListSection", "interactive", "list_message", "reply_buttons"]

_HEADER_KINDS = ("text", "image", "video", "document")


class Button(Checked, frozen=True):
    """One of ``buttons``. What is left out is told by the payload type, with all other faults."""

    id: str | int = ""
    title: str = ""


class ListRow(Checked, frozen=True):
    """One of ``rows``."""

    id: str | int = ""
    title: str = ""
    description: str = ""


class ListSection(Checked, frozen=True):
    """One of ``sections``."""

    title: str = ""
    rows: list[ListRow] = field(default_factory=list)


def interactive(
    *,
    body_text: str,
    header_type: str = "",
    header_content: str | int = "",
    footer_text: str = "",
    buttons: Sequence[Button] = (),
    button_text: str = "",
    button_url: str = "",
) -> Composed:
    """Reply buttons, a URL button, or neither. Empty is absent."""
    problems = []
    if buttons and (button_text or button_url):
        given = "button_text" if button_text else "button_url"
        problems.append((given, "does not go with buttons: give a URL button or reply buttons"))
    if buttons:
        return _with(reply_buttons(body_text, buttons, header_type, header_content, footer_text), problems)
    if not button_text and not button_url:
        return _plain(body_text, header_type, header_content, footer_text)
    if not button_text:
        problems.append(("button_text", "is required with button_url"))
    if not button_url:
        problems.append(("button_url", "is required with button_text"))
    parameters = _given(display_text=button_text, url=button_url)
    action = {"name": "cta_url", "parameters": parameters}
    composed = _interactive("cta_url", body_text, header_type, header_content, footer_text, action)
    return _with(composed, problems)


def reply_buttons(
    body_text: str,
    buttons: Sequence[Button],
    header_type: str = "",
    header_content: str | int = "",
    footer_text: str = "",
) -> Composed:
    """One to three buttons that answer."""
    replies = [{"type": "reply", "reply": _given(id=str(one.id), title=one.title)} for one in buttons]
    action = {"buttons": replies}
    return _interactive("button", body_text, header_type, header_content, footer_text, action)


def list_message(
    *,
    body_text: str,
    button_text: str,
    sections: Sequence[ListSection],
    header_text: str = "",
    footer_text: str = "",
) -> Composed:
    """A button that opens a list of rows in sections."""
    action = {"button": button_text, "sections": [_section(section) for section in sections]}
    header = "text" if header_text else ""
    composed = _interactive("list", body_text, header, header_text, footer_text, action)
    return composed._replace(names=_LIST_NAMES)


# -- parts -------------------------------------------------------------------------------------------------


def _interactive(
    kind: str,
    body_text: str,
    header_type: str,
    header_content: str | int,
    footer_text: str,
    action: Mapping[str, Any],
) -> Composed:
    problems = _header_problems(header_type, header_content)
    content: dict[str, Any] = {"type": kind}
    if header_type and not problems:
        content["header"] = _header(header_type, header_content)
    content["body"] = {"text": body_text}
    if footer_text:
        content["footer"] = {"text": footer_text}
    content["action"] = action
    return Composed({"type": "interactive", "interactive": content}, _NAMES, problems)


def _plain(body_text: str, header_type: str, header_content: str | int, footer_text: str) -> Composed:
    """No button: header and footer have no place of their own, and stand in lines of their own."""
    problems = _header_problems(header_type, header_content)
    if header_type in ("", "text") or problems:
        head = str(header_content) if header_type == "text" else ""
        body = _lines(head, body_text, footer_text) if body_text else ""
        return Composed({"type": "text", "text": {"body": body, "preview_url": True}}, _NAMES, problems)
    content: dict[str, str] = media_source(header_content)
    content["caption"] = _lines(body_text, footer_text)
    missing = [] if body_text else [("body_text", "must not be empty")]
    return Composed({"type": header_type, header_type: content}, _NAMES, missing)


def _header(kind: str, content: str | int) -> dict[str, Any]:
    return {"type": kind, kind: str(content) if kind == "text" else media_source(content)}


def _header_problems(kind: str, content: str | int) -> list[Problem]:
    if kind and kind not in _HEADER_KINDS:
        return [("header_type", f"must be one of {', '.join(_HEADER_KINDS)}")]
    if kind and content == "":
        return [("header_content", f"is required with header_type {kind}")]
    if content != "" and not kind:
        return [("header_type", f"is required with header_content: one of {', '.join(_HEADER_KINDS)}")]
    return []


def _section(section: ListSection) -> dict[str, Any]:
    rows = [_given(id=str(row.id), title=row.title, description=row.description) for row in section.rows]
    return {**_given(title=section.title), "rows": rows}


def _lines(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def _given(**fields: str) -> dict[str, str]:
    """Those that are not empty: what is missing is then told as missing."""
    return {name: value for name, value in fields.items() if value}


def _with(composed: Composed, problems: Sequence[Problem]) -> Composed:
    return composed._replace(problems=[*problems, *composed.problems])


_SHARED: Names = (
    ("interactive.body", "body_text"),
    ("interactive.footer", "footer_text"),
)
_NAMES: Names = (
    *_SHARED,
    ("interactive.header", "header_content"),
    ("interactive.action.buttons[].reply.id", "buttons[].id"),
    ("interactive.action.buttons[].reply.title", "buttons[].title"),
    ("interactive.action.buttons[]", "buttons[]"),
    ("interactive.action.parameters.display_text", "button_text"),
    ("interactive.action.parameters", "button_url"),
    ("interactive.action", "buttons"),
    ("text", "body_text"),
    *((f"{kind}.caption", "body_text") for kind in _HEADER_KINDS[1:]),
    *((kind, "header_content") for kind in _HEADER_KINDS[1:]),
)
_LIST_NAMES: Names = (
    *_SHARED,
    ("interactive.header", "header_text"),
    ("interactive.action.button", "button_text"),
    ("interactive.action.sections*", "sections*"),
    ("interactive.action", "sections"),
)
