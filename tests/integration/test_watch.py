"""The subscriber for the terminal: it resumes where it was, and ends where the gateway will not have it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from unittest import mock

import pytest
from aiohttp import web

from handlers import socket
from handlers.socket import SocketSettings
from hub.watch import WatchRefused, watch
from settings import Secret
from tests.support.gateway import Harness, serving
from tests.support.waiting import GUARD_S


def _socket_of(gateway: Harness) -> str:
    return f"{gateway.url.replace('http', 'ws', 1)}/ws"


async def _refusal(url: str, token: str, since: str) -> str:
    shown: list[str] = []
    with pytest.raises(WatchRefused) as refused:
        async with asyncio.timeout(GUARD_S):
            await watch(url, token, since, show=shown.append, tell=shown.append)
    assert shown == []
    return refused.value.message


async def test_a_watcher_with_a_wrong_key_ends_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": Secret("right")}) as gateway:
        url = _socket_of(gateway)
        assert await _refusal(url, "wrong", "") == f"{url} refuses: this is not its API_KEY"


async def test_a_watcher_without_the_key_that_is_needed_is_told_at_once(tmp_path: Path) -> None:
    # Longer than the test may take: the gateway does not wait for a key that the watcher has not got.
    with mock.patch.object(socket, "SocketSettings", lambda: SocketSettings(auth_timeout_s=1000.0)):
        async with serving(tmp_path, server={"api_key": Secret("right")}) as gateway:
            url = _socket_of(gateway)
            why = await _refusal(url, "", "")
            assert why == f"{url} refuses: it needs its API_KEY, and none is set here"


async def test_a_watcher_with_no_position_ends_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        url = _socket_of(gateway)
        why = "since: a position is <epoch>:<offset>, or an offset alone"
        assert await _refusal(url, "", "abc") == f"{url} refuses: {why}"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b'{"success": false, "error": "not for you"}', "not for you"),
        (b"<html>", "HTTP 403"),
        (b'{"error": {}}', "HTTP 403"),
        (b"\xff", "HTTP 403"),
    ],
)
async def test_a_watcher_says_what_the_server_said_or_the_status(answer: bytes, told: str) -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        return web.Response(status=403, body=answer)

    server = web.Server(refuse)
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
        assert await _refusal(url, "", "") == f"{url} refuses: {told}"
    finally:
        await runner.cleanup()


async def test_a_watcher_is_shown_frames_and_told_of_a_gateway_that_is_away(tmp_path: Path) -> None:
    shown: asyncio.Queue[str] = asyncio.Queue()
    told: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        async with serving(tmp_path) as gateway:
            url = _socket_of(gateway)
            watching = tasks.create_task(watch(url, "", "0", show=shown.put_nowait, tell=told.put_nowait))
            assert json.loads(await shown.get())["type"] == "hello"
        assert url in await told.get()
        watching.cancel()
