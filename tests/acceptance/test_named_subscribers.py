"""``kill -9`` while a subscriber with a name reads and acknowledges: it misses nothing, and is given again
only what it had not acknowledged, or had acknowledged in the last moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import websockets

from tests.support.gateway import signed
from tests.support.killing import installed
from tests.support.process import SECRET, Installation, Process
from tests.support.waiting import GUARD_S, eventually
from tests.support.webhooks import body, entry, message_value, text_message

Json = dict[str, Any]
NAME = "crm"
KILLS = {"sqlite": 6, "mongo": 4}
_AGAIN_S = 0.02


class Named:
    """A subscriber with a name. It keeps nothing of its own from one connection to the next."""

    def __init__(self, installations: Sequence[Installation]) -> None:
        self._installations = installations
        self._turn = 0
        self.events: list[Json] = []
        """Every event, as often as it came."""
        self.hellos: list[tuple[int, int, int]] = []
        """Of each connection: where the gateway lets it begin, up to where it had acknowledged, and up to
        where it had read."""
        self._acknowledged = 0

    @property
    def last(self) -> int:
        """The newest offset that it has seen."""
        return max((event["offset"] for event in self.events), default=0)

    async def run(self) -> None:
        """Come back until cancelled, each time at the next process."""
        while True:
            with suppress(OSError, TimeoutError, websockets.InvalidHandshake, websockets.ConnectionClosed):
                await self._listen(self._installations[self._turn % len(self._installations)].socket_url)
            self._turn += 1
            await asyncio.sleep(_AGAIN_S)

    async def _listen(self, url: str) -> None:
        async with websockets.connect(
            f"{url}?subscriber={NAME}&since=0", max_size=None, proxy=None, open_timeout=2
        ) as socket:
            place = -1
            async for message in socket:
                frame = msgspec.json.decode(message)
                if frame["type"] == "hello":
                    assert frame["recovered"] and frame["subscriber"] == NAME, frame
                    place = frame["offset"]
                    self.hellos.append((place, self._acknowledged, self.last))
                elif frame["type"] == "event":
                    assert frame["prev"] == place, (frame["prev"], place)
                    place = frame["offset"]
                    self.events.append(frame)
                    if place % 3 == 0 or place > 4096:
                        await socket.send(msgspec.json.encode({"op": "ack", "offset": place}).decode())
                        self._acknowledged = max(self._acknowledged, place)
                else:
                    raise AssertionError(f"an unexpected frame: {frame}")


async def post_webhooks(session: aiohttp.ClientSession, installations: Sequence[Installation]) -> int:
    """Post until cancelled, each until it is taken."""
    n = 0
    while True:
        n += 1
        content = body(entry(message_value(messages=[text_message(f"wamid.{n:08}")])))
        turn = n
        while True:
            url = installations[turn % len(installations)].url
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(
                    f"{url}/webhook", data=content, headers=signed(content, SECRET)
                ) as answer:
                    if answer.status == 200:
                        break
            turn += 1
            await asyncio.sleep(_AGAIN_S)


async def whole_log(session: aiohttp.ClientSession, url: str) -> list[Json]:
    """By pages."""
    found: list[Json] = []
    after, more = "0", True
    while more:
        async with session.get(f"{url}/api/events?limit=1000&after={after}") as answer:
            assert answer.status == 200, await answer.text()
            page = await answer.json()
        found += page["events"]
        after, more = page["next"], page["more"]
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", KILLS)
async def test_a_named_subscriber_misses_nothing_when_the_gateway_is_killed(
    store: str, tmp_path: Path
) -> None:
    rng = random.Random(f"named {store}")
    settings: dict[str, object] = {"AUTOREPLY_ENABLED": "false", "LEASE_TTL_S": 3}
    with installed(tmp_path, store, settings) as first:
        installations = [first]
        if store == "mongo":
            # It goes on at another process, which takes its name over from the one that was killed.
            installations.append(Installation(tmp_path, **settings, STORE_URL=first.variables["STORE_URL"]))
        named = Named(installations)
        processes: list[Process] = [await each.start() for each in installations]
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            reading = asyncio.create_task(named.run())
            posting = asyncio.create_task(post_webhooks(session, installations))
            try:
                for kill in range(KILLS[store]):
                    await further(named, rng.randint(5, 60), reading)
                    if kill == 0:
                        await something_kept(session, first.url)
                    which = kill % len(installations)
                    await processes[which].kill()
                    processes[which] = await installations[which].start()
                await further(named, 20, reading)
                posting.cancel()
                await asyncio.wait({posting})
                log = await whole_log(session, first.url)
                await until_seen(named, log[-1]["offset"], reading)
                await listed_everywhere(session, installations)
            finally:
                posting.cancel()
                reading.cancel()
                await asyncio.wait({posting, reading})
                for process in processes:
                    await process.kill()
        first.check_logs()
    # A webhook that was under way when posting ended may have come after the log was read.
    seen = {event["offset"]: event for event in named.events if event["offset"] <= log[-1]["offset"]}
    assert list(seen.values()) == sorted(seen.values(), key=lambda event: event["offset"])
    assert list(seen.values()) == log, "what it saw is not the log"
    assert len(named.hellos) > KILLS[store] // len(installations)
    before = 0
    for place, acknowledged, read in named.hellos:
        # Never back, and never past what it had acknowledged.
        assert before <= place <= acknowledged or place == acknowledged == 0, named.hellos
        assert place <= read
        before = place
    assert before > 0, "no acknowledgement was ever kept"


async def something_kept(session: aiohttp.ClientSession, url: str) -> None:
    """Return once the store has kept an acknowledgement: it was seen later than it came first."""

    async def is_kept() -> bool:
        async with session.get(f"{url}/api/subscribers") as answer:
            (found,) = (await answer.json())["subscribers"]
        return bool(found["seen_at"] > found["created_at"])

    await eventually(is_kept, "an acknowledgement that is kept", 4 * GUARD_S)


async def listed_everywhere(session: aiohttp.ClientSession, installations: Sequence[Installation]) -> None:
    """Each process shows the name, and where it is connected."""

    async def is_shown() -> bool:
        shown = []
        for installation in installations:
            async with session.get(f"{installation.url}/api/subscribers") as answer:
                (found,) = (await answer.json())["subscribers"]
            shown.append(found)
        assert {one["name"] for one in shown} == {NAME}
        here = [one for one in shown if one["number"] is not None]
        return (
            all(one["connected"] and one["lag"] < 3 for one in shown)
            and len(here) == 1
            and {one["process"] for one in shown} == {here[0]["process"]}
        )

    await eventually(is_shown, "the name on every process's list", 4 * GUARD_S)


async def further(named: Named, count: int, reading: asyncio.Task[None]) -> None:
    """Return once it has seen so many more."""
    wanted = len({event["offset"] for event in named.events}) + count

    async def enough() -> bool:
        if reading.done():
            reading.result()
        return len({event["offset"] for event in named.events}) >= wanted

    await eventually(enough, f"{count} more events", 4 * GUARD_S)


async def until_seen(named: Named, offset: int, reading: asyncio.Task[None]) -> None:
    async def seen() -> bool:
        if reading.done():
            reading.result()
        return named.last >= offset

    await eventually(seen, f"offset {offset}", 4 * GUARD_S)
