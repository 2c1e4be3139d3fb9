"""What requests say beside their bodies: the queries of GETs, and the header that lets a POST be repeated
(contract.md, Part 2).

Pure. Types only: what is checked by them is also what the API's description tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from msgspec import Meta, field

from handlers.options import Time
from store.errors import Problem
from whatsapp.errors import ERROR_NAMES, is_error_name
from whatsapp.outcome import NO_WORD, SUPPRESSED
from whatsapp.validate import Checked, meant

__all__ = [
    "FORMATS",
    "KEY_HEADER",
    "KEY_PATTERN",
    "ConversationsQuery",
    "DeadFields",
    "DeadQuery",
    "EventFields",
    "EventsQuery",
    "ListQuery",
    "MediaQuery",
    "MessageQuery",
    "MessagesQuery",
    "ReplayQuery",
    "StateName",
    "StreamQuery",
    "SubscribersQuery",
    "SuppressionsQuery",
    "TaskKind",
    "TemplatesQuery",
    "ThreadQuery",
]

KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = r"[!-~]{1,255}"
"""Visible ASCII characters."""

FORMATS: Mapping[str, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
}
"""How a list of messages may be answered, and the content type of each."""

StateName = Literal[
    "queued",
    "sending",
    "unknown",
    "sent",
    "delivered",
    "read",
    "played",
    "failed",
    "cancelled",
    "expired",
]
TaskKind = Literal[
    "text",
    "template",
    "interactive",
    "list",
    "location_request",
    "media",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contacts",
    "reaction",
    "pin",
]
"""Of the sending paths, and the types of messages in Meta's form."""
_OWN_NAMES = (NO_WORD, SUPPRESSED)
_NAMES = (*ERROR_NAMES, *_OWN_NAMES)


class ListQuery(Checked, frozen=True):
    """Query of ``GET /api/tasks``."""

    limit: Annotated[int, Meta(ge=1, le=200, description="How many.")] = 50
    cursor: Annotated[str, Meta(max_length=200, description="`next` of the page before.")] = ""
    status: (
        Annotated[Literal["open", "done"], Meta(description="Only those with rows left, or without.")] | None
    ) = None
    kind: Annotated[TaskKind, Meta(description="Only those of this kind.")] | None = None
    source: Annotated[
        str,
        Meta(
            max_length=200,
            pattern="^(api|autoreply:.+)?$",
            description="Only those from there.",
            extra={"must": "be api, or autoreply: and the name of a rule"},
        ),
    ] = ""


class MessagesQuery(Checked, frozen=True):
    """Query of ``GET /api/tasks/<id>/messages``."""

    after: Annotated[int, Meta(ge=-1, description="`n` of the last one seen.")] = -1
    limit: (
        Annotated[int, Meta(ge=1, le=500, description="How many; 100 unless told. Of JSON only.")] | None
    ) = None
    state: Annotated[StateName, Meta(description="Only those in this state.")] | None = None
    format: (
        Annotated[Literal["json", "ndjson", "csv"], Meta(description="In place of the header Accept.")] | None
    ) = None


class DeadFields(Checked, frozen=True):
    """Which dead letters: those in which everything that is named is so."""

    phone_number_id: Annotated[str, Meta(max_length=100, description="Only those that it sends.")] = ""
    task_id: Annotated[str, Meta(max_length=100, description="Only those of this task.")] = ""
    contact: Annotated[
        str, Meta(max_length=200, description="Only those to them: a phone, a user id, or our key.")
    ] = ""
    name: Annotated[
        str,
        Meta(max_length=100, description="Only those whose error has this name (`undeliverable`)."),
    ] = ""
    code: Annotated[int, Meta(ge=1, le=2**31, description="Only those with this code of Meta's.")] | None = (
        None
    )
    since: Annotated[Time, Meta(description="Only those that failed at this time or later.")] | None = None
    until: Annotated[Time, Meta(description="Only those that failed before this time.")] | None = None

    def rules(self) -> Iterable[Problem]:
        """A name that no error has would find nothing."""
        if self.name and self.name not in _OWN_NAMES and not is_error_name(self.name):
            names = ", ".join(sorted(_NAMES))
            near = meant(self.name, _NAMES) or "."
            others = "http_ with the status of an answer that is not Meta's"
            yield "name", f"is the name of no error{near} The names are {names}, and {others}"


class DeadQuery(DeadFields, frozen=True):
    """Query of ``GET /api/dead-letters``."""

    limit: Annotated[int, Meta(ge=1, le=200, description="How many.")] = 50
    cursor: Annotated[str, Meta(max_length=200, description="`next` of the page before.")] = ""


class ReplayQuery(Checked, frozen=True):
    """Query of ``POST /api/hooks/<name>/replay``."""

    start: Annotated[
        str,
        Meta(
            pattern=r"^(now|([0-9A-Za-z]{1,64}:)?[0-9]{1,16})$",
            description="A position, after which it goes on; `0` for the oldest event kept, `now` for none.",
            extra={"must": "be a position (<epoch>:<offset>, or an offset alone), or now"},
        ),
    ] = field(name="from")


class SuppressionsQuery(Checked, frozen=True):
    """Query of ``GET /api/suppressions``."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="How many.")] = 100
    cursor: Annotated[str, Meta(max_length=700, description="`next` of the page before.")] = ""


class EventFields(Checked, frozen=True):
    """Which events: those in which everything that is named is so."""

    types: Annotated[
        str,
        Meta(description="Only these events, between commas; `message.*` for all that begin so."),
    ] = ""
    phone_number_id: Annotated[str, Meta(max_length=100, description="Only those of this number.")] = ""
    contact: Annotated[
        str, Meta(max_length=200, description="Only those of this contact: a phone, a user id, or our key.")
    ] = ""


class EventsQuery(EventFields, frozen=True):
    """Query of ``GET /api/events``."""

    after: Annotated[
        str, Meta(max_length=100, description="`next` of the page before, or the position of an event.")
    ] = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="How many.")] = 100
    wait: Annotated[
        int, Meta(ge=0, le=30, description="Seconds to wait for an event where there is none.")
    ] = 0


class StreamQuery(EventFields, frozen=True):
    """Query of ``GET /api/events/stream``."""

    since: Annotated[
        str,
        Meta(max_length=100, description="A position to go on after, where there is no `Last-Event-ID`."),
    ] = ""
    token: Annotated[str, Meta(description="The API key, for a browser's `EventSource`.")] = ""


class SubscribersQuery(Checked, frozen=True):
    """Query of ``GET /api/subscribers``."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="How many.")] = 100
    cursor: Annotated[str, Meta(max_length=200, description="`next` of the page before.")] = ""


_POSITION = 2**53
"""Offsets stay below (contract.md, Events)."""


class MessageQuery(Checked, frozen=True):
    """Query of ``GET /api/messages``: one of the two."""

    wamid: Annotated[str, Meta(max_length=600, description="The id that Meta gave it.")] = ""
    message_id: Annotated[str, Meta(max_length=100, description="Our own id of a message of ours.")] = ""


class ConversationsQuery(Checked, frozen=True):
    """Query of ``GET /api/conversations``."""

    limit: Annotated[int, Meta(ge=1, le=200, description="How many.")] = 50
    before: Annotated[int, Meta(ge=0, lt=_POSITION, description="`next` of the page before.")] | None = None
    phone_number_id: Annotated[
        str, Meta(max_length=100, description="Only those with this number of ours.")
    ] = ""
    unread: (
        Annotated[Literal["true", "false"], Meta(description="Only those with something unread.")] | None
    ) = None


class ThreadQuery(Checked, frozen=True):
    """Query of ``GET /api/conversations/<contact>/messages``."""

    limit: Annotated[int, Meta(ge=1, le=200, description="How many.")] = 50
    before: (
        Annotated[int, Meta(ge=0, lt=_POSITION, description="Only those before: `older` of a page.")] | None
    ) = None
    after: (
        Annotated[int, Meta(ge=0, lt=_POSITION, description="Only those after: `newer` of a page.")] | None
    ) = None
    phone_number_id: Annotated[
        str, Meta(max_length=100, description="Only those with this number of ours.")
    ] = ""


class MediaQuery(Checked, frozen=True):
    """Query of ``/api/media/<id>`` and below."""

    phone_number_id: Annotated[
        str, Meta(description="The number of ours that Meta has it for; the default one unless named.")
    ] = ""


class TemplatesQuery(Checked, frozen=True):
    """Query of ``GET /api/templates``."""

    name: Annotated[str, Meta(description="Only those of this name.")] = ""
    status: Annotated[str, Meta(description="Only those of this status.")] = ""
    language: Annotated[str, Meta(description="Only those of this language.")] = ""
