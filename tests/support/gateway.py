"""The gateway in the test's own process, on real sockets, with a sandbox beside it that plays Meta.

:func:`serving` starts both and ends them. What a test waits for it takes from the event log (:class:`Events`)
or from the calls that Meta got (:class:`Calls`).
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import aiohttp
import msgspec

from server import Gateway
from settings import Secret, Settings
from store import monitor
from store.records import Event, Lease
from store.sqlite import SqliteStore
from tests.support.faulty_store import FaultyStore
from tests.support.waiting import GUARD_S, eventually
from whatsapp.sandbox import Sandbox, SandboxSettings
from whatsapp.signature import HEADER, sign

__all__ = [
    "NUMBER",
    "Answer",
    "Call",
    "Calls",
    "Client",
    "Events",
    "Harness",
    "running",
    "serving",
    "serving_on_its_sandbox",
    "settings_for",
    "signed",
    "stop_whole",
    "write",
]

Json = dict[str, Any]
T = TypeVar("T")

NUMBER = "100000000000001"
_SANDBOX = SandboxSettings(enforce_limits=False, status_delays=(0.0, 0.01, 0.02))
_QUICK: Mapping[str, Mapping[str, Any]] = {
    "server": {"port": 0},
    "lane": {"rate": 1000.0, "probe_s": 0.05},
    "retry": {"base_s": 0.01, "cap_s": 0.02},
    "unknown": {"grace_s": 60.0},
    "direct": {"timeout_s": 20.0},
    "drain": {"timeout_s": 5.0},
    "autoreply": {"enabled": False},
}


class Answer(NamedTuple):
    """What a call was answered."""

    status: int
    body: Any
    """The decoded JSON, or the text where it is none."""
    headers: Mapping[str, str]

    @property
    def ok(self) -> Any:
        """The body of an answer that is 200."""
        assert self.status == 200, self
        return self.body


class Call(NamedTuple):
    """A send as Meta got it, and what Meta said."""

    at: float
    """Monotonic seconds."""
    message: Json
    status: int
    """0 where the connection was closed instead of an answer."""
    marketing: bool = False
    """Whether it came by the path of marketing messages."""

    @property
    def to(self) -> str:
        """Whom it was for."""
        to: str = self.message.get("to") or self.message.get("recipient", "")
        return to

    @property
    def text(self) -> str:
        """What it said."""
        body: str = self.message["text"]["body"]
        return body

    @property
    def reference(self) -> str:
        """Our ``<row>.<attempt>``."""
        reference: str = self.message["biz_opaque_callback_data"]
        return reference


class _Growing:
    """Something that a test waits to grow."""

    def __init__(self) -> None:
        self._grown = asyncio.Event()

    def _grow(self) -> None:
        self._grown.set()

    async def _until(self, ready: Callable[[], T | None], what: Callable[[], str]) -> T:
        try:
            async with asyncio.timeout(GUARD_S):
                while (found := ready()) is None:
                    self._grown.clear()
                    await self._grown.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"did not come: {what()}") from None


class Calls(_Growing):
    """Every send that Meta got, refused ones too, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Call] = []

    def watch(self, sandbox: Sandbox) -> None:
        """Note the sends to this sandbox from now on."""
        account = sandbox._account
        messages = account.messages

        def noted(
            number: str, authorization: str | None, body: bytes, now: float, at: float, *, marketing: bool
        ) -> Any:
            answer = messages(number, authorization, body, now, at, marketing=marketing)
            self.all.append(Call(now, json.loads(body), answer.http, marketing))
            self._grow()
            return answer

        account.messages = noted  # type: ignore[method-assign]

    @property
    def taken(self) -> list[Call]:
        """Those that Meta took, with or without an answer."""
        return [call for call in self.all if call.status in (0, 200)]

    def to(self, phone: str) -> list[Call]:
        """Those for one recipient."""
        return [call for call in self.all if call.to.lstrip("+") == phone]

    async def wait(self, count: int) -> list[Call]:
        """All of them, once there are so many."""
        return await self._until(
            lambda: self.all if len(self.all) >= count else None,
            lambda: f"call {count}; there were {len(self.all)}",
        )


class Events(_Growing):
    """What the log took since the test began, across restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Event] = []

    def take(self, batch: Sequence[Event]) -> None:
        """To be called back by the store."""
        self.all.extend(batch)
        self._grow()

    def of(self, type: str, **fields: object) -> list[Json]:
        """``data`` of the events of a type whose ``data`` has these values."""
        found = [json.loads(event.body)["data"] for event in self.all if event.type == type]
        return [data for data in found if all(data.get(name) == value for name, value in fields.items())]

    @property
    def counts(self) -> Counter[str]:
        """How many there were of each type."""
        return Counter(event.type for event in self.all)

    async def wait(self, type: str, count: int = 1, **fields: object) -> list[Json]:
        """``data`` of all events of a type (with these values), once there are so many."""

        def ready() -> list[Json] | None:
            if sum(event.type == type for event in self.all) < count:
                return None
            found = self.of(type, **fields)
            return found if len(found) >= count else None

        return await self._until(ready, lambda: f"{count} {type} {fields}; there were {dict(self.counts)}")


class Client:
    """Calls to a gateway that runs on :attr:`port`."""

    http: aiohttp.ClientSession
    port: int

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str, **headers: str) -> Answer:
        """GET; underscores in the names of headers stand for dashes."""
        return await self.request("GET", path, headers=headers)

    async def post(self, path: str, body: object, **headers: str) -> Answer:
        """POST an object as JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request(
            "POST", path, data=data, headers={"Content-Type": "application/json", **headers}
        )

    async def request(
        self, method: str, path: str, *, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Any call."""
        named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if isinstance(data, bytes):
            data = io.BytesIO(data)
        async with self.http.request(method, self.url + path, data=data, headers=named) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return Answer(answer.status, json.loads(text) if is_json else text, dict(answer.headers))


class Harness(Client):
    """A gateway that runs, and what a test needs around it."""

    def __init__(self, directory: Path, sandbox: SandboxSettings, changes: Mapping[str, Any]) -> None:
        self._directory = directory
        self._sandbox_settings = sandbox
        self._changes = changes
        self.calls = Calls()
        self.events = Events()
        self.sandbox: Sandbox
        self.gateway: Gateway
        self.store: FaultyStore

    # -- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start Meta, the gateway, and a client."""
        self.http = aiohttp.ClientSession()
        await self.start_sandbox()
        await self.start_gateway()

    async def stop(self) -> None:
        """End all of it."""
        self.store.heal()
        await self.http.close()
        await self.stop_gateway()
        await self.sandbox.stop()

    async def start_sandbox(self, port: int = 0) -> None:
        """Start Meta, on this port."""
        self.sandbox = Sandbox(msgspec.structs.replace(self._sandbox_settings, port=port))
        self.calls.watch(self.sandbox)
        await self.sandbox.start()

    @property
    def sandbox_port(self) -> int:
        """Where Meta is, or was before it was stopped."""
        return int(self.sandbox.base_url.rpartition(":")[2])

    async def start_gateway(self) -> None:
        """Start the gateway, and tell Meta where it is."""
        settings = settings_for(self._directory, self.sandbox.base_url, self._changes)
        self.store = FaultyStore(SqliteStore(self._directory / "gateway.db", answer_s=GUARD_S))
        self.store.on_events(self.events.take)
        self.gateway = Gateway(settings, store=self.store.as_store())
        await self.gateway.start()
        self.port = self.gateway.port
        self.sandbox.webhook_url = f"{self.url}/webhook"

    async def stop_gateway(self) -> None:
        """Stop it; fails where a part of it had died."""
        await stop_whole(self.gateway)

    async def restart(self) -> None:
        """Stop the gateway, and start it anew on the same file."""
        self.sandbox.webhook_url = None
        await self.stop_gateway()
        await self.start_gateway()

    # -- calls -----------------------------------------------------------------------------------------

    async def send(self, phone: object, message: str = "hello", **fields: object) -> Answer:
        """``POST /api/send-message``."""
        return await self.post("/api/send-message", {"phone": phone, "message": message, **fields})

    async def queue(self, phone: object, message: str = "hello", **fields: object) -> str:
        """The same onto the queue; the task's id."""
        task_id: str = (await self.send(phone, message, use_queue=True, **fields)).ok["task_id"]
        return task_id

    async def bulk(self, recipients: Sequence[object], **fields: object) -> Answer:
        """``POST /api/send-bulk``."""
        return await self.post("/api/send-bulk", {"recipients": recipients, **fields})

    async def webhook(self, body: bytes, secret: str | None = None) -> Answer:
        """``POST /webhook``, signed."""
        signature = signed(body, self._sandbox_settings.app_secret if secret is None else secret)
        return await self.post("/webhook", body, **signature)

    async def steal_lane(self) -> Lease:
        """Take the lane's lease from the gateway, as another process does once it has run out."""
        # Not while it is being taken: the gateway would take it before the other can.
        await self.lane_when(lambda lane: lane["state"] != "elsewhere")
        store, name = self.store.as_store(), f"lane:{NUMBER}"
        ours = await store.acquire_lease(name, self.gateway._owner, 60_000)
        assert ours is not None
        await store.release_lease(ours)
        stolen = await store.acquire_lease(name, "another", 60_000)
        assert stolen is not None
        return stolen

    # -- what a test looks at --------------------------------------------------------------------------

    async def status(self) -> Json:
        """``GET /api/status``."""
        body: Json = (await self.get("/api/status")).ok
        return body

    async def lane(self) -> Json:
        """What the status page says of the lane."""
        (found,) = (await self.status())["lanes"]
        told: Json = found
        return told

    async def task(self, task_id: str) -> Json:
        """``GET /api/task-status``."""
        body: Json = (await self.get(f"/api/task-status/{task_id}")).ok
        return body

    async def task_when(self, task_id: str, ready: Callable[[Json], bool]) -> Json:
        """The task's status, once it is so: the rows follow the log, and nothing tells when they have."""

        async def ask() -> Json | None:
            task = await self.task(task_id)
            return task if ready(task) else None

        return await eventually(ask)

    async def lane_when(self, ready: Callable[[Json], bool]) -> Json:
        """What the status page says of the lane, once it is so."""

        async def ask() -> Json | None:
            told = await self.lane()
            return told if ready(told) else None

        return await eventually(ask)

    async def consumed(self, consumer: str) -> None:
        """Return once this consumer of the log has passed all that is in it now."""
        head = (await self.store.log_bounds()).head

        async def ask() -> bool | None:
            return await self.store.load_cursor(consumer) >= head or None

        await eventually(ask)


def settings_for(directory: Path, base_url: str, changes: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings for a sandbox at this address: quick, and without automatic replies, unless changed."""
    whatsapp = {
        "verify_token": Secret("verify"),
        "access_token": Secret(_SANDBOX.access_token),
        "phone_number_id": NUMBER,
        "base_url": base_url,
        "app_secret": Secret(_SANDBOX.app_secret),
    }
    store = {"url": Secret(f"sqlite:///{directory / 'gateway.db'}")}
    return Settings(**_sections(_QUICK, {"whatsapp": whatsapp, "store": store}, changes))


def signed(body: bytes, secret: str) -> dict[str, str]:
    """The header of a webhook that is signed with this secret; none without one."""
    return {HEADER: sign(secret, body)} if secret else {}


@asynccontextmanager
async def serving(
    directory: Path, *, sandbox: SandboxSettings = _SANDBOX, **changes: Mapping[str, Any]
) -> AsyncIterator[Harness]:
    """Sandbox and gateway, started; ``changes`` are settings by section: ``lane={"rate": 80.0}``."""
    harness = Harness(directory, sandbox, changes)
    # The store is asked how it is within a moment, and not within a second.
    with mock.patch.object(monitor, "_BEAT_S", 0.1):
        await harness.start()
        try:
            yield harness
        finally:
            await harness.stop()


@asynccontextmanager
async def serving_on_its_sandbox(directory: Path, **changes: Mapping[str, Any]) -> AsyncIterator[Client]:
    """A gateway without credentials: it starts a sandbox of its own."""
    sandbox = {"store_url": Secret(f"sqlite:///{directory / 'sandbox.db'}")}
    async with running(Gateway(Settings(**_sections(_QUICK, {"sandbox": sandbox}, changes)))) as client:
        yield client


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Client]:
    """A caller of this gateway, from its start to its stop."""
    client = Client()
    async with aiohttp.ClientSession() as client.http:
        await gateway.start()
        client.port = gateway.port
        try:
            yield client
        finally:
            await stop_whole(gateway)


async def write(gateway: Harness, *texts: str) -> None:
    """A customer writes, one word after the other."""
    before = gateway.events.counts["message.received"]
    for text in texts:
        await gateway.sandbox.inbound("5215550001111", text)
    await gateway.events.wait("message.received", before + len(texts))


async def stop_whole(gateway: Gateway) -> None:
    """Stop a gateway, all parts of which must have lived until now."""
    died = gateway._failed
    await gateway.stop()
    assert died is not None and not died.done(), died


def _sections(*sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings by section; of several sources the last wins, key by key."""
    sections: dict[str, dict[str, Any]] = {}
    for source in sources:
        for name, values in source.items():
            sections[name] = {**sections.get(name, {}), **values}
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    return {name: types[name](**values) for name, values in sections.items()}
