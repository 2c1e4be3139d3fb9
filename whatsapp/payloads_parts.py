"""What the kinds of Meta's ``interactive`` object share: header, body, footer, ids (CLOUD_API.md 1.3,
CLOUD_API_2026.md 4).

Pure. Which kind takes which header is said here once, and checked by :class:`Headed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from store.errors import Problem
from whatsapp.payloads_basic import Media, MetaObject
from whatsapp.validate import Checked

__all__ = [
    "AnyHeader",
    "Body",
    "DocumentHeader",
    "FileMedia",
    "Footer",
    "Headed",
    "Header",
    "ImageHeader",
    "InteractiveKind",
    "LongBody",
    "TextHeader",
    "VideoHeader",
    "Words20",
    "id_faults",
    "repeats",
    "tag_of",
]

Words20 = Annotated[str, Meta(min_length=1, max_length=20)]
"""What stands on a button."""


def tag_of(kind: Checked | type[Checked]) -> str:
    """The ``type`` of an object, or of a type of objects."""
    return str(kind.__struct_config__.tag)


def repeats(values: Iterable[tuple[str, object]]) -> Iterator[Problem]:
    """Faults among (path, value) of which each may be there once."""
    first: dict[object, str] = {}
    for path, value in values:
        if (earlier := first.setdefault(value, path)) != path:
            yield path, f"is the same as {earlier}"


def id_faults(ids: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    """Faults among (path, id): each is there once, without spaces around it."""
    for path, id in ids:
        if id != id.strip():
            yield path, "must not begin or end with a space"
    yield from repeats(ids)


class FileMedia(Media, frozen=True):
    """A document in a header or a template's parameter, which has no caption."""

    filename: Annotated[str, Meta(min_length=1, max_length=240)] | None = None


# -- headers -----------------------------------------------------------------------------------------------


class Header(MetaObject, frozen=True, tag_field="type"):
    """Above the body: one of the types below."""


class TextHeader(Header, frozen=True, tag="text"):
    """A line without markdown."""

    text: Annotated[str, Meta(min_length=1, max_length=60)]


class ImageHeader(Header, frozen=True, tag="image"):
    """A picture."""

    image: Media


class VideoHeader(Header, frozen=True, tag="video"):
    """A film."""

    video: Media


class DocumentHeader(Header, frozen=True, tag="document"):
    """A file."""

    document: FileMedia


AnyHeader = TextHeader | ImageHeader | VideoHeader | DocumentHeader


# -- body and footer ---------------------------------------------------------------------------------------


class Body(MetaObject, frozen=True):
    """The text of an interactive message."""

    text: Annotated[str, Meta(min_length=1, max_length=1024)]


class LongBody(MetaObject, frozen=True):
    """The text above a list."""

    text: Annotated[str, Meta(min_length=1, max_length=4096)]


class Footer(MetaObject, frozen=True):
    """The small line below."""

    text: Annotated[str, Meta(min_length=1, max_length=60)]


# -- kinds -------------------------------------------------------------------------------------------------


class InteractiveKind(MetaObject, frozen=True, kw_only=True, tag_field="type"):
    """One kind of ``interactive``."""

    footer: Footer | None = None


class Headed(InteractiveKind, frozen=True, kw_only=True):
    """A kind of which it is known which headers it takes: ``headers``."""

    headers: ClassVar[tuple[type[Header], ...]] = (TextHeader, ImageHeader, VideoHeader, DocumentHeader)
    header: AnyHeader | None = None

    def rules(self) -> Iterator[Problem]:
        if isinstance(self.header, Header) and not isinstance(self.header, self.headers):
            if self.headers:
                yield "header.type", f"must be {' or '.join(map(tag_of, self.headers))}"
            else:
                yield "header", f"does not go with type {tag_of(self)}"
