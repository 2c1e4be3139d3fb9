"""The port is taken before anything else, and served when all is ready: in the test's own process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from server import Gateway
from store.errors import StoreUnavailable
from store.sqlite import SqliteStore
from tests.support.gateway import settings_for, stop_whole
from tests.support.waiting import GUARD_S

_NOBODY = "http://127.0.0.1:9"
_GUARD = aiohttp.ClientTimeout(total=20)


class SlowStore(SqliteStore):
    """Opens when it is let, or refuses to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "gateway.db", lock_timeout_s=0)
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        self.refusal: StoreUnavailable | None = None

    async def open(self) -> None:
        self.asked.set()
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        await super().open()


def gateway_with(store: SqliteStore, directory: Path, port: int = 0) -> Gateway:
    return Gateway(settings_for(directory, _NOBODY, {"server": {"port": port}}), store=store)


async def ask(port: int) -> int:
    async with (
        aiohttp.ClientSession(timeout=_GUARD) as session,
        session.get(f"http://127.0.0.1:{port}/api/health") as answer,
    ):
        return answer.status


async def test_who_asks_during_the_start_is_answered_at_its_end(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    gateway = gateway_with(store, tmp_path)
    starting = asyncio.create_task(gateway.start())
    await store.asked.wait()
    asking = asyncio.create_task(ask(gateway.port))
    store.gate.set()
    await starting
    assert await asking == 200
    await stop_whole(gateway)


async def test_who_asks_during_a_start_that_fails_is_cut_off_and_the_port_is_free(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    store.refusal = StoreUnavailable("the store is away, says the test")
    gateway = gateway_with(store, tmp_path)
    starting = asyncio.create_task(gateway.start())
    await store.asked.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    store.gate.set()
    with pytest.raises(StoreUnavailable):
        await starting
    async with asyncio.timeout(GUARD_S):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()

    again = gateway_with(SqliteStore(tmp_path / "gateway.db"), tmp_path, gateway.port)
    await again.start()
    assert await ask(again.port) == 200
    await stop_whole(again)
