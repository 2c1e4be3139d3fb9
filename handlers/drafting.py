"""From what stands in a request to what the outbox takes, with every fault named in the caller's own fields.

Pure. A fault of one field must not hide those of others: a field at fault is told, and something harmless
stands for it while the rest is composed and checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from handlers.fields import refusal, warnings_of
from handlers.options import FallbackTemplate
from handlers.requests import STAND_INS
from whatsapp.compose import Composed, addressed, addressed_to_group, encode, reword, translate
from whatsapp.drafts import GROUP_KEY, Draft
from whatsapp.identity import Address, parse_address
from whatsapp.payloads import Content
from whatsapp.templates import Template, template_problems
from whatsapp.validate import MAX_UNKNOWN, Checked, Findings, join, validate

__all__ = [
    "ContentCheck",
    "Read",
    "address_of",
    "checked_content",
    "given_address",
    "read_fields",
    "read_request",
    "top_of",
    "with_fallback",
    "within",
]

T = TypeVar("T", bound=Checked)
_TOLD_KEPT = 2000
_NO_ADDRESS = "must be a phone in international digits, or a user id"
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+?\d+")
_FORMAT_AS_TEXT = "; a spreadsheet has rounded it: format the column as text"


class Read(NamedTuple):
    """An object's fields as their type has them."""

    fields: Any
    faulty: Collection[str] = ()
    """Those that are at fault, where something else stands in ``fields``."""


def read_fields(value: Any, kind: type[T], findings: Findings, path: str = "") -> Read | None:
    """The fields of an object; None where it is none. An empty text is a field left out."""
    if isinstance(value, dict):
        value = _without_empty_texts(value, kind)
    before = len(findings.problems)
    found = validate(value, kind, findings, path)
    if found is not None:
        return Read(found)
    if not isinstance(value, Mapping):
        return None
    prefix = f"{path}." if path else ""
    faulty = {top_of(where.removeprefix(prefix)) for where, _ in findings.problems[before:]}
    fields = {name: given for name, given in value.items() if name not in faulty}
    fields |= {name: STAND_INS[name] for name in faulty if name in STAND_INS and _required(kind, name)}
    stood = validate(fields, kind, Findings())
    # Where a thousand faults have been told no more are, and so it is not known which fields these are.
    return None if stood is None else Read(stood, faulty)


def read_request(body: Mapping[str, Any], kind: type[T], findings: Findings) -> Read:
    """As :func:`read_fields` of a whole body. Raises InvalidRequest where so much is at fault that nothing
    else can be looked at."""
    read = read_fields(body, kind, findings)
    if read is None:
        raise refusal(findings.problems)
    return read


def address_of(phone: str | int, findings: Findings, path: str) -> Address | None:
    """Whom a phone or user id means; None and a fault where it means nobody."""
    address = parse_address(phone)
    if address is None:
        rounded = isinstance(phone, str) and _ROUNDED.fullmatch(phone.strip())
        findings.fault(path, _NO_ADDRESS + (_FORMAT_AS_TEXT if rounded else ""))
    return address


def given_address(value: Any, findings: Findings, path: str) -> Address | None:
    """As :func:`address_of`, of whatever stands there."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return address_of(value, findings, path)
    findings.fault(path, "is required" if value is None else "must be text or a number")
    return None


def top_of(path: str) -> str:
    """The first name of a path."""
    return path.partition(".")[0].partition("[")[0]


def checked_content(composed: Composed, findings: Findings, path: str) -> bytes | None:
    """A content that stands below ``path`` as JSON; None, and the faults, where it has any."""
    inner = Findings()
    validate(composed.content, Content, inner)

    def where(theirs: str) -> str:
        return join(path, translate(theirs, composed.names))

    for theirs, problem in inner.problems:
        findings.fault(where(theirs), reword(problem, composed.names))
    findings.passed += [(where(theirs), note) for theirs, note in inner.passed]
    return None if inner.problems else encode(composed.content)


def with_fallback(draft: Draft, content: bytes) -> Draft:
    """The draft with this to be sent to the same recipient in its place; empty: as it is."""
    if not content:
        return draft
    group = draft.contact.removeprefix(GROUP_KEY)
    message = addressed_to_group(group, content) if group else addressed(draft.address, content)
    return msgspec.structs.replace(draft, fallback=message)


class ContentCheck:
    """Checks what was composed. Tells each fault once, so that one of a common field does not come for each
    recipient."""

    def __init__(self, findings: Findings, templates: Sequence[Template] | None = None) -> None:
        """``templates``: those that there are; None where that is not known."""
        self._findings = findings
        self._templates = templates
        self._told: set[tuple[str, str]] = set()
        self._notes: list[str] = []
        self._inner = Findings()

    @property
    def warnings(self) -> list[str]:
        """What we do not know: fields of ours are ignored, Meta's things go to Meta."""
        return [*warnings_of(self._findings), *self._notes]

    def content(self, composed: Composed, place: Callable[[str], str | None]) -> bytes | None:
        """The content as JSON; None where it is at fault.

        ``place``: from a path in the caller's names to the one in the request; None where that field is told
        already.
        """
        inner = self._inner
        validate(composed.content, Content, inner)
        if self._templates is not None and "template" in composed.content and not inner.problems:
            inner.problems += template_problems(self._templates, composed.content["template"])
        if not composed.problems and not inner.problems and not inner.passed:
            return encode(composed.content)
        self._inner = Findings()
        known = {path for path, _ in composed.problems}
        problems = list(composed.problems)
        for path, problem in inner.problems:
            ours = translate(path, composed.names)
            if ours not in known:
                problems.append((ours, reword(problem, composed.names)))
        for path, problem in problems:
            where = place(path)
            if where is not None and self._new(where, problem):
                self._findings.fault(where, problem)
        for path, note in inner.passed:
            self._note(place(translate(path, composed.names)), note)
        return None if problems else encode(composed.content)

    def _note(self, where: str | None, note: str) -> None:
        if where is not None and len(self._notes) < MAX_UNKNOWN and self._new(where, note):
            self._notes.append(f"{where}: {note}")

    def _new(self, where: str, what: str) -> bool:
        if (where, what) in self._told:
            return False
        if len(self._told) < _TOLD_KEPT:
            self._told.add((where, what))
        return True


def _without_empty_texts(value: dict[str, Any], kind: type[Checked]) -> dict[str, Any]:
    if "" in value.values():
        value = {name: given for name, given in value.items() if given != "" or _required(kind, name)}
    fallback = value.get("fallback_template")
    if isinstance(fallback, dict):
        value = {**value, "fallback_template": _without_empty_texts(fallback, FallbackTemplate)}
    return value


def _required(kind: type[Checked], name: str) -> bool:
    return any(field.encode_name == name and field.required for field in msgspec.structs.fields(kind))


def within(path: str, faulty: Collection[str], prefix: str = "") -> str | None:
    """A path below a prefix; None where its field is among those at fault."""
    return None if top_of(path) in faulty else join(prefix, path)
