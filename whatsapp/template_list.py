"""The account's message templates, as Meta has them: read in pages, kept in memory for ten minutes.

Owns when the list is read anew: by age, after a ``template.status`` event in the log, and before something is
called unknown. What a template asks for is in ``templates.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from store.errors import GatewayError, Problem
from store.records import Event
from whatsapp.errors import parse_error
from whatsapp.events import EventType
from whatsapp.failures import MetaFailed, MetaRefused, NoAnswer, SendError
from whatsapp.graph import Graph
from whatsapp.media import refused_by_meta
from whatsapp.outcome import Answer
from whatsapp.templates import Template, read_template, template_problems

__all__ = ["Templates"]

_LIFE_S = 600.0
_PAUSE_S = 10.0
"""At least so long between two readings that were not asked for by age or by an event."""
_CHECK_S = 5.0
"""A send waits no longer than this for the list."""
_PAGES = 100
"""Of a hundred each; an account has at most some thousand."""


class _Cursors(msgspec.Struct):
    after: str = ""


class _Paging(msgspec.Struct):
    cursors: _Cursors = msgspec.field(default_factory=_Cursors)
    next: str = ""


class _Page(msgspec.Struct):
    data: list[Any]
    paging: _Paging = msgspec.field(default_factory=_Paging)


class Templates:
    """``waba_id``: the business account; empty: there is none to ask. ``checks``: whether :meth:`check`
    does."""

    def __init__(
        self,
        graph: Graph,
        waba_id: str,
        *,
        checks: bool = True,
        monotonic: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._graph = graph
        self._waba_id = waba_id
        self._checks = checks and bool(waba_id)
        self._monotonic = monotonic
        self._now_ms = now_ms
        self._list: tuple[Template, ...] | None = None
        self._read_at = 0.0
        self._tried_at = float("-inf")
        self._stale = False
        self._failure: GatewayError | None = None
        self._reading = asyncio.Lock()
        self._readers: list[Callable[[Sequence[Template], float], None]] = []
        self.fetched_at = 0
        """When the list was read, in milliseconds since 1970; 0: never."""

    @property
    def configured(self) -> bool:
        """Whether there is an account to ask."""
        return bool(self._waba_id)

    def tell(self, reader: Callable[[Sequence[Template], float], None]) -> None:
        """Have ``reader`` called with each list that is read, and when it was asked for (monotonic)."""
        self._readers.append(reader)

    def notice(self, events: Sequence[Event]) -> None:
        """A listener of the log."""
        if any(event.type == EventType.TEMPLATE_STATUS for event in events):
            self._stale = True
            self._tried_at = float("-inf")

    async def all(self) -> Sequence[Template]:
        """The templates, not older than ten minutes where Meta can be reached, else as they were.

        Raises MetaRefused, SendError where they were never read.
        """
        async with self._reading:
            now = self._monotonic()
            known = self._list
            if known is not None and not self._stale and now - self._read_at < _LIFE_S:
                return known
            if now - self._tried_at < _PAUSE_S:
                if known is not None:
                    return known
                if self._failure is not None:
                    # Not one after the other: each would wait for an answer that does not come.
                    raise self._failure
            return await self._read_anew(known)

    async def known(self) -> Sequence[Template] | None:
        """All of them, to check many messages by; None without WABA_ID, and where they cannot be had: then
        Meta decides."""
        if not self._checks:
            return None
        try:
            async with asyncio.timeout(_CHECK_S):
                return await self.all()
        except (SendError, MetaRefused, TimeoutError):
            return None

    async def check(self, content: Mapping[str, Any]) -> list[Problem]:
        """What is wrong with the template of a message object (``{"type": "template", "template": {...}}``);
        paths begin with ``template``.

        Empty without WABA_ID, for other messages, and where the list cannot be had: then Meta decides.
        """
        template = content.get("template")
        if not self._checks or content.get("type") != "template" or not isinstance(template, Mapping):
            return []
        try:
            async with asyncio.timeout(_CHECK_S):
                problems = template_problems(await self.all(), template)
                if problems and self._monotonic() - self._tried_at >= _PAUSE_S:
                    # It may have been made, or approved, since.
                    self._stale = True
                    problems = template_problems(await self.all(), template)
        except (SendError, MetaRefused, TimeoutError):
            return []
        return problems

    async def _read_anew(self, known: Sequence[Template] | None) -> Sequence[Template]:
        self._tried_at = self._monotonic()
        # Before the reading: what changes while it runs makes it stale again.
        self._stale = False
        self._failure = NoAnswer("Meta has not told the templates in time")
        try:
            self._list = tuple(await self._pages())
        except (SendError, MetaRefused) as error:
            self._stale = True
            self._failure = error
            if known is None:
                raise
            return known
        except asyncio.CancelledError:
            # Whoever asked could not wait any longer.
            self._stale = True
            raise
        self._failure = None
        self._read_at = self._monotonic()
        self.fetched_at = self._now_ms()
        for reader in self._readers:
            reader(self._list, self._tried_at)
        return self._list

    async def _pages(self) -> list[Template]:
        found: list[Template] = []
        after = ""
        for _ in range(_PAGES):
            answer = await self._graph.templates(self._waba_id, after)
            page = self._page(answer)
            found += [template for one in page.data if (template := read_template(one)) is not None]
            # A page may be empty; only without "next" it is the last (CLOUD_API.md 6).
            if not page.paging.next or not page.paging.cursors.after or page.paging.cursors.after == after:
                break
            after = page.paging.cursors.after
        return found

    def _page(self, answer: Answer) -> _Page:
        if answer.status != 200:
            raise refused_by_meta(parse_error(answer.status, answer.body, answer.headers, self._now_ms()))
        try:
            return msgspec.json.decode(answer.body, type=_Page)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise MetaFailed(f"Meta's list of templates cannot be read: {error}") from error
