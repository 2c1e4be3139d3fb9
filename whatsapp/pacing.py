"""How fast messages may leave: a token bucket for each number, a rate for each (number, recipient) pair.

Pure: time is an argument everywhere, in seconds of a monotonic clock; nothing sleeps. Owns the arithmetic of
Meta's limits (CLOUD_API.md 3). What refusals teach of a number's rate is in ``learned_rate.py``, which
message leaves next is the business of ``queue.py``, what a refusal means is decided in ``errors.py``.

Both pacers count what really left, even if it was not allowed; their promise holds for those who ask
first.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, inf, isfinite

from whatsapp.learned_rate import LearnedRate

__all__ = ["LanePacer", "PairPacer"]

_BURST_S = 1 / 8
_INBOUND_SHARE = 0.75
# Above the distance of two neighbouring floats of any monotonic clock: no wait ends just too early.
_TICK_S = 1e-6

_MAX_REFUSALS = 6


class LanePacer:
    """The pace of one number: in any T seconds at most ``limit * T + burst`` messages leave.

    Meta counts messages in and out against one limit a second, 80 by default, up to 1,000 (CLOUD_API.md 3).
    It names no tolerance, so the burst is small: by default an eighth of a second's worth, at least one,
    which is what collects between two looks of a busy lane. It shrinks with the rate.

    A refusal (130429) holds all for a second and lowers the rate, see ``learned_rate.py``. A changed limit
    does not undo it.
    """

    def __init__(
        self, rate: float, burst: float | None = None, *, burst_s: float = _BURST_S, headroom: float = 0.0
    ) -> None:
        """``rate``: messages a second, above 0; ``burst``: messages at once, at least 1; without it, those of
        ``burst_s`` seconds at the full rate. ``headroom``: the part of the rate that is left unused, below 1:
        for customers' messages that Meta has counted and we have not heard of, and for some of ours
        that take longer on their way than the next ones."""
        _check("rate", rate, 0.0, or_equal=False)
        if burst is not None:
            _check("burst", burst, 1.0)
        self._learned = LearnedRate(float(rate))
        self._share = 1.0
        self._fixed_burst = burst
        self._burst_s = burst_s
        self._used = 1.0 - headroom
        self._tokens = self.burst
        self._inbound_tokens = _INBOUND_SHARE * self.rate
        self._paused_until = 0.0
        self._parked = False

    @property
    def limit(self) -> float:
        """The rate without refusals, messages a second."""
        return self._learned.limit

    @property
    def rate(self) -> float:
        """The present rate, as of the last call that took a time; below ``limit`` after a refusal, or with a
        share."""
        return self._learned.now * self._share

    @property
    def burst(self) -> float:
        """How many messages may leave at once at the full rate."""
        if self._fixed_burst is not None:
            return self._fixed_burst
        return max(_at_least(self.limit), self.limit * self._burst_s)

    @property
    def paused_until(self) -> float:
        """When the pause ends; 0 if there never was one or it was ended, ``inf`` while parked."""
        return inf if self._parked else self._paused_until

    def allowance(self, now: float) -> int:
        """How many messages may leave now."""
        self._advance(now)
        if now < self._blocked_until():
            return 0
        return max(0, floor(self._tokens))

    def next_at(self, now: float) -> float:
        """When at least one may leave, if nothing else happens; ``now`` if it may at once."""
        self._advance(now)
        ready = now
        if self._tokens < 1.0:
            ready = now + (1.0 - self._tokens) / (self.rate * self._used) + _TICK_S
        return max(ready, self._blocked_until())

    def spend(self, now: float, n: int = 1) -> None:
        """``n`` messages leave now."""
        _check("n", n, 0)
        self._advance(now)
        self._tokens -= n

    def inbound(self, now: float, n: int) -> None:
        """``n`` messages came in now, which Meta counts against the same limit.

        They take three quarters of the rate at most, and so never more than a second's worth in advance:
        customers who write a lot can slow the replies to them, not stop them.
        """
        _check("n", n, 0)
        self._advance(now)
        taken = min(float(n), self._inbound_tokens)
        self._inbound_tokens -= taken
        self._tokens -= taken

    def throttled(self, now: float) -> None:
        """Meta refused for the number's rate (130429)."""
        self._advance(now)
        if self._learned.refused(now):
            self._settle_tokens(min(self._tokens, 0.0))

    def set_limit(self, rate: float) -> None:
        """The number has another limit from now on. A pacer that was slowed creeps towards it from where
        it is.
        """
        _check("rate", rate, 0.0, or_equal=False)
        self._learned.set_limit(float(rate))
        self._settle_tokens(self._tokens)

    def share(self, part: float) -> None:
        """Take only this part of the rate from now on, above 0 and at most 1: others want theirs."""
        _check("part", part, 0.0, or_equal=False)
        self._share = min(1.0, part)

    def pause(self, until: float) -> None:
        """Nothing leaves before ``until``. A longer pause is not cut short."""
        self._paused_until = max(self._paused_until, until)

    def resume(self) -> None:
        """End the pause; the hold after a refusal stays, and parking does."""
        self._paused_until = 0.0

    def park(self) -> None:
        """Nothing leaves before :meth:`unpark`."""
        self._parked = True

    def unpark(self) -> None:
        """End the parking; a pause goes on."""
        self._parked = False

    def _blocked_until(self) -> float:
        return max(self.paused_until, self._learned.held_until)

    def _capacity(self) -> float:
        least = 1.0 if self._fixed_burst is not None else _at_least(self.rate)
        return max(least, self.burst * self.rate / self.limit)

    def _settle_tokens(self, tokens: float) -> None:
        """As many, as far as the rate that has changed has room for them, or for debts."""
        self._tokens = max(min(tokens, self._capacity()), -self.rate)
        self._inbound_tokens = min(self._inbound_tokens, _INBOUND_SHARE * self.rate)

    def _advance(self, now: float) -> None:
        """Let time pass up to ``now``; an earlier time than the last changes nothing."""
        gained = self._learned.advance(now) * self._share * self._used
        self._tokens = min(self._capacity(), self._tokens + gained)
        inbound_capacity = _INBOUND_SHARE * self.rate
        self._inbound_tokens = min(inbound_capacity, self._inbound_tokens + _INBOUND_SHARE * gained)


def _at_least(rate: float) -> float:
    """What a bucket holds at least: one message, and what comes in until somebody looks. Half of one is
    little enough from 20 a second on; at one a second it would let a second one go too soon."""
    return 1.0 + min(0.5, rate / 40)


class _Pair:
    """What is known of one recipient."""

    __slots__ = ("blocked_until", "due", "refusals")

    def __init__(self) -> None:
        self.due = float("-inf")  # when all that was borrowed is paid back
        self.blocked_until = float("-inf")
        self.refusals = 0


class PairPacer:
    """The pace of one number towards each recipient, by contact key.

    Meta takes one message in 6 seconds to the same user, and up to 45 at once borrowed from the time that
    follows (CLOUD_API.md 3): in any T seconds at most ``burst + T / interval_s`` leave. After a refusal
    (131056) it asks to wait 4^n seconds, n from 0 and one more with each refusal in a row; here up to 4^6,
    more than an hour, since a whole burst is paid back in less than five minutes. A refusal also shows
    that nothing can be borrowed any more.
    """

    def __init__(self, burst: int = 45, interval_s: float = 6.0, slack_s: float = 0.0) -> None:
        """``burst``: messages at once, at least 1; ``interval_s``: seconds that each one costs, above 0;
        ``slack_s``: what of the credit is never used, since a message may reach Meta later than the next one.
        """
        _check("burst", burst, 1)
        _check("interval_s", interval_s, 0.0, or_equal=False)
        _check("slack_s", slack_s, 0.0)
        self._interval_s = interval_s
        self._credit_s = (burst - 1) * interval_s - slack_s
        self._pairs: dict[str, _Pair] = {}

    def __len__(self) -> int:
        """How many contacts are remembered."""
        return len(self._pairs)

    def ready_at(self, contact: str, now: float) -> float:
        """When the next message to this contact may leave; ``now`` if it may at once."""
        pair = self._pairs.get(contact)
        if pair is None:
            return now
        return max(now, pair.due - self._credit_s, pair.blocked_until)

    def spend(self, contact: str, now: float) -> None:
        """A message to this contact leaves now."""
        pair = self._pair(contact)
        pair.due = max(pair.due, now) + self._interval_s

    def refused(self, contact: str, now: float) -> float:
        """Meta refused for this pair's rate (131056). Returns when the next message may leave."""
        pair = self._pair(contact)
        wait_s = 4.0 ** min(pair.refusals, _MAX_REFUSALS)
        pair.refusals += 1
        pair.due = max(pair.due, now + self._credit_s)
        pair.blocked_until = max(pair.blocked_until, now + wait_s)
        return self.ready_at(contact, now)

    def accepted(self, contact: str) -> None:
        """Meta took a message to this contact, which ends its refusals in a row."""
        pair = self._pairs.get(contact)
        if pair is not None:
            pair.refusals = 0

    def rebuild(self, contact: str, times: Iterable[float]) -> None:
        """Take up the recent attempts at this contact, in any order, in place of those known so far.

        For a start after a restart: the times are of the monotonic clock of now, so they may well be
        negative.
        """
        due = float("-inf")
        for at in sorted(times):
            due = max(due, at) + self._interval_s
        if contact in self._pairs or isfinite(due):
            self._pair(contact).due = due

    def forget_idle(self, now: float) -> int:
        """Drop every contact that has wholly recovered; returns how many. Walks through all of them.

        Without this, called now and then, each contact ever written to is kept. Refusals in a row are kept
        for as long as a burst takes to be paid back after their wait, so that the attempt after it still
        counts on.
        """
        gone = [contact for contact, pair in self._pairs.items() if self._recovered_at(pair) <= now]
        for contact in gone:
            del self._pairs[contact]
        return len(gone)

    def _recovered_at(self, pair: _Pair) -> float:
        grace_s = self._credit_s + self._interval_s if pair.refusals else 0.0
        return max(pair.due, pair.blocked_until + grace_s)

    def _pair(self, contact: str) -> _Pair:
        pair = self._pairs.get(contact)
        if pair is None:
            pair = self._pairs[contact] = _Pair()
        return pair


def _check(name: str, value: float, least: float, *, or_equal: bool = True) -> None:
    """Refuse a number that makes no sense, by its name."""
    if isfinite(value) and (value > least or (or_equal and value == least)):
        return
    raise ValueError(f"{name} must be {'at least' if or_equal else 'above'} {least:g}, not {value}")
