"""Outside receivers of events, the relay and the hooks: how they stand; pause, resume, replay."""

from __future__ import annotations

from typing import Any

from handlers.base import BaseHandler, NotFound
from handlers.fields import refusal
from handlers.pages import query_of
from handlers.parameters import ReplayQuery
from hub.outlet import Outlet, OutletStatus
from hub.outlets import Outlets
from hub.replay import BadPosition, Start, parse_position, resume
from store.log import Log
from whatsapp.events import rfc3339

__all__ = ["HookList", "HookPage", "PauseHook", "ReplayHook", "ResumeHook", "hook_state"]

_NOW = "now"


def hook_state(status: OutletStatus, epoch: str) -> dict[str, Any]:
    """A receiver as answers show it."""
    record = status.record
    return {
        "name": status.name,
        "kind": status.kind,
        "address": status.address,
        "state": status.state,
        "here": status.here,
        "connected": status.connected,
        "position": f"{epoch}:{status.cursor}",
        "lag": status.lag,
        "behind_since": _time(status.behind_since),
        "failing_since": _time(record.failing_since),
        "last_error": record.why or None,
        "paused_at": _time(record.paused_at),
        "reason": record.reason,
        "last_taken_at": _time(status.last_taken_at),
        "taken": status.taken,
        "skipped": status.skipped,
    }


def _time(at: int) -> str | None:
    return rfc3339(at) if at else None


class HookHandler(BaseHandler):
    """What the paths of receivers share."""

    outlets: Outlets
    log: Log

    def find(self, name: str) -> Outlet:
        """The receiver of this name. Raises NotFound."""
        outlet = self.outlets.by_name.get(name)
        if outlet is None:
            raise NotFound(f"there is no hook {name[:100]}")
        return outlet

    async def answer_done(self, outlet: Outlet, message: str, **more: Any) -> None:
        """200 with how it stands after what was asked."""
        state = hook_state(await outlet.status(), self.log.epoch)
        self.answer({"success": True, "message": message, "hook": state, **more})


class HookList(HookHandler):
    """``GET /api/hooks``."""

    async def get(self) -> None:
        """200 with all of them, the relay first; they are few."""
        found = await self.outlets.status()
        self.answer({"hooks": [hook_state(status, self.log.epoch) for status in found]})


class HookPage(HookHandler):
    """``GET /api/hooks/<name>``."""

    async def get(self, name: str) -> None:
        """200 with how it stands; 404 where there is none of this name."""
        self.answer(hook_state(await self.find(name).status(), self.log.epoch))


class PauseHook(HookHandler):
    """``POST /api/hooks/<name>/pause``."""

    async def post(self, name: str) -> None:
        """200, also where it is paused already; 404 where there is none of this name."""
        outlet = self.find(name)
        await outlet.pause()
        await self.answer_done(outlet, "it gets nothing until it is resumed")


class ResumeHook(HookHandler):
    """``POST /api/hooks/<name>/resume``."""

    async def post(self, name: str) -> None:
        """200, also where it was not paused: the next try is made at once."""
        outlet = self.find(name)
        await outlet.resume()
        await self.answer_done(outlet, "it goes on where it was")


class ReplayHook(HookHandler):
    """``POST /api/hooks/<name>/replay?from=<position>``."""

    async def post(self, name: str) -> None:
        """200 with where it goes on; 400 for what is no position of this log."""
        outlet = self.find(name)
        start = await self._start(query_of(self, ReplayQuery, []).start)
        await outlet.replay(start.offset)
        message = "it goes on from there"
        await self.answer_done(outlet, message, offset=start.offset, recovered=start.recovered)

    async def _start(self, wanted: str) -> Start:
        bounds = await self.log.bounds()
        if wanted == _NOW:
            return Start(bounds.head, True)
        try:
            position = parse_position(wanted)
        except BadPosition as error:
            raise refusal([("from", error.message.removeprefix("since: "))]) from None
        if (position.epoch or self.log.epoch) != self.log.epoch or position.offset > bounds.head:
            # A subscriber begins anew then; here somebody else would get all there is once more.
            raise refusal([("from", "is no position of this log: see GET /api/status, store.epoch and head")])
        return resume(wanted, self.log.epoch, bounds)
