"""``POST /api/messages``: Meta's own message object, for one recipient or many, and its mark of reading
(contract.md, Part 2).

Owns which of the fields are ours, and how the rest goes to Meta: byte by byte as it came. What Meta takes is
known by ``whatsapp/payloads.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import msgspec

from handlers.drafting import given_address, read_request, with_fallback
from handlers.fields import refuse_if, warnings_of
from handlers.options import MAX_RECIPIENTS, ManyRequest, OneOptions, Options, lane_of, terms_of
from handlers.recipients import SameForAll
from handlers.sends_many import ManyHandler, items_of
from whatsapp.compose import MARKETING_FIELDS, addressed, addressed_to_group, as_marketing
from whatsapp.drafts import GROUP_KEY, Draft
from whatsapp.identity import Address
from whatsapp.payloads import MarketingMessage, Message, ReadMark
from whatsapp.read_marks import ReadMarks
from whatsapp.validate import Findings, validate

__all__ = ["Envelope", "OwnMessages"]

T = TypeVar("T", bound=Options)

_FOR_MANY = frozenset(ManyRequest.__struct_fields__) - frozenset(OneOptions.__struct_fields__)
_OURS = frozenset(ManyRequest.__struct_fields__)
"""Never Meta's."""
_ENVELOPE = frozenset({"messaging_product", "recipient_type", *MARKETING_FIELDS})
_STAND_INS = {"to": "+10000000", "recipient": "US.1"}
"""For recipients, which are looked at one by one, where the message is."""
_GROUP_ID_LIMIT = 256


@dataclass(frozen=True)
class Envelope:
    """A message without its recipient."""

    fields: Mapping[str, msgspec.Raw]
    """Meta's, but for the one that names who gets it."""
    name: str
    """Of that one: ``to`` or ``recipient``."""
    group: bool
    user_id_beside: bool
    """Whether ``recipient`` stands beside ``to``."""

    def draft_to(self, findings: Findings, value: Any, path: str) -> Draft | None:
        """The message to whom this names; None, and a fault, where that is nobody."""
        if self.group:
            if not isinstance(value, str) or not 0 < len(value) <= _GROUP_ID_LIMIT:
                findings.fault(
                    path, f"must be the id of a group, text of at most {_GROUP_ID_LIMIT} characters"
                )
                return None
            return Draft(Address(), self._payload(addressed_to_group, value), GROUP_KEY + value)
        address = given_address(value, findings, path)
        if address is None:
            return None
        if self.name == "recipient" and not address.user_id:
            findings.fault(path, "must be a user id")
        elif self.user_id_beside and address.user_id:
            findings.fault("recipient", "does not go with a user id in to")
        return Draft(address, self._payload(addressed, address))

    def _payload(self, addressed: Any, who: Any) -> bytes:
        message: bytes = addressed(who, self._content)
        return as_marketing(self._marketing, message) if self._marketing else message

    @cached_property
    def _content(self) -> bytes:
        return msgspec.json.encode({name: raw for name, raw in self.fields.items() if name not in _ENVELOPE})

    @cached_property
    def _marketing(self) -> Mapping[str, msgspec.Raw]:
        return {name: self.fields[name] for name in MARKETING_FIELDS if name in self.fields}


class OwnMessages(ManyHandler):
    """``POST`` of Meta's object with our options beside its fields."""

    read_marks: ReadMarks

    async def post(self) -> None:
        """As the sends to one or to many answer; 200 once Meta took a mark of reading."""
        fields = {name: raw for name, raw in self.read_raw().items() if bytes(raw) != b"null"}
        options = {name: self.decode(raw) for name, raw in fields.items() if name in _OURS}
        theirs = {name: raw for name, raw in fields.items() if name not in _OURS}
        if "status" in theirs:
            await self._mark(options, theirs)
        else:
            await self._send(options, theirs)

    async def _send(self, options: dict[str, Any], theirs: dict[str, msgspec.Raw]) -> None:
        name = "to" if "to" in theirs else "recipient"
        items = await items_of(theirs[name]) if name in theirs else None
        who = None if items is not None or name not in theirs else self.decode(theirs[name])
        rest = {field: raw for field, raw in theirs.items() if field != name}
        message = {field: self.decode(raw) for field, raw in rest.items()}
        findings = Findings()
        request = _options(options, OneOptions if items is None else ManyRequest, findings)
        terms = terms_of(request, self.now_ms(), findings)
        lane = lane_of(request, self.numbers, findings)
        if items is not None:
            if message.pop("recipient", None) is not None:
                findings.fault("recipient", "does not go with a list in to")
            if not 0 < len(items) <= MAX_RECIPIENTS:
                problem = f"{len(items)} items, at most {MAX_RECIPIENTS}" if items else "must not be empty"
                findings.fault(name, problem)
                items = []
        await self._check(message if name not in theirs else {**message, name: _STAND_INS[name]}, findings)
        envelope = Envelope(rest, name, message.get("recipient_type") == "group", "recipient" in message)
        kind = str(message.get("type", "text"))
        fallback = await self.fallback_of(request, findings, template=kind == "template")
        draft_to = partial(envelope.draft_to, findings)
        if isinstance(request, ManyRequest):
            drop = request.duplicates == "drop"
            drafts = SameForAll(name, draft_to, findings, drop_repeated=drop, fallback=fallback)
            await self.send_each(kind, request, drafts, items or [], findings, terms, lane)
            return
        draft = draft_to(who, name) if name in theirs else None
        refuse_if(findings.problems)
        assert draft is not None and isinstance(request, OneOptions)
        await self.send_one(
            kind,
            with_fallback(draft, fallback),
            lane=lane,
            queued=request.use_queue,
            priority=request.priority,
            warnings=warnings_of(findings),
            terms=terms,
        )

    async def _check(self, message: dict[str, Any], findings: Findings) -> None:
        marketing = any(name in message for name in MARKETING_FIELDS)
        if validate(message, MarketingMessage if marketing else Message, findings) is not None:
            for path, problem in await self.templates.check(message):
                findings.fault(path, problem)

    async def _mark(self, options: dict[str, Any], theirs: dict[str, msgspec.Raw]) -> None:
        findings = Findings()
        for name in [name for name in options if name != "phone_number_id"]:
            del options[name]
            findings.fault(name, "does not go with a mark of reading")
        lane = lane_of(_options(options, Options, findings), self.numbers, findings)
        validate({name: self.decode(raw) for name, raw in theirs.items()}, ReadMark, findings)
        refuse_if(findings.problems)
        await self.read_marks.mark(lane, msgspec.json.encode({"messaging_product": "whatsapp", **theirs}))
        answer: dict[str, Any] = {"success": True}
        if warnings := warnings_of(findings):
            answer["warnings"] = warnings
        self.answer(answer)


def _options(given: dict[str, Any], kind: type[T], findings: Findings) -> T:
    """Our fields; those that go with many recipients only are at fault where there is one."""
    if not issubclass(kind, ManyRequest):
        for name in sorted(_FOR_MANY & given.keys()):
            del given[name]
            findings.fault(name, "goes with a list of recipients only")
    request: T = read_request(given, kind, findings).fields
    return request
