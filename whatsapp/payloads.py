"""Meta's message object as a whole: to whom, of which kind, in answer to what (CLOUD_API.md 1.1,
CLOUD_API_2026.md 3).

Pure. The types here and in ``payloads_basic``, ``payloads_interactive`` and ``payloads_template`` are what is
checked before a message is stored, and what the API's description is made of. An object that passes is sent
as it came: fields and kinds that Meta added since are Meta's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from store.errors import Problem
from whatsapp.identity import parse_address
from whatsapp.payloads_basic import (
    Audio,
    Contact,
    Document,
    Filled,
    Image,
    Location,
    MetaObject,
    Pin,
    Reaction,
    Sticker,
    Text,
    Video,
    Wamid,
)
from whatsapp.payloads_interactive import Interactive
from whatsapp.payloads_template import Template
from whatsapp.validate import GROWS, Findings, validate

__all__ = ["KINDS", "Content", "Context", "MarketingMessage", "Message", "ReadMark", "check_message"]

Kind = Literal[
    "text",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contacts",
    "reaction",
    "pin",
    "interactive",
    "template",
]
KINDS: tuple[str, ...] = Kind.__args__  # type: ignore[attr-defined]
_IN_GROUPS = frozenset({"text", "image", "video", "audio", "document", "sticker", "template", "pin"})
"""What groups take (CLOUD_API_2026.md 4)."""


class Context(MetaObject, frozen=True):
    """The message that this one quotes."""

    message_id: Wamid


class Content(MetaObject, frozen=True):
    """What is said, without to whom: exactly one kind."""

    type: Kind = "text"
    text: Text | None = None
    image: Image | None = None
    video: Video | None = None
    audio: Audio | None = None
    document: Document | None = None
    sticker: Sticker | None = None
    location: Location | None = None
    contacts: Annotated[list[Contact], Meta(min_length=1, max_length=257)] | None = None
    reaction: Reaction | None = None
    pin: Pin | None = None
    interactive: Interactive | None = None
    template: Template | None = None
    context: Context | None = None

    def rules(self) -> Iterator[Problem]:
        if getattr(self, self.type) is None:
            yield self.type, f"is required where type is {self.type}"
        for kind in KINDS:
            if kind != self.type and getattr(self, kind) is not None:
                yield kind, f"does not go with type {self.type}"
        if self.type == "reaction" and self.context is not None:
            yield "context", "does not go with a reaction, which names its message itself"


class Message(Content, frozen=True):
    """The body of ``POST /{phone-number-id}/messages``."""

    messaging_product: Literal["whatsapp"] = "whatsapp"
    recipient_type: Literal["individual", "group"] = "individual"
    to: Filled | None = None
    """A phone, or the id of a group. It wins over ``recipient``."""
    recipient: Filled | None = None
    """A user id. That a template for authentication goes to none (131062) only Meta can tell."""
    recipient_identity_key_hash: Filled | None = None
    message_activity_sharing: bool | None = None
    product_policy: Annotated[Literal["CLOUD_API_FALLBACK", "STRICT"], GROWS] | None = None
    category: Annotated[Literal["utility", "authentication"], GROWS] | None = None
    biz_opaque_callback_data: Any = None

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if self.biz_opaque_callback_data is not None:
            # The lane writes its own behind the message, and knows by it which attempt a status is about.
            yield "biz_opaque_callback_data", "is the gateway's own: use callback_data"
        if self.recipient_type == "group":
            yield from self._group_faults()
        else:
            yield from self._person_faults()

    def _group_faults(self) -> Iterator[Problem]:
        if self.to is None:
            yield "to", "is required: the id of the group"
        if self.recipient is not None:
            yield "recipient", "does not go with a group"
        if self.type not in _IN_GROUPS:
            yield "type", f"{self.type} does not go to a group"

    def _person_faults(self) -> Iterator[Problem]:
        if self.to is None and self.recipient is None:
            yield "to", "is required, or recipient"
        if self.to is not None and parse_address(self.to) is None:
            yield "to", "must be a phone in international digits, or a user id"
        if self.recipient is not None:
            address = parse_address(self.recipient)
            if address is None or not address.user_id:
                yield "recipient", "must be a user id"
        if self.type == "pin":
            yield "type", "pin goes to groups only"


class MarketingMessage(Message, frozen=True):
    """The body of ``POST /{phone-number-id}/marketing_messages``: a template (CLOUD_API_2026.md 6.1)."""

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if self.type != "template":
            yield "type", "must be template"


class Typing(MetaObject, frozen=True):
    """Shows that an answer is being written, until it comes or for 25 seconds."""

    type: Annotated[Literal["text"], GROWS]


class ReadMark(MetaObject, frozen=True):
    """The body, on the path of messages, that marks one and those before it as read (CLOUD_API.md 1.3)."""

    message_id: Wamid
    """The person's message; nobody is addressed otherwise."""
    messaging_product: Literal["whatsapp"] = "whatsapp"
    status: Literal["read"] = "read"
    typing_indicator: Typing | None = None


def check_message(value: Mapping[str, Any]) -> Findings:
    """What is wrong with a message object of Meta's, and what is not known of it."""
    findings = Findings()
    validate(value, Message, findings)
    return findings
