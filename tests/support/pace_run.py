"""A broadcast in simulated time: the lane's pacers on one side, the limits of the sandbox on the other.

Owns the way between them: each message and each answer takes its time, and not always the same, so that what
leaves evenly does not arrive so. No loop and no I/O.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from store.records import Row
from tests.support.rows import make_row
from whatsapp.lane_builder import _BURST_S, _HEADROOM, _PAIR_SLACK_S
from whatsapp.pacing import LanePacer, PairPacer
from whatsapp.queue import LaneQueue
from whatsapp.sandbox_rules import PairRate, Throughput

__all__ = ["PaceRun"]

_TICK_S = 0.005
_RATE, _PAIR = 130429, 131056


@dataclass
class PaceRun:
    """One broadcast to ``people``, at a limit that Meta holds as :attr:`limit_at` says."""

    people: Sequence[str]
    rng: random.Random
    limit_at: Callable[[float], float]
    """Meta's limit, messages a second, at so many seconds."""
    inbound_per_s: float = 0.0
    late: float = 0.02
    """Part of the messages that take a third of a second longer on their way."""
    pacer: LanePacer = field(default_factory=lambda: LanePacer(80.0, burst_s=_BURST_S, headroom=_HEADROOM))
    pairs: PairPacer = field(default_factory=lambda: PairPacer(slack_s=_PAIR_SLACK_S))

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.began = self.now
        self.taken: list[float] = []
        """When Meta took each message, in seconds from the start."""
        self.refused: list[tuple[float, int]] = []
        self._queue = LaneQueue(self.pairs, window=10**6, per_stream=10**6)
        rows = [make_row(n, contact=who, due=0) for n, who in enumerate(self.people)]
        self._left: dict[str, dict[str, Row]] = defaultdict(dict)
        """Rows that Meta has not taken, by contact and id."""
        for row in rows:
            self._left[row.contact][row.id] = row
        self._queue.offer(rows)
        self._again: dict[str, Row] = {}
        self._number, self._users = Throughput(), PairRate()
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._n = 0

    def run(self, most_s: float = 3600.0) -> None:
        """Until all are taken."""
        if self.inbound_per_s:
            self._at(self.now + self.rng.expovariate(self.inbound_per_s), self._write)
        while len(self.taken) < len(self.people):
            assert self.now < self.began + most_s, f"{len(self.taken)} of {len(self.people)} after {most_s} s"
            self.now += _TICK_S
            while self._due and self._due[0][0] <= self.now:
                at, _, work, arguments = heapq.heappop(self._due)
                work(at, *arguments)
            self._turn()

    def count(self, code: int, since: float = 0.0) -> int:
        """Refusals with this code from then on."""
        return sum(at >= since and refused == code for at, refused in self.refused)

    def rate(self, start: float, end: float) -> float:
        """Messages a second between these times."""
        return sum(start <= at < end for at in self.taken) / (end - start)

    def _turn(self) -> None:
        for row_id in self._queue.recalled(self.now, 1000):
            self._queue.offer([self._again[row_id]])
        for stream in self._queue.wanted():
            self._queue.offer_stream(stream, self._left[stream.contact].values(), complete=True)
        may = self.pacer.allowance(self.now)
        while may > 0 and (row := self._queue.take(self.now)) is not None:
            may -= 1
            self.pacer.spend(self.now)
            self.pairs.spend(row.contact, self.now)
            self._at(self.now + self._way_s(), self._arrives, row)

    def _arrives(self, at: float, row: Row) -> None:
        limit = self.limit_at(at - self.began)
        code = 0
        if not self._number.admits(at, limit):
            code = _RATE
        elif not self._users.admits("number", row.contact, at):
            code = _PAIR
        if code:
            self.refused.append((at - self.began, code))
        else:
            self.taken.append(at - self.began)
        self._at(at + self._way_s(), self._answered, row, code)

    def _answered(self, at: float, row: Row, code: int) -> None:
        if code == 0:
            self.pairs.accepted(row.contact)
            del self._left[row.contact][row.id]
            self._queue.ended(row)
            return
        again_at = at + 1.0
        if code == _RATE:
            self.pacer.throttled(at)
        else:
            again_at = self.pairs.refused(row.contact, at)
        self._again[row.id] = row
        self._queue.waits(row, again_at)

    def _write(self, at: float) -> None:
        self._number.count(at)
        self._at(at + self._way_s(), self._heard)
        self._at(at + self.rng.expovariate(self.inbound_per_s), self._write)

    def _heard(self, at: float) -> None:
        self.pacer.inbound(at, 1)

    def _way_s(self) -> float:
        way_s = self.rng.uniform(0.005, 0.05)
        return way_s + 0.3 if self.rng.random() < self.late else way_s

    def _at(self, at: float, work: Callable[..., None], *arguments: Any) -> None:
        self._n += 1
        heapq.heappush(self._due, (at, self._n, work, arguments))
