"""``/ws`` over real sockets, with three real clients (contract.md, Events)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import aiohttp
import pytest
import uvloop
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from handlers import socket_sends
from handlers.access import Access
from handlers.socket import APPLICATION_SETTINGS, SocketSettings, socket_routes
from handlers.socket_sends import SendOp
from handlers.socket_transport import SocketTransport
from hub.frames import Batch, event_frame
from hub.hub import Hub
from store.errors import GatewayError, StoreUnavailable
from store.log import Log
from tests.support.memory_log import MemoryLogStore, new_event, started_log
from tests.support.waiting import GUARD_S, until
from tests.support.ws_clients import AiohttpClient, Closed, TornadoClient, WebsocketsClient, WsClient

KEY = "a-key"
PHONE = "1000"

EveryClient = pytest.mark.parametrize("make", [WebsocketsClient, AiohttpClient, TornadoClient])
ClientMaker = Callable[[], WsClient]


@pytest.fixture(autouse=True)
def own_loop(io_loop: object) -> object:
    """Each test gets a loop of its own."""
    return io_loop


class Gateway:
    """A server with nothing but ``/ws``, and the log behind it."""

    def __init__(self, store: MemoryLogStore, log: Log, hub: Hub, port: int) -> None:
        self.store = store
        self.log = log
        self.hub = hub
        self.port = port
        self._made: list[WsClient] = []

    def url(self, query: str = "", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/ws{query}"

    async def connect(
        self, query: str = "", *, client: WsClient | None = None, headers: dict[str, str] | None = None
    ) -> WsClient:
        """A client that is connected; closed when the server ends."""
        client = client or WebsocketsClient()
        await client.open(self.url(query), headers)
        self._made.append(client)
        return client

    async def greeted(self, query: str = "", *, client: WsClient | None = None) -> WsClient:
        """A client that has read its hello."""
        client = await self.connect(query, client=client)
        assert (await receive(client))["type"] == "hello"
        return client

    async def append(self, *types: str, size: int = 0, phone_number_id: str = "", contact: str = "") -> None:
        await self.log.append(
            [
                new_event(
                    self.log.head + n, type, size=size, phone_number_id=phone_number_id, contact=contact
                )
                for n, type in enumerate(types, start=1)
            ]
        )

    async def status_of(self, query: str = "", headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """How a handshake that is refused is answered: status and body."""
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with aiohttp.ClientSession() as session:
            url = self.url(query, "http")
            async with session.get(url, headers={**upgrade, **(headers or {})}) as answer:
                text = "" if answer.status == 101 else await answer.text()
                return answer.status, json.loads(text) if text.startswith("{") else text

    async def close_clients(self) -> None:
        for client in self._made:
            await client.close()


async def resolve(contact: str) -> str:
    """Knows one contact, by its phone and its key."""
    if contact == "?":
        raise StoreUnavailable("the database does not answer")
    return "c1" if contact.replace(" ", "") in ("+34600", "c1") else ""


@asynccontextmanager
async def serving(
    *,
    key: str = "",
    kept: int = 0,
    keep_bytes: int = 8 * 1024 * 1024,
    buffer_bytes: int = 1024 * 1024,
    max_subscribers: int = 1000,
    position_s: float = 10.0,
    send_op: SendOp | None = None,
    settings: SocketSettings | None = None,
) -> AsyncIterator[Gateway]:
    """A server on a free port of this machine; its log holds ``kept`` events already."""
    store = MemoryLogStore()
    store.store([new_event(n) for n in range(1, kept + 1)])
    log = await started_log(store, keep_bytes=keep_bytes)
    hub = Hub(log, buffer_bytes=buffer_bytes, max_subscribers=max_subscribers, position_s=position_s)
    store.tell()
    routes = socket_routes(
        hub=hub, log=log, access=Access(key), resolve_contact=resolve, send_op=send_op, settings=settings
    )
    server = HTTPServer(Application(routes, **APPLICATION_SETTINGS))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    gateway = Gateway(store, log, hub, sockets[0].getsockname()[1])
    try:
        yield gateway
    finally:
        hub.close_all()
        await gateway.close_clients()
        server.stop()
        await server.close_all_connections()


async def receive(client: WsClient) -> dict[str, Any]:
    return await asyncio.wait_for(client.receive(), GUARD_S)


async def receive_events(client: WsClient, last: int) -> list[dict[str, Any]]:
    """Events up to this offset, whatever else comes between."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["offset"] < last:
        frame = await receive(client)
        if frame["type"] == "event":
            events.append(frame)
    return events


async def code_of(client: WsClient) -> int | None:
    """Read until the server closes, and say with which code."""
    try:
        while True:
            await receive(client)
    except Closed as closed:
        return closed.code


async def say(client: WsClient, **frame: object) -> None:
    await client.send(json.dumps(frame))


def chain(events: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(event["prev"], event["offset"]) for event in events]


# -- events ----------------------------------------------------------------------------------------------


@EveryClient
async def test_hello_then_live_events_in_a_chain(make: ClientMaker) -> None:
    async with serving(kept=2) as gateway:
        client = await gateway.connect(client=make())
        assert await receive(client) == {"type": "hello", "epoch": "e1", "offset": 2, "recovered": True}
        await gateway.append("message.received", "message.sent", size=200)
        await gateway.append("message.read", size=70_000)
        events = await receive_events(client, 5)
        assert chain(events) == [(2, 3), (3, 4), (4, 5)]
        assert [event["event"] for event in events] == ["message.received", "message.sent", "message.read"]
        assert set(events[0]) == {
            "type", "offset", "prev", "event", "at", "phone_number_id", "contact", "data"
        }  # fmt: skip
        assert events[2]["data"] == {"n": 5, "pad": "x" * 70_000}


@EveryClient
@pytest.mark.parametrize("keep_bytes", [1, 10**7], ids=["from the store", "from memory"])
async def test_replay_joins_live_while_events_keep_coming(make: ClientMaker, keep_bytes: int) -> None:
    async with serving(kept=500, keep_bytes=keep_bytes) as gateway:

        async def go_on() -> None:
            for _ in range(300):
                await gateway.append("a", "b")
                await asyncio.sleep(0)

        going_on = asyncio.ensure_future(go_on())
        client = await gateway.connect("?since=e1:7", client=make())
        assert await receive(client) == {"type": "hello", "epoch": "e1", "offset": 7, "recovered": True}
        events = await receive_events(client, 1100)
        await going_on
        assert chain(events) == [(n, n + 1) for n in range(7, 1100)]
        assert gateway.hub.stats.replaying == 0


async def test_filters_by_type_number_and_contact() -> None:
    async with serving() as gateway:
        by_type = await gateway.greeted("?types=message.sent,task.*")
        by_number = await gateway.greeted(f"?phone_number_id={PHONE}")
        by_phone = await gateway.greeted("?contact=%2B34%20600")
        by_all = await gateway.greeted(f"?types=message.*&types=x&phone_number_id={PHONE}&contact=c1")
        await gateway.append("message.sent", "message.read", "task.created")
        await gateway.append("message.read", phone_number_id=PHONE)
        await gateway.append("message.read", contact="c1")
        await gateway.append("message.sent", phone_number_id=PHONE, contact="c1")
        assert [event["offset"] for event in await receive_events(by_type, 6)] == [1, 3, 6]
        assert [event["offset"] for event in await receive_events(by_number, 6)] == [4, 6]
        assert [event["offset"] for event in await receive_events(by_phone, 6)] == [5, 6]
        assert [event["offset"] for event in await receive_events(by_all, 6)] == [6]


async def test_a_type_that_no_event_has_is_told_in_the_hello() -> None:
    async with serving(kept=1) as gateway:
        hello = {"type": "hello", "epoch": "e1", "offset": 1, "recovered": True}
        told = [f"types: {name} is no event of this version" for name in ("nope.nope", "nope.*", "message")]
        client = await gateway.connect("?types=nope.nope,message.sent,nope.*&types=message,nope.nope")
        assert await receive(client) == {**hello, "warnings": told}
        await gateway.append("message.sent")
        (event,) = await receive_events(client, 2)
        assert event["event"] == "message.sent"

        await say(client, op="subscribe", types=["nope.nope"])
        assert await receive(client) == {**hello, "offset": 2, "warnings": told[:1]}
        await say(client, op="subscribe", types=["message.*", "task.created", "*"])
        assert await receive(client) == {**hello, "offset": 2}


async def test_filters_hold_for_the_past_too() -> None:
    async with serving(kept=3) as gateway:
        await gateway.append("b", "a", "b")
        client = await gateway.greeted("?since=1&types=b")
        assert [event["offset"] for event in await receive_events(client, 6)] == [4, 6]


@pytest.mark.parametrize("since", ["e2:15", "e1:21", "e1:3", "2"])
async def test_what_cannot_be_continued_starts_at_the_oldest_event_kept(since: str) -> None:
    async with serving(kept=20) as gateway:
        gateway.store.remove_through(10)
        client = await gateway.connect(f"?since={since}")
        assert await receive(client) == {"type": "hello", "epoch": "e1", "offset": 10, "recovered": False}
        assert chain(await receive_events(client, 20)) == [(n, n + 1) for n in range(10, 20)]


@EveryClient
async def test_subscribing_again_starts_with_a_new_hello(make: ClientMaker) -> None:
    async with serving(kept=5) as gateway:
        client = await gateway.greeted("?types=b", client=make())
        await say(client, op="subscribe", types=["message.received"], since="e1:2")
        assert await receive(client) == {"type": "hello", "epoch": "e1", "offset": 2, "recovered": True}
        assert chain(await receive_events(client, 5)) == [(2, 3), (3, 4), (4, 5)]
        await say(client, op="subscribe", since=4, contact="c1")
        assert (await receive(client))["offset"] == 4
        await gateway.append("a")
        await gateway.append("a", contact="c1")
        assert chain(await receive_events(client, 7)) == [(6, 7)]
        await say(client, op="subscribe")
        assert (await receive(client))["offset"] == 7
        await gateway.append("a")
        assert chain(await receive_events(client, 8)) == [(7, 8)]


async def test_filtered_client_is_told_its_place_and_may_ack_it() -> None:
    async with serving(position_s=0.01) as gateway:
        client = await gateway.greeted("?types=b")
        await gateway.append("a", "a")
        running = asyncio.ensure_future(gateway.hub.run())
        assert await receive(client) == {"type": "position", "offset": 2}
        running.cancel()
        await asyncio.wait({running})
        await say(client, op="ack", offset=2)
        await say(client, op="ping")
        frames = [await receive(client)]
        while frames[-1]["type"] == "position":
            frames.append(await receive(client))
        assert frames[-1] == {"type": "pong"}


async def test_slow_client_is_closed_while_another_gets_everything_and_resumes_without_a_gap() -> None:
    async with serving(buffer_bytes=100_000) as gateway:
        slow = await gateway.greeted(client=WebsocketsClient(max_queue=1))
        quick = await gateway.greeted()
        last = 0
        while not gateway.hub.stats.slow_closed:
            await gateway.append("a", size=50_000)
            last += 1
            assert (await receive(quick))["offset"] == last
        events = []
        with pytest.raises(Closed) as closed:
            while True:
                events.append(await receive(slow))
        assert closed.value.code == 4008
        assert chain(events) == [(n, n + 1) for n in range(len(events))]
        assert len(events) < last
        assert gateway.hub.stats.subscribers == 1
        again = await gateway.connect(f"?since=e1:{events[-1]['offset']}")
        assert (await receive(again))["recovered"] is True
        assert chain(await receive_events(again, last)) == [(n, n + 1) for n in range(len(events), last)]


async def test_frames_are_built_once_for_all_clients() -> None:
    async with serving() as gateway:
        clients = [await gateway.greeted() for _ in range(50)]
        build = mock.Mock(side_effect=event_frame)
        with mock.patch("hub.hub.Batch", lambda events, _: Batch(events, build)):
            await gateway.append("a", "b")
            await gateway.append("c")
        assert build.call_count == 3
        for client in clients:
            assert chain(await receive_events(client, 3)) == [(0, 1), (1, 2), (2, 3)]
        assert gateway.hub.stats.deliveries == 150


def test_uvloop_serves_the_same() -> None:
    async def scenario() -> None:
        async with serving(kept=300, buffer_bytes=100_000) as gateway:
            slow = await gateway.greeted(client=WebsocketsClient(max_queue=1))
            client = await gateway.connect("?since=0", client=TornadoClient())
            assert chain(await receive_events(client, 300)) == [(n, n + 1) for n in range(300)]
            last = 300
            while not gateway.hub.stats.slow_closed:
                await gateway.append("a", size=50_000)
                last += 1
                assert (await receive(client))["offset"] == last
            assert await code_of(slow) == 4008

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


# -- coming and going ------------------------------------------------------------------------------------


async def test_a_client_that_vanishes_is_forgotten() -> None:
    async with serving() as gateway:
        polite, rude = WebsocketsClient(), WebsocketsClient()
        await gateway.greeted(client=polite)
        await gateway.greeted(client=rude)
        assert gateway.hub.stats.subscribers == 2
        with mock.patch.object(gateway.hub, "unregister", wraps=gateway.hub.unregister) as unregister:
            await polite.close()
            raw = rude.connection.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rude.connection.transport.abort()
            await gateway.append("a")
            await until(lambda: gateway.hub.stats.subscribers == 0)
            assert unregister.call_count == 2


async def test_stopping_closes_all_with_1001() -> None:
    async with serving(key=KEY, kept=3) as gateway:
        live = await gateway.greeted(f"?token={KEY}")
        filtered = await gateway.greeted(f"?token={KEY}&types=b&since=1")
        stranger = await gateway.connect()
        await until(lambda: gateway.hub.stats.subscribers == 3)
        gateway.hub.close_all()
        assert [await code_of(client) for client in (live, filtered, stranger)] == [1001, 1001, 1001]
        late = await gateway.connect(f"?token={KEY}")
        assert await code_of(late) == 1001


async def test_no_more_clients_than_may_be() -> None:
    async with serving(max_subscribers=1) as gateway:
        await gateway.greeted()
        assert await code_of(await gateway.connect()) == 1013
        assert gateway.hub.stats.refused == 1


async def test_frames_leave_without_delay() -> None:
    async with serving() as gateway:
        with mock.patch("handlers.socket.SocketTransport", wraps=SocketTransport) as transport:
            await gateway.greeted()
        stream = transport.call_args.args[0]
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- who may come in -------------------------------------------------------------------------------------


@EveryClient
async def test_a_wrong_key_is_closed_with_4401(make: ClientMaker) -> None:
    async with serving(key=KEY) as gateway:
        assert await code_of(await gateway.connect("?token=wrong", client=make())) == 4401
        headers = {"Authorization": "Bearer wrong"}
        assert await code_of(await gateway.connect(client=make(), headers=headers)) == 4401
        client = await gateway.connect(client=make())
        await say(client, op="auth", token="wrong")
        assert await code_of(client) == 4401


@pytest.mark.parametrize(
    ("query", "headers"),
    [(f"?token={KEY}", {}), ("", {"Authorization": f"Bearer {KEY}"}), ("", {"X-API-Key": KEY})],
    ids=["query", "bearer", "header"],
)
async def test_the_key_comes_with_the_request(query: str, headers: dict[str, str]) -> None:
    async with serving(key=KEY) as gateway:
        client = await gateway.connect(query, headers=headers)
        assert (await receive(client))["type"] == "hello"


@EveryClient
async def test_the_key_comes_with_the_first_frame(make: ClientMaker) -> None:
    async with serving(key=KEY, kept=3) as gateway:
        client = await gateway.connect("?since=2", client=make())
        await say(client, op="auth", token=KEY)
        assert (await receive(client))["type"] == "hello"
        assert chain(await receive_events(client, 3)) == [(2, 3)]
        await say(client, op="auth", token=KEY)
        await say(client, op="ping")
        assert await receive(client) == {"type": "pong"}, "a key that is given twice is taken"
        await say(client, op="auth", token="wrong")
        assert await code_of(client) == 4401


@pytest.mark.parametrize("first", ['{"op":"ping"}', '{"op":"subscribe"}', "no JSON", b"\x00"])
async def test_another_first_frame_than_the_key_is_closed_with_4401(first: str | bytes) -> None:
    async with serving(key=KEY, settings=SocketSettings(auth_timeout_s=600)) as gateway:
        client = await gateway.connect("?since=0")
        await client.send(first)
        with pytest.raises(Closed) as closed:
            while True:
                assert (await receive(client))["type"] == "error"
        assert closed.value.code == 4401


async def test_who_gives_no_key_is_closed_with_4401() -> None:
    async with serving(key=KEY, settings=SocketSettings(auth_timeout_s=0.01)) as gateway:
        client = await gateway.connect()
        assert await code_of(client) == 4401
        client = await gateway.connect(f"?token={KEY}")
        assert (await receive(client))["type"] == "hello"


async def test_only_so_many_may_be_without_a_key_yet() -> None:
    async with serving(key=KEY, settings=SocketSettings(max_unauthorised=1)) as gateway:
        first = await gateway.connect()
        await until(lambda: gateway.hub.stats.subscribers == 1)
        assert await code_of(await gateway.connect()) == 1013
        await say(first, op="auth", token=KEY)
        assert (await receive(first))["type"] == "hello"
        second = await gateway.connect()
        await say(second, op="auth", token=KEY)
        assert (await receive(second))["type"] == "hello"


async def test_without_a_key_configured_a_frame_with_one_is_no_fault() -> None:
    async with serving() as gateway:
        client = await gateway.greeted()
        await say(client, op="auth", token="any")
        await say(client, op="ping")
        assert await receive(client) == {"type": "pong"}


async def test_through_a_proxy_without_a_key_is_refused_before_the_upgrade() -> None:
    async with serving() as gateway:
        status, body = await gateway.status_of(headers={"X-Forwarded-For": "203.0.113.9"})
        assert (status, body["success"], body["code"]) == (403, False, "forbidden")
        assert "API_KEY" in body["error"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:9", 101),
        ("http://localhost:3000", 101),
        ("http://[::1]", 101),
        ("https://app.example.com", 101),
        ("https://other.example.com", 403),
        ("http://app.example.com", 403),
        ("http://localhost.example.com", 403),
        ("http://[::1", 403),
        ("null", 403),
    ],
)
@pytest.mark.parametrize("key", ["", KEY])
async def test_pages_of_other_sites_may_not_connect_even_with_the_key(
    origin: str, status: int, key: str
) -> None:
    allowed = SocketSettings(allowed_origins=frozenset({"https://app.example.com"}))
    async with serving(key=key, settings=allowed) as gateway:
        query = f"?token={key}" if key else ""
        assert (await gateway.status_of(query, {"Origin": origin}))[0] == status


async def test_the_page_of_the_gateway_itself_may_connect() -> None:
    async with serving(key=KEY) as gateway:
        headers = {"Origin": "https://gw.example.com", "Host": "gw.example.com:5000"}
        assert (await gateway.status_of(f"?token={KEY}", headers))[0] == 101


async def test_the_key_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(key=KEY) as gateway:
        assert (await gateway.status_of(f"?token={KEY}&x=1"))[0] == 400
        await gateway.greeted(f"?token={KEY}")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("tornado")]
    assert any("101 GET /ws" in line for line in lines)
    assert not any(KEY in line for line in lines)


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ("?since=x", "bad_position", "since"),
        ("?types=a%20b", "bad_filter", "types"),
        ("?subscriber=a%20b", "bad_subscriber", "subscriber"),
        ("?subscriber=", "bad_subscriber", "subscriber"),
        ("?nothing=1", "bad_frame", "nothing"),
    ],
)
async def test_a_query_that_cannot_be_is_refused_before_the_upgrade(query: str, code: str, says: str) -> None:
    async with serving() as gateway:
        status, body = await gateway.status_of(query)
        assert (status, body["success"], body["code"]) == (400, False, code)
        assert says in body["error"]


async def test_other_methods_are_refused_in_the_shape_of_the_api() -> None:
    async with serving() as gateway, aiohttp.ClientSession() as session:
        async with session.post(gateway.url(scheme="http")) as answer:
            assert answer.status == 405 and answer.headers["Allow"] == "GET"
            assert (await answer.json())["code"] == "method_not_allowed"
            assert (await answer.json())["success"] is False


async def test_an_unknown_contact_is_told_and_closed() -> None:
    async with serving() as gateway:
        client = await gateway.connect("?contact=555")
        frame = await receive(client)
        assert frame["type"] == "error" and "contact" in frame["message"]
        assert await code_of(client) == 4400


async def test_a_store_that_is_away_is_told_and_closed_for_now() -> None:
    async with serving() as gateway:
        client = await gateway.connect("?contact=%3F")
        assert (await receive(client))["code"] == "store_unavailable"
        assert await code_of(client) == 1013
        other = await gateway.greeted()
        for _ in range(4):
            await say(other, op="subscribe", contact="?")
            assert (await receive(other))["code"] == "store_unavailable", "no fault of the client's"
        await gateway.append("a")
        assert chain(await receive_events(other, 1)) == [(0, 1)]


async def test_a_fault_at_the_start_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(kept=1) as gateway:
        with mock.patch.object(gateway.store, "log_bounds", side_effect=RuntimeError("no such thing")):
            client = await gateway.connect("?since=0")
            assert await code_of(client) == 1011
        assert gateway.hub.stats.subscribers == 0
    assert "no such thing" in caplog.text
    caplog.clear()


# -- client frames ---------------------------------------------------------------------------------------


@EveryClient
@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        '{"op":"open"}',
        '{"op":"ack"}',
        '{"op":"subscribe","since":"x"}',
        '{"op":"ack","offset":9}',
        b"{}",
    ],
)
async def test_the_third_bad_frame_closes_with_4400(make: ClientMaker, bad: str | bytes) -> None:
    async with serving() as gateway:
        client = await gateway.greeted(client=make())
        for _ in range(3):
            await client.send(bad)
            frame = await receive(client)
            assert frame["type"] == "error" and frame["message"]
        assert await code_of(client) == 4400


async def test_two_bad_frames_disturb_nothing() -> None:
    async with serving() as gateway:
        client = await gateway.greeted()
        for _ in range(2):
            await say(client, op="subscribe", contact="555")
            assert (await receive(client))["type"] == "error"
        await gateway.append("a")
        assert chain(await receive_events(client, 1)) == [(0, 1)]


async def test_a_frame_that_is_too_large_is_closed_with_1009() -> None:
    """Only its head is sent: unread bytes would make the kernel reset the connection, and lose the code."""
    async with serving() as gateway:
        client = WebsocketsClient()
        await gateway.greeted(client=client)
        client.connection.transport.write(struct.pack("!BBQ4s", 0x81, 0xFF, 64 * 1024 + 1, b"mask"))
        assert await code_of(client) == 1009
        await until(lambda: gateway.hub.stats.subscribers == 0)
        largest = await gateway.greeted()
        await largest.send('{"op":"ping"}'.ljust(64 * 1024))
        assert await receive(largest) == {"type": "pong"}


async def test_acks_of_what_was_given_are_taken_quietly() -> None:
    async with serving(kept=3) as gateway:
        client = await gateway.greeted("?since=1")
        await receive_events(client, 3)
        for offset in (0, 2, 3):
            await say(client, op="ack", offset=offset)
        await say(client, op="ping")
        assert await receive(client) == {"type": "pong"}
        await say(client, op="ack", offset=4)
        assert (await receive(client))["type"] == "error"


# -- sending ---------------------------------------------------------------------------------------------


async def test_sending_where_it_is_not_offered() -> None:
    async with serving() as gateway:
        client = await gateway.greeted()
        for id in (1, "b", 3, 4):
            await say(client, op="send", id=id)
            frame = await receive(client)
            assert (frame["type"], frame["code"], frame["id"]) == ("error", "unsupported", id)


async def test_results_come_under_their_id_in_any_order() -> None:
    gate = asyncio.Event()

    async def send_op(fields: dict[str, Any]) -> dict[str, Any]:
        if fields["to"] == "slow":
            await gate.wait()
        return {"success": True, "task_id": fields["to"]}

    async with serving(send_op=send_op) as gateway:
        client = await gateway.greeted()
        await say(client, op="send", id="s", to="slow")
        await say(client, op="send", id=2, to="quick")
        assert await receive(client) == {"type": "result", "id": 2, "success": True, "task_id": "quick"}
        await say(client, op="ping")
        assert await receive(client) == {"type": "pong"}, "a send that waits keeps nothing up"
        gate.set()
        assert await receive(client) == {"type": "result", "id": "s", "success": True, "task_id": "slow"}


async def test_a_send_that_fails_is_told_under_its_id(caplog: pytest.LogCaptureFixture) -> None:
    async def send_op(fields: dict[str, Any]) -> dict[str, Any]:
        if fields:
            raise GatewayError("to: is no phone", [("to", "is no phone")])
        raise RuntimeError("no such thing")

    async with serving(send_op=send_op) as gateway:
        client = await gateway.greeted()
        await say(client, op="send", id=1, to="x")
        assert await receive(client) == {
            "type": "error",
            "id": 1,
            "code": "internal",
            "message": "to: is no phone",
            "details": [{"path": "to", "problem": "is no phone"}],
        }
        await say(client, op="send", id=2)
        frame = await receive(client)
        assert (frame["id"], frame["code"]) == (2, "internal")
        assert "no such thing" not in frame["message"]
    assert "no such thing" in caplog.text
    caplog.clear()


async def test_only_so_many_sends_at_a_time_and_one_outlives_its_client() -> None:
    gate = asyncio.Event()
    ended: list[str] = []

    async def send_op(fields: dict[str, Any]) -> dict[str, Any]:
        await gate.wait()
        ended.append(fields["to"])
        return {}

    async with serving(send_op=send_op, settings=SocketSettings(max_sends=1)) as gateway:
        client = await gateway.greeted()
        await say(client, op="send", id=1, to="a")
        await say(client, op="send", id=2, to="b")
        frame = await receive(client)
        assert (frame["id"], frame["code"]) == (2, "busy")
        await client.close()
        await until(lambda: gateway.hub.stats.subscribers == 0)
        gate.set()
        await until(lambda: ended == ["a"])


async def test_clients_that_come_and_go_have_only_so_many_sends_under_way_in_all() -> None:
    gate = asyncio.Event()

    async def send_op(fields: dict[str, Any]) -> dict[str, Any]:
        await gate.wait()
        return {"success": True}

    with mock.patch.object(socket_sends, "_MOST", 3):
        async with serving(send_op=send_op) as gateway:
            for turn in range(4):
                client = await gateway.greeted()
                await say(client, op="send", id=turn)
                await say(client, op="ping")
                frames = [await receive(client)]
                if turn == 3:
                    assert (frames[0]["id"], frames[0]["code"]) == (3, "busy")
                    frames = [await receive(client)]
                assert frames == [{"type": "pong"}]
                await client.close()
            gate.set()
            client = await gateway.greeted()
            await say(client, op="send", id="then")
            assert (await receive(client))["id"] == "then"
