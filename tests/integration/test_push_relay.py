"""The relay to an outside WebSocket server, with the whole gateway, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from websockets.asyncio.server import ServerConnection

from hub import outlet
from settings import Secret
from tests.support.gateway import Harness, Json, serving, write
from tests.support.memory_log import new_event
from tests.support.relay import relaying
from tests.support.socket_server import SocketServer, pushed_to
from tests.support.waiting import eventually
from whatsapp.retry import RetryPolicy

_QUICK = {"types": ("message.received",), "connect_timeout_s": 5.0, "answer_timeout_s": 5.0}


@asynccontextmanager
async def relayed(path: Path, server: SocketServer | str, **relay: Any) -> AsyncIterator[Harness]:
    url = server if isinstance(server, str) else server.url
    # The relay's own waits are of a second, then of a minute.
    with mock.patch.object(RetryPolicy, "delay", lambda *_, **__: 0.02):
        async with serving(
            path, whatsapp={"websocket_url": Secret(url)}, relay={**_QUICK, **relay}
        ) as gateway:
            yield gateway


async def state_when(gateway: Harness, ready: Callable[[Json], bool]) -> Json:
    async def ask() -> Json | None:
        (found,) = (await gateway.status())["hooks"]
        told: Json = found
        return told if ready(told) else None

    return await eventually(ask)


# -- what comes --------------------------------------------------------------------------------------------


async def test_a_hello_and_each_event_in_order_as_subscribers_see_them(tmp_path: Path) -> None:
    async with pushed_to() as server:
        async with relayed(tmp_path, server, token=Secret("t"), headers=(Secret("X-One: 1"),)) as gateway:
            told = await state_when(gateway, lambda told: told["connected"] is True)
            assert (told["name"], told["kind"], told["state"]) == ("relay", "websocket", "running")
            assert told["address"] == f"ws://127.0.0.1:{server.port}"
            await write(gateway, "a", "b", "c")
            assert await server.got(3) == ["a", "b", "c"]
            epoch = (await gateway.status())["store"]["epoch"]
            assert server.hellos == [{"type": "hello", "epoch": epoch, "offset": 0, "recovered": True}]
            for frame, event in zip(server.events, gateway.events.all, strict=True):
                place = {"type": "event", "offset": event.offset, "prev": event.prev}
                assert frame == {**place, **json.loads(event.body)}
            (request,) = server.requests
            assert (request.headers["Authorization"], request.headers["X-One"]) == ("Bearer t", "1")
            await state_when(gateway, lambda told: told["lag"] == 0 and told["taken"] == 3)
        await server.wait(lambda: server.closes == [1001], "a goodbye")


async def test_by_default_all_that_came_from_meta_goes_and_nothing_else(tmp_path: Path) -> None:
    async with pushed_to() as server, relayed(tmp_path, server, types=("inbound",)) as gateway:
        await write(gateway, "a")
        await gateway.send("5215550001111")
        await gateway.events.wait("message.read")
        by_meta = ["message.received", "message.status", "message.delivered", "message.read"]
        await server.wait(lambda: len(server.events) >= 4, "four events")
        assert [event["event"] for event in server.events] == by_meta


async def test_it_goes_on_where_it_was_after_the_server_or_the_gateway_was_away(tmp_path: Path) -> None:
    async with pushed_to() as server, relayed(tmp_path, server) as gateway:
        await write(gateway, "a")
        await server.got(1)
        await state_when(gateway, lambda told: told["lag"] == 0)
        await server.stop()
        await write(gateway, "b", "c")
        told = await state_when(gateway, lambda told: told["state"] == "failing")
        assert told["connected"] is False and told["lag"] == 2
        assert told["last_error"].startswith("no connection")
        await server.start()
        assert await server.got(3) == ["a", "b", "c"]
        await state_when(gateway, lambda told: told["state"] == "running" and told["lag"] == 0)
        await server.stop()
        await gateway.restart()
        await write(gateway, "d")
        await server.start()
        assert await server.got(4) == ["a", "b", "c", "d"]
        assert server.hellos[-1]["offset"] == server.events[-1]["prev"]


async def test_a_connection_that_is_closed_while_nothing_is_told_is_made_again(tmp_path: Path) -> None:
    async with pushed_to() as server, relayed(tmp_path, server):
        await server.greeted(1)
        assert server.connection is not None
        await server.connection.close()
        await server.greeted(2)


async def test_who_has_been_quiet_is_asked_whether_it_lives(tmp_path: Path) -> None:
    with mock.patch("hub.relay._PING_S", 0.05), mock.patch.object(outlet, "_LOOK_S", 0.02):
        async with pushed_to() as server, relayed(tmp_path, server):
            await server.greeted(1)
            connection = server.connection
            assert connection is not None
            pinged = asyncio.Event()
            real = connection.protocol.recv_frame

            def noted(frame: Any) -> None:
                if frame.opcode == 9:
                    pinged.set()
                real(frame)

            with mock.patch.object(connection.protocol, "recv_frame", noted):
                async with asyncio.timeout(20):
                    await pinged.wait()


# -- what counts as taken ----------------------------------------------------------------------------------


async def test_with_acknowledgements_only_what_was_acknowledged_is_taken(tmp_path: Path) -> None:
    async def half(connection: ServerConnection, event: Json) -> None:
        if event["data"]["text"] == "b":
            await connection.send(json.dumps({"op": "ack", "offset": event["offset"]}))
        if event["data"]["text"] == "d":
            await connection.close()

    async def all_(connection: ServerConnection, event: Json) -> None:
        await connection.send(json.dumps({"op": "ack", "offset": event["offset"]}))

    async with pushed_to() as server:
        async with relayed(tmp_path, server, ack=True) as gateway:
            await server.greeted(1)
            await gateway.post("/api/hooks/relay/pause", b"")
            await write(gateway, "a", "b", "c", "d")
            server.on_event = half
            await gateway.post("/api/hooks/relay/resume", b"")
            assert await server.got(4) == ["a", "b", "c", "d"]
            server.on_event = all_
            assert await server.got(6) == ["a", "b", "c", "d", "c", "d"]
            told = await state_when(gateway, lambda told: told["lag"] == 0 or told["taken"] == 4)
            assert told["taken"] == 4


async def test_without_an_acknowledgement_in_time_the_same_comes_again(tmp_path: Path) -> None:
    async with pushed_to() as server, relayed(tmp_path, server, ack=True, answer_timeout_s=0.1) as gateway:
        await write(gateway, "a")
        assert await server.got(3) == ["a", "a", "a"]
        told = await state_when(gateway, lambda told: told["state"] == "failing")
        assert told["last_error"] == "the events were not acknowledged within 0.1 s"
        assert (told["taken"], told["lag"]) == (0, 1)


async def test_an_acknowledgement_of_what_was_not_given_breaks_the_connection(tmp_path: Path) -> None:
    async def lie(connection: ServerConnection, event: Json) -> None:
        server.on_event = None
        await connection.send('{"op": "ack", "offset": 1000000}')

    async with pushed_to() as server, relayed(tmp_path, server) as gateway:
        server.on_event = lie
        await write(gateway, "a")
        await server.greeted(2)
        assert server.hellos[1]["offset"] <= server.events[0]["offset"]
        await state_when(gateway, lambda told: told["lag"] == 0)


async def test_what_the_server_says_besides_is_passed_over_and_its_pings_are_answered(tmp_path: Path) -> None:
    async def chat(connection: ServerConnection, event: Json) -> None:
        for said in (
            "hello",
            "[]",
            "{",
            '{"op": "ack"}',
            '{"op": "ack", "offset": -5}',
            b"\x00\xff",
            "9" * 9999,
        ):
            await connection.send(said)
        await (await connection.ping())

    async with pushed_to() as server, relayed(tmp_path, server) as gateway:
        server.on_event = chat
        await write(gateway, "a", "b")
        assert await server.got(2) == ["a", "b"]
        await state_when(gateway, lambda told: told["taken"] == 2)
        assert len(server.hellos) == 1


async def test_a_frame_that_is_too_large_ends_the_connection_and_no_more(tmp_path: Path) -> None:
    async def shout(connection: ServerConnection, event: Json) -> None:
        server.on_event = None
        await connection.send("x" * 10_000_000)

    async with pushed_to() as server, relayed(tmp_path, server) as gateway:
        server.on_event = shout
        await write(gateway, "a")
        await server.greeted(2)
        await write(gateway, "b")
        await server.wait(lambda: "b" in server.texts, "what follows")
        assert server.closes[0] == 1009


# -- what goes wrong ---------------------------------------------------------------------------------------


async def test_a_server_that_refuses_is_asked_again_and_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with pushed_to() as server, pushed_to() as other:

        def refusing(status: HTTPStatus) -> Callable[[ServerConnection], Any]:
            def refuse(connection: ServerConnection) -> Any:
                response = connection.respond(status, "")
                response.headers["Location"] = other.url.replace("ws:", "http:")
                return response

            return refuse

        server.refuse = refusing(HTTPStatus.UNAUTHORIZED)
        async with relayed(tmp_path, server, token=Secret("t")) as gateway:
            told = await state_when(gateway, lambda told: told["state"] == "failing")
            assert told["last_error"] == "HTTP 401 in place of a WebSocket"
            server.refuse = refusing(HTTPStatus.FOUND)
            await state_when(gateway, lambda told: "redirects" in (told["last_error"] or ""))
            assert other.requests == []
            server.refuse = None
            await write(gateway, "a")
            assert await server.got(1) == ["a"]


async def test_a_server_that_stands_still_holds_back_nobody_and_misses_nothing(tmp_path: Path) -> None:
    async with pushed_to() as server, relaying(server.port) as wire:
        url = f"ws://127.0.0.1:{wire.port}/"
        async with relayed(tmp_path, url, answer_timeout_s=0.2, connect_timeout_s=0.2) as gateway:
            await server.greeted(1)
            wire.stall()
            await write(gateway, *(str(n) for n in range(50)))
            told = await state_when(gateway, lambda told: told["state"] == "failing")
            assert "within 0.2 s" in told["last_error"]
            assert (await gateway.send("5215550001111")).status == 200
            wire.heal()
            await server.wait(lambda: server.texts[-1:] == ["49"], "the last of them")
            assert list(dict.fromkeys(server.texts)) == [str(n) for n in range(50)]


@pytest.mark.parametrize("ack", [False, True])
async def test_an_event_that_the_server_cannot_take_is_skipped_in_the_end_and_told(
    tmp_path: Path, ack: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def acknowledge(connection: ServerConnection, event: Json) -> None:
        await connection.send(json.dumps({"op": "ack", "offset": event["offset"]}))

    async with pushed_to(max_size=10_000) as server:
        server.on_event = acknowledge
        async with relayed(tmp_path, server, ack=ack, max_age_s=0.2) as gateway:
            await gateway.post("/api/hooks/relay/pause", b"")
            sizes = (0, 0, 20_000, 0, 0)
            events = await gateway.gateway._log.append([new_event(n, size=s) for n, s in enumerate(sizes)])
            await gateway.post("/api/hooks/relay/resume", b"")
            (skipped,) = await gateway.events.wait("hook.skipped")
            await state_when(gateway, lambda told: told["lag"] == 0 and told["state"] == "running")
            assert (skipped["hook"], skipped["offset"]) == ("relay", events[2].offset)
            assert skipped["why"] == "it closed the connection with 1009"
            offsets = list(dict.fromkeys(event["offset"] for event in server.events))
            assert offsets == [event.offset for n, event in enumerate(events) if n != 2]
    caplog.clear()


async def test_who_is_behind_for_long_is_told_as_trouble(tmp_path: Path) -> None:
    with mock.patch.object(outlet, "_ALARM_MS", 200):
        async with relayed(tmp_path, "ws://127.0.0.1:9/secret?token=hidden") as gateway:
            await write(gateway, "a")

            async def ask() -> Json | None:
                status = await gateway.status()
                found: list[Json] = [one for one in status["trouble"] if one["what"] == "hook"]
                return {**found[0], "status": status["status"]} if found else None

            trouble = await eventually(ask)
            assert (trouble["name"], trouble["status"]) == ("relay", "degraded")
            assert (await gateway.get("/api/ready")).status == 200
            shown = json.dumps([await gateway.status(), (await gateway.get("/api/hooks")).ok])
            assert "hidden" not in shown and "/secret" not in shown


async def test_a_person_pauses_it_and_has_it_go_on(tmp_path: Path) -> None:
    async with pushed_to() as server, relayed(tmp_path, server) as gateway:
        await server.greeted(1)
        await gateway.post("/api/hooks/relay/pause", b"")
        await server.wait(lambda: server.closes == [1001], "a goodbye")
        await write(gateway, "a")
        await gateway.post("/api/hooks/relay/resume", b"")
        assert await server.got(1) == ["a"]
