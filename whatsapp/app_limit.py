"""How much of an app's calls is used up, as Graph's headers and refusals tell, and what its numbers do then.

Pure: time is an argument, in seconds of a monotonic clock. One for all lanes of a process: its numbers belong
to the one app that signs its webhooks. Graph counts an app's calls by the hour (CLOUD_API.md 2, THR-APP);
what it counts of sends is not documented, so the headers are believed where they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

import msgspec

__all__ = ["AppLimit", "read_usage"]

_BRAKE_AT = 80.0
_ALL = 100.0
_LEAST_SHARE = 0.05
_KNOWN_FOR_S = 300.0
"""What was heard so long ago says nothing: the hour moves on."""
_PARTS = ("call_count", "total_cputime", "total_time")


def read_usage(headers: Mapping[str, str]) -> float | None:
    """The percent that is used up of what is nearest to its end; None where no header says.

    ``X-App-Usage`` is an object of three percentages, ``X-Business-Use-Case-Usage`` has lists of such
    (CLOUD_API.md 2, Graph throttling headers). What cannot be read says nothing.
    """
    values = [headers.get("X-App-Usage"), headers.get("X-Business-Use-Case-Usage")]
    return max((percent for value in values if value for percent in _percents(value)), default=None)


def _percents(value: str) -> Iterator[float]:
    try:
        usage = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    if not isinstance(usage, dict):
        return
    entries: list[Any] = [usage]
    for one in usage.values():
        entries += one if isinstance(one, list) else ()
    for entry in entries:
        for part in _PARTS if isinstance(entry, dict) else ():
            percent = entry.get(part)
            if isinstance(percent, int | float) and not isinstance(percent, bool) and isfinite(percent):
                yield max(0.0, float(percent))


class AppLimit:
    """From 80% on (CLOUD_API.md 2: ours) each number takes a smaller share of its rate, at 100% a
    twentieth."""

    def __init__(self) -> None:
        self._used = 0.0
        self._heard_at = float("-inf")
        self._paused_until = 0.0
        self._why = ""

    @property
    def paused_until(self) -> float:
        """No number sends before this time."""
        return self._paused_until

    def heard(self, headers: Mapping[str, str], now: float) -> None:
        """Graph has answered with these headers, in whatever case a look-up finds them."""
        used = read_usage(headers)
        if used is not None:
            self._used, self._heard_at = used, now

    def pause(self, until: float, why: str) -> None:
        """Graph refused for the app's calls. A longer pause is not cut short."""
        if until > self._paused_until:
            self._paused_until, self._why = until, why

    def resume(self) -> None:
        """End the pause."""
        self._paused_until = 0.0

    def why(self, now: float) -> str:
        """What the operator reads while it is paused; else empty."""
        return self._why if now < self._paused_until else ""

    def used(self, now: float) -> float:
        """Percent, as far as it is known; else 0."""
        return self._used if now < self._heard_at + _KNOWN_FOR_S else 0.0

    def share(self, now: float) -> float:
        """What each number may take of its rate: above 0, at most 1."""
        left = (_ALL - self.used(now)) / (_ALL - _BRAKE_AT)
        return min(1.0, max(_LEAST_SHARE, left))
