"""Meta's message objects that are neither interactive nor templates, with their limits (CLOUD_API.md 1.3,
CLOUD_API_2026.md 4; of two limits the looser).

Pure. Each type is the object below the key of its kind; what it refuses, Meta would refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, field

from store.errors import Problem
from whatsapp.validate import Checked

__all__ = [
    "Audio",
    "Contact",
    "Document",
    "Filled",
    "HttpUrl",
    "Image",
    "Location",
    "Media",
    "MetaObject",
    "Pin",
    "Reaction",
    "Sticker",
    "Text",
    "Video",
    "Wamid",
]

Filled = Annotated[str, Meta(min_length=1)]
Wamid = Annotated[str, Meta(min_length=1, max_length=512)]
HttpUrl = Annotated[
    str,
    Meta(
        max_length=2000, pattern=r"^[hH][tT][tT][pP][sS]?://[^\s/]", extra={"must": "be an http or https URL"}
    ),
]
Caption = Annotated[str, Meta(max_length=1024)]


class MetaObject(Checked, frozen=True):
    """Anything of Meta's: what is not known of it goes to Meta as it came, with a word to the caller."""

    passes_on = True


class Text(MetaObject, frozen=True):
    """``text``."""

    body: Annotated[str, Meta(min_length=1, max_length=4096)]
    preview_url: bool = False


class Media(MetaObject, frozen=True):
    """A file: by the id that Meta gave it when it was uploaded, or by a link that Meta fetches."""

    id: Filled | None = None
    link: HttpUrl | None = None

    def rules(self) -> Iterator[Problem]:
        if (self.id is None) == (self.link is None):
            yield "", "needs an id or a link, and not both"


class Image(Media, frozen=True):
    """``image``."""

    caption: Caption = ""


class Video(Media, frozen=True):
    """``video``."""

    caption: Caption = ""


class Audio(Media, frozen=True):
    """``audio``; ``voice`` makes it a voice message, which needs OGG with OPUS."""

    voice: bool = False


class Document(Media, frozen=True):
    """``document``."""

    caption: Caption = ""
    filename: Annotated[str, Meta(min_length=1, max_length=240)] | None = None
    """With its extension, which drives the icon."""


class Sticker(Media, frozen=True):
    """``sticker``: webp."""


class Location(MetaObject, frozen=True):
    """``location``. Coordinates as numbers, or as text, which Meta's own pages show."""

    latitude: float | str
    longitude: float | str
    name: str = ""
    address: str = ""

    def rules(self) -> Iterator[Problem]:
        for name, value, most in (("latitude", self.latitude, 90), ("longitude", self.longitude, 180)):
            try:
                fits = abs(float(value)) <= most
            except ValueError:
                fits = False
            if not fits:
                yield name, f"must be a number from -{most} to {most}"


class ContactName(MetaObject, frozen=True):
    """How a contact is called."""

    formatted_name: Filled
    first_name: str = ""
    last_name: str = ""
    middle_name: str = ""
    suffix: str = ""
    prefix: str = ""


class ContactPhone(MetaObject, frozen=True):
    """One of a contact's numbers; with ``wa_id`` it gets a button to write to it."""

    phone: str = ""
    type: str = ""
    wa_id: str = ""


class ContactEmail(MetaObject, frozen=True):
    """One of a contact's e-mail addresses."""

    email: str = ""
    type: str = ""


class ContactUrl(MetaObject, frozen=True):
    """One of a contact's pages."""

    url: str = ""
    type: str = ""


class ContactAddress(MetaObject, frozen=True):
    """One of a contact's postal addresses."""

    street: str = ""
    city: str = ""
    state: str = ""
    zip: str = ""
    country: str = ""
    country_code: str = ""
    type: str = ""


class ContactOrg(MetaObject, frozen=True):
    """Where a contact works."""

    company: str = ""
    department: str = ""
    title: str = ""


class Contact(MetaObject, frozen=True):
    """One of ``contacts``."""

    name: ContactName
    phones: list[ContactPhone] = field(default_factory=list)
    emails: list[ContactEmail] = field(default_factory=list)
    urls: list[ContactUrl] = field(default_factory=list)
    addresses: list[ContactAddress] = field(default_factory=list)
    org: ContactOrg | None = None
    birthday: (
        Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$", extra={"must": "be a date such as 1999-12-31"})]
        | None
    ) = None


class Reaction(MetaObject, frozen=True):
    """``reaction``: to the message of that id; an empty emoji takes it away."""

    message_id: Wamid
    emoji: Annotated[str, Meta(max_length=64)]


class Pin(MetaObject, frozen=True):
    """``pin``: in groups only."""

    type: Literal["pin", "unpin"]
    message_id: Wamid
    expiration_days: Annotated[int, Meta(ge=1, le=30)] | None = None

    def rules(self) -> Iterator[Problem]:
        if self.type == "pin" and self.expiration_days is None:
            yield "expiration_days", "is required: 1 to 30"
