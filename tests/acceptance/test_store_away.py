"""A store that cannot be reached: 503 at once, nothing acknowledged is lost, and all goes on after it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest

from tests.support.follower import Follower, following
from tests.support.load import signed_messages
from tests.support.mongod import Mongod, database_url
from tests.support.process import Installation, Process, SandboxProcess, running_sandbox
from tests.support.proof import prove
from tests.support.settling import settled
from tests.support.waiting import GUARD_S, eventually

_AT_ONCE = 10
_ROUNDS = 2
_ANSWER_S = 10.0
"""Two seconds are promised. Who has heard nothing after so many hangs, however busy the machine."""


class _Store(Protocol):
    @property
    def url(self) -> str | None:
        """What STORE_URL names; None: the file that an installation has anyway."""
        ...

    def leave(self, gateway: Process) -> None:
        """Be out of reach of this process from now on."""
        ...

    def come_back(self) -> None:
        """Answer again."""
        ...


class _LockedFile:
    """SQLite while another program holds the file."""

    url = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def leave(self, gateway: Process) -> None:
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute("BEGIN EXCLUSIVE")

    def come_back(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _FullDisk:
    """SQLite where no file may grow any more."""

    url = None

    def __init__(self, path: Path) -> None:
        self._wal = path.with_name(f"{path.name}-wal")
        self._gateway: Process | None = None

    def leave(self, gateway: Process) -> None:
        self._gateway = gateway
        # New pages go to the end of this one, as long as it was not begun anew.
        gateway.limit_files(self._wal.stat().st_size)

    def come_back(self) -> None:
        if self._gateway is not None:
            self._gateway.limit_files(None)


class _StoppedServer:
    """A MongoDB server that holds its connections and answers nothing."""

    options: tuple[str, ...] = ()

    def __init__(self, server: Mongod) -> None:
        self.url = database_url(server.url, "away")
        self._server = server

    def leave(self, gateway: Process) -> None:
        self._server.pause()

    def come_back(self) -> None:
        self._server.resume()


class _KilledServer(_StoppedServer):
    """A MongoDB server that is gone, and comes back with its data."""

    def leave(self, gateway: Process) -> None:
        self._server.kill()

    def come_back(self) -> None:
        self._server.resume_or_start()


class _SteppedDownServer(_StoppedServer):
    """A MongoDB server that breaks connections and then says that it is no primary, as amid an election."""

    options = ("--enable-test-commands",)

    def leave(self, gateway: Process) -> None:
        commands = ["aggregate", "delete", "find", "findAndModify", "getMore", "insert", "update"]
        self._server.refuse(failCommands=commands, errorCode=189)

    def come_back(self) -> None:
        self._server.behave()


_SERVERS = {
    "stopped server": _StoppedServer,
    "killed server": _KilledServer,
    "stepped down server": _SteppedDownServer,
}


@pytest.fixture(params=["locked file", "full disk", *_SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Store]:
    """Each kind of store, and of being away."""
    with ExitStack() as stack:
        if request.param not in _SERVERS:
            kind = _LockedFile if request.param == "locked file" else _FullDisk
            file = kind(tmp_path / "gateway.db")
            stack.callback(file.come_back)
            yield file
            return
        server_kind = _SERVERS[request.param]
        server = Mongod(tmp_path / "mongo", *server_kind.options)
        server.start()
        stack.callback(server.kill)
        yield server_kind(server)


class _Callers:
    """Meta and a client of the API, who try everything once, many at a time."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._numbers = 0
        self.patience_s = GUARD_S
        """How long an answer may take."""
        self.webhooks: dict[str, tuple[bytes, dict[str, str]]] = {}
        """Body and headers of what was answered 200, by wamid."""
        self.refused: dict[str, tuple[bytes, dict[str, str]]] = {}
        """The same of what was answered 503."""
        self.sends: dict[str, list[str]] = {}
        """Recipients by the task ids that were answered."""

    @property
    def kinds(self) -> tuple[Callable[[], Awaitable[int]], ...]:
        """Every kind of request."""
        return (
            self.webhook,
            self.send,
            partial(self.send, use_queue=False),
            partial(self.send, "/api/send-bulk"),
        )

    async def webhook(self) -> int:
        """A webhook of somebody new; the answer's status."""
        number = self._number()
        wamid = f"wamid.{number}"
        return await self._post_webhook(wamid, *signed_messages([(wamid, _phone(number), "hello")]))

    async def repeat(self) -> None:
        """Post again what was refused."""
        refused, self.refused = self.refused, {}
        for wamid, (content, headers) in refused.items():
            await self._post_webhook(wamid, content, headers)

    async def send(self, path: str = "/api/send-message", *, use_queue: bool = True) -> int:
        """A message to somebody new; the answer's status."""
        phone = _phone(self._number())
        text = {"phone": phone, "message": "hello"}
        request = {
            **(text if path == "/api/send-message" else {"recipients": [text]}),
            "use_queue": use_queue,
        }
        timeout = aiohttp.ClientTimeout(total=self.patience_s)
        async with self._session.post(self._url + path, json=request, timeout=timeout) as answer:
            body = await answer.json()
            if answer.status == 503:
                assert answer.headers["Retry-After"] and body["code"] == "store_unavailable", body
            else:
                assert answer.status in (200, 202), (answer.status, body)
                self.sends[body["task_id"]] = [phone]
            return answer.status

    async def everything(self) -> list[int]:
        """Every kind of request, many of each; their statuses."""
        return list(await asyncio.gather(*(ask() for ask in self.kinds * _AT_ONCE)))

    async def status(self, path: str) -> int:
        """The status that a GET is answered with."""
        timeout = aiohttp.ClientTimeout(total=self.patience_s)
        async with self._session.get(self._url + path, timeout=timeout) as answer:
            return answer.status

    async def _post_webhook(self, wamid: str, content: bytes, headers: dict[str, str]) -> int:
        timeout = aiohttp.ClientTimeout(total=self.patience_s)
        async with self._session.post(
            f"{self._url}/webhook", data=content, headers=headers, timeout=timeout
        ) as answer:
            if answer.status == 503:
                assert answer.headers["Retry-After"]
                self.refused[wamid] = content, headers
            else:
                assert answer.status == 200, await answer.text()
                self.webhooks[wamid] = content, headers
            return answer.status

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def _phone(number: int) -> str:
    return f"4915155{number:06d}"


async def test_everything_is_refused_while_the_store_is_away_and_goes_on_when_it_is_back(
    store: _Store, tmp_path: Path
) -> None:
    installation = Installation(tmp_path, LANE_CONCURRENCY=5, LANE_RATE=1000, LEASE_TTL_S=3)
    if store.url is not None:
        installation.variables["STORE_URL"] = store.url
    async with (
        running_sandbox(tmp_path, installation.port, "--no-limits") as meta,
        aiohttp.ClientSession() as session,
        following(installation.socket_url) as follower,
    ):
        installation.send_to(meta.base_url)
        await meta.faults(delay_ms=300)
        callers = _Callers(installation.url, session)
        process = await installation.start()
        try:
            for _ in range(_AT_ONCE):
                assert await callers.webhook() == 200
                assert await callers.send() == 200

            # With calls under way whose outcome has nowhere to go, and rows behind them.
            async def has_calls() -> bool:
                return len(await meta.accepted()) > 0

            await eventually(has_calls, "a call at Meta")
            store.leave(process)
            await _is_refused(callers, process, follower, meta)

            await asyncio.to_thread(store.come_back)
            await _goes_on(callers)
            await settled(installation, callers.sends, follower, meta)
            assert process.runs
        finally:
            await process.kill()
        accepted = await meta.accepted()

    installation.check_logs()
    assert follower.connections == 1 and follower.count("message.failed") == 0
    assert prove(follower.events, callers, accepted).doubles == 0


async def _refuses(callers: _Callers) -> None:
    for _ in range(_ROUNDS):
        assert set(await callers.everything()) == {503}
        assert await callers.status("/api/health") == 200


async def _is_refused(callers: _Callers, process: Process, follower: Follower, meta: SandboxProcess) -> None:
    callers.patience_s = _ANSWER_S
    await _refuses(callers)

    async def unready() -> bool:
        return await callers.status("/api/ready") == 503

    await eventually(unready, "the store's absence in /api/ready")
    # By now the calls that were under way have reached Meta.
    taken = len(await meta.accepted())
    await _refuses(callers)
    assert len(await meta.accepted()) == taken, "sent without having been able to write it down"
    assert process.runs and follower.closes == []
    callers.patience_s = GUARD_S


async def _goes_on(callers: _Callers) -> None:
    async def ready() -> bool:
        return await callers.status("/api/ready") == 200

    await eventually(ready, "the store's return in /api/ready")

    # One by one: so many at once may still be too much for a slow machine while it catches up.
    async def repeated() -> bool:
        await callers.repeat()
        return not callers.refused

    await eventually(repeated, "a 200 for every webhook that was refused")
    for ask in callers.kinds:

        async def taken(ask: Callable[[], Awaitable[int]] = ask) -> bool:
            return await ask() != 503

        await eventually(taken, f"a success of {ask}")
