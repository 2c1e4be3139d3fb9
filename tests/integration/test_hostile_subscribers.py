"""What subscribers may do to themselves, and not to others: each is bounded, and told by a code."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import cli
import server
from handlers.socket import APPLICATION_SETTINGS, BAD_FRAMES
from tests.support.gateway import Harness, serving
from tests.support.memory_log import new_event
from tests.support.waiting import GUARD_S, eventually, until
from tests.support.ws_clients import Closed, WebsocketsClient

Json = dict[str, Any]
_MASK = b"mask"


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """As a client sends it: masked (RFC 6455, section 5.2)."""
    size = len(payload)
    head = struct.pack("!BB", first, 0x80 | size) if size < 126 else struct.pack("!BBH", first, 0xFE, size)
    masked = bytes(byte ^ _MASK[n % 4] for n, byte in enumerate(payload))
    return head + _MASK + masked


class Raw:
    """A connection to ``/ws`` that does what it is told, and no more: it reads nothing by itself."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    async def send(self, data: bytes) -> None:
        """All of it, however long that takes."""
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def code(self) -> int | None:
        """Read until it is closed, and say with which code; None where it just broke."""
        content = b""
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            async with asyncio.timeout(GUARD_S):
                while piece := await loop.sock_recv(self.connection, 1 << 20):
                    content = (content + piece)[-200:]
                    at = content.rfind(b"\x88")
                    if at >= 0 and content[at + 1 : at + 2] == bytes([len(content) - at - 2]):
                        return int.from_bytes(content[at + 2 : at + 4])
        return None


@asynccontextmanager
async def raw(gateway: Harness, query: str = "") -> AsyncIterator[Raw]:
    """One that has shaken hands."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", gateway.port))
        key = base64.b64encode(os.urandom(16)).decode()
        await loop.sock_sendall(
            connection,
            f"GET /ws{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode(),
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(connection, 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        yield Raw(connection)


async def connected(gateway: Harness, query: str = "") -> WebsocketsClient:
    client = WebsocketsClient()
    await client.open(f"ws://127.0.0.1:{gateway.port}/ws{query}")
    assert (await client.receive())["type"] == "hello"
    return client


async def some(gateway: Harness, count: int = 1, size: int = 0) -> list[int]:
    log = gateway.gateway._log
    added = await log.append([new_event(log.head + n, "a", size=size) for n in range(1, count + 1)])
    return [event.offset for event in added]


async def is_well(client: WebsocketsClient, gateway: Harness) -> None:
    """It gets what is new, and is answered."""
    (offset,) = await some(gateway)
    await client.send('{"op":"ping"}')
    found: set[object] = set()
    while found < {"pong", offset}:
        got = await client.receive()
        found.add(got["offset"] if got["type"] == "event" else got["type"])


def members(gateway: Harness) -> int:
    return gateway.gateway._hub.stats.subscribers


async def test_one_that_never_reads_is_closed_and_keeps_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path, hub={"buffer_bytes": 100_000}) as gateway:
        hub = gateway.gateway._hub
        other = await connected(gateway)
        async with raw(gateway, "?subscriber=crm") as never:
            await until(lambda: members(gateway) == 2)
            sent = 0
            while not hub.stats.slow_closed:
                (offset,) = await some(gateway, size=50_000)
                sent += 1
                assert (await other.receive())["offset"] == offset
            assert all(member.transport.buffered <= 200_000 for member in hub.members())
            assert await never.code() == 4008
        await is_well(other, gateway)
        again = WebsocketsClient()
        await again.open(f"ws://127.0.0.1:{gateway.port}/ws?subscriber=crm")
        hello = await again.receive()
        assert (hello["recovered"], (await again.receive())["prev"]) == (True, hello["offset"])
        await again.close()
        await other.close()


async def test_one_that_acknowledges_what_it_was_never_given_keeps_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway, "?subscriber=crm")
        (offset,) = await some(gateway)
        for wrong in (offset + 1, -1, 2**63):
            await client.send(json.dumps({"op": "ack", "offset": wrong}))
        with pytest.raises(Closed) as closed:
            while (got := await client.receive())["type"] in ("error", "event"):
                assert got["type"] == "event" or got["code"] == "bad_frame"
        assert closed.value.code == BAD_FRAMES.code
        found = await eventually(lambda: left(gateway, "crm"))
        assert found.offset == offset - 1


async def left(gateway: Harness, name: str) -> Any:
    """The name, once nobody has it."""
    found = (await gateway.store.as_store().find_subscribers([name]))[name]
    return None if found.holder else found


async def test_a_message_in_many_small_parts_is_bounded_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        other = await connected(gateway)
        async with raw(gateway) as large:
            with suppress(ConnectionError):
                await large.send(frame(b"x" * 60_000, first=0x01))
                for _ in range(170):
                    await large.send(frame(b"x" * 60_000, first=0x00))
            await until(lambda: members(gateway) == 1)
        await is_well(other, gateway)
        await other.close()


async def test_frames_that_are_none_end_their_own_connection_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        other = await connected(gateway)
        broken = [
            struct.pack("!BBQ4s", 0x81, 0xFF, 10 * 1024 * 1024, _MASK),  # 10 MB
            frame(b"\xff\xfe"),  # no UTF-8
            frame(b"x", first=0x83),  # an opcode that there is not
            frame(b"x", first=0xC1),  # compressed, which was not agreed upon
            frame(b"x", first=0x80),  # goes on with nothing
            frame(b"x" * 200, first=0x89),  # a ping that is too long
        ]
        for data in broken:
            async with raw(gateway) as client:
                await client.send(data)
                await until(lambda: members(gateway) == 1)
        await is_well(other, gateway)
        await other.close()


def floods() -> Iterator[Any]:
    ack, ping = frame(b'{"op":"ack","offset":0}'), frame(b'{"op":"ping"}')
    yield pytest.param(ack, id="acknowledgements")
    yield pytest.param(ping, id="pings as JSON")
    yield pytest.param(frame(b"", first=0x89), id="pings of the protocol")
    yield pytest.param(frame(b'{"op":"subscribe","since":0}'), id="subscriptions")


@pytest.mark.parametrize("data", floods())
async def test_one_that_floods_is_read_no_faster_than_others_are_served(tmp_path: Path, data: bytes) -> None:
    async with serving(tmp_path, hub={"buffer_bytes": 100_000}) as gateway:
        await some(gateway, 50)
        other = await connected(gateway)
        async with raw(gateway, "?subscriber=flood") as flooder:

            async def flood() -> None:
                with suppress(ConnectionError):
                    for _ in range(200):
                        await flooder.send(data * 1000)

            flooding = asyncio.ensure_future(flood())
            for _ in range(30):
                await is_well(other, gateway)
            # However far it has come: what it is not given the time for waits in the network, and what it
            # does not read is bounded.
            assert all(member.transport.buffered <= 200_000 for member in gateway.gateway._hub.members())
            flooding.cancel()
            await asyncio.wait({flooding})
        await until(lambda: members(gateway) == 1)
        await other.close()


async def test_one_that_says_nothing_more_is_forgotten(tmp_path: Path) -> None:
    quick = {**APPLICATION_SETTINGS, "websocket_ping_interval": 0.1, "websocket_ping_timeout": 0.05}
    with mock.patch("handlers.routes.APPLICATION_SETTINGS", quick):
        async with serving(tmp_path) as gateway:
            other = await connected(gateway)
            # It stays open, and answers no ping: as one whose cable was pulled.
            async with raw(gateway, "?subscriber=crm"):
                await until(lambda: members(gateway) == 2)
                await until(lambda: members(gateway) == 1)
                await eventually(lambda: left(gateway, "crm"))
            await is_well(other, gateway)
            await other.close()


async def test_ten_thousand_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, hub={"max_names": 5}) as gateway:
        other = await connected(gateway)
        hub, names = gateway.gateway._hub, gateway.gateway._names

        async def come_and_go(n: int) -> None:
            query = ("", "?since=0", "?types=b", f"?subscriber=name-{n}", "?subscriber=crm")[n % 5]
            async with raw(gateway, query):
                pass

        for n in range(0, 10_000, 100):
            await asyncio.gather(*(come_and_go(k) for k in range(n, n + 100)))
        await until(lambda: members(gateway) == 1)
        await until(lambda: not names._unsaved and not names._of)
        assert sum(len(group) for groups in hub._live.values() for group in groups.values()) == 1
        assert hub.stats.replaying == 0
        assert len(await gateway.store.as_store().list_subscribers(100)) == 5
        await is_well(other, gateway)
        await other.close()


async def test_names_past_their_bound_are_refused_by_a_frame_and_a_code(tmp_path: Path) -> None:
    async with serving(tmp_path, hub={"max_names": 1}) as gateway:
        first = await connected(gateway, "?subscriber=a")
        client = WebsocketsClient()
        await client.open(f"ws://127.0.0.1:{gateway.port}/ws?subscriber=b")
        error = await client.receive()
        assert (error["type"], error["code"]) == ("error", "too_many_subscribers")
        with pytest.raises(Closed) as closed:
            await client.receive()
        assert closed.value.code == 4400
        await is_well(first, gateway)
        await first.close()


async def test_two_of_one_name_do_not_fight(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        older = await connected(gateway, "?subscriber=crm")
        newer = await connected(gateway, "?subscriber=crm")
        with pytest.raises(Closed) as closed:
            await older.receive()
        assert closed.value.code == 4409
        await is_well(newer, gateway)
        await newer.close()


async def test_a_name_is_taken_left_and_changed_by_frames(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway)
        offsets = await some(gateway, 3)
        for offset in offsets:
            assert (await client.receive())["offset"] == offset
        await client.send(json.dumps({"op": "subscribe", "subscriber": "crm", "since": offsets[0]}))
        hello = await client.receive()
        assert (hello["subscriber"], hello["offset"]) == ("crm", offsets[0])
        assert [(await client.receive())["offset"] for _ in range(2)] == offsets[1:]
        await client.send(json.dumps({"op": "ack", "offset": offsets[1]}))
        await client.send(json.dumps({"op": "subscribe"}))
        hello = await client.receive()
        assert "subscriber" not in hello
        assert (await eventually(lambda: left(gateway, "crm"))).offset == offsets[1]
        await client.send(json.dumps({"op": "subscribe", "subscriber": "a b"}))
        assert (await client.receive())["code"] == "bad_subscriber"
        await is_well(client, gateway)
        await client.close()


@pytest.mark.parametrize(("files", "most"), [(1024, 768), (-1, 20_000), (10**6, 20_000)])
def test_subscribers_leave_files_for_all_else(files: int, most: int) -> None:
    with mock.patch("resource.getrlimit", return_value=(files, files)):
        assert server._most_connections(20_000) == most


@pytest.mark.parametrize("takes", [True, False])
def test_the_process_opens_as_many_files_as_the_system_lets_it(takes: bool) -> None:
    refusal = None if takes else ValueError("not allowed to raise maximum limit")
    with (
        mock.patch("resource.getrlimit", return_value=(1024, 65536)),
        mock.patch("resource.setrlimit", side_effect=refusal) as setrlimit,
    ):
        cli._allow_files()
    setrlimit.assert_called_once_with(resource.RLIMIT_NOFILE, (65536, 65536))
