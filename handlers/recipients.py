"""From the recipients of one request, of whom there may be a hundred thousand, to drafts.

The loop is let go every few recipients, so that webhooks and other sends get in between. Each recipient is
decoded, composed and checked in its turn, and only its finished message is kept.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from handlers.base import NotJson
from handlers.drafting import ContentCheck, Read, address_of, read_fields, top_of, within
from handlers.sends import ManySend
from store.errors import Problem
from whatsapp.compose import addressed
from whatsapp.drafts import Draft
from whatsapp.identity import Address
from whatsapp.templates import Template
from whatsapp.validate import Findings, join

__all__ = ["Recipients"]

_STEP = 50
"""Recipients until the loop is let go: some milliseconds."""
_ENOUGH = 1000
"""Faults after which no more are looked for, if any refuses the whole."""


class Recipients:
    """The drafts of a request to many, and what became of those who have none.

    ``common``: the request's own fields; ``findings`` take the faults of all. A subclass may take them from
    elsewhere: it says how they are called, counted and read.
    """

    list_name = ""
    """Of what they are in; empty for that of the request's own list."""
    phone_name = "phone"

    def __init__(
        self,
        send: ManySend,
        common: Read,
        findings: Findings,
        *,
        drop_repeated: bool,
        templates: Sequence[Template] | None = None,
    ) -> None:
        self.drafts: list[Draft] = []
        self.places = array("I")
        """Of each draft, where its recipient stands in the request."""
        self.dropped: list[Problem] = []
        """The first who were named before."""
        self.total = 0
        self.repeated = 0
        self.check = ContentCheck(findings, templates)
        self._send = send
        self._common = common
        self._findings = findings
        self._seen: dict[Address, int] | None = {} if drop_repeated else None
        self._name = self.list_name or ("phones" if send.recipient is None else "recipients")
        self._own = frozenset(send.recipient.__struct_fields__ if send.recipient else ())
        self._shared = frozenset(send.request.__struct_fields__)
        self._content: bytes | None = None
        self._place = 0
        self._each: Read = common

    async def read(self, items: Iterable[Any | None], *, to_the_end: bool, keep: int) -> None:
        """Take these in; None is nobody. Raises NotJson where one cannot be decoded.

        ``to_the_end``: also where single recipients are at fault, more than are told. ``keep``: how many of
        the dropped are remembered.
        """
        if self._send.recipient is None:
            composed = self._send.compose(self._common.fields, None)
            self._content = self.check.content(composed, lambda path: within(path, self._common.faulty))
        for n, item in enumerate(items):
            if n % _STEP == 0:
                await asyncio.sleep(0)
                if n >= _ENOUGH and self._findings.problems and (not to_the_end or self.fault_for_all):
                    return
            if item is None:
                continue
            self.total += 1
            place = self._number(n, item)
            draft = self._draft(place, item)
            if draft is None:
                continue
            if (first := self._named_before(draft.address, place)) is None:
                self.drafts.append(draft)
                self.places.append(place)
                continue
            self.repeated += 1
            if len(self.dropped) < keep:
                path = f"{self._name}[{place}]"
                self.dropped.append((path, f"the same recipient as {self._name}[{first}], skipped"))

    @property
    def fault_for_all(self) -> bool:
        """Whether a field that is the same for all is at fault."""
        return any(not path.startswith(f"{self._name}[") for path, _ in self._findings.problems)

    def path_of(self, n: int) -> str:
        """Where the recipient of a draft stands in the request."""
        return f"{self._name}[{self.places[n]}]"

    def _number(self, index: int, item: Any) -> int:
        """The number of an item where its path is told."""
        return index

    def _value(self, item: Any) -> Any:
        """An item as JSON."""
        return msgspec.json.decode(item)

    def _draft(self, place: int, item: Any) -> Draft | None:
        path = f"{self._name}[{place}]"
        try:
            value = self._value(item)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotJson(f"the body is not valid JSON: {path}: {error}") from error
        if self._send.recipient is None:
            address = self._phone(value, path)
            content = self._content
        else:
            each = read_fields(value, self._send.recipient, self._findings, path)
            if each is None:
                return None
            address = None
            if "phone" not in each.faulty:
                address = address_of(each.fields.phone, self._findings, f"{path}.{self.phone_name}")
            self._place, self._each = place, each
            content = self.check.content(self._send.compose(self._common.fields, each.fields), self._where)
            if each.faulty:
                return None
        return None if address is None or content is None else Draft(address, addressed(address, content))

    def _phone(self, value: Any, path: str) -> Address | None:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return address_of(value, self._findings, path)
        self._findings.fault(path, "is required" if value is None else "must be text or a number")
        return None

    def _where(self, path: str) -> str | None:
        """Where a field stands: with the recipient who gave it, or should have; else with those for all."""
        top = top_of(path)
        if top in self._own and (getattr(self._each.fields, top) or top not in self._shared):
            return within(path, self._each.faulty, f"{self._name}[{self._place}]")
        if top in self._shared:
            return within(path, self._common.faulty)
        return join(f"{self._name}[{self._place}]", path)

    def _named_before(self, address: Address, place: int) -> int | None:
        if self._seen is None:
            return None
        first = self._seen.setdefault(address, place)
        return None if first == place else first
