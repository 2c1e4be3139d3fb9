"""Every operation of the REST API, as its description tells them.

Pure. The sending paths come from their table (``sends.py``); of the others each is a line here. A test holds
this list against the routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from handlers import answers
from handlers.openapi import Operation, plain_fields
from handlers.options import Phone
from handlers.parameters import (
    FORMATS,
    ConversationsQuery,
    DeadQuery,
    EventsQuery,
    ListQuery,
    MediaQuery,
    MessageQuery,
    MessagesQuery,
    ReplayQuery,
    StreamQuery,
    SubscribersQuery,
    SuppressionsQuery,
    TemplatesQuery,
    ThreadQuery,
)
from handlers.requests import (
    MarkRequest,
    ResumeNumbers,
    ResumeTemplate,
    RetryRequest,
    ReviveRequest,
    SuppressManyRequest,
    SuppressRequest,
)
from handlers.sends import MANY, ONE
from handlers.sheet_request import SheetRequest

__all__ = ["EXAMPLES", "operations"]

_TEXT = {"type": "string"}
_JSON_LIST = {"type": "string", "description": "A list, as JSON."}
_JSON_OBJECT = {"type": "string", "description": "An object, as JSON."}
_PHONE = "5215550001111"
_SHEET = f"phone,name\n{_PHONE},Ana\nnobody,Bo\n{_PHONE},Ana\n"
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
}
_SENT_TO_MANY = {**_SENT, 200: ("Stored to be sent, or sent.", answers.SentMany)}
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
            examples={"a message": EXAMPLES[path]},
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
            examples={"a message": EXAMPLES[path]},
            lenient=True,
        )
    yield _broadcasts()
    yield _own_messages()
    yield from _tasks()
    yield from _dead_letters()
    yield from _suppressions()
    yield from _conversations()
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
        query=TemplatesQuery,
    )
    yield from _resumptions()
    yield from _hooks()
    yield from _events()
    yield from _status()


def _broadcasts() -> Operation:
    fields = plain_fields(SheetRequest) | dict.fromkeys(("parameters", "components"), _JSON_LIST)
    fields["fallback_template"] = _JSON_OBJECT
    fields["message"] = {**fields["message"], "examples": ["Hello"]}
    fields["dry_run"] = {**fields["dry_run"], "examples": [True]}
    del fields["use_queue"]
    return Operation(
        "POST",
        "/api/broadcasts",
        "messages",
        "Send a text or a template to everybody in a CSV file",
        {200: ("Stored to be sent, or looked at in a dry run.", answers.Broadcast)},
        content="multipart/form-data",
        schema=_form(fields),
        examples={
            "a text": {"file": _SHEET, "message": "Hello {{name}}", "on_invalid": "skip"},
            "a look at a template": {
                "file": _SHEET,
                "template_name": "hello_world",
                "duplicates": "drop",
                "on_invalid": "skip",
                "dry_run": True,
            },
        },
    )


def _form(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A form with a file, and other fields."""
    properties = {"file": {"type": "string", "format": "binary"}, **fields}
    for name, schema in fields.items():
        if schema.get("type") == "string" and "examples" not in schema:
            # Empty is left out; without an example the page would fill it with "string".
            properties[name] = {**schema, "examples": [""]}
    return {"type": "object", "required": ["file"], "properties": properties}


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
        examples={
            "a text": {"to": _PHONE, "type": "text", "text": {"body": "Hello"}},
            "a text to many": {"to": [_PHONE], "type": "text", "text": {"body": "Hello"}, "use_queue": False},
            "a mark": {"status": "read", "message_id": "wamid.HBgNNTIxNTU1MDAwMTExMRUCABIYAA=="},
        },
    )


def _tasks() -> Iterator[Operation]:
    found = {200: ("How it stands.", answers.TaskState), 404: _NO_TASK[0]}
    yield Operation("GET", "/api/task-status/{task_id}", "tasks", "How a task stands", found)
    yield Operation("GET", "/api/tasks/{task_id}", "tasks", "How a task stands", found)
    yield Operation(
        "GET",
        "/api/tasks",
        "tasks",
        "All tasks, the newest first",
        {200: ("A page of them.", answers.TaskPage)},
        query=ListQuery,
    )
    yield Operation(
        "GET",
        "/api/tasks/{task_id}/messages",
        "tasks",
        "What became of each recipient",
        {200: ("A page of them; all with another format.", answers.MessagePage), 404: _NO_TASK[0]},
        query=MessagesQuery,
        raw={200: [kind for name, kind in FORMATS.items() if name != "json"]},
    )
    yield Operation(
        "POST",
        "/api/tasks/{task_id}/cancel",
        "tasks",
        "Take back what has not left",
        {200: ("What was taken back.", answers.Cancelled), 404: _NO_TASK[0]},
    )
    yield Operation(
        "POST",
        "/api/tasks/{task_id}/retry",
        "tasks",
        "Send anew what failed",
        {200: ("What is sent anew.", answers.Retried), 404: _NO_TASK[0]},
        request=RetryRequest,
        bodiless=True,
        examples={"all that failed": {}},
    )


def _dead_letters() -> Iterator[Operation]:
    unknown = ("No message has this id.", answers.Refusal)
    yield Operation(
        "GET",
        "/api/dead-letters",
        "dead letters",
        "Messages that failed for good, those that failed last first",
        {200: ("A page of them.", answers.DeadLetterPage)},
        query=DeadQuery,
    )
    yield Operation(
        "GET",
        "/api/dead-letters/{message_id}",
        "dead letters",
        "All that is known of one: its message, its attempts, what to do",
        {200: ("It, or how it stands by now.", answers.DeadLetterDetails), 404: unknown},
    )
    yield Operation(
        "POST",
        "/api/dead-letters/{message_id}/retry",
        "dead letters",
        "Send one anew",
        {200: ("It is queued again, or there was nothing to do.", answers.Revived), 404: unknown},
    )
    yield Operation(
        "POST",
        "/api/dead-letters/retry",
        "dead letters",
        "Send many anew",
        {200: ("How many are queued again.", answers.RevivedMany)},
        request=ReviveRequest,
        examples={"those of one error": {"filter": {"name": "undeliverable"}, "limit": 100}},
    )


def _suppressions() -> Iterator[Operation]:
    path, tag = "/api/suppressions/{contact}", "suppressions"
    none = ("It is not suppressed.", answers.Refusal)
    stands = ("How it stands.", answers.SuppressionState)
    yield Operation(
        "GET",
        "/api/suppressions",
        tag,
        "Everybody whom broadcasts pass over",
        {200: ("A page of them.", answers.SuppressionPage)},
        query=SuppressionsQuery,
    )
    yield Operation(
        "POST",
        "/api/suppressions",
        tag,
        "Have broadcasts pass over a list of people",
        {200: ("They are.", answers.SuppressedMany)},
        request=SuppressManyRequest,
        examples={
            "a list": {
                "contacts": [_PHONE, {"contact": "US.13491208655302741918", "since": "2026-01-31T10:00:00Z"}],
                "note": "from the old system",
            }
        },
    )
    yield Operation(
        "GET", path, tag, "Whether, and why, broadcasts pass over somebody", {200: stands, 404: none}
    )
    yield Operation(
        "PUT",
        path,
        tag,
        "Have broadcasts pass over somebody",
        {200: stands},
        request=SuppressRequest,
        bodiless=True,
        examples={"an opt-out": {"reason": "opted_out", "note": "asked for by phone"}},
    )
    yield Operation("DELETE", path, tag, "Have broadcasts reach somebody again", {200: stands, 404: none})


def _conversations() -> Iterator[Operation]:
    nothing = ("Nothing is known of it.", answers.Refusal)
    yield Operation(
        "GET",
        "/api/messages",
        "messages",
        "A message's whole life, by Meta's id of it or by ours",
        {200: ("All that is known.", answers.MessageLife), 404: nothing},
        query=MessageQuery,
    )
    yield Operation(
        "GET",
        "/api/conversations",
        "conversations",
        "Conversations, those in which something was said last first",
        {200: ("A page of them.", answers.ConversationPage)},
        query=ConversationsQuery,
    )
    yield Operation(
        "GET",
        "/api/conversations/{contact}/messages",
        "conversations",
        "What was said with a contact, in both directions",
        {200: ("A page of it.", answers.ThreadPage)},
        query=ThreadQuery,
    )
    marks = {
        200: ("Meta knows.", answers.Marked),
        404: ("The contact has written nothing that is known.", answers.Refusal),
        502: ("Meta gave no answer, or refused.", answers.Refusal),
    }
    for word, what in (("read", "Mark as read what a contact wrote"), ("typing", "Show that one writes")):
        yield Operation(
            "POST",
            f"/api/conversations/{{contact}}/{word}",
            "conversations",
            what,
            marks,
            request=MarkRequest,
            bodiless=True,
            examples={"the last conversation": {}},
        )
    yield Operation(
        "GET",
        "/api/contacts/{contact}",
        "contacts",
        "All that is known of a contact",
        {200: ("It.", answers.ContactTold), 404: nothing},
    )
    yield Operation(
        "DELETE",
        "/api/contacts/{contact}",
        "contacts",
        "Erase all that is kept of a contact",
        {202: ("It will be; the request is durable.", answers.ErasureAsked), 404: nothing},
    )
    yield Operation(
        "GET",
        "/api/erasures/{erasure}",
        "contacts",
        "Whether a contact is erased",
        {
            200: ("How the request stands.", answers.ErasureState),
            404: ("There is none of this id, or it was done over 35 days ago.", answers.Refusal),
        },
    )


def _media() -> Iterator[Operation]:
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
            502: refused[502],
        },
        content="multipart/form-data",
        schema=_form({"type": _TEXT, "phone_number_id": _TEXT}),
        examples={"a text file": {"file": "Tea is hot.", "type": "text/plain"}},
    )
    yield Operation(
        "GET",
        "/api/media/{media_id}",
        "media",
        "What Meta knows of a file",
        {200: ("Its address, which Meta keeps for five minutes.", answers.MediaInfo), **refused},
        query=MediaQuery,
    )
    yield Operation(
        "DELETE",
        "/api/media/{media_id}",
        "media",
        "Have Meta forget a file",
        {200: ("Done.", answers.Done), **refused},
        query=MediaQuery,
    )
    yield Operation(
        "GET",
        "/api/media/{media_id}/download",
        "media",
        "The bytes of a file",
        {200: ("The bytes.", None), **refused},
        query=MediaQuery,
        raw={200: ["*/*"]},
    )


def _resumptions() -> Iterator[Operation]:
    yield Operation(
        "POST",
        "/api/templates/resume",
        "templates",
        "Try a template anew whose messages wait because Meta had stopped it",
        {200: ("The numbers here that hold it, which may be none.", answers.Resumed)},
        request=ResumeTemplate,
        examples={"a template": {"template_name": "hello_world", "language": "es"}},
    )
    yield Operation(
        "POST",
        "/api/numbers/resume",
        "status",
        "End the pauses of numbers and of their broadcasts",
        {200: ("The numbers that go on.", answers.Resumed)},
        request=ResumeNumbers,
        bodiless=True,
        examples={"all of them": {}},
    )


def _hooks() -> Iterator[Operation]:
    unknown = ("There is no hook of this name.", answers.Refusal)
    yield Operation(
        "GET",
        "/api/hooks",
        "hooks",
        "Outside receivers of events: the relay, and the hooks",
        {200: ("How each stands.", answers.HookPage)},
    )
    yield Operation(
        "GET",
        "/api/hooks/{name}",
        "hooks",
        "How one stands",
        {200: ("How it stands.", answers.HookState), 404: unknown},
    )
    done = {200: ("How it stands by now.", answers.HookChanged), 404: unknown}
    yield Operation("POST", "/api/hooks/{name}/pause", "hooks", "Have it get nothing for now", done)
    yield Operation(
        "POST", "/api/hooks/{name}/resume", "hooks", "End a pause, or have it tried at once", done
    )
    yield Operation(
        "POST",
        "/api/hooks/{name}/replay",
        "hooks",
        "Have it go on from another position, back or forward",
        {200: ("Where it goes on.", answers.HookReplayed), 404: unknown},
        query=ReplayQuery,
    )


def _events() -> Iterator[Operation]:
    yield Operation(
        "GET",
        "/api/events",
        "events",
        "The event log, by page",
        {200: ("A page, which may be empty before the end.", answers.EventPage)},
        query=EventsQuery,
    )
    yield Operation(
        "GET",
        "/api/events/stream",
        "events",
        "The event log as server-sent events, which do not end",
        {200: ("The stream.", None)},
        query=StreamQuery,
        raw={200: ["text/event-stream"]},
    )
    yield Operation(
        "GET",
        "/api/subscribers",
        "events",
        "Who reads the event log, and how far each has come",
        {
            200: (
                "A page: the names, then the connections here without one.",
                answers.SubscriberPage,
            )
        },
        query=SubscribersQuery,
    )
    yield Operation(
        "DELETE",
        "/api/subscribers/{name}",
        "events",
        "Forget a name and its place",
        {200: ("Done.", answers.Done), 404: ("There is no such name.", answers.Refusal)},
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
    """A task's kind in a sentence."""
    what = {"interactive": "interactive message", "media": "file"}.get(kind, kind.replace("_", " "))
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
