"""A number that cannot send at all, until Meta says that it can again.

Owns why it is parked, and when it is probed: soon at first, then less and less often; sooner again only once
it has gone well for a while, or where somebody asks, who may have put right what was wrong. What parks a
number is said by the error table, what follows by ``brakes.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

__all__ = ["Parking", "ProbeTimes"]

_log = logging.getLogger(__name__)

_MOST_S = 300.0
_CALM_S = 60.0


class ProbeTimes:
    """How long to wait before each probe, in seconds."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._next_s = first_s
        self._calm_at = float("-inf")

    def parked(self, now: float) -> None:
        """It cannot send. Where it could again only just before, the waits go on growing."""
        if now >= self._calm_at:
            self.restart()

    def resumed(self, now: float) -> None:
        """It seems that it can."""
        self._calm_at = now + max(_CALM_S, 2 * self._next_s)

    def restart(self) -> None:
        """Begin anew with the shortest wait."""
        self._next_s = self._first_s

    def wait_s(self) -> float:
        """The next wait."""
        wait_s = self._next_s
        self._next_s = min(_MOST_S, 2 * wait_s)
        return wait_s


class Parking:
    """That of one number."""

    def __init__(
        self,
        phone_number_id: str,
        *,
        works: Callable[[], Awaitable[bool]],
        monotonic: Callable[[], float],
        first_s: float,
    ) -> None:
        """``works`` asks Meta whether the number can send; ``first_s``: how soon that is asked first."""
        self._phone_number_id = phone_number_id
        self._works = works
        self._monotonic = monotonic
        self._times = ProbeTimes(first_s)
        self._parked = asyncio.Event()
        self._asked = asyncio.Event()
        self.why = ""
        """Empty where it is not parked."""

    def park(self, why: str) -> bool:
        """Stop; whether it was not stopped before."""
        if self.why:
            return False
        self.why = why
        self._times.parked(self._monotonic())
        self._asked.clear()
        self._parked.set()
        _log.error("lane %s is parked: %s", self._phone_number_id, why)
        return True

    def probe_now(self) -> None:
        """Do not wait for the next probe: what was wrong may have been put right."""
        if self.why:
            self._times.restart()
            self._asked.set()

    async def run(self, resumed: Callable[[], None]) -> None:
        """Ask, while it is parked, whether it can send; ``resumed`` is told each time that it can. Until
        cancelled."""
        while True:
            await self._parked.wait()
            while self.why:
                await self._wait(self._times.wait_s())
                if await self._works():
                    self._leave()
                    resumed()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            pass
        # Asked for during the probe that follows, there is another one.
        self._asked.clear()

    def _leave(self) -> None:
        self.why = ""
        self._parked.clear()
        self._times.resumed(self._monotonic())
        _log.warning("lane %s goes on: the probe succeeded", self._phone_number_id)
