"""Messages of customers that come one after the other, each until it is acknowledged, and kills amid them."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import aiohttp

from tests.support.load import post_webhook
from tests.support.process import Installation, Process
from tests.support.waiting import GUARD_S, eventually, until

__all__ = ["Writers", "kill_amid"]


class Writers:
    """Post by webhook to ``url`` until ``ends``. ``message`` says by a message's number who writes what."""

    def __init__(self, url: str, message: Callable[[int], tuple[str, str]]) -> None:
        self._url = url
        self._message = message
        self.acknowledged: list[str] = []
        """The texts that were answered 200."""
        self.ends = False

    async def run(self) -> None:
        """Write, one message at a time."""
        timeout = aiohttp.ClientTimeout(total=GUARD_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for number in itertools.count():
                if self.ends:
                    return
                phone, text = self._message(number)
                message = (f"wamid.{number}", phone, text)
                await eventually(lambda m=message: self._post(session, m))
                self.acknowledged.append(text)

    async def _post(self, session: aiohttp.ClientSession, message: tuple[str, str, str]) -> bool:
        try:
            return (await post_webhook(session, self._url, [message])).status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


async def kill_amid(
    installation: Installation, writers: Writers, kills: int, rng: random.Random, *, most: int
) -> Process:
    """Kill the gateway so often, each time after 3 to ``most`` messages; the process that is left, once all
    is acknowledged."""
    process = await installation.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(writers.run())
            for _ in range(kills):
                wanted = len(writers.acknowledged) + rng.randint(3, most)
                await until(lambda n=wanted: len(writers.acknowledged) >= n)
                await process.kill()
                process = await installation.start()
            writers.ends = True
    except BaseException:
        await process.kill()
        raise
    return process
