"""The subscriber for the terminal: it resumes where it was, and ends where the gateway will not have it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hub.watch import WatchRefused, watch
from settings import Secret
from tests.support.gateway import Harness, serving


def _socket_of(gateway: Harness) -> str:
    return f"{gateway.url.replace('http', 'ws', 1)}/ws"


async def _refusal(url: str, token: str, since: str) -> str:
    shown: list[str] = []
    with pytest.raises(WatchRefused) as refused:
        async with asyncio.timeout(10):
            await watch(url, token, since, show=shown.append, tell=shown.append)
    assert shown == []
    return refused.value.message


async def test_a_watcher_with_a_wrong_key_ends_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": Secret("right")}) as gateway:
        assert "API_KEY" in await _refusal(_socket_of(gateway), "wrong", "")


async def test_a_watcher_with_no_position_ends_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert "--since" in await _refusal(_socket_of(gateway), "", "abc")


async def test_a_watcher_is_shown_frames_and_told_of_a_gateway_that_is_away(tmp_path: Path) -> None:
    shown: asyncio.Queue[str] = asyncio.Queue()
    told: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        async with serving(tmp_path) as gateway:
            url = _socket_of(gateway)
            watching = tasks.create_task(watch(url, "", "0", show=shown.put_nowait, tell=told.put_nowait))
            assert json.loads(await shown.get())["type"] == "hello"
        assert url in await told.get()
        watching.cancel()
