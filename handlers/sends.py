"""The table of the sending paths: of each its kind, the types of its body, and its composer.

Pure. A path is a line here; what is done with it is in ``sends_one.py`` and ``sends_many.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from handlers import requests as bodies
from handlers.options import ManyRequest, OneRequest
from whatsapp import compose
from whatsapp.compose import Composed
from whatsapp.compose_interactive import interactive, list_message, reply_buttons
from whatsapp.compose_template import template
from whatsapp.validate import Checked

__all__ = ["MANY", "ONE", "ManySend", "OneSend"]


@dataclass(frozen=True, slots=True)
class OneSend:
    """A path that addresses one recipient."""

    kind: str
    """The task's."""
    request: type[OneRequest]
    compose: Callable[[Any], Composed]
    """From the request."""


@dataclass(frozen=True, slots=True)
class ManySend:
    """A path that addresses many."""

    kind: str
    request: type[ManyRequest]
    recipient: type[Checked] | None
    """Of ``recipients``; None where there are ``phones`` and the same goes to all."""
    compose: Callable[[Any, Any], Composed]
    """From the request and a recipient."""


# -- composers, in the fields of the requests --------------------------------------------------------------


def _text(each: bodies.TextRequest) -> Composed:
    return compose.text(each.message, context=each.context_message_id)


def _template(each: bodies.TemplateRequest | bodies.BroadcastTemplate) -> Composed:
    return template(
        template_name=each.template_name,
        language=each.language,
        parameters=each.parameters,
        components=each.components,
    )


def _interactive(
    shape: bodies.InteractiveRequest | bodies.InteractiveRecipient | bodies.InteractiveForMany, body_text: str
) -> Composed:
    return interactive(
        body_text=body_text,
        header_type=shape.header_type,
        header_content=shape.header_content,
        footer_text=shape.footer_text,
        buttons=shape.buttons,
        button_text=shape.button_text,
        button_url=shape.button_url,
    )


def _button(each: bodies.ButtonRequest) -> Composed:
    return reply_buttons(
        each.body_text, each.buttons, each.header_type, each.header_content, each.footer_text
    )


def _list(shape: bodies.ListRequest | bodies.BulkList, body_text: str) -> Composed:
    return list_message(
        body_text=body_text,
        button_text=shape.button_text,
        sections=shape.sections,
        header_text=shape.header_text,
        footer_text=shape.footer_text,
    )


def _media(each: bodies.MediaRequest) -> Composed:
    return compose.media(
        each.type,
        media_id=each.media_id,
        id=each.id,
        link=each.link,
        caption=each.caption,
        filename=each.filename,
        context=each.context_message_id,
    )


def _bulk_button(common: bodies.BulkButton, each: bodies.ButtonRecipient) -> Composed:
    own = each.header_type or each.header_content != ""
    return reply_buttons(
        each.body_text or common.body_text,
        each.buttons or common.buttons,
        each.header_type if own else common.header_type,
        each.header_content if own else common.header_content,
        each.footer_text or common.footer_text,
    )


def _bulk_template(common: bodies.BulkTemplate, each: bodies.TemplateRecipient) -> Composed:
    own = each.parameters or each.components
    return template(
        template_name=each.template_name or common.template_name,
        language=each.language or common.language,
        parameters=each.parameters if own else common.parameters,
        components=each.components if own else common.components,
    )


# -- the table ---------------------------------------------------------------------------------------------

ONE: Mapping[str, OneSend] = {
    "/api/send-message": OneSend("text", bodies.TextRequest, _text),
    "/api/send-template": OneSend("template", bodies.TemplateRequest, _template),
    "/api/send-template-advanced": OneSend("template", bodies.TemplateRequest, _template),
    "/api/send-interactive": OneSend(
        "interactive", bodies.InteractiveRequest, lambda each: _interactive(each, each.body_text)
    ),
    "/api/send-button": OneSend("interactive", bodies.ButtonRequest, _button),
    "/api/send-list": OneSend("list", bodies.ListRequest, lambda each: _list(each, each.body_text)),
    "/api/send-location-request": OneSend(
        "location_request", bodies.LocationRequest, lambda each: compose.location_request(each.body_text)
    ),
    "/api/send-media": OneSend("media", bodies.MediaRequest, _media),
}

MANY: Mapping[str, ManySend] = {
    "/api/send-bulk": ManySend(
        "text", bodies.BulkRequest, bodies.TextRecipient, lambda _, each: compose.text(each.message)
    ),
    "/api/send-bulk-interactive": ManySend(
        "interactive",
        bodies.BulkRequest,
        bodies.InteractiveRecipient,
        lambda _, each: _interactive(each, each.body_text),
    ),
    "/api/send-personalized-broadcast": ManySend(
        "interactive",
        bodies.PersonalizedBroadcast,
        bodies.BodyRecipient,
        lambda common, each: _interactive(common, each.body_text),
    ),
    "/api/send-broadcast-interactive": ManySend(
        "interactive",
        bodies.BroadcastInteractive,
        None,
        lambda common, _: _interactive(common, common.body_text),
    ),
    "/api/send-bulk-button": ManySend("interactive", bodies.BulkButton, bodies.ButtonRecipient, _bulk_button),
    "/api/send-bulk-list": ManySend(
        "list", bodies.BulkList, bodies.BodyRecipient, lambda common, each: _list(common, each.body_text)
    ),
    "/api/send-bulk-template": ManySend(
        "template", bodies.BulkTemplate, bodies.TemplateRecipient, _bulk_template
    ),
    "/api/send-broadcast-template": ManySend(
        "template", bodies.BroadcastTemplate, None, lambda common, _: _template(common)
    ),
}
