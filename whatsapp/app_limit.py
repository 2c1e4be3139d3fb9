"""How much of the calls is used up, as Graph's headers and refusals tell, and what the numbers do then.

Pure: time is an argument, in seconds of a monotonic clock. One for all lanes of a process: its numbers belong
to the one app that signs its webhooks, and to one business account or several. Graph counts the calls by the
hour, of the app and of each account (CLOUD_API.md 2, THR-APP and Graph throttling headers); what it counts of
sends is not documented, so the headers are believed where they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

import msgspec

__all__ = ["AppLimit", "Quota", "read_usage"]

_BRAKE_AT = 80.0
_ALL = 100.0
_LEAST_SHARE = 0.05
_KNOWN_FOR_S = 300.0
"""What was heard so long ago says nothing: the hour moves on."""
_PARTS = ("call_count", "total_cputime", "total_time")


class Quota(NamedTuple):
    """What Graph counts on its own: the calls of the app (both empty), or one kind of an account's."""

    account: str = ""
    kind: str = ""


def read_usage(headers: Mapping[str, str]) -> dict[Quota, float]:
    """The percent that is used up of each quota that the headers name: of what is nearest to its end.

    ``X-App-Usage`` is an object of three percentages, ``X-Business-Use-Case-Usage`` has lists of such by the
    account's id (CLOUD_API.md 2, Graph throttling headers). What cannot be read says nothing.
    """
    entries = [(Quota(), _object(headers.get("X-App-Usage")))]
    for account, uses in _object(headers.get("X-Business-Use-Case-Usage")).items():
        for use in uses if isinstance(uses, list) else ():
            if account and isinstance(use, dict):
                kind = use.get("type")
                entries.append((Quota(account, kind if isinstance(kind, str) else ""), use))
    usage: dict[Quota, float] = {}
    for quota, entry in entries:
        for percent in _percents(entry):
            usage[quota] = max(percent, usage.get(quota, 0.0))
    return usage


def _object(value: str | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(value or "null")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _percents(entry: Mapping[str, Any]) -> Iterator[float]:
    for part in _PARTS:
        percent = entry.get(part)
        if isinstance(percent, int | float) and not isinstance(percent, bool) and isfinite(percent):
            yield max(0.0, float(percent))


class _Heard(NamedTuple):
    percent: float
    until: float


class AppLimit:
    """From 80% on (CLOUD_API.md 2: ours) a number takes a smaller share of its rate, at 100% a twentieth. The
    app's calls count for all numbers, an account's for those whose answers have named it."""

    def __init__(self) -> None:
        self._heard: dict[Quota, _Heard] = {}
        self._quotas: dict[str, set[Quota]] = {}  # by number
        self._pauses: dict[str, tuple[float, str]] = {}  # by account, of all under an empty one: until, why

    def paused_until(self, number: str) -> float:
        """The number does not send before this time."""
        return self._pause_of(number)[0]

    def heard(self, number: str, headers: Mapping[str, str], now: float) -> None:
        """Graph has answered a call of this number with these headers, in whatever case a look-up finds
        them. What is not named in them stands as it was."""
        usage = read_usage(headers)
        if not usage:
            return
        self._heard = {quota: heard for quota, heard in self._heard.items() if now < heard.until}
        self._heard |= {quota: _Heard(percent, now + _KNOWN_FOR_S) for quota, percent in usage.items()}
        self._quotas[number] = {*usage, *(self._quotas.get(number, set()) & self._heard.keys())}

    def pause(self, until: float, why: str) -> None:
        """Graph refused for the app's calls. A longer pause is not cut short."""
        self._pause("", until, why)

    def pause_account(self, number: str, until: float, why: str) -> None:
        """Graph refused for the calls of the number's account; where none is known, all numbers wait."""
        for account in self._accounts(number) or {""}:
            self._pause(account, until, why)

    def resume(self) -> None:
        """End all pauses."""
        self._pauses.clear()

    def why(self, number: str, now: float) -> str:
        """What the operator reads while the number is paused; else empty."""
        until, why = self._pause_of(number)
        return why if now < until else ""

    def used(self, number: str, now: float) -> float:
        """Percent of what is nearest to its end of all that counts for the number, as far as it is known;
        else 0."""
        heard = (self._heard.get(quota) for quota in {Quota(), *self._quotas.get(number, ())})
        return max((one.percent for one in heard if one and now < one.until), default=0.0)

    def share(self, number: str, now: float) -> float:
        """What the number may take of its rate: above 0, at most 1."""
        left = (_ALL - self.used(number, now)) / (_ALL - _BRAKE_AT)
        return min(1.0, max(_LEAST_SHARE, left))

    def _accounts(self, number: str) -> set[str]:
        return {quota.account for quota in self._quotas.get(number, ())} - {""}

    def _pause(self, account: str, until: float, why: str) -> None:
        self._pauses[account] = max(self._pauses.get(account, (0.0, "")), (until, why))

    def _pause_of(self, number: str) -> tuple[float, str]:
        """The longest."""
        accounts = {"", *self._accounts(number)}
        return max(self._pauses.get(account, (0.0, "")) for account in accounts)
