"""Interactive messages with buttons: replies, a list, a page to open, a place to tell (CLOUD_API.md 1.3).

Pure. Each type is the ``interactive`` object of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from store.errors import Problem
from whatsapp.payloads_basic import HttpUrl, MetaObject
from whatsapp.payloads_parts import (
    Body,
    Headed,
    InteractiveKind,
    LongBody,
    TextHeader,
    Words20,
    id_faults,
    repeats,
)

__all__ = ["MAX_ROWS", "ButtonMessage", "CtaUrlMessage", "ListMessage", "LocationRequest", "UrlButton"]

MAX_ROWS = 10
"""Over all sections of a list."""


# -- reply buttons -----------------------------------------------------------------------------------------


class Reply(MetaObject, frozen=True):
    """What a reply button says, and the id that comes back."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    title: Words20


class ReplyButton(MetaObject, frozen=True):
    """One of ``buttons``."""

    type: Literal["reply"]
    reply: Reply


class ButtonAction(MetaObject, frozen=True):
    """One to three buttons."""

    buttons: Annotated[list[ReplyButton], Meta(min_length=1, max_length=3)]

    def rules(self) -> Iterator[Problem]:
        replies = [(f"buttons[{number}].reply", button.reply) for number, button in enumerate(self.buttons)]
        yield from id_faults([(f"{path}.id", reply.id) for path, reply in replies])
        yield from repeats((f"{path}.title", reply.title) for path, reply in replies)


class ButtonMessage(Headed, frozen=True, tag="button"):
    """Reply buttons."""

    body: Body
    action: ButtonAction


# -- list --------------------------------------------------------------------------------------------------


class Row(MetaObject, frozen=True):
    """One line of a list."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    title: Annotated[str, Meta(min_length=1, max_length=24)]
    description: Annotated[str, Meta(max_length=72)] = ""


class Section(MetaObject, frozen=True):
    """Some lines of a list, under a title."""

    rows: Annotated[list[Row], Meta(min_length=1)]
    title: Annotated[str, Meta(max_length=24)] = ""


class ListAction(MetaObject, frozen=True):
    """The button that opens a list, and the list."""

    button: Words20
    sections: Annotated[list[Section], Meta(min_length=1, max_length=10)]

    def rules(self) -> Iterator[Problem]:
        if (total := sum(len(section.rows) for section in self.sections)) > MAX_ROWS:
            yield "sections", f"{total} rows in total, at most {MAX_ROWS}"
        for number, section in enumerate(self.sections):
            if len(self.sections) > 1 and not section.title:
                yield f"sections[{number}].title", "is required where there are several sections"
        rows = [
            (f"sections[{number}].rows[{place}].id", row.id)
            for number, section in enumerate(self.sections)
            for place, row in enumerate(section.rows)
        ]
        yield from id_faults(rows)


class ListMessage(Headed, frozen=True, tag="list"):
    """A list behind a button."""

    headers = (TextHeader,)
    body: LongBody
    action: ListAction


# -- a page, a place ---------------------------------------------------------------------------------------


class UrlButton(MetaObject, frozen=True):
    """A button that opens a page."""

    display_text: Words20
    url: HttpUrl


class CtaUrlAction(MetaObject, frozen=True):
    """What ``cta_url`` does."""

    name: Literal["cta_url"]
    parameters: UrlButton


class CtaUrlMessage(Headed, frozen=True, tag="cta_url"):
    """One button that opens a page."""

    body: Body
    action: CtaUrlAction


class LocationAction(MetaObject, frozen=True):
    """What ``location_request_message`` does."""

    name: Literal["send_location"]


class LocationRequest(InteractiveKind, frozen=True, tag="location_request_message"):
    """Asks where the person is; the answer is a location that quotes this message."""

    body: Body
    action: LocationAction
