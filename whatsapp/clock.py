"""The two clocks of a lane: the wall's, by which rows are due, and the monotonic one, by which it waits; and
Meta's.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock", "metas_time"]


@dataclass(frozen=True, slots=True)
class Clock:
    """``now_ms``: milliseconds since 1970; ``monotonic``: seconds since whenever."""

    now_ms: Callable[[], int]
    monotonic: Callable[[], float]

    def monotonic_at(self, time_ms: int) -> float:
        """A time of the wall clock, by the monotonic one; now where it has passed."""
        return self.monotonic() + max(0, time_ms - self.now_ms()) / 1000


def metas_time(timestamp: object, otherwise: int) -> int:
    """A ``timestamp`` of a webhook's in milliseconds; ``otherwise`` where it is none.

    It tells when something happened, which may be days before it came in: Meta repeats for seven
    (CLOUD_API_2026.md 7).
    """
    text = str(timestamp)
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        return otherwise
    # Meta tells whole seconds: the end of it, so that nothing is taken for older than it is.
    return int(text) * 1000 + 999
