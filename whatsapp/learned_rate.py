"""The rate that Meta really lets a number have, learnt from its refusals.

Pure: time is an argument, in seconds of a monotonic clock. Owns how far the rate falls when Meta refuses for
it (130429), and how it creeps back; how messages are let out at that rate is ``pacing.py``'s. Meta tells a
number's level, and not what it lets pass at the moment (CLOUD_API.md 3), so a refusal is the only word of it.
"""

from __future__ import annotations

__all__ = ["HOLD_S", "LearnedRate"]

HOLD_S = 1.0
"""Nothing leaves for so long after a refusal: until Meta counts nothing any more of what came before it."""
_HALF = 0.5
_SLOWEST = 1.0
_SETTLED_S = 3.0
"""A rate that held for so long was not far off."""
_BACK_OFF = 0.9
_BACK_OFF_TWICE = 0.8
_STAY = 0.95
"""Of the rate that was refused: where the rate stays in between."""
_RETURN_S = 10.0
_PATIENCE_S = (15.0, 600.0)
_CREEP_S = 120.0
_PASSED = 1.2


class LearnedRate:
    """Messages a second, up to a limit.

    - The first refusal halves it, since nothing is known yet, and so does each that comes soon after another,
      but the second; down to one a second.
    - A refusal of a rate that had held shows where Meta's limit lies. The rate falls a tenth below it, is
      nearly there (95%) after seconds, and stays so for 15 seconds, the next time twice as long, up to ten
      minutes.
    - Then it creeps: by the limit in two minutes, evenly. Where that passes the rate that was refused by a
      fifth, or is at the limit for as long as it had stayed, Meta lets more pass again, and what was learnt
      is forgotten.

    So a limit that is in force for good costs few refusals, ever fewer; that one was lifted is found out in
    15 seconds at first, and in ten minutes at the latest.
    """

    def __init__(self, limit: float) -> None:
        """``limit``: messages a second, above 0."""
        self._limit = limit
        self._now = limit
        self._refused = 0.0  # the rate that was refused at last; 0: none is known
        self._cut_at = float("-inf")
        self._seen = float("-inf")
        self._soon = 0  # refusals in a row that came soon after another
        self._patience_s = _PATIENCE_S[0]
        self._creep_from = float("-inf")
        self._full_at = float("inf")  # since when it is at its limit again

    @property
    def now(self) -> float:
        """As of the last call that took a time."""
        return self._now

    @property
    def limit(self) -> float:
        """What it is without refusals."""
        return self._limit

    @property
    def held_until(self) -> float:
        """Nothing may leave before this time."""
        return self._cut_at + HOLD_S

    def refused(self, now: float) -> bool:
        """Meta refused for the rate. False for one within a second of a cut, which has the same cause."""
        self.advance(now)
        if now < self.held_until:
            return False
        if now - self.held_until < _SETTLED_S:
            self._soon += 1
            self._cut(_HALF if self._soon > 1 else _BACK_OFF_TWICE)
        else:
            self._soon = 0
            # Found while it crept: the next try comes later. On the way back: nothing new to doubt.
            if self._refused and now >= self._creep_from:
                self._patience_s = min(2 * self._patience_s, _PATIENCE_S[1])
            self._cut(_BACK_OFF if self._refused else _HALF)
        self._cut_at = now
        self._creep_from = self.held_until + _RETURN_S + self._patience_s
        return True

    def set_limit(self, limit: float) -> None:
        """The number has another limit from now on. A rate that had fallen creeps towards it from where it
        is."""
        fallen = self._now < self._limit
        self._limit = limit
        self._now = min(self._now, limit) if fallen else limit
        if self._refused > limit:
            self._forget()

    def advance(self, now: float) -> float:
        """Let time pass; how many messages it lets leave. An earlier time than the last changes nothing."""
        start = self._seen if self._seen != float("-inf") else now
        if now < start:
            return 0.0
        self._seen = now
        gained = 0.0
        for end in (self.held_until, self._creep_from, now):
            end = min(end, now)
            if end > start:
                gained += self._grow(start, end)
                start = end
        self._full_at = min(self._full_at, now) if self._now >= self._limit else float("inf")
        if self._now >= self._refused * _PASSED or now >= self._full_at + self._patience_s:
            self._forget()
        return gained

    def _grow(self, start: float, end: float) -> float:
        """From ``start`` to ``end``, which lie in one phase; what may leave meanwhile."""
        before, seconds = self._now, end - start
        if end > self.held_until:
            steepness, most = self._limit / _CREEP_S, self._limit
            if self._refused and end <= self._creep_from:
                most = max(before, min(self._limit, _STAY * self._refused))
                steepness = self._refused / _RETURN_S
            self._now = min(most, before + seconds * steepness)
            growing = (self._now - before) / steepness
            return (before + self._now) / 2 * growing + self._now * (seconds - growing)
        return before * seconds

    def _cut(self, factor: float) -> None:
        self._refused = self._now
        self._now = max(factor * self._now, min(_SLOWEST, self._limit))

    def _forget(self) -> None:
        self._refused = 0.0
        self._patience_s = _PATIENCE_S[0]
