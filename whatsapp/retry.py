"""Whether and when a failed attempt is made again.

Pure: the random source is an argument, nothing sleeps or logs, nothing is known of lanes or the store.
What an error means is decided in ``errors.py``; a new code of Meta's goes into the table there, not here.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from whatsapp.errors import Outcome, Verdict

__all__ = ["GiveUp", "Retry", "RetryPolicy", "store_pause"]

_MAX_DOUBLINGS = 64
_AT_EASE = 4
"""Refusals that do not count after which the waits begin to grow: limits of the number mostly pass soon."""


_STORE_FIRST_S = 0.3
_STORE_MOST_S = 3.0


def store_pause(tries: int, random: Callable[[], float]) -> float:
    """Seconds for which a store is left alone that was away in so many tries, 1 or more: 0.3, 0.6 ... 3, less
    up to half. Many wait beside each other, and a store that is only slow would never come to an end of what
    all of them ask again and again. ``random``: from 0 to 1."""
    return min(_STORE_MOST_S, _STORE_FIRST_S * 2.0 ** min(tries - 1, _MAX_DOUBLINGS)) * (1 - random() / 2)


class Retry(msgspec.Struct, frozen=True):
    """Put the message back and try again."""

    delay_s: float
    """How long it waits at least."""


class GiveUp(msgspec.Struct, frozen=True):
    """Dead letter: only a person may have it tried again."""

    exhausted: bool
    """True: the attempts are used up. False: the refusal is final."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """Exponential backoff with full jitter, capped, and a limit on attempts."""

    max_attempts: int = 8
    """Attempts that count, the first one among them."""
    base_s: float = 1.0
    """Ceiling of the delay after the first failure."""
    cap_s: float = 300.0
    """Ceiling of the delay after however many."""
    max_spared: int = 100
    """Refusals that do not count, after which each counts: so nothing is tried for ever."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be at least 1")
        if self.max_spared < 0:
            raise ValueError("max_spared must be at least 0")
        if not 0 < self.base_s <= self.cap_s < float("inf"):
            raise ValueError("base_s must be above 0 and not above cap_s, and both finite")

    def schedule(self, failures: int) -> float:
        """Ceiling of the delay in seconds after so many failures: 0, base, 2 base, 4 base, up to the cap."""
        if failures < 1:
            return 0.0
        return min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))

    def delay(
        self,
        failures: int,
        random: Callable[[], float],
        retry_after_s: float = 0.0,
        first_delay_s: float = 0.0,
    ) -> float:
        """Seconds to wait: from the longer floor up to the schedule, or that floor where it is longer.

        ``random`` gives values from 0 to below 1. Without floors this is full jitter: 0 up to the
        schedule, so that messages that failed together do not come back together.
        """
        floor = max(0.0, retry_after_s, first_delay_s)
        ceiling = max(floor, self.schedule(failures))
        return min(ceiling, floor + random() * (ceiling - floor))

    def counts(self, verdict: Verdict, spared: int) -> bool:
        """Whether an attempt counts against the limit, of a message with so many before it that did not."""
        return verdict.burn or spared >= self.max_spared

    def decide(
        self, verdict: Verdict, failures: int, random: Callable[[], float], spared: int = 0
    ) -> Retry | GiveUp:
        """What follows from a verdict on an attempt at a message with ``failures`` counted ones before it,
        and ``spared`` ones that were refused and did not count.

        An attempt that counts (:meth:`counts`) uses the message up when it is the last that the verdict or
        this policy allows; one that does not never does. A parked message goes back without a delay of its
        own, since its lane is what waits; to have it count after all, give the verdict with ``burn`` set. For
        an unknown outcome this is what to do once the grace has passed without a word.
        """
        if verdict.outcome is Outcome.FAIL:
            return GiveUp(exhausted=False)
        if not self.counts(verdict, spared):
            if verdict.outcome is Outcome.PARK:
                return Retry(verdict.delay_s)
            tries = max(1, failures, spared - _AT_EASE)
            return Retry(self.delay(tries, random, first_delay_s=verdict.delay_s))
        counted = failures + 1
        if counted >= self._limit(verdict):
            return GiveUp(exhausted=True)
        return Retry(self.delay(counted, random, first_delay_s=verdict.delay_s))

    def _limit(self, verdict: Verdict) -> int:
        return min(verdict.max_tries, self.max_attempts) if verdict.max_tries else self.max_attempts
