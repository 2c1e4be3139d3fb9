"""Message templates: what each asks for, and whether a composed one gives it.

Pure. Reads Meta's template objects (CLOUD_API.md 6, CLOUD_API_2026.md 5) into :class:`Template`, and compares
them with the ``template`` object of a message. Where they come from is ``template_list.py``'s business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from store.errors import Problem

__all__ = ["Button", "Needs", "Template", "read_template", "template_problems"]

_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]{1,64})\s*\}\}")
_MEDIA = frozenset({"image", "video", "document", "gif", "location", "product"})
_PATH = "template"


class Button(msgspec.Struct, frozen=True):
    """A button that takes a parameter."""

    index: int
    sub_type: str
    """As ``components[].sub_type`` of a message names it: ``url``, ``copy_code``."""
    count: int = 1


class Needs(msgspec.Struct, frozen=True):
    """The parameters of a template, or of one card of it."""

    header: str = ""
    """What its header takes: ``text``, ``image``, ``video``, ``document``, ``location``, ...; empty: nothing.
    """
    header_names: tuple[str, ...] = ()
    """Of a ``text`` header: what stands in its braces, ``1`` or a name."""
    body: tuple[str, ...] = ()
    """What stands in the braces of its body, each once, in order."""
    buttons: tuple[Button, ...] = ()
    cards: tuple[Needs, ...] = ()
    """Of a carousel."""


class Template(msgspec.Struct, frozen=True):
    """One template in one language."""

    name: str
    language: str
    status: str
    """``APPROVED`` may be sent; see CLOUD_API_2026.md 5.2."""
    category: str
    named: bool
    """Whether its parameters go by ``parameter_name``."""
    needs: Needs
    ttl_s: int = 0
    """How long Meta tries to deliver it; -1: for 30 days; 0: as is usual for its category
    (CLOUD_API_2026.md 5.2)."""

    @property
    def usable(self) -> bool:
        """Whether Meta sends it."""
        return self.status == "APPROVED"


# -- reading -----------------------------------------------------------------------------------------------


def read_template(value: object) -> Template | None:
    """Meta's object of a template; None for what has neither a name nor a language."""
    if not isinstance(value, Mapping):
        return None
    name, language = _text(value.get("name")), _text(value.get("language"))
    if not name or not language:
        return None
    needs = _needs(value.get("components"))
    category = _text(value.get("category")).upper()
    if category == "AUTHENTICATION" and not needs.body:
        # Its text is Meta's own and may be left out; the code is its one parameter (CLOUD_API_2026.md 5.1).
        needs = msgspec.structs.replace(needs, body=("1",))
    places = (*needs.header_names, *needs.body)
    told = _text(value.get("parameter_format")).upper()
    return Template(
        name=name,
        language=language,
        status=_text(value.get("status")).upper(),
        category=category,
        named=told == "NAMED" or (not told and any(not place.isdigit() for place in places)),
        needs=needs,
        ttl_s=ttl if isinstance(ttl := value.get("message_send_ttl_seconds"), int) else 0,
    )


def _needs(components: object) -> Needs:
    header = ""
    header_names: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    buttons: tuple[Button, ...] = ()
    cards: tuple[Needs, ...] = ()
    for component in _objects(components):
        match _text(component.get("type")).upper():
            case "HEADER":
                header, header_names = _header(component)
            case "BODY":
                body = _places(component.get("text"))
            case "BUTTONS":
                buttons = tuple(_buttons(component.get("buttons")))
            case "CAROUSEL":
                cards = tuple(_needs(card.get("components")) for card in _objects(component.get("cards")))
    return Needs(header, header_names, body, buttons, cards)


def _header(component: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    format = _text(component.get("format")).lower() or "text"
    if format != "text":
        return (format if format in _MEDIA else ""), ()
    places = _places(component.get("text"))
    return ("text" if places else ""), places


def _buttons(buttons: object) -> Iterator[Button]:
    """Only those that cannot be sent without a parameter: a quick reply has a default."""
    for index, button in enumerate(_objects(buttons)):
        match _text(button.get("type")).upper():
            case "URL" if places := _places(button.get("url")):
                yield Button(index, "url", len(places))
            case "COPY_CODE":
                yield Button(index, "copy_code")
            case "OTP":
                # The code goes to the body and, as a url, to the button too (CLOUD_API_2026.md 5.1).
                yield Button(index, "url")


def _places(text: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_PLACE.findall(_text(text))))


# -- comparing ---------------------------------------------------------------------------------------------


def template_problems(known: Sequence[Template], template: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the ``template`` object of a message: an unknown name or language, a status that is
    not ``APPROVED``, another count of parameters. Paths begin with ``template``.

    Empty where nothing is. What is no object of Meta's at all is left to the checks of its form.
    """
    name, language = _text(template.get("name")), _language(template)
    if not name or not language:
        return []
    same = [one for one in known if one.name == name]
    if not same:
        return [(f"{_PATH}.name", f"there is no template {name}{_near(name, (t.name for t in known))}")]
    found = next((one for one in same if one.language == language), None)
    if found is None:
        there = ", ".join(sorted(one.language for one in same))
        return [(f"{_PATH}.language.code", f"{name} is not there in {language}, only in {there}")]
    if not found.usable:
        status = found.status or "unknown"
        return [(f"{_PATH}.name", f"{name} ({language}) is {status}, only APPROVED templates are sent")]
    return list(_count_problems(found, template.get("components")))


def _count_problems(template: Template, components: object) -> Iterator[Problem]:
    yield from _compare(template.needs, _objects(components), template.named, f"{_PATH}.components")


def _compare(needs: Needs, given: Sequence[Mapping[str, Any]], named: bool, path: str) -> Iterator[Problem]:
    yield from _compare_header(needs, given, named, path)
    yield from _compare_text("body", needs.body, _of(given, "body"), named, path)
    for button in needs.buttons:
        own = [one for one in _of(given, "button") if str(one.get("index", "")) == str(button.index)]
        count = len(_parameters(own))
        if count != button.count:
            yield path, f"button {button.index} ({button.sub_type}) takes {_many(button.count)}, not {count}"
    if needs.cards:
        yield from _compare_cards(needs.cards, given, named, path)


def _compare_header(
    needs: Needs, given: Sequence[Mapping[str, Any]], named: bool, path: str
) -> Iterator[Problem]:
    headers = _of(given, "header")
    if needs.header in ("", "text"):
        yield from _compare_text("header", needs.header_names, headers, named, path)
        return
    kinds = [_text(one.get("type")).lower() for one in _parameters(headers)]
    if kinds != [needs.header]:
        what = ", ".join(kinds) or "nothing"
        yield path, f"the header takes one {needs.header}, not {what}"


def _compare_text(
    what: str, places: Sequence[str], given: Sequence[Mapping[str, Any]], named: bool, path: str
) -> Iterator[Problem]:
    parameters = _parameters(given)
    if not named:
        if len(parameters) != len(places):
            yield path, f"the {what} takes {_many(len(places))}, not {len(parameters)}"
        return
    names = [_text(one.get("parameter_name")) for one in parameters]
    if sorted(names) != sorted(places):
        wanted = f"parameters by the names {', '.join(places)}" if places else "no parameters"
        got = ", ".join(filter(None, names)) or (f"{len(names)} without a name" if names else "nothing")
        yield path, f"the {what} takes {wanted}, not {got}"


def _compare_cards(
    cards: Sequence[Needs], given: Sequence[Mapping[str, Any]], named: bool, path: str
) -> Iterator[Problem]:
    sent = [card for carousel in _of(given, "carousel") for card in _objects(carousel.get("cards"))]
    if len(sent) != len(cards):
        yield path, f"the carousel has {len(cards)} cards, not {len(sent)}"
        return
    for index, card in enumerate(sent):
        own = card.get("card_index", index)
        needs = cards[own if isinstance(own, int) and 0 <= own < len(cards) else index]
        yield from _compare(needs, _objects(card.get("components")), named, f"{path}.cards[{index}]")


def _of(components: Sequence[Mapping[str, Any]], type: str) -> list[Mapping[str, Any]]:
    return [one for one in components if _text(one.get("type")).lower() == type]


def _parameters(components: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [parameter for one in components for parameter in _objects(one.get("parameters"))]


def _many(count: int) -> str:
    return {0: "no parameters", 1: "1 parameter"}.get(count, f"{count} parameters")


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(dict.fromkeys(names)), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _language(template: Mapping[str, Any]) -> str:
    language = template.get("language")
    return _text(language.get("code")) if isinstance(language, Mapping) else ""


def _objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list; what is none is passed over."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
