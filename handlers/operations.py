"""Every operation of the REST API, as its description tells them.

Pure. The sending paths come from their table (``sends.py``); of the others each is a line here. A test holds
this list against the routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from handlers import answers
from handlers.openapi import Operation, Query
from handlers.options import ManyRequest, Phone
from handlers.requests import RetryRequest
from handlers.sends import MANY, ONE

__all__ = ["EXAMPLES", "operations"]

_TEXT = {"type": "string"}
_PHONE = "5215550001111"
_BUTTONS = [{"id": "yes", "title": "Yes"}, {"id": "no", "title": "No"}]
_SECTIONS = [{"title": "Drinks", "rows": [{"id": "tea", "title": "Tea", "description": "hot"}]}]
_LIST = {"header_text": "Menu", "footer_text": "Thanks", "button_text": "See it", "sections": _SECTIONS}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "/api/send-message": {"phone": _PHONE, "message": "Hello", "use_queue": True},
    "/api/send-template": {"phone": _PHONE, "template_name": "hello_world", "language": "es"},
    "/api/send-template-advanced": {
        "phone": _PHONE,
        "template_name": "order_sent",
        "language": "es",
        "components": [
            {"type": "header", "parameters": [{"type": "text", "text": "7"}]},
            {
                "type": "body",
                "parameters": [{"type": "text", "text": "Ana"}, {"type": "text", "text": "lunes"}],
            },
            {
                "type": "button",
                "sub_type": "url",
                "index": "1",
                "parameters": [{"type": "text", "text": "7"}],
            },
        ],
    },
    "/api/send-interactive": {"phone": _PHONE, "body_text": "Shall we call you?", "buttons": _BUTTONS},
    "/api/send-button": {"phone": _PHONE, "body_text": "Shall we call you?", "buttons": _BUTTONS},
    "/api/send-list": {"phone": _PHONE, "body_text": "What would you like?", **_LIST},
    "/api/send-location-request": {"phone": _PHONE, "body_text": "Where are you?"},
    "/api/send-media": {
        "phone": _PHONE,
        "type": "image",
        "link": "https://example.com/tea.png",
        "caption": "Our tea",
    },
    "/api/send-bulk": {"recipients": [{"phone": _PHONE, "message": "Hello"}], "duplicates": "drop"},
    "/api/send-bulk-interactive": {
        "recipients": [{"phone": _PHONE, "body_text": "Shall we call you?", "buttons": _BUTTONS}]
    },
    "/api/send-personalized-broadcast": {
        "recipients": [{"phone": _PHONE, "body_text": "Ana, have a look"}],
        "button_text": "Open",
        "button_url": "https://example.com/",
    },
    "/api/send-broadcast-interactive": {
        "phones": [_PHONE],
        "body_text": "Have a look",
        "button_text": "Open",
        "button_url": "https://example.com/",
    },
    "/api/send-bulk-button": {
        "recipients": [{"phone": _PHONE, "body_text": "Ana, shall we call you?"}],
        "buttons": _BUTTONS,
    },
    "/api/send-bulk-list": {"recipients": [{"phone": _PHONE, "body_text": "What would you like?"}], **_LIST},
    "/api/send-bulk-template": {"recipients": [{"phone": _PHONE}], "template_name": "hello_world"},
    "/api/send-broadcast-template": {"phones": [_PHONE], "template_name": "hello_world", "language": "es"},
}
"""Of each sending path a body that the sandbox takes."""

_SENT = {
    200: ("Sent, or stored to be sent.", answers.SentOne),
    202: ("No outcome yet: it goes on under its task id.", answers.SentOne),
    502: ("It never left, or Meta gave no answer.", answers.Refusal),
    422: ("The Idempotency-Key was used with another body.", answers.Refusal),
}
_SENT_TO_MANY = {**_SENT, 200: ("Stored to be sent, or sent.", answers.SentMany)}
_FORM_FIELDS = (
    "message",
    "template_name",
    "language",
    "parameters",
    "components",
    "phone_column",
    "dry_run",
)
_FORMAT = {"enum": ["json", "ndjson", "csv"], "default": "json"}
_NO_TASK = (("No task has this id.", answers.Refusal),)
_TEMPLATES_AWAY = "Meta cannot be asked, and nothing is known."


def operations() -> Iterator[Operation]:
    """All of them."""
    for path, one in ONE.items():
        yield Operation(
            "POST",
            path,
            "messages",
            f"Send {_a(one.kind)} to one recipient",
            _SENT,
            request=one.request,
            example=EXAMPLES[path],
            lenient=True,
        )
    for path, many in MANY.items():
        field = "phones" if many.recipient is None else "recipients"
        yield Operation(
            "POST",
            path,
            "messages",
            f"Send {_a(many.kind)} to each of many",
            _SENT_TO_MANY,
            request=many.request,
            items=(field, Phone if many.recipient is None else many.recipient),
            example=EXAMPLES[path],
            lenient=True,
        )
    yield _broadcasts()
    yield _own_messages()
    yield from _tasks()
    yield from _media()
    yield Operation(
        "GET",
        "/api/templates",
        "templates",
        "The account's templates, and what each asks for",
        {
            200: ("The templates.", answers.TemplatePage),
            502: (_TEMPLATES_AWAY, answers.Refusal),
        },
        query=[Query(name, _TEXT, f"Only those of this {name}.") for name in ("name", "status", "language")],
    )
    yield from _status()


def _broadcasts() -> Operation:
    texts = dict.fromkeys((*_FORM_FIELDS, *ManyRequest.__struct_fields__), _TEXT)
    del texts["use_queue"]
    return Operation(
        "POST",
        "/api/broadcasts",
        "messages",
        "Send a text or a template to everybody in a CSV file",
        {200: ("Stored to be sent, or looked at in a dry run.", answers.Broadcast), 422: _SENT[422]},
        content="multipart/form-data",
        schema={
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}, **texts},
        },
    )


def _own_messages() -> Operation:
    one_or_many = {"oneOf": [_TEXT, {"type": "integer"}, {"type": "array", "items": {}}]}
    return Operation(
        "POST",
        "/api/messages",
        "messages",
        "Send Meta's own message object to one or many, or mark a message as read",
        {**_SENT, 200: ("Sent, stored to be sent, or marked.", answers.OwnSent)},
        schema={
            "type": "object",
            "properties": {"to": one_or_many, "recipient": one_or_many, "type": _TEXT},
        },
        example={"to": _PHONE, "type": "text", "text": {"body": "Hello"}},
    )


def _tasks() -> Iterator[Operation]:
    found = {200: ("How it stands.", answers.TaskState), 404: _NO_TASK[0]}
    yield Operation("GET", "/api/task-status/{id}", "tasks", "How a task stands", found)
    yield Operation("GET", "/api/tasks/{id}", "tasks", "How a task stands", found)
    yield Operation(
        "GET",
        "/api/tasks",
        "tasks",
        "All tasks, the newest first",
        {200: ("A page of them.", answers.TaskPage)},
        query=[
            Query("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "How many."),
            Query("cursor", _TEXT, "`next` of the page before."),
            Query("status", {"enum": ["open", "done"]}, "Only those with rows left, or without."),
            Query("kind", _TEXT, "Only those of this kind."),
            Query("source", _TEXT, "Only those from there."),
        ],
    )
    yield Operation(
        "GET",
        "/api/tasks/{id}/messages",
        "tasks",
        "What became of each recipient",
        {200: ("A page of them; all with another format.", answers.MessagePage), 404: _NO_TASK[0]},
        query=[
            Query("after", {"type": "integer", "minimum": -1}, "`n` of the last one seen."),
            Query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}, "How many."),
            Query("state", _TEXT, "Only those in this state."),
            Query("format", _FORMAT, "The others give all, streamed; the header Accept asks for them too."),
        ],
    )
    yield Operation(
        "POST",
        "/api/tasks/{id}/cancel",
        "tasks",
        "Take back what has not left",
        {200: ("What was taken back.", answers.Cancelled), 404: _NO_TASK[0], 422: _SENT[422]},
    )
    yield Operation(
        "POST",
        "/api/tasks/{id}/retry",
        "tasks",
        "Send anew what failed",
        {200: ("What is sent anew.", answers.Retried), 404: _NO_TASK[0], 422: _SENT[422]},
        request=RetryRequest,
        example={},
    )


def _media() -> Iterator[Operation]:
    number = [Query("phone_number_id", _TEXT, "The number of ours that Meta has it for.")]
    refused = {
        404: ("Meta knows no file of this id.", answers.Refusal),
        502: ("Meta gave no answer, or refused.", answers.Refusal),
    }
    yield Operation(
        "POST",
        "/api/media",
        "media",
        "Upload a file",
        {
            200: ("Its id.", answers.Uploaded),
            415: ("The body is no form.", answers.Refusal),
            422: _SENT[422],
            502: refused[502],
        },
        content="multipart/form-data",
        schema={
            "type": "object",
            "required": ["file"],
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "type": _TEXT,
                "phone_number_id": _TEXT,
            },
        },
    )
    yield Operation(
        "GET",
        "/api/media/{id}",
        "media",
        "What Meta knows of a file",
        {200: ("Its address, which Meta keeps for five minutes.", answers.MediaInfo), **refused},
        query=number,
    )
    yield Operation(
        "DELETE",
        "/api/media/{id}",
        "media",
        "Have Meta forget a file",
        {200: ("Done.", answers.Done), **refused},
        query=number,
    )
    yield Operation(
        "GET",
        "/api/media/{id}/download",
        "media",
        "The bytes of a file",
        {200: ("The bytes.", None), **refused},
        query=number,
        raw={200: "application/octet-stream"},
    )


def _status() -> Iterator[Operation]:
    yield Operation(
        "GET", "/api/health", "status", "The process answers", {200: ("It does.", answers.Alive)}, public=True
    )
    yield Operation(
        "GET",
        "/api/ready",
        "status",
        "Whether traffic should come here",
        {200: ("It should.", answers.Alive), 503: ("It should not yet.", answers.Alive)},
    )
    yield Operation(
        "GET", "/api/status", "status", "All there is to see", {200: ("All of it.", answers.Status)}
    )


def _a(kind: str) -> str:
    words: Sequence[str] = kind.replace("_", " ").split()
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"
