"""The parameters that fill a template (CLOUD_API.md 1.3, CLOUD_API_2026.md 5.1).

Pure. Which component takes which is in ``payloads_template``. A kind that is not here is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from msgspec import Meta

from store.errors import Problem
from whatsapp.payloads_basic import Filled, Location, Media, MetaObject
from whatsapp.payloads_catalog import ProductReference, ProductSections, section_faults
from whatsapp.payloads_parts import FileMedia

__all__ = [
    "ActionParameter",
    "AnyParameter",
    "CouponParameter",
    "CurrencyParameter",
    "DateTimeParameter",
    "DocumentParameter",
    "GifParameter",
    "ImageParameter",
    "LocationParameter",
    "OfferParameter",
    "Parameter",
    "PayloadParameter",
    "ProductParameter",
    "TextParameter",
    "TtlParameter",
    "VideoParameter",
]

_UNTAKEN = re.compile(r"[\n\r\t]| {5}")
_MAX_TTL = 43_200


class Parameter(MetaObject, frozen=True, kw_only=True, tag_field="type"):
    """One of ``parameters``. It has a name where the template was created with names."""

    parameter_name: Filled | None = None


# -- words -------------------------------------------------------------------------------------------------


class TextParameter(Parameter, frozen=True, tag="text"):
    """A text."""

    text: Filled

    def rules(self) -> Iterator[Problem]:
        if _UNTAKEN.search(self.text):
            yield "text", "must not hold a line break, a tab or more than 4 spaces in a row"


class Currency(MetaObject, frozen=True):
    """An amount of money; ``amount_1000`` is a thousand times that."""

    fallback_value: Filled
    code: Filled
    amount_1000: int


class CurrencyParameter(Parameter, frozen=True, tag="currency"):
    """An amount of money."""

    currency: Currency


class DateTime(MetaObject, frozen=True):
    """A time in words, which is what Meta shows."""

    fallback_value: Filled


class DateTimeParameter(Parameter, frozen=True, tag="date_time"):
    """A time."""

    date_time: DateTime


# -- headers -----------------------------------------------------------------------------------------------


class ImageParameter(Parameter, frozen=True, tag="image"):
    """A header's picture."""

    image: Media


class VideoParameter(Parameter, frozen=True, tag="video"):
    """A header's film."""

    video: Media


class DocumentParameter(Parameter, frozen=True, tag="document"):
    """A header's file."""

    document: FileMedia


class GifParameter(Parameter, frozen=True, tag="gif"):
    """A header's moving picture; marketing messages only."""

    gif: Media


class LocationParameter(Parameter, frozen=True, tag="location"):
    """A header's place."""

    location: Location


class ProductParameter(Parameter, frozen=True, tag="product"):
    """A header's product."""

    product: ProductReference


# -- buttons and the rest ----------------------------------------------------------------------------------


class PayloadParameter(Parameter, frozen=True, tag="payload"):
    """What comes back with the button. A quick reply takes less than a call."""

    payload: Annotated[str, Meta(min_length=1, max_length=512)]


class CouponParameter(Parameter, frozen=True, tag="coupon_code"):
    """What the button copies."""

    coupon_code: Annotated[str, Meta(min_length=1, max_length=20)]


class Action(MetaObject, frozen=True):
    """What a button that opens something opens: a flow, a catalogue, products, an order."""

    flow_token: Filled | None = None
    flow_action_data: dict[str, Any] | None = None
    thumbnail_product_retailer_id: Filled | None = None
    sections: ProductSections | None = None
    order_details: dict[str, Any] | None = None

    def rules(self) -> Iterator[Problem]:
        yield from section_faults(self.sections or ())


class ActionParameter(Parameter, frozen=True, tag="action"):
    """What the button opens."""

    action: Action


class TtlParameter(Parameter, frozen=True, tag="ttl_minutes"):
    """For how long a button that calls works: 1 to 43200 minutes, as a number or as text."""

    ttl_minutes: int | str

    def rules(self) -> Iterator[Problem]:
        digits = str(self.ttl_minutes)
        if not re.fullmatch("[0-9]{1,9}", digits) or not 1 <= int(digits) <= _MAX_TTL:
            yield "ttl_minutes", f"must be 1 to {_MAX_TTL}"


class Offer(MetaObject, frozen=True):
    """When an offer ends: milliseconds since 1970."""

    expiration_time_ms: Annotated[int, Meta(ge=10**12, extra={"must": "be in milliseconds since 1970"})]


class OfferParameter(Parameter, frozen=True, tag="limited_time_offer"):
    """When the offer ends."""

    limited_time_offer: Offer


AnyParameter = (
    TextParameter
    | CurrencyParameter
    | DateTimeParameter
    | ImageParameter
    | VideoParameter
    | DocumentParameter
    | GifParameter
    | LocationParameter
    | ProductParameter
    | PayloadParameter
    | CouponParameter
    | ActionParameter
    | TtlParameter
    | OfferParameter
)
