"""``kill -9`` while events are pushed to other programs: each gets all in order, repeated as documented."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.support.follower import read_log
from tests.support.killing import STORES, installed
from tests.support.load import LEASED
from tests.support.process import Installation
from tests.support.receiver import Receiver, receiving
from tests.support.socket_server import SocketServer, pushed_to
from tests.support.writers import Writers, kill_amid

Json = dict[str, Any]

_KILLS = {"sqlite": 10, "mongo": 4}
_UNSAVED = 500
"""Events that come again after a crash at most: those of a quarter of a second of catching up."""


def _message(number: int) -> tuple[str, str]:
    return "5215550001111", f"text {number}"


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
            customers = Writers(installation.url, _message)
            rng = random.Random("push")
            process = await kill_amid(installation, customers, _KILLS[store], rng, most=40)
            try:
                log = await _arrived(installation, customers, server, one, many)
            finally:
                await process.kill()
            installation.check_logs()
    for came in (server.events, _events(one), _events(many)):
        _check(came, log, _KILLS[store])


async def _arrived(
    installation: Installation, customers: Writers, server: SocketServer, *receivers: Receiver
) -> list[Json]:
    """The messages in the log, once the last of them has come to everybody."""
    last = customers.acknowledged[-1]
    await server.wait(lambda: last in server.texts, "the last message")
    for receiver in receivers:
        await receiver.wait(lambda r=receiver: last in _texts(_events(r)), "the last message")
    log = await read_log(installation.socket_url, server.events[-1]["offset"])
    messages = [event for event in log if event["event"] == "message.received"]
    assert _texts(messages) == customers.acknowledged
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
