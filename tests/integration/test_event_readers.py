"""``/api/events``, ``/api/events/stream`` and ``/api/subscribers`` of a whole gateway, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from tornado.iostream import IOStream

from handlers import answers, events
from hub import pages
from settings import Secret
from store.errors import StoreUnavailable
from store.records import Event, LogBounds, NewEvent
from tests.support.gateway import Harness, serving
from tests.support.memory_log import new_event
from tests.support.server_sent import Stream, streaming
from tests.support.waiting import GUARD_S, eventually, until
from tests.support.ws_clients import Closed, WebsocketsClient

Json = dict[str, Any]
KEY = "a-key"


async def append(gateway: Harness, new: Iterable[NewEvent]) -> list[int]:
    """Offsets of what is new, as from a webhook."""
    return [event.offset for event in await gateway.gateway._log.append(list(new))]


async def some(gateway: Harness, *types: str, size: int = 0) -> list[int]:
    head = gateway.gateway._log.head
    return await append(gateway, [new_event(head + n, type, size=size) for n, type in enumerate(types, 1)])


def offsets(page: Json) -> list[int]:
    return [event["offset"] for event in page["events"]]


# -- pages -----------------------------------------------------------------------------------------------


async def test_pages_follow_each_other_to_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        added = await some(gateway, *"abcdefg")
        found: list[int] = []
        after = ""
        while True:
            page = (await gateway.get(f"/api/events?limit=3&after={after}")).ok
            msgspec.convert(page, answers.EventPage)
            found += offsets(page)
            after = page["next"]
            if not page["more"]:
                break
        assert found == added
        assert after == f"{gateway.gateway._log.epoch}:{added[-1]}"
        page = (await gateway.get(f"/api/events?after={after}")).ok
        assert page == {"events": [], "next": after, "more": False, "recovered": True}


async def test_an_event_of_a_page_is_that_of_the_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await some(gateway, "message.received")
        client = WebsocketsClient()
        await client.open(f"ws://127.0.0.1:{gateway.port}/ws?since=0")
        assert (await client.receive())["type"] == "hello"
        assert (await gateway.get("/api/events")).ok["events"] == [await client.receive()]
        await client.close()


async def test_pages_are_filtered(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first = await append(
            gateway,
            [
                new_event(1, "message.sent", phone_number_id="1"),
                new_event(2, "message.read", phone_number_id="2"),
                new_event(3, "task.created", phone_number_id="2"),
            ],
        )
        for query, expected in (
            ("types=message.*", first[:2]),
            ("types=message.sent,task.created", [first[0], first[2]]),
            ("types=message.sent&types=task.created", [first[0], first[2]]),
            ("phone_number_id=2", first[1:]),
            ("phone_number_id=2&types=message.*", [first[1]]),
            ("types=nothing.here", []),
        ):
            page = (await gateway.get(f"/api/events?{query}")).ok
            assert offsets(page) == expected, query
            assert page["next"].endswith(f":{first[2]}"), query


async def test_a_page_is_of_the_contact_that_is_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for phone in ("5215550001111", "5215550002222"):
            assert (await gateway.send(phone)).status == 200
        await gateway.events.wait("message.read", 2)
        page = (await gateway.get("/api/events?contact=%2B52%201%20555%20000%201111")).ok
        assert page["events"] and {event["contact"] for event in page["events"]} == {"5215550001111"}
        assert (await gateway.get("/api/events?contact=5215550009999")).ok["events"] == []


async def test_types_that_no_event_has_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        query = "?types=message.received,nope.nope"
        told = ["types: nope.nope is no event of this version"]
        assert (await gateway.get(f"/api/events{query}")).ok["warnings"] == told
        async with streaming(stream_url(gateway, query)) as stream:
            hello = await stream.message()
            assert hello is not None and hello.data["warnings"] == told


async def test_a_long_log_without_anything_wanted_is_read_in_bounded_pages(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        last = 0
        for _ in range(5):
            last = (await some(gateway, *["a"] * 100))[-1]
        (wanted,) = await some(gateway, "b")
        with mock.patch.object(pages.read_page, "__kwdefaults__", {"most_events": 150}):
            places = []
            after, more = "0", True
            while more:
                page = (await gateway.get(f"/api/events?types=b&after={after}")).ok
                after, more = page["next"], page["more"]
                places.append((int(after.rpartition(":")[2]), offsets(page)))
        assert places == [(150, []), (300, []), (450, []), (wanted, [wanted])]
        assert last < wanted


async def test_pages_share_a_few_reads_of_the_store(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for _ in range(20):
            await some(gateway, *["a"] * 500, size=1000)
        log, reading, most = gateway.gateway._log, 0, 0
        read = log.read

        async def counted(after: int, limit: int) -> Sequence[Event]:
            nonlocal reading, most
            reading += not log.has_in_memory(after)
            most = max(most, reading)
            try:
                return await read(after, limit)
            finally:
                reading -= not log.has_in_memory(after)

        with mock.patch.object(log, "read", counted):
            answers_ = await asyncio.gather(*(gateway.get("/api/events?types=b") for _ in range(30)))
        assert {answer.ok["next"] for answer in answers_} == {f"{log.epoch}:10000"}
        assert 1 < most <= 4


async def test_a_page_is_bounded_in_bytes(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        added = await some(gateway, *"abcd", size=400_000)
        page = (await gateway.get("/api/events")).ok
        assert offsets(page) == added[:2] and page["more"]
        (large,) = await some(gateway, "e", size=3_000_000)
        page = (await gateway.get(f"/api/events?after={added[-1]}")).ok
        assert offsets(page) == [large]


async def test_what_is_not_there_any_more_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        added = await some(gateway, *"ab")
        for after in (f"other:{added[0]}", str(added[-1] + 1000)):
            page = (await gateway.get(f"/api/events?after={after}")).ok
            assert (page["recovered"], offsets(page)) == (False, added)
        assert (await gateway.get("/api/events?after=0")).ok["recovered"] is True


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("after=x", "bad_position"),
        ("types=a%20b", "bad_filter"),
        ("limit=0", "invalid_request"),
        ("limit=1001", "invalid_request"),
        ("wait=31", "invalid_request"),
        ("since=1", "invalid_request"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(tmp_path: Path, query: str, code: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.get(f"/api/events?{query}")
        assert (answer.status, answer.body["code"]) == (400, code)
        assert answer.body["error"].startswith(query.partition("=")[0])


async def test_a_page_waits_for_what_it_wants(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        waiting = asyncio.ensure_future(gateway.get("/api/events?types=b&wait=30"))
        await until(lambda: bool(waits(gateway)))
        await some(gateway, "a")
        (wanted,) = await some(gateway, "b")
        assert offsets((await waiting).ok) == [wanted]
        assert not waits(gateway)


async def test_a_page_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.get("/api/events?wait=1")).ok["events"] == []


async def test_who_goes_away_waits_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        waiting = asyncio.ensure_future(gateway.get("/api/events?wait=30"))
        await until(lambda: bool(waits(gateway)))
        waiting.cancel()
        await until(lambda: not waits(gateway))


@contextmanager
def held_bounds(gateway: Harness) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Whoever asks for the log's bounds waits; set once somebody does, and to be set to let them go on."""
    asked, gate = asyncio.Event(), asyncio.Event()
    log = gateway.gateway._log
    bounds = log.bounds

    async def held() -> LogBounds:
        asked.set()
        await gate.wait()
        return await bounds()

    with mock.patch.object(log, "bounds", held):
        yield asked, gate


async def test_who_went_before_the_wait_does_not_wait_at_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answered = asyncio.Event()

        def answer(handler: events.EventPage, page: pages.Page, warnings: list[str]) -> None:
            answered.set()

        with (
            held_bounds(gateway) as (asked, gate),
            mock.patch.object(events.EventPage, "_answer_page", answer),
        ):
            waiting = asyncio.ensure_future(gateway.get("/api/events?wait=30"))
            await asyncio.wait_for(asked.wait(), GUARD_S)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert (await gateway.get("/api/health")).status == 200
            gate.set()
            # Far less than it would have waited, were this not so.
            await asyncio.wait_for(answered.wait(), 20)


async def test_only_so_many_pages_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with mock.patch.object(events, "MAX_WAITING", 1):
            waiting = asyncio.ensure_future(gateway.get("/api/events?wait=30"))
            await until(lambda: bool(waits(gateway)))
            assert (await gateway.get("/api/events?wait=30")).ok["events"] == []
            assert len(waits(gateway)) == 1
            await some(gateway, "a")
            assert len((await waiting).ok["events"]) == 1


async def test_pages_that_wait_do_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        waiting = asyncio.ensure_future(gateway.get("/api/events?wait=30"))
        await until(lambda: bool(waits(gateway)))
        await gateway.restart()
        with contextlib.suppress(Exception):
            await waiting


async def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with mock.patch.object(gateway.gateway._log, "bounds", side_effect=StoreUnavailable("away")):
            for path in ("/api/events", "/api/events/stream?since=0"):
                answer = await gateway.get(path)
                assert (answer.status, answer.body["code"]) == (503, "store_unavailable")


def waits(gateway: Harness) -> set[object]:
    """The pages that are waited for."""
    found = {id(task): task for task in asyncio.all_tasks() if task.get_name() == "page-wait"}
    assert gateway.port
    return set(found.values())


# -- streams ---------------------------------------------------------------------------------------------


def stream_url(gateway: Harness, query: str = "") -> str:
    return f"{gateway.url}/api/events/stream{query}"


async def test_a_stream_begins_with_hello_and_goes_on_with_each_event(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        (before,) = await some(gateway, "a")
        epoch = gateway.gateway._log.epoch
        async with streaming(stream_url(gateway)) as stream:
            assert stream.response.headers["Content-Type"].startswith("text/event-stream")
            assert stream.response.headers["Cache-Control"] == "no-store"
            hello = await stream.message()
            expected = {"type": "hello", "epoch": epoch, "offset": before, "recovered": True}
            assert hello == ("hello", f"{epoch}:{before}", expected)
            assert stream.retry_ms == 1000
            added = await some(gateway, "b", "c", size=100_000)
            found = await stream.events(added[-1])
            assert [message.id for message in found] == [f"{epoch}:{offset}" for offset in added]
            pages_ = (await gateway.get(f"/api/events?after={before}")).ok
            assert [message.data for message in found] == pages_["events"]


async def test_a_stream_goes_on_after_the_last_event_of_its_client(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        added = await some(gateway, *["a"] * 300)
        for query, headers in (
            ("?since=0", {"Last_Event_ID": f"{gateway.gateway._log.epoch}:{added[9]}"}),
            (f"?since={added[9]}", {}),
        ):
            async with streaming(stream_url(gateway, query), **headers) as stream:
                found = await stream.events(added[-1])
                assert [message.data["offset"] for message in found] == added[10:]


async def test_a_stream_resumes_over_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first = await some(gateway, "a")
        async with streaming(stream_url(gateway, "?since=0")) as stream:
            (message,) = await stream.events(first[0])
            await gateway.restart()
            goodbye = await stream.message()
            assert goodbye is not None and goodbye.event == "close" and goodbye.data["code"] == 1001
            assert await stream.message() is None
        second = await some(gateway, "b")
        async with streaming(stream_url(gateway), Last_Event_ID=message.id) as stream:
            assert [one.data["offset"] for one in await stream.events(second[0])] == second


async def test_a_stream_is_filtered_and_told_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        async with streaming(stream_url(gateway, "?types=b,c.*")) as stream:
            added = await some(gateway, "a", "b", "c.d", "e")
            assert [one.data["offset"] for one in await stream.events(added[2])] == added[1:3]
            await gateway.gateway._hub.send_positions()
            place = await stream.message()
            assert place is not None and (place.event, place.data["offset"]) == ("position", added[3])
            assert place.id.endswith(f":{added[3]}")


async def test_a_stream_without_filters_gets_a_comment_now_and_then(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway, streaming(stream_url(gateway)) as stream:
        await stream.message()
        await gateway.gateway._hub.send_positions()
        await stream.events((await some(gateway, "a"))[0])
        assert stream.comments == 1


async def test_json_of_several_lines_is_one_message(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway, streaming(stream_url(gateway)) as stream:
        body = b'{"event": "a",\r\n "data":\n{"text": "a\\nb"}}'
        (offset,) = await append(gateway, [NewEvent("k", "a", 1, body)])
        (message,) = await stream.events(offset)
        assert message.data["data"] == {"text": "a\nb"}


async def test_a_stream_takes_the_key_in_its_address(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": Secret(KEY)}) as gateway:
        for query, headers in (("", {}), ("?token=wrong", {}), ("", {"X_API_Key": "wrong"})):
            assert (await gateway.get(f"/api/events/stream{query}", **headers)).status == 401
        for query, headers in ((f"?token={KEY}", {}), ("", {"X_API_Key": KEY})):
            async with streaming(stream_url(gateway, query), **headers) as stream:
                assert (await stream.message()) is not None


@pytest.mark.parametrize(
    ("query", "code"),
    [("since=x", "bad_position"), ("types=a%20b", "bad_filter"), ("subscriber=a", "invalid_request")],
)
async def test_a_stream_that_cannot_be_is_refused_before_it_begins(
    tmp_path: Path, query: str, code: str
) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.get(f"/api/events/stream?{query}")
        assert (answer.status, answer.body["code"]) == (400, code)
        again = await gateway.get("/api/events/stream", **{"Last-Event-ID": "x"})
        assert (again.status, again.body["error"].partition(":")[0]) == (400, "Last-Event-ID")


async def test_streams_and_sockets_share_the_bound_of_connections(tmp_path: Path) -> None:
    async with serving(tmp_path, hub={"max_subscribers": 1}) as gateway:
        async with streaming(stream_url(gateway)):
            answer = await gateway.get("/api/events/stream")
            assert (answer.status, answer.body["code"]) == (503, "busy")
            assert "Retry-After" in answer.headers
            client = WebsocketsClient()
            await client.open(f"ws://127.0.0.1:{gateway.port}/ws")
            with pytest.raises(Closed) as closed:
                await client.receive()
            assert closed.value.code == 1013
        await until(lambda: gateway.gateway._hub.stats.subscribers == 0)
        async with streaming(stream_url(gateway)):
            assert gateway.gateway._hub.stats.refused == 2


async def test_a_stream_is_put_off_while_the_gateway_stops(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.gateway._hub.close_all()
        answer = await gateway.get("/api/events/stream")
        assert (answer.status, answer.body["code"]) == (503, "draining")


async def test_a_stream_is_given_to_a_proxy_that_speaks_http_1_0(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway, raw_stream(gateway, version="1.0") as client:
        loop, content = asyncio.get_running_loop(), b""
        async with asyncio.timeout(GUARD_S):
            while b"event: hello" not in content:
                content += await loop.sock_recv(client, 4096)
        assert content.startswith(b"HTTP/1.1 200 OK\r\n") and b"chunked" not in content


@asynccontextmanager
async def raw_stream(gateway: Harness, query: str = "", version: str = "1.1") -> AsyncIterator[socket.socket]:
    """A connection that reads nothing by itself, and buffers little."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(
            client, f"GET /api/events/stream{query} HTTP/{version}\r\nHost: 127.0.0.1\r\n\r\n".encode()
        )
        await until(lambda: gateway.gateway._hub.stats.subscribers > 0)
        yield client


async def test_a_stream_that_nobody_reads_is_closed_and_others_get_everything(tmp_path: Path) -> None:
    async with serving(tmp_path, hub={"buffer_bytes": 200_000}) as gateway:
        hub = gateway.gateway._hub
        async with raw_stream(gateway):
            async with streaming(stream_url(gateway)) as quick:
                added: list[int] = []
                while not hub.stats.slow_closed:
                    added += await some(gateway, "a", size=50_000)
                    assert (await quick.events(added[-1]))[-1].data["offset"] == added[-1]
                assert hub.stats.subscribers == 1


async def test_a_slow_reader_is_told_why_its_stream_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, hub={"buffer_bytes": 200_000}) as gateway:
        async with raw_stream(gateway) as client:
            while not gateway.gateway._hub.stats.slow_closed:
                await some(gateway, "a", size=50_000)
            loop, content = asyncio.get_running_loop(), b""
            async with asyncio.timeout(GUARD_S):
                while piece := await loop.sock_recv(client, 1 << 20):
                    content = (content + piece)[-1000:]
            last = content.decode().strip().rpartition("\n\n")[2]
            assert last.startswith("event: close\n")
            assert json.loads(last.partition("data: ")[2])["code"] == 4008


async def test_a_stream_whose_client_speaks_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        async with raw_stream(gateway) as client:
            await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: gateway.gateway._hub.stats.subscribers == 0)


async def test_a_client_that_goes_before_its_stream_begins_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with held_bounds(gateway) as (asked, gate):
            with socket.create_connection(("127.0.0.1", gateway.port)) as client:
                client.sendall(b"GET /api/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                await asyncio.wait_for(asked.wait(), GUARD_S)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # So that the reset is there, and is seen, before the stream begins.
            assert (await gateway.get("/api/health")).status == 200
            gate.set()
            assert (await gateway.get("/api/health")).status == 200
        await until(lambda: gateway.gateway._hub.stats.subscribers == 0)
        await some(gateway, "a")
        assert list(gateway.gateway._hub.members()) == []


async def test_a_stream_whose_beginning_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:

        def closes(stream: IOStream, data: bytes) -> None:
            stream.close()

        with mock.patch.object(events, "_unless_closed", closes), contextlib.suppress(Exception):
            await gateway.get("/api/events/stream")
        assert list(gateway.gateway._hub.members()) == []


async def test_a_stream_whose_client_vanished_is_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        async with raw_stream(gateway):
            pass
        await until(lambda: gateway.gateway._hub.stats.subscribers == 0)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option")
async def test_a_stream_whose_network_acknowledges_nothing_ends_after_a_minute(tmp_path: Path) -> None:
    """That it does is the system's; that it is asked to, is ours."""
    async with serving(tmp_path) as gateway, raw_stream(gateway):
        (member,) = gateway.gateway._hub.members()
        connection = member.transport._stream.socket  # type: ignore[attr-defined]
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


async def test_an_event_is_encoded_once_for_all_streams(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway, contextlib.AsyncExitStack() as stack:
        streams: list[Stream] = [
            await stack.enter_async_context(streaming(stream_url(gateway))) for _ in range(20)
        ]
        with mock.patch("hub.frames.event_json", side_effect=lambda event: b"{}") as encode:
            (offset,) = await some(gateway, "a")
        assert encode.call_count == 1
        for stream in streams:
            await stream.message()
            message = await stream.message()
            assert message is not None and message.id.endswith(f":{offset}")


# -- who is there ----------------------------------------------------------------------------------------


async def connected(gateway: Harness, query: str = "") -> WebsocketsClient:
    client = WebsocketsClient()
    await client.open(f"ws://127.0.0.1:{gateway.port}/ws{query}")
    assert (await client.receive())["type"] == "hello"
    return client


async def listed(gateway: Harness, limit: int = 100) -> list[Json]:
    """All, by pages."""
    found: list[Json] = []
    cursor = ""
    while True:
        page = (await gateway.get(f"/api/subscribers?limit={limit}&cursor={cursor}")).ok
        msgspec.convert(page, answers.SubscriberPage)
        found += page["subscribers"]
        assert len(page["subscribers"]) <= limit
        if page["next"] is None:
            return found
        cursor = page["next"]


async def test_names_and_connections_are_listed_page_by_page(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        clients = [await connected(gateway, f"?subscriber={name}") for name in ("b", "a")]
        clients += [await connected(gateway) for _ in range(3)]
        async with streaming(stream_url(gateway, "?types=message.*,x")) as stream:
            await stream.message()
            for limit in (1, 2, 3, 100):
                found = await listed(gateway, limit)
                assert [(one["name"], one["kind"], one["number"]) for one in found] == [
                    ("a", "ws", 2),
                    ("b", "ws", 1),
                    (None, "ws", 3),
                    (None, "ws", 4),
                    (None, "ws", 5),
                    (None, "sse", 6),
                ], limit
            assert found[-1]["filters"] == {
                "types": ["x", "message.*"],
                "phone_number_id": None,
                "contact": None,
            }
            assert all(one["connected"] and one["state"] == "live" for one in found)
            assert {one["process"] for one in found} == {gateway.gateway._owner}
        for client in clients:
            await client.close()


async def test_a_name_shows_how_far_it_is_behind_connected_or_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway, "?subscriber=crm&types=*")
        added = await some(gateway, *"abcd")
        await client.send(json.dumps({"op": "ack", "offset": added[1]}))

        async def acknowledged() -> Json | None:
            (found,) = await listed(gateway)
            return found if found["cursor"] == added[1] else None

        found = await eventually(acknowledged)
        assert (found["lag"], found["connected"]) == (2, True)
        await client.close()

        async def gone() -> Json | None:
            (found,) = await listed(gateway)
            return None if found["connected"] else found

        found = await eventually(gone)
        assert (found["lag"], found["cursor"]) == (2, added[1])
        assert found["process"] is found["number"] is found["since"] is found["buffer_bytes"] is None
        assert found["created_at"] <= found["seen_at"]


async def test_a_name_is_removed_and_its_connection_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway, "?subscriber=crm")
        assert (await gateway.request("DELETE", "/api/subscribers/crm")).ok == {"success": True}
        with pytest.raises(Closed) as closed:
            await client.receive()
        assert closed.value.code == 4410
        assert (await gateway.request("DELETE", "/api/subscribers/crm")).status == 404
        assert await listed(gateway) == []


@pytest.mark.parametrize("query", ["cursor=x", "cursor=MjphCg", "limit=0", "limit=1001", "name=a"])
async def test_a_list_that_cannot_be_is_refused(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.get(f"/api/subscribers?{query}")).status == 400


async def test_the_place_of_a_name_survives_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway, "?subscriber=crm")
        added = await some(gateway, *"abc")
        await client.send(json.dumps({"op": "ack", "offset": added[0]}))
        await client.send(json.dumps({"op": "ping"}))
        while (await client.receive())["type"] != "pong":
            pass
        await gateway.restart()
        again = WebsocketsClient()
        await again.open(f"ws://127.0.0.1:{gateway.port}/ws?subscriber=crm")
        hello = await again.receive()
        assert (hello["offset"], hello["recovered"], hello["subscriber"]) == (added[0], True, "crm")
        assert [(await again.receive())["offset"] for _ in range(2)] == added[1:]
        await again.close()


# -- sending by frame ------------------------------------------------------------------------------------


async def answered(client: WebsocketsClient, **frame: object) -> Json:
    """What a frame is answered, events aside."""
    await client.send(json.dumps(frame))
    while (found := await client.receive())["type"] in ("event", "position"):
        pass
    return found


async def test_a_frame_sends_as_the_rest_api_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway)
        sent = await answered(client, op="send", id=1, phone="5215550001111", message="hello")
        assert (sent["type"], sent["id"], sent["success"]) == ("result", 1, True)
        assert sent["data"]["messages"][0]["id"] and sent["task_id"]
        own = {"to": "5215550001111", "type": "text", "text": {"body": "again"}, "use_queue": True}
        queued = await answered(client, op="send", id="b", **own)
        assert queued["id"] == "b" and queued["task_id"] and "data" not in queued
        await gateway.events.wait("message.sent", 2)
        assert [call.text for call in gateway.calls.all] == ["hello", "again"]
        await client.close()


async def test_a_frame_that_is_refused_says_all_that_the_rest_api_says(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway)
        for id, fields in enumerate(({"phone": "12", "message": ""}, {"to": "12", "type": "nothing"}, {})):
            frame = await answered(client, op="send", id=id, **fields)
            path = "/api/send-message" if "phone" in fields else "/api/messages"
            body = (await gateway.post(path, fields)).body
            assert frame == {
                "type": "error",
                "id": id,
                "code": body["code"],
                "message": body["error"],
                "details": body["details"],
            }
        refused = await answered(client, op="send", id=9, phone="5215599131026", message="hello")
        assert (refused["type"], refused["code"]) == ("error", "meta_refused")
        assert refused["meta"]["code"] == 131026 and refused["task_id"]
        assert (await answered(client, op="ping"))["type"] == "pong"
        await client.close()


async def test_a_frame_that_is_repeated_under_its_key_sends_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway)
        frame = {"phone": "5215550001111", "message": "hello", "idempotency_key": "order-7"}
        first = await answered(client, op="send", id=1, **frame)
        again = await answered(client, op="send", id=2, **frame)
        assert first["task_id"] == again["task_id"] and again["id"] == 2
        other = await answered(client, op="send", id=3, **{**frame, "message": "bye"})
        assert other["code"] == "idempotency_mismatch"
        wrong = await answered(client, op="send", id=4, **{**frame, "idempotency_key": 7})
        assert wrong["code"] == "invalid_request"
        blank = await answered(client, op="send", id=5, **{**frame, "idempotency_key": "a b"})
        assert (blank["code"], blank["details"][0]["path"]) == ("invalid_request", "idempotency_key")
        assert len(gateway.calls.all) == 1
        await client.close()


async def test_a_frame_marks_a_message_as_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway)
        mark = {"status": "read", "message_id": "wamid.HBgNNTIxNTU1MDAwMTExMRUCABIYAA=="}
        answer = await answered(client, op="send", id=1, **mark)
        assert (answer["type"], answer["id"]) in (("result", 1), ("error", 1))
        assert (await gateway.post("/api/messages", mark)).body.get("code") == answer.get("code")
        await client.close()


async def test_who_has_no_key_sends_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": Secret(KEY)}) as gateway:
        client = WebsocketsClient()
        await client.open(f"ws://127.0.0.1:{gateway.port}/ws")
        await client.send(json.dumps({"op": "send", "id": 1, "phone": "5215550001111", "message": "x"}))
        with pytest.raises(Closed) as closed:
            await client.receive()
        assert closed.value.code == 4401
        keyed = await connected(gateway, f"?token={KEY}")
        sent = await answered(keyed, op="send", id=1, phone="5215550001111", message="hello")
        assert sent["success"] is True
        assert len(gateway.calls.all) == 1
        await keyed.close()


async def test_sends_by_frame_are_refused_while_the_gateway_stops(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        client = await connected(gateway)
        gateway.gateway._outbox.drain()
        refused = await answered(client, op="send", id=1, phone="5215550001111", message="hello")
        assert (refused["type"], refused["code"]) == ("error", "draining")
        await client.close()


# -- far behind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ws", "sse"])
async def test_one_that_is_far_behind_catches_up_in_bounded_memory_beside_live_ones(
    tmp_path: Path, kind: str
) -> None:
    """The same with a million is in tests/soak/catch_up.py."""
    async with serving(tmp_path, hub={"buffer_bytes": 256 * 1024}) as gateway:
        hub = gateway.gateway._hub
        for _ in range(40):
            # Past what is kept in memory.
            await some(gateway, *["a"] * 500, size=700)
        live = await connected(gateway)
        behind = reading_from_the_start(kind, gateway)
        async with behind as next_offset:
            await until(lambda: hub.stats.replaying == 1)
            most, seen, last = 0, [], 0
            for _ in range(20):
                (last,) = await some(gateway, "b")
                assert (await live.receive())["offset"] == last, "a live one waits for nobody"
                most = max(most, *(member.transport.buffered for member in hub.members()))
                seen += [await next_offset() for _ in range(200)]
            while seen[-1] < last:
                seen.append(await next_offset())
                most = max(most, *(member.transport.buffered for member in hub.members()))
        assert seen == list(range(1, last + 1))
        assert most <= 512 * 1024
        assert hub.stats.slow_closed == 0
        await live.close()


@asynccontextmanager
async def reading_from_the_start(kind: str, gateway: Harness) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """A client from the beginning on, which reads only what is asked for; offset by offset."""
    if kind == "sse":
        async with streaming(stream_url(gateway, "?since=0"), buffer_bytes=2**16) as stream:
            await stream.message()

            async def next_of_stream() -> int:
                message = await stream.message()
                assert message is not None
                offset: int = message.data["offset"]
                return offset

            yield next_of_stream
        return
    client = WebsocketsClient(max_queue=1)
    await client.open(f"ws://127.0.0.1:{gateway.port}/ws?since=0")
    await client.receive()

    async def next_of_socket() -> int:
        offset: int = (await client.receive())["offset"]
        return offset

    yield next_of_socket
    await client.close()
