"""Both kinds of ``interactive`` carousel: cards with pictures, cards with products (CLOUD_API.md 1.3,
CLOUD_API_2026.md 4).

Pure. All cards of a carousel are alike: what the first is, the others must be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from store.errors import Problem
from whatsapp.payloads_basic import MetaObject
from whatsapp.payloads_buttons import UrlButton
from whatsapp.payloads_catalog import ProductReference
from whatsapp.payloads_parts import (
    AnyHeader,
    Body,
    DocumentHeader,
    Headed,
    TextHeader,
    Words20,
    id_faults,
    repeats,
    tag_of,
)
from whatsapp.validate import Checked

__all__ = ["CarouselMessage"]

_MAX_LINE_BREAKS = 2


class CardBody(MetaObject, frozen=True):
    """The text on a card."""

    text: Annotated[str, Meta(min_length=1, max_length=160)]

    def rules(self) -> Iterator[Problem]:
        if (breaks := self.text.count("\n")) > _MAX_LINE_BREAKS:
            yield "text", f"{breaks} line breaks, at most {_MAX_LINE_BREAKS}"


class QuickReply(MetaObject, frozen=True):
    """What a card's button says, and the id that comes back. One page of Meta's allows the id 20 characters,
    which seems a slip (CLOUD_API.md 8)."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    title: Words20


class QuickReplyButton(MetaObject, frozen=True):
    """One of a card's ``buttons``."""

    type: Literal["quick_reply"]
    quick_reply: QuickReply


class MediaCardAction(MetaObject, frozen=True):
    """A card's buttons: one that opens a page, or those that answer."""

    name: Literal["cta_url"] | None = None
    parameters: UrlButton | None = None
    buttons: Annotated[list[QuickReplyButton], Meta(min_length=1)] | None = None

    @property
    def makeup(self) -> tuple[str, int] | None:
        """What must be alike on all cards; None where it is neither of the two."""
        named = self.name is not None or self.parameters is not None
        if (self.buttons is not None) == named:
            return None
        return ("cta_url", 1) if self.buttons is None else ("quick_reply", len(self.buttons))

    def rules(self) -> Iterator[Problem]:
        buttons = self.buttons
        if self.makeup is None:
            yield "", "needs buttons, or cta_url as its name with parameters, and not both"
        elif buttons is not None:
            ids = [
                (f"buttons[{n}].quick_reply.id", button.quick_reply.id) for n, button in enumerate(buttons)
            ]
            yield from id_faults(ids)
        elif self.name is None:
            yield "name", "is required: cta_url"
        elif self.parameters is None:
            yield "parameters", "is required"


class Card(MetaObject, frozen=True, tag_field="type"):
    """One of ``cards``."""

    card_index: Annotated[int, Meta(ge=0, le=9)]


class MediaCard(Card, frozen=True, tag="cta_url"):
    """A picture or a film with buttons; the type stays ``cta_url`` where they are quick replies."""

    header: AnyHeader
    action: MediaCardAction
    body: CardBody | None = None

    def rules(self) -> Iterator[Problem]:
        if isinstance(self.header, TextHeader | DocumentHeader):
            yield "header.type", "must be image or video"


class ProductCard(Card, frozen=True, tag="product"):
    """A product."""

    action: ProductReference


class CarouselAction(MetaObject, frozen=True):
    """Two to ten cards of one kind."""

    cards: Annotated[list[MediaCard | ProductCard], Meta(min_length=2, max_length=10)]

    def rules(self) -> Iterator[Problem]:
        found: list[Checked] = [*self.cards]
        cards = [(f"cards[{number}]", card) for number, card in enumerate(found) if isinstance(card, Card)]
        yield from repeats((f"{path}.card_index", card.card_index) for path, card in cards)
        for path, card in cards[1:]:
            for where, problem in _unlike(card, cards[0][1]):
                yield f"{path}.{where}", f"{problem} {cards[0][0]}"


def _unlike(card: Card, first: Card) -> Iterator[Problem]:
    """What a card has otherwise than the first."""
    if type(card) is not type(first):
        yield "type", f"must be {tag_of(first)}, as that of"
    elif isinstance(card, MediaCard) and isinstance(first, MediaCard):
        makeup = card.action.makeup
        if makeup and first.action.makeup and makeup != first.action.makeup:
            yield "action", "must have buttons of the same kind and number as"
    elif isinstance(card, ProductCard) and isinstance(first, ProductCard):
        if card.action.catalog_id != first.action.catalog_id:
            yield "action.catalog_id", "must be that of"


class CarouselMessage(Headed, frozen=True, tag="carousel"):
    """Cards to leaf through."""

    headers = ()
    body: Body
    action: CarouselAction

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if self.footer is not None:
            yield "footer", "does not go with type carousel"
