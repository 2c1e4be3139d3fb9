"""How the gateway is: ``/api/health``, ``/api/ready``, ``/api/status`` (contract.md, Status)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from handlers.base import BaseHandler
from handlers.hooks import hook_state
from handlers.trouble import trouble_of
from hub.hub import Hub
from hub.outlets import Outlets
from store.base import Store
from store.errors import StoreError
from store.log import Log
from store.monitor import StoreMonitor
from whatsapp.account_watch import AccountWatch
from whatsapp.erasure import Erasures
from whatsapp.events import rfc3339
from whatsapp.intake import Intake
from whatsapp.intake_watch import IntakeWatch
from whatsapp.lanes import Lanes
from whatsapp.retention import Retention

__all__ = ["Health", "Overview", "Ready", "StatusPage"]

_DAY_MS = 24 * 3600 * 1000
_MOST_DEAD = 10_000
"""Dead letters that are counted, so that telling of them costs the same however many there are."""


class Follower(Protocol):
    """What follows the log from a cursor of its own, as far as it is told."""

    name: str
    offset: int
    fault: str
    skipped: int
    last_skipped: int


class Overview:
    """Gathers what the status pages tell. ``about``: facts that do not change, such as the version;
    ``media``: how files are."""

    def __init__(
        self,
        about: dict[str, Any],
        *,
        store: Store,
        log: Log,
        monitor: StoreMonitor,
        hub: Hub,
        lanes: Lanes,
        consumers: Sequence[Follower],
        outlets: Outlets,
        intake: Intake,
        watch: IntakeWatch,
        accounts: AccountWatch,
        retention: Retention,
        erasures: Erasures,
        media: Callable[[], dict[str, Any]],
        errors: Counter[str],
        monotonic: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._media = media
        self._about = about
        self._store = store
        self._log = log
        self._monitor = monitor
        self._hub = hub
        self._lanes = lanes
        self._consumers = tuple(consumers)
        self._outlets = outlets
        self._intake = intake
        self._watch = watch
        self._accounts = accounts
        self._retention = retention
        self._erasures = erasures
        self._errors = errors
        self._monotonic = monotonic
        self._now_ms = now_ms
        self._started = monotonic()

    @property
    def ready(self) -> bool:
        """Whether traffic should come here: the store answers and no lane is parked or cut off from Meta."""
        return self._monitor.up and self._lanes_up()

    async def describe(self) -> dict[str, Any]:
        """Everything, as ``GET /api/status`` answers it."""
        lanes_up, store_up = self._lanes_up(), self._monitor.up
        lanes = self._lanes.status()
        hub = self._hub.stats
        outlets = await self._outlets.status()
        hooks = [hook_state(outlet, self._log.epoch) for outlet in outlets]
        now = self._now_ms()
        troubled = [hook for hook, outlet in zip(hooks, outlets, strict=True) if outlet.troubles(now)]
        consumers = [self._describe_consumer(consumer) for consumer in self._consumers]
        trouble = [
            *trouble_of(store_up, lanes, troubled, consumers),
            *self._accounts.trouble(),
            *self._retention.trouble(),
            *self._erasures.trouble(),
        ]
        return {
            "status": "degraded" if trouble else "healthy",
            "services": {
                "webhook": store_up,
                "whatsapp_service": lanes_up,
                "queue_service": store_up,
                "websocket_service": not self._hub.closing,
            },
            "trouble": trouble,
            **self._about,
            "uptime_s": round(self._monotonic() - self._started, 1),
            "store": {
                "up": store_up,
                "kind": "sqlite" if self._store.atomic else "mongodb",
                "epoch": self._log.epoch,
                "head": self._log.head,
            },
            "lanes": lanes,
            "depth": await self._depth(),
            "dead_letters": await self._dead_letters(),
            "consumers": consumers,
            "subscribers": {name: getattr(hub, name) for name in hub.__struct_fields__},
            "hooks": hooks,
            "media": self._media(),
            "retention": self._retention.status(),
            "erasures": self._erasures.status(),
            "last_webhook_at": rfc3339(self._intake.last_at) if self._intake.last_at else None,
            "unbroken_since": rfc3339(self._watch.since) if self._watch.since else None,
            "refused": dict(self._errors),
        }

    def _lanes_up(self) -> bool:
        return not any(lane.get("why") for lane in self._lanes.status())

    async def _depth(self) -> dict[str, dict[str, int]] | None:
        """Open rows per number and state; None while the store is away."""
        try:
            counts = {number: await self._store.depth(number) for number in self._lanes.numbers}
        except StoreError:
            return None
        return {number: {state.value: n for state, n in states.items()} for number, states in counts.items()}

    async def _dead_letters(self) -> dict[str, Any] | None:
        """How many there are, up to a bound, and those of the day by the name of their error; None while the
        store is away."""
        try:
            total, by_name = await self._store.count_dead(self._now_ms() - _DAY_MS, _MOST_DEAD)
        except StoreError:
            return None
        return {"total": total, "last_day": by_name}

    def _describe_consumer(self, consumer: Follower) -> dict[str, Any]:
        return {
            "name": consumer.name,
            "offset": consumer.offset,
            "lag": self._log.head - consumer.offset,
            "fault": consumer.fault or None,
            "skipped": consumer.skipped,
            "last_skipped": consumer.last_skipped or None,
        }


class Health(BaseHandler):
    """``GET /api/health``: the process answers, which is all that it says."""

    public = True

    def get(self) -> None:
        """200, always."""
        self.answer({"status": "ok"})


class Ready(BaseHandler):
    """``GET /api/ready``: whether traffic should come here."""

    overview: Overview

    def get(self) -> None:
        """200 when store and lanes are up; 503 otherwise."""
        ready = self.overview.ready
        self.answer({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


class StatusPage(BaseHandler):
    """``GET /api/status``: all that there is to see."""

    overview: Overview

    async def get(self) -> None:
        """200, also when degraded."""
        self.answer(await self.overview.describe())
