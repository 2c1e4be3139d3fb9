"""Interactive messages about products of a catalogue, and what a template says of them (CLOUD_API.md 1.3).

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from store.errors import Problem
from whatsapp.payloads_basic import Filled, MetaObject
from whatsapp.payloads_parts import Body, Headed, InteractiveKind, TextHeader

__all__ = [
    "MAX_PRODUCTS",
    "CatalogMessage",
    "ProductListMessage",
    "ProductMessage",
    "ProductReference",
    "ProductSection",
    "ProductSections",
    "section_faults",
]

MAX_PRODUCTS = 30
"""Over all sections."""


class ProductReference(MetaObject, frozen=True):
    """A product of a catalogue."""

    catalog_id: Filled
    product_retailer_id: Filled


class ProductItem(MetaObject, frozen=True):
    """A product of the catalogue that is named above it."""

    product_retailer_id: Filled


class ProductSection(MetaObject, frozen=True):
    """Some products under a title."""

    product_items: Annotated[list[ProductItem], Meta(min_length=1)]
    title: Annotated[str, Meta(max_length=24)] = ""


ProductSections = Annotated[list[ProductSection], Meta(min_length=1, max_length=10)]


def section_faults(sections: Sequence[ProductSection]) -> Iterator[Problem]:
    """Faults over all ``sections``, which stand beside the path's end."""
    if (total := sum(len(section.product_items) for section in sections)) > MAX_PRODUCTS:
        yield "sections", f"{total} products in total, at most {MAX_PRODUCTS}"
    for number, section in enumerate(sections):
        if len(sections) > 1 and not section.title:
            yield f"sections[{number}].title", "is required where there are several sections"


class ProductMessage(Headed, frozen=True, tag="product"):
    """One product."""

    headers = ()
    action: ProductReference
    body: Body | None = None


class ProductListAction(MetaObject, frozen=True):
    """Products of one catalogue."""

    catalog_id: Filled
    sections: ProductSections

    def rules(self) -> Iterator[Problem]:
        yield from section_faults(self.sections)


class ProductListMessage(Headed, frozen=True, tag="product_list"):
    """Several products."""

    headers = (TextHeader,)
    body: Body
    action: ProductListAction

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if self.header is None:
            yield "header", "is required: a text"


class CatalogParameters(MetaObject, frozen=True):
    """Whose picture stands for the catalogue."""

    thumbnail_product_retailer_id: Filled | None = None


class CatalogAction(MetaObject, frozen=True):
    """What ``catalog_message`` does."""

    name: Literal["catalog_message"]
    parameters: CatalogParameters | None = None


class CatalogMessage(InteractiveKind, frozen=True, tag="catalog_message"):
    """The whole catalogue."""

    body: Body
    action: CatalogAction
