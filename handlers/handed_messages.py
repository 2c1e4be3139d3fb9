"""Messages that a program of the operator's answers with: as ``POST /api/messages`` takes one, but for whom.

Pure. They go to whoever wrote, from the number that was written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from handlers.drafting import checked_content, with_fallback
from handlers.fields import refuse_if
from handlers.options import PRIORITIES, FallbackTemplate, PriorityName, terms_of
from handlers.options import Options as SendOptions
from whatsapp.compose import MARKETING_FIELDS, addressed, as_marketing, is_marketing
from whatsapp.compose_template import template
from whatsapp.drafts import Draft, Prepared
from whatsapp.identity import Address
from whatsapp.payloads import MarketingMessage, Message
from whatsapp.validate import Findings, join, validate

__all__ = ["HandedOptions", "reader_of"]

_NOT_THERE = ("to", "recipient", "recipient_type", "phone_number_id", "use_queue")
_STAND_IN = "+10000000"


class HandedOptions(SendOptions, frozen=True, kw_only=True):
    """Ours beside Meta's fields."""

    priority: PriorityName = "high"


_OURS = frozenset(HandedOptions.__struct_fields__)
_ENVELOPE = frozenset({"messaging_product", *MARKETING_FIELDS})


def reader_of(now_ms: Callable[[], int]) -> Callable[[Sequence[Any], Address], list[Prepared]]:
    """What reads the messages of an answer, and raises InvalidRequest for what cannot be sent."""

    def read(given: Sequence[Any], to: Address) -> list[Prepared]:
        findings = Findings()
        prepared = [_one(item, f"messages[{n}]", to, now_ms(), findings) for n, item in enumerate(given)]
        refuse_if(findings.problems)
        return [one for one in prepared if one is not None]

    return read


def _one(item: Any, path: str, to: Address, now: int, findings: Findings) -> Prepared | None:
    if not isinstance(item, dict):
        findings.fault(path, "must be an object")
        return None
    before = findings.faults
    for name in _NOT_THERE:
        if item.get(name) is not None:
            findings.fault(join(path, name), "must be left out: who wrote gets the answer")
    fields = {name: value for name, value in item.items() if value is not None and name not in _NOT_THERE}
    ours = {name: value for name, value in fields.items() if name in _OURS}
    theirs = {name: value for name, value in fields.items() if name not in _OURS}
    options = validate(ours, HandedOptions, findings, path)
    marketing = any(name in theirs for name in MARKETING_FIELDS)
    kind = MarketingMessage if marketing else Message
    validate({**theirs, "to": _STAND_IN}, kind, findings, path)
    if options is None or findings.faults > before:
        return None
    inner = Findings()
    terms = terms_of(options, now, inner)
    for name, problem in inner.problems:
        findings.fault(join(path, name), problem)
    content = msgspec.json.encode({name: one for name, one in theirs.items() if name not in _ENVELOPE})
    payload = addressed(to, content)
    if marketing:
        payload = as_marketing(theirs, payload)
    draft = Draft(to, payload, heeds_opt_out=is_marketing(payload))
    type = str(theirs.get("type", "text"))
    draft = with_fallback(draft, _fallback(options.fallback_template, type, path, findings))
    return Prepared(type, draft, PRIORITIES[options.priority], terms)


def _fallback(asked: FallbackTemplate | None, type: str, path: str, findings: Findings) -> bytes:
    if asked is None:
        return b""
    where = join(path, "fallback_template")
    if type == "template":
        findings.fault(where, "does not go with a template, which needs no open window")
        return b""
    composed = template(
        template_name=asked.template_name,
        language=asked.language,
        parameters=asked.parameters,
        components=asked.components,
    )
    return checked_content(composed, findings, where) or b""
