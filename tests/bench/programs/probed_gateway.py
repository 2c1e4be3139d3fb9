"""The gateway as ``python server.py`` starts it, with a look at its event loop every millisecond.

The look is a timer of that loop: from outside, a loop that is held and an answer that is slow look the same.
What is ready has to wait for as long as a gap between two looks; the gap is up to two milliseconds longer. In
it is whoever held the loop, or held the interpreter's lock in another thread, and what was waited for the
core. So beside each gap stands the processor time that the process used in it, which no neighbour lengthens.

At each line on its standard input it writes one: the longest gaps since the line before, as JSON.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import sys
import time

import msgspec

import cli
import server
from tests.bench.measure import Gap

__all__ = ["Probe", "ProbedGateway"]

_LOOK_S = 0.001
_KEPT = 10


class Probe:
    """Looks at the running loop until it ends."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begin()
        self._loop.add_reader(sys.stdin.fileno(), self._answer)
        self._look()

    def _begin(self) -> None:
        self._longest: list[Gap] = []
        self._begun = self._last = time.perf_counter()
        self._cpu = time.process_time()

    def _look(self) -> None:
        self._note()
        self._loop.call_later(_LOOK_S, self._look)

    def _note(self) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        gap = Gap(now - self._last, cpu - self._cpu, self._last - self._begun)
        self._last, self._cpu = now, cpu
        if len(self._longest) < _KEPT:
            heapq.heappush(self._longest, gap)
        else:
            heapq.heappushpop(self._longest, gap)

    def _answer(self) -> None:
        if not os.read(sys.stdin.fileno(), 100):
            self._loop.remove_reader(sys.stdin.fileno())
            return
        # The loop may have been held right up to here.
        self._note()
        print(msgspec.json.encode(sorted(self._longest, reverse=True)).decode(), flush=True)
        self._begin()


class ProbedGateway(server.Gateway):
    """Probed from the moment it is ready."""

    async def start(self) -> None:
        """As the gateway does, then the probe."""
        await super().start()
        Probe()


if __name__ == "__main__":
    sys.exit(cli.main(server.PROGRAM._replace(make_gateway=ProbedGateway), []))
