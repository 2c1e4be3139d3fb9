"""``kill -9`` while events are pushed to other programs: each gets all in order, repeated as documented."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.server import ServerConnection

from tests.support.follower import read_log
from tests.support.killing import STORES, installed
from tests.support.load import LEASED, post_webhook
from tests.support.process import Installation, Process
from tests.support.receiver import Receiver, receiving
from tests.support.socket_server import SocketServer, pushed_to
from tests.support.waiting import GUARD_S, eventually, until

Json = dict[str, Any]

_KILLS = {"sqlite": 10, "mongo": 4}
_UNSAVED = 500
"""Events that come again after a crash at most: those of a quarter of a second of catching up."""


class _Meta:
    """Posts one message after the other, each until it is answered 200."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: list[str] = []
        self.ends = False

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=GUARD_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for number in itertools.count():
                if self.ends:
                    return
                await eventually(lambda n=number: self._post(session, n))
                self.acknowledged.append(_text(number))

    async def _post(self, session: aiohttp.ClientSession, number: int) -> bool:
        message = (f"wamid.{number}", "5215550001111", _text(number))
        try:
            return (await post_webhook(session, self._url, [message])).status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


def _text(number: int) -> str:
    return f"text {number}"


async def _kill_again_and_again(installation: Installation, meta: _Meta, kills: int) -> Process:
    """The process that is left, once all is acknowledged."""
    rng = random.Random("push")
    process = await installation.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(meta.run())
            for _ in range(kills):
                wanted = len(meta.acknowledged) + rng.randint(3, 40)
                await until(lambda n=wanted: len(meta.acknowledged) >= n)
                await process.kill()
                process = await installation.start()
            meta.ends = True
    except BaseException:
        await process.kill()
        raise
    return process


async def _acknowledge(connection: ServerConnection, event: Json) -> None:
    await connection.send(json.dumps({"op": "ack", "offset": event["offset"]}))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", STORES)
async def test_kills_while_events_are_pushed_lose_none_and_keep_the_order(store: str, tmp_path: Path) -> None:
    async with pushed_to() as server, receiving() as one, receiving() as many:
        server.on_event = _acknowledge
        endpoints = [
            {"name": "one", "url": one.url, "types": ["message.received"]},
            {"name": "many", "url": many.url, "types": ["message.received"], "batch": 20},
        ]
        settings: dict[str, object] = {
            **(LEASED if store == "mongo" else {}),
            "WEBSOCKET_URL": server.url,
            "RELAY_TYPES": "message.received",
            "RELAY_ACK": "true",
            "HOOKS_ENDPOINTS": json.dumps(endpoints),
            "AUTOREPLY_ENABLED": "false",
        }
        with installed(tmp_path, store, settings) as installation:
            meta = _Meta(installation.url)
            process = await _kill_again_and_again(installation, meta, _KILLS[store])
            try:
                log = await _arrived(installation, meta, server, one, many)
            finally:
                await process.kill()
            installation.check_logs()
    for came in (server.events, _events(one), _events(many)):
        _check(came, log, _KILLS[store])


async def _arrived(
    installation: Installation, meta: _Meta, server: SocketServer, *receivers: Receiver
) -> list[Json]:
    """The messages in the log, once the last of them has come to everybody."""
    last = meta.acknowledged[-1]
    await server.wait(lambda: last in server.texts, "the last message")
    for receiver in receivers:
        await receiver.wait(lambda r=receiver: last in _texts(_events(r)), "the last message")
    log = await read_log(installation.socket_url, server.events[-1]["offset"])
    messages = [event for event in log if event["event"] == "message.received"]
    assert _texts(messages) == meta.acknowledged
    return messages


def _check(came: Sequence[Json], log: Sequence[Json], kills: int) -> None:
    places = {event["offset"]: n for n, event in enumerate(log)}
    assert [event for event in came if event != log[places[event["offset"]]]] == []
    order = [places[event["offset"]] for event in came]
    assert list(dict.fromkeys(order)) == list(range(len(log)))
    back = [before - after for before, after in itertools.pairwise(order) if after != before + 1]
    # Not more often than it was killed, and not further.
    assert len(back) <= kills and all(0 <= steps < _UNSAVED for steps in back), back


def _events(receiver: Receiver) -> list[Json]:
    return [event for post in receiver.posts for event in post.events]


def _texts(events: Sequence[Json]) -> list[str]:
    return [event["data"]["text"] for event in events]
