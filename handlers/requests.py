"""The bodies of POSTs (contract.md, Messages and Tasks): their fields, types and defaults.

Pure. Types only: limits, and what has to go with what, are told by the composers and the payload types
(``whatsapp/compose*.py``, ``whatsapp/payloads*.py``), so that all faults of a request are told at once. An
empty text is an absent one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from handlers.options import Items, ManyRequest, OneRequest, Parameters, Phone, Time
from handlers.parameters import DeadFields
from store.errors import Problem
from whatsapp.compose_interactive import Button, ListSection
from whatsapp.validate import Checked

__all__ = [
    "STAND_INS",
    "BodyRecipient",
    "BroadcastInteractive",
    "BroadcastTemplate",
    "BulkButton",
    "BulkList",
    "BulkRequest",
    "BulkTemplate",
    "ButtonRecipient",
    "ButtonRequest",
    "InteractiveForMany",
    "InteractiveRecipient",
    "InteractiveRequest",
    "ListRequest",
    "LocationRequest",
    "MarkRequest",
    "MediaRequest",
    "PersonalizedBroadcast",
    "Recipient",
    "ResumeNumbers",
    "ResumeTemplate",
    "RetryRequest",
    "ReviveRequest",
    "SuppressManyRequest",
    "SuppressOne",
    "SuppressRequest",
    "TemplateRecipient",
    "TemplateRequest",
    "TextRecipient",
    "TextRequest",
]

SuppressionReason = Literal["opted_out", "blocked"]
"""``blocked``: only an operator ends it."""

STAND_INS: Mapping[str, Any] = {
    "phone": "10000000000",
    "phones": [None],
    "recipients": [None],
    "message": "x",
    "body_text": "x",
    "button_text": "x",
    "buttons": [{"id": "x", "title": "x"}],
    "sections": [{"title": "x", "rows": [{"id": "x", "title": "x"}]}],
    "template_name": "x",
    "type": "image",
}
"""What stands for a required field at fault, so that the others can be looked at."""


# -- one recipient -----------------------------------------------------------------------------------------


class TextRequest(OneRequest, frozen=True, kw_only=True):
    """``/api/send-message``."""

    message: str
    context_message_id: str = ""


class TemplateRequest(OneRequest, frozen=True, kw_only=True):
    """``/api/send-template``, ``/api/send-template-advanced``."""

    template_name: str
    language: str = "es"
    parameters: Parameters = field(default_factory=list)
    components: list[Any] = field(default_factory=list)


class HeaderRequest(OneRequest, frozen=True, kw_only=True):
    """What may stand above and below the body."""

    body_text: str
    header_type: str = ""
    header_content: str | int = ""
    footer_text: str = ""


class InteractiveRequest(HeaderRequest, frozen=True, kw_only=True):
    """``/api/send-interactive``: a URL button, reply buttons, or neither."""

    button_text: str = ""
    button_url: str = ""
    buttons: list[Button] = field(default_factory=list)


class ButtonRequest(HeaderRequest, frozen=True, kw_only=True):
    """``/api/send-button``."""

    buttons: list[Button]


class ListRequest(OneRequest, frozen=True, kw_only=True):
    """``/api/send-list``."""

    body_text: str
    button_text: str
    sections: list[ListSection]
    header_text: str = ""
    footer_text: str = ""


class LocationRequest(OneRequest, frozen=True, kw_only=True):
    """``/api/send-location-request``."""

    body_text: str


class MediaRequest(OneRequest, frozen=True, kw_only=True):
    """``/api/send-media``."""

    type: Literal["image", "video", "audio", "document", "sticker"]
    media_id: str | int = ""
    id: str | int = ""
    link: str = ""
    caption: str = ""
    filename: str = ""
    context_message_id: str = ""


# -- many recipients ---------------------------------------------------------------------------------------


class BulkRequest(ManyRequest, frozen=True, kw_only=True):
    """``/api/send-bulk``, ``/api/send-bulk-interactive``: each with a message of its own."""

    recipients: Items


class InteractiveForMany(ManyRequest, frozen=True, kw_only=True):
    """What is the same for all."""

    header_type: str = ""
    header_content: str | int = ""
    footer_text: str = ""
    button_text: str = ""
    button_url: str = ""
    buttons: list[Button] = field(default_factory=list)


class PersonalizedBroadcast(InteractiveForMany, frozen=True, kw_only=True):
    """``/api/send-personalized-broadcast``."""

    recipients: Items


class BroadcastInteractive(InteractiveForMany, frozen=True, kw_only=True):
    """``/api/send-broadcast-interactive``."""

    phones: Items
    body_text: str


class BulkButton(ManyRequest, frozen=True, kw_only=True):
    """``/api/send-bulk-button``: what stands here is for those who have none of their own."""

    recipients: Items
    body_text: str = ""
    buttons: list[Button] = field(default_factory=list)
    header_type: str = ""
    header_content: str | int = ""
    footer_text: str = ""


class BulkList(ManyRequest, frozen=True, kw_only=True):
    """``/api/send-bulk-list``."""

    recipients: Items
    button_text: str
    sections: list[ListSection]
    header_text: str = ""
    footer_text: str = ""


class BulkTemplate(ManyRequest, frozen=True, kw_only=True):
    """``/api/send-bulk-template``: what stands here is for those who have none of their own."""

    recipients: Items
    template_name: str = ""
    language: str = "es"
    parameters: Parameters = field(default_factory=list)
    components: list[Any] = field(default_factory=list)


class BroadcastTemplate(ManyRequest, frozen=True, kw_only=True):
    """``/api/send-broadcast-template``."""

    phones: Items
    template_name: str
    language: str = "es"
    parameters: Parameters = field(default_factory=list)
    components: list[Any] = field(default_factory=list)


# -- one of many -------------------------------------------------------------------------------------------


class Recipient(Checked, frozen=True, kw_only=True):
    """One of ``recipients``."""

    phone: Phone


class TextRecipient(Recipient, frozen=True, kw_only=True):
    """With a text of its own."""

    message: str


class BodyRecipient(Recipient, frozen=True, kw_only=True):
    """With a body of its own."""

    body_text: str


class ButtonRecipient(Recipient, frozen=True, kw_only=True):
    """With what differs from the common fields."""

    body_text: str = ""
    buttons: list[Button] = field(default_factory=list)
    header_type: str = ""
    header_content: str | int = ""
    footer_text: str = ""


class InteractiveRecipient(BodyRecipient, frozen=True, kw_only=True):
    """With an interactive message of its own."""

    header_type: str = ""
    header_content: str | int = ""
    footer_text: str = ""
    button_text: str = ""
    button_url: str = ""
    buttons: list[Button] = field(default_factory=list)


class TemplateRecipient(Recipient, frozen=True, kw_only=True):
    """With what differs from the common fields."""

    template_name: str = ""
    language: str = ""
    parameters: Parameters = field(default_factory=list)
    components: list[Any] = field(default_factory=list)


# -- tasks -------------------------------------------------------------------------------------------------


class ReviveRequest(Checked, frozen=True):
    """Body of ``POST /api/dead-letters/retry``."""

    message_ids: Annotated[list[str], Meta(min_length=1, max_length=10_000)] | None = None
    filter: DeadFields | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] | None = None

    def rules(self) -> Iterable[Problem]:
        """Which ones has to be said, and in one way."""
        if (self.message_ids is None) == (self.filter is None):
            yield ("message_ids", "name them, or say which by filter, and not both")
        if self.limit is not None and self.filter is None:
            yield ("limit", "goes with filter")


class SuppressRequest(Checked, frozen=True, kw_only=True):
    """Body of ``PUT /api/suppressions/<contact>``."""

    reason: SuppressionReason = "opted_out"
    note: Annotated[str, Meta(max_length=200)] = ""
    since: Time | None = None


class SuppressOne(Checked, frozen=True, kw_only=True):
    """One of a list to be suppressed, where there is more to say than who."""

    contact: str | int
    note: Annotated[str, Meta(max_length=200)] = ""
    since: Time | None = None


class SuppressManyRequest(Checked, frozen=True, kw_only=True):
    """Body of ``POST /api/suppressions``."""

    contacts: Items
    reason: SuppressionReason = "opted_out"
    note: Annotated[str, Meta(max_length=200)] = ""


class RetryRequest(Checked, frozen=True):
    """Body of ``POST /api/tasks/<id>/retry``."""

    message_ids: Annotated[list[str], Meta(min_length=1, max_length=10_000)] | None = None


# -- what is held ------------------------------------------------------------------------------------------


class MarkRequest(Checked, frozen=True):
    """Body of ``POST /api/conversations/<contact>/read`` and ``/typing``."""

    phone_number_id: Annotated[str, Meta(max_length=100)] = ""
    """The number of ours whose conversation it is; that in which the contact wrote last unless named."""


class ResumeTemplate(Checked, frozen=True):
    """Body of ``POST /api/templates/resume``."""

    template_name: Annotated[str, Meta(min_length=1, max_length=512)]
    language: Annotated[str, Meta(min_length=1, max_length=100)] = "es"


class ResumeNumbers(Checked, frozen=True):
    """Body of ``POST /api/numbers/resume``."""

    phone_number_id: str | int = ""
