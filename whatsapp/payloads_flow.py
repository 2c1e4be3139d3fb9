"""Interactive messages that ask for data: a flow, an Indian address, the phone number (CLOUD_API.md 1.3,
CLOUD_API_2026.md 2.6, 4).

Pure. The first two are answered by an ``nfm_reply``, the last by ``contacts``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import Meta

from store.errors import Problem
from whatsapp.payloads_basic import Filled, MetaObject
from whatsapp.payloads_parts import Body, Headed, InteractiveKind
from whatsapp.validate import GROWS

__all__ = ["AddressMessage", "ContactInfoRequest", "FlowMessage"]

# What is shown as an emoji unless told otherwise (Unicode's Emoji_Presentation), and what tells so.
_EMOJI = re.compile(
    "[\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab"
    "\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c"
    "\u274e\u2753-\u2755\u2757\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55\ufe0f"
    "\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]"
)


# -- flow --------------------------------------------------------------------------------------------------


class FlowPayload(MetaObject, frozen=True):
    """The screen a flow begins with, and what the screen is given."""

    screen: Filled | None = None
    data: Annotated[dict[str, Any], Meta(min_length=1)] | None = None


class FlowParameters(MetaObject, frozen=True):
    """Which flow, and how it begins."""

    flow_message_version: Filled
    flow_cta: Annotated[str, Meta(min_length=1, max_length=30)]
    """What stands on the button."""
    flow_id: Filled | None = None
    flow_name: Filled | None = None
    mode: Annotated[Literal["published", "draft"], GROWS] = "published"
    flow_token: Filled = "unused"
    flow_action: Annotated[Literal["navigate", "data_exchange"], GROWS] = "navigate"
    flow_action_payload: FlowPayload | None = None

    def rules(self) -> Iterator[Problem]:
        if (self.flow_id is None) == (self.flow_name is None):
            yield "", "needs a flow_id or a flow_name, and not both"
        if _EMOJI.search(self.flow_cta):
            yield "flow_cta", "must not hold an emoji"


class FlowAction(MetaObject, frozen=True):
    """What ``flow`` does."""

    name: Literal["flow"]
    parameters: FlowParameters


class FlowMessage(Headed, frozen=True, tag="flow"):
    """A button that opens a flow."""

    body: Body
    action: FlowAction


# -- address -----------------------------------------------------------------------------------------------


class SavedAddress(MetaObject, frozen=True):
    """An address to choose."""

    id: Filled
    value: dict[str, Any]


class AddressParameters(MetaObject, frozen=True):
    """Of which country, and what is known already."""

    country: Filled
    values: dict[str, Any] | None = None
    saved_addresses: list[SavedAddress] | None = None
    validation_errors: dict[str, Any] | None = None


class AddressAction(MetaObject, frozen=True):
    """What ``address_message`` does."""

    name: Literal["address_message"]
    parameters: AddressParameters


class AddressMessage(Headed, frozen=True, tag="address_message"):
    """Asks for a postal address; India only."""

    body: Body
    action: AddressAction


# -- phone number ------------------------------------------------------------------------------------------


class ContactInfoAction(MetaObject, frozen=True):
    """What ``request_contact_info`` does."""

    name: Literal["request_contact_info"]


class ContactInfoRequest(InteractiveKind, frozen=True, tag="request_contact_info"):
    """Asks for the phone number of someone known by a user id."""

    body: Body
    action: ContactInfoAction
