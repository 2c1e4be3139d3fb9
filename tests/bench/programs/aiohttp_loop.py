"""Peer of the queue: a bare aiohttp client that posts messages, so many at a time, and keeps nothing.

Takes the URL, the token, the concurrency, and a file of bodies, one a line. Says ``ready``, waits for a
line on its standard input, posts them all, and says how many seconds, and of processor time, that took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop

__all__ = ["main", "post_all"]


async def post_all(url: str, token: str, concurrency: int, bodies: list[bytes]) -> tuple[float, float]:
    """Seconds until every body is posted and answered 200, and processor time spent on it."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        rest = iter(bodies)
        start, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(_post(session, url, rest))
        return time.perf_counter() - start, time.process_time() - cpu


async def _post(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        async with session.post(url, data=body) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}: {text[:300]!r}")


def main(url: str, token: str, concurrency: str, file: str) -> None:
    """The process entry."""
    bodies = Path(file).read_bytes().splitlines()
    print("ready", flush=True)
    sys.stdin.readline()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(*runner.run(post_all(url, token, int(concurrency), bodies)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
