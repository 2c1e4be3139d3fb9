"""From our request fields to Meta's message objects: what all shapes share, and the plain ones.

Pure. A composer makes the content (CLOUD_API.md 1.3), a dict without recipient, and says by which of the
caller's fields each part of it came (:class:`Composed`), so that what the payload types find wrong can be
told in the caller's names. Limits are those types' alone. Encoded once, a content goes to any number of
people (:func:`addressed`); ``biz_opaque_callback_data`` is added by the lane to each attempt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from store.errors import Problem
from whatsapp.identity import Address

__all__ = [
    "MARKETING_FIELDS",
    "MEDIA_KINDS",
    "Composed",
    "Names",
    "addressed",
    "addressed_to_group",
    "as_marketing",
    "encode",
    "is_marketing",
    "location_request",
    "media",
    "media_source",
    "reword",
    "text",
    "text_message",
    "translate",
]

MEDIA_KINDS = ("image", "video", "audio", "document", "sticker")
_CAPTIONED = ("image", "video", "document")
MARKETING_FIELDS = ("product_policy", "message_activity_sharing")
"""One of them makes a template a marketing message, which has a path of its own (CLOUD_API_2026.md 6.1)."""
_MARKETING = tuple(f'{{"{name}":'.encode() for name in MARKETING_FIELDS)

Names = Sequence[tuple[str, str]]
"""Paths of Meta's object and the caller's for them, the more exact first. ``[]`` stands for any index, which
is put into the caller's path in order. The first that a path begins with is taken; what the path has beyond
it is kept where both end with ``*``."""


class Composed(NamedTuple):
    """A content, and how its parts are called where it came from."""

    content: dict[str, Any]
    """``type``, the object below the key of its kind, and perhaps ``context``."""
    names: Names
    problems: Sequence[Problem] = ()
    """What is wrong between the fields, in the caller's names; the content leaves that part out."""


# -- the shapes --------------------------------------------------------------------------------------------


def text(body: str, *, context: str = "", name: str = "message") -> Composed:
    """A text. Links in it are previewed where Meta finds one. ``name``: the caller's field of the body."""
    content = {"type": "text", "text": {"body": body, "preview_url": True}, **_quoting(context)}
    return Composed(content, (("text", name), *_CONTEXT))


def media(
    kind: str,
    *,
    media_id: str | int = "",
    id: str | int = "",
    link: str = "",
    caption: str = "",
    filename: str = "",
    context: str = "",
) -> Composed:
    """A file: by the id that Meta gave it (``id`` is another name of ``media_id``), or by a link."""
    problems: list[Problem] = []
    if len({str(one) for one in (media_id, id) if one != ""}) > 1:
        problems.append(("id", "is another name of media_id, which says otherwise"))
    if (media_id == id == "") == (link == ""):
        problems.append(("media_id", "give media_id (or id) or link, and not both"))
    if caption and kind not in _CAPTIONED:
        problems.append(("caption", f"does not go with type {kind}"))
    if filename and kind != "document":
        problems.append(("filename", f"does not go with type {kind}"))
    content: dict[str, Any] = {}
    if media_id != "" or id != "":
        content["id"] = str(media_id if media_id != "" else id)
    elif link:
        content["link"] = link
    if caption and kind in _CAPTIONED:
        content["caption"] = caption
    if filename and kind == "document":
        content["filename"] = filename
    return Composed({"type": kind, kind: content, **_quoting(context)}, _MEDIA_NAMES[kind], problems)


def location_request(body_text: str) -> Composed:
    """A text with a button that asks for the recipient's location."""
    interactive = {
        "type": "location_request_message",
        "body": {"text": body_text},
        "action": {"name": "send_location"},
    }
    return Composed({"type": "interactive", "interactive": interactive}, (("interactive", "body_text"),))


def media_source(content: str | int) -> dict[str, str]:
    """The id or link that a caller means by one field: an id has letters, digits, ``-`` and ``_`` only
    (CLOUD_API.md 0.1 has digits), and whatever else stands there must be a link."""
    source = str(content)
    return {"id" if _MEDIA_ID.fullmatch(source) else "link": source}


_MEDIA_ID = re.compile(r"[A-Za-z0-9_-]+")


def _quoting(message_id: str) -> dict[str, Any]:
    return {"context": {"message_id": message_id}} if message_id else {}


_CONTEXT: Names = (("context", "context_message_id"),)
_MEDIA_NAMES: Mapping[str, Names] = {
    kind: (
        (f"{kind}.link", "link"),
        (f"{kind}.caption", "caption"),
        (f"{kind}.filename", "filename"),
        (kind, "media_id"),
        *_CONTEXT,
    )
    for kind in MEDIA_KINDS
}


# -- the message -------------------------------------------------------------------------------------------


def encode(content: Mapping[str, Any]) -> bytes:
    """A content as JSON."""
    return msgspec.json.encode(content)


def addressed(to: Address, content: bytes) -> bytes:
    """The whole message object: an encoded content with its envelope (CLOUD_API.md 1.1)."""
    # A phone with "+", always: without it Meta reads the number as one of the sender's country. Neither a
    # phone nor a user id has anything to escape.
    who = f'"to":"+{to.phone}",' if to.phone else f'"recipient":"{to.user_id}",'
    return b'{"messaging_product":"whatsapp","recipient_type":"individual",' + who.encode() + content[1:]


def addressed_to_group(group: str, content: bytes) -> bytes:
    """As :func:`addressed`, to a group by its id (CLOUD_API_2026.md 2.5)."""
    who = b'"to":%s,' % msgspec.json.encode(group)
    return b'{"messaging_product":"whatsapp","recipient_type":"group",' + who + content[1:]


def as_marketing(fields: Mapping[str, Any], message: bytes) -> bytes:
    """A whole message object with these of :data:`MARKETING_FIELDS`, one at least. They come first, so that
    what leaves says by its first bytes which path it takes."""
    ordered = {name: fields[name] for name in MARKETING_FIELDS if name in fields}
    return b"%s,%s" % (msgspec.json.encode(ordered)[:-1], message[1:])


def is_marketing(message: bytes) -> bool:
    """Whether a message object is one that :func:`as_marketing` made."""
    return message.startswith(_MARKETING)


def text_message(to: Address, body: str, context_message_id: str = "") -> bytes:
    """The message object of a text."""
    return addressed(to, encode(text(body, context=context_message_id).content))


# -- the caller's names ------------------------------------------------------------------------------------


def translate(path: str, names: Names) -> str:
    """The caller's path for one of Meta's object; Meta's where no name fits."""
    for theirs, ours in names:
        found = _pattern(theirs).match(path)
        if found is None:
            continue
        ours = _indexed(ours, found.groups())
        return ours[:-1] + path[found.end() :] if ours.endswith("*") else ours
    return path


def reword(problem: str, names: Names) -> str:
    """A problem whose words name another part of Meta's object (``buttons[0].reply.id``), by the caller's
    names."""
    return _PART.sub(lambda found: _part(found[0], names), problem)


def _part(path: str, names: Names) -> str:
    tail = _INDEX.sub("[]", path)
    for theirs, ours in names:
        if f".{theirs}".endswith(f".{tail}"):
            return _indexed(ours, _INDEX.findall(path))
    return path


def _indexed(path: str, indices: Iterable[str]) -> str:
    for index in indices:
        path = path.replace("[]", f"[{index}]", 1)
    return path


_INDEX = re.compile(r"\[(\d+)\]")
_PART = re.compile(r"(?<![\w.])[a-z_]++(?:\.[a-z_]++)*+\[\d++\](?:[\w.\[\]]*[\w\]])?")


@lru_cache
def _pattern(theirs: str) -> re.Pattern[str]:
    escaped = re.escape(theirs.rstrip("*")).replace(r"\[\]", r"\[(\d+)\]")
    return re.compile(rf"{escaped}(?=$|[.\[])")
