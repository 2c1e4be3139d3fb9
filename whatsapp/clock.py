"""The two clocks of a lane: the wall's, by which rows are due, and the monotonic one, by which it waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass(frozen=True, slots=True)
class Clock:
    """``now_ms``: milliseconds since 1970; ``monotonic``: seconds since whenever."""

    now_ms: Callable[[], int]
    monotonic: Callable[[], float]

    def monotonic_at(self, time_ms: int) -> float:
        """A time of the wall clock, by the monotonic one; now where it has passed."""
        return self.monotonic() + max(0, time_ms - self.now_ms()) / 1000
