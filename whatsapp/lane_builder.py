"""Puts a lane together from its parts, anew for each lease of it.

Owns which parts a lane has and what each is given; what they do is in their own files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from store.base import Store
from store.log import Log
from store.monitor import StoreMonitor
from whatsapp.app_limit import AppLimit
from whatsapp.attempts import Attempts
from whatsapp.brakes import Brakes
from whatsapp.claims import Claims
from whatsapp.clock import Clock
from whatsapp.contacts import Contacts
from whatsapp.graph import Graph
from whatsapp.lane import Lane
from whatsapp.lane_news import LaneNews
from whatsapp.number_level import LevelReader, Rates
from whatsapp.pacing import LanePacer, PairPacer
from whatsapp.pair_history import PairHistory
from whatsapp.queue import LaneQueue
from whatsapp.read_ahead import ReadAhead
from whatsapp.recovery import Recovery
from whatsapp.retry import RetryPolicy
from whatsapp.suppressions import Suppressions
from whatsapp.template_holds import TemplateHolds
from whatsapp.unknown import UnknownRows
from whatsapp.windows import Windows

__all__ = ["LaneBuilder", "LaneLimits"]

_BURST_S = 1 / 40
"""What a lane may send at once. A full burst at either end of a second must stay within what Meta, or the
sandbox, which counts a second as 0.95 s (CLOUD_API.md 3), lets pass."""
_HEADROOM = 0.04
_PAIR_SLACK_S = 1.0
"""What of a pair's credit is kept back: a call to the same recipient may take longer than the next one."""


class LaneLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets, under the names of the configuration."""

    rates: Mapping[str, Rates]
    """By phone number id."""
    pair_burst: int
    pair_interval_s: float
    concurrency: int
    read_ahead: int
    probe_s: float
    grace_s: float
    resend: bool
    ordered_s: float
    template_hold_s: float


class LaneBuilder:
    """Builds lanes that share a store, a Graph client and the contacts."""

    def __init__(
        self,
        limits: LaneLimits,
        policy: RetryPolicy,
        *,
        store: Store,
        log: Log,
        monitor: StoreMonitor,
        graph: Graph,
        contacts: Contacts,
        windows: Windows,
        suppressions: Suppressions,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._policy = policy
        self._store = store
        self._log = log
        self._monitor = monitor
        self._graph = graph
        self._contacts = contacts
        self._windows = windows
        self._suppressions = suppressions
        self._clock = clock
        self._random = random
        self._app = AppLimit()

    def build(self, number: str) -> Lane:
        """The lane of a phone number id."""
        limits = self._limits
        rates = limits.rates[number]
        pacer = LanePacer(rates.standard, burst_s=_BURST_S, headroom=_HEADROOM)
        pairs = PairPacer(limits.pair_burst, limits.pair_interval_s, _PAIR_SLACK_S)
        queue = LaneQueue(pairs, window=limits.read_ahead)
        templates = TemplateHolds(limits.template_hold_s)
        brakes = Brakes(
            number,
            pacer,
            pairs,
            graph=self._graph,
            templates=templates,
            app=self._app,
            monotonic=self._clock.monotonic,
            probe_s=limits.probe_s,
        )
        unknown = self._unknown_rows()
        attempts = self._attempts(queue, brakes, templates, unknown)
        recovery = Recovery(
            number,
            store=self._store,
            queue=queue,
            calls=attempts,
            unknown=unknown,
            clock=self._clock,
            ordered_s=limits.ordered_s,
        )
        reader = ReadAhead(
            number,
            queue,
            store=self._store,
            templates=templates,
            clock=self._clock,
            ordered_s=limits.ordered_s,
            learn=self._suppressions.learn,
        )
        level = LevelReader(number, rates, graph=self._graph, take=pacer.set_limit, refused=brakes.park)
        news = LaneNews(
            number,
            store=self._store,
            log=self._log,
            history=self._history(number, pairs),
            queue=queue,
            reader=reader,
            pacer=pacer,
            brakes=brakes,
            level=level,
            unknown=unknown,
            clock=self._clock,
        )
        claims = Claims(
            store=self._store,
            windows=self._windows,
            suppressions=self._suppressions,
            queue=queue,
            attempts=attempts,
            clock=self._clock,
        )
        return Lane(
            number,
            news=news,
            queue=queue,
            reader=reader,
            pacer=pacer,
            brakes=brakes,
            level=level,
            templates=templates,
            attempts=attempts,
            recovery=recovery,
            unknown=unknown,
            claims=claims,
            suppressions=self._suppressions,
            concurrency=limits.concurrency,
            clock=self._clock,
        )

    def _history(self, number: str, pairs: PairPacer) -> PairHistory:
        span_s = self._limits.pair_burst * self._limits.pair_interval_s
        return PairHistory(number, pairs, store=self._store, clock=self._clock, span_s=span_s)

    def _unknown_rows(self) -> UnknownRows:
        return UnknownRows(
            store=self._store,
            log=self._log,
            monitor=self._monitor,
            grace_s=self._limits.grace_s,
            resend=self._limits.resend,
            policy=self._policy,
            now_ms=self._clock.now_ms,
        )

    def _attempts(
        self,
        queue: LaneQueue,
        brakes: Brakes,
        templates: TemplateHolds,
        unknown: UnknownRows,
    ) -> Attempts:
        return Attempts(
            store=self._store,
            log=self._log,
            graph=self._graph,
            contacts=self._contacts,
            queue=queue,
            brakes=brakes,
            templates=templates,
            unknown=unknown,
            policy=self._policy,
            clock=self._clock,
            random=self._random,
        )
