"""Meta's ``interactive`` object: one of its kinds (CLOUD_API.md 1.3, CLOUD_API_2026.md 4).

Pure. Owns calls and orders, and the list of all kinds; the others are in ``payloads_buttons``,
``payloads_catalog``, ``payloads_carousel`` and ``payloads_flow``. A kind that is not among them is passed on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from whatsapp.payloads_basic import MetaObject
from whatsapp.payloads_buttons import ButtonMessage, CtaUrlMessage, ListMessage, LocationRequest
from whatsapp.payloads_carousel import CarouselMessage
from whatsapp.payloads_catalog import CatalogMessage, ProductListMessage, ProductMessage
from whatsapp.payloads_flow import AddressMessage, ContactInfoRequest, FlowMessage
from whatsapp.payloads_parts import Body, InteractiveKind, Words20

__all__ = ["Interactive"]


# -- calls -------------------------------------------------------------------------------------------------


class CallParameters(MetaObject, frozen=True):
    """What the button says, for how long it works, and what comes back with the call."""

    display_text: Words20 = "Call Now"
    ttl_minutes: Annotated[int, Meta(ge=1, le=43_200)] = 10_080
    payload: Annotated[str, Meta(max_length=512)] = ""


class CallAction(MetaObject, frozen=True):
    """What ``voice_call`` does."""

    name: Literal["voice_call"]
    parameters: CallParameters | None = None


class CallMessage(InteractiveKind, frozen=True, tag="voice_call"):
    """A button that calls us."""

    body: Body
    action: CallAction


class CallPermissionAction(MetaObject, frozen=True):
    """What ``call_permission_request`` does."""

    name: Literal["call_permission_request"]


class CallPermissionRequest(InteractiveKind, frozen=True, tag="call_permission_request"):
    """Asks whether we may call."""

    action: CallPermissionAction
    body: Body | None = None


# -- orders ------------------------------------------------------------------------------------------------


class Order(MetaObject, frozen=True, kw_only=True, tag_field="type"):
    """Payments are of their countries, and passed on unread."""

    action: dict[str, Any]
    header: Any = None
    body: Any = None
    footer: Any = None


class OrderDetails(Order, frozen=True, tag="order_details"):
    """What is to be paid."""


class OrderStatus(Order, frozen=True, tag="order_status"):
    """How it goes with what was ordered."""


Interactive = (
    ButtonMessage
    | ListMessage
    | CtaUrlMessage
    | FlowMessage
    | ProductMessage
    | ProductListMessage
    | CatalogMessage
    | LocationRequest
    | AddressMessage
    | ContactInfoRequest
    | CallMessage
    | CallPermissionRequest
    | CarouselMessage
    | OrderDetails
    | OrderStatus
)
"""``interactive``."""
