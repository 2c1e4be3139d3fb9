"""From the recipients of one request, of whom there may be a hundred thousand, to drafts.

The loop is let go every few recipients, so that webhooks and other sends get in between. Each recipient is
decoded, composed and checked in its turn, and only its finished message is kept.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from handlers.base import NotJson
from handlers.drafting import (
    ContentCheck,
    Read,
    address_of,
    given_address,
    read_fields,
    top_of,
    with_fallback,
    within,
)
from handlers.fields import warnings_of
from handlers.sends import ManySend
from store.errors import Problem
from whatsapp.compose import addressed
from whatsapp.drafts import Draft
from whatsapp.identity import Address
from whatsapp.outbox import Sifted
from whatsapp.templates import Template
from whatsapp.validate import MAX_PROBLEMS, Findings, join

__all__ = ["Drafts", "Recipients", "SameForAll"]

_STEP = 50
"""Recipients until the loop is let go: some milliseconds."""


class Drafts(ABC):
    """The drafts of a request to many, and what became of recipients who have none.

    ``name``: the field that they stand in; ``findings`` take the faults of all; ``fallback``: the content to
    be sent to each in place of theirs once Meta refuses that for want of an open window. A subclass may take
    them from elsewhere: it says how they are counted and read.
    """

    def __init__(self, name: str, findings: Findings, *, drop_repeated: bool, fallback: bytes) -> None:
        self.drafts: list[Draft] = []
        self.places = array("I")
        """Of each draft, where its recipient stands in the request; ascending."""
        self.dropped: list[Problem] = []
        """The first who were named before."""
        self.total = 0
        self.repeated = 0
        self.suppressed = 0
        self._name = name
        self._findings = findings
        self._fallback = fallback
        self._seen: dict[tuple[str, Address], int] | None = {} if drop_repeated else None

    @property
    @abstractmethod
    def warnings(self) -> list[str]:
        """What we do not know of the request."""

    @abstractmethod
    def _draft(self, path: str, place: int, value: Any) -> Draft | None:
        """Of one recipient; None where it is at fault, which is told."""

    async def read(self, items: Iterable[Any | None], *, to_the_end: bool, keep: int) -> None:
        """Take these in; None is nobody. Raises NotJson where one cannot be decoded.

        ``to_the_end``: also where single recipients are at fault, more than are told. ``keep``: how many of
        the dropped are remembered.
        """
        for n, item in enumerate(items):
            if n % _STEP == 0:
                await asyncio.sleep(0)
                enough = self._findings.faults >= MAX_PROBLEMS
                if enough and (not to_the_end or self.fault_for_all):
                    return
            if item is not None:
                self._take(self._number(n, item), item, keep)

    def take_sifted(self, sifted: Sifted) -> None:
        """Keep only whom the outbox has not left out."""
        self.drafts, self.places = sifted.drafts, array("I", sifted.places)
        self.suppressed = len(sifted.refused)

    def _take(self, place: int, item: Any, keep: int) -> None:
        self.total += 1
        path = self.path_at(place)
        try:
            value = self._value(item)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotJson(f"the body is not valid JSON: {path}: {error}") from error
        draft = self._draft(path, place, value)
        if draft is None:
            return
        if (first := self._named_before(draft, place)) is None:
            self.drafts.append(with_fallback(draft, self._fallback))
            self.places.append(place)
            return
        self.repeated += 1
        if len(self.dropped) < keep:
            self.dropped.append((path, f"the same recipient as {self._name}[{first}], skipped"))

    @property
    def fault_for_all(self) -> bool:
        """Whether a field that is the same for all is at fault."""
        return any(not path.startswith(f"{self._name}[") for path, _ in self._findings.problems)

    def path_at(self, place: int) -> str:
        """Where the recipient of this place stands in the request."""
        return f"{self._name}[{place}]"

    def _number(self, index: int, item: Any) -> int:
        """The number of an item where its path is told."""
        return index

    def _value(self, item: Any) -> Any:
        """An item as JSON."""
        return msgspec.json.decode(item)

    def _named_before(self, draft: Draft, place: int) -> int | None:
        if self._seen is None:
            return None
        first = self._seen.setdefault((draft.contact, draft.address), place)
        return None if first == place else first


class SameForAll(Drafts):
    """Of one message. ``draft_to`` makes a draft of the value that names a recipient, and its path; None
    where that is at fault, which it tells."""

    def __init__(
        self,
        name: str,
        draft_to: Callable[[Any, str], Draft | None],
        findings: Findings,
        *,
        drop_repeated: bool,
        fallback: bytes,
    ) -> None:
        super().__init__(name, findings, drop_repeated=drop_repeated, fallback=fallback)
        self._draft_to = draft_to

    @property
    def warnings(self) -> list[str]:
        """As the findings have them."""
        return warnings_of(self._findings)

    def _draft(self, path: str, place: int, value: Any) -> Draft | None:
        return self._draft_to(value, path)


class Recipients(Drafts):
    """Of the paths that send to many. ``common``: the request's own fields."""

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
        fallback: bytes,
        templates: Sequence[Template] | None = None,
    ) -> None:
        name = self.list_name or ("phones" if send.recipient is None else "recipients")
        super().__init__(name, findings, drop_repeated=drop_repeated, fallback=fallback)
        self._check = ContentCheck(findings, templates)
        self._send = send
        self._common = common
        self._own = frozenset(send.recipient.__struct_fields__ if send.recipient else ())
        self._shared = frozenset(send.request.__struct_fields__)
        self._content: bytes | None = None
        self._place = 0
        self._each: Read = common

    @property
    def warnings(self) -> list[str]:
        """As :class:`~handlers.drafting.ContentCheck` has them."""
        return self._check.warnings

    async def read(self, items: Iterable[Any | None], *, to_the_end: bool, keep: int) -> None:
        """What is the same for all is composed once."""
        if self._send.recipient is None:
            composed = self._send.compose(self._common.fields, None)
            self._content = self._check.content(composed, lambda path: within(path, self._common.faulty))
        await super().read(items, to_the_end=to_the_end, keep=keep)

    def _draft(self, path: str, place: int, value: Any) -> Draft | None:
        if self._send.recipient is None:
            address = given_address(value, self._findings, path)
            content = self._content
        else:
            each = read_fields(value, self._send.recipient, self._findings, path)
            if each is None:
                return None
            address = None
            if "phone" not in each.faulty:
                address = address_of(each.fields.phone, self._findings, f"{path}.{self.phone_name}")
            self._place, self._each = place, each
            content = self._check.content(self._send.compose(self._common.fields, each.fields), self._where)
            if each.faulty:
                return None
        return None if address is None or content is None else Draft(address, addressed(address, content))

    def _where(self, path: str) -> str | None:
        """Where a field stands: with the recipient who gave it, or should have; else with those for all."""
        top = top_of(path)
        if top in self._own and (getattr(self._each.fields, top) or top not in self._shared):
            return within(path, self._each.faulty, f"{self._name}[{self._place}]")
        if top in self._shared:
            return within(path, self._common.faulty)
        return join(f"{self._name}[{self._place}]", path)
