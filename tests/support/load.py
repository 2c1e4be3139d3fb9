"""Load on a gateway that may die at any moment, and a record of what it acknowledged.

Owns the callers' side of the promise: Meta, who posts a webhook again until it is answered 200, and clients
of the API, who know of a send only what an answer told them. What was not acknowledged is not recorded: it
may have happened or not.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from tests.support.process import SECRET
from tests.support.waiting import GUARD_S
from tests.support.webhooks import body, entry, message_value, text_message
from whatsapp.signature import HEADER, sign

__all__ = [
    "CONTACTS",
    "KEYWORD",
    "LEASED",
    "UNDER_LOAD",
    "Caller",
    "Load",
    "Record",
    "post_webhook",
    "signed_messages",
]

CONTACTS = 300
"""People who write and are written to."""
KEYWORD = "hola"
"""What an automatic reply answers."""
UNDER_LOAD: dict[str, object] = {
    "LANE_RATE": 2000,
    "LANE_PAIR_BURST": 10_000,
    "UNKNOWN_GRACE_S": 1,
    "RETRY_MAX_ATTEMPTS": 100,
    "DIRECT_TIMEOUT_S": 5,
    "AUTOREPLY_COOLDOWN_S": 3600,
}
"""Settings of a gateway that is tried: nothing waits for its pace, nothing is given up."""
LEASED: dict[str, object] = {"LANE_CONCURRENCY": 32, "LEASE_TTL_S": 3}
"""On the server of the tests: it is slow, and each start waits for the leases of the dead."""
_AGAIN_S = 0.02
_TAKEN_S = 10 * GUARD_S
"""Through one death after another, on a busy machine."""
_JSON = {"Content-Type": "application/json"}


class Record:
    """What was answered with success, and who waits for how much of it."""

    def __init__(self) -> None:
        self.webhooks: dict[str, tuple[str, str]] = {}
        """Inbound messages by wamid: sender and text."""
        self.sends: dict[str, list[str]] = {}
        """Recipients, in the order of the rows, by task id."""
        self.direct: dict[str, str] = {}
        """What Meta answered to direct sends, by task id: the message's id."""
        self.repeated = 0
        """Webhooks that were posted again after their 200."""
        self.broken = 0
        """Requests that got no answer."""
        self.refused = 0
        """Requests that were answered 503."""
        self.answers = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def count(self) -> None:
        """One more answer with success."""
        self.answers += 1
        for due, future in self._waiting:
            if due <= self.answers and not future.done():
                future.set_result(None)
        self._waiting = [(due, future) for due, future in self._waiting if not future.done()]

    async def further(self, answers: int, within_s: float = GUARD_S) -> None:
        """Return after so many further answers with success; fails when that takes too long."""
        if answers <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.answers + answers, future))
        try:
            async with asyncio.timeout(within_s):
                await future
        except TimeoutError:
            so_far = f"{self.answers} so far, {self.refused} refused, {self.broken} broken"
            raise AssertionError(f"waited in vain for {answers} further answers: {so_far}") from None


def signed_messages(messages: Sequence[tuple[str, str, str]]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a webhook with these (wamid, sender, text), written just now."""
    fields = {"timestamp": str(int(time.time()))}
    items = [text_message(wamid, text, **{"from": sender}, **fields) for wamid, sender, text in messages]
    content = body(entry(message_value(messages=items)))
    return content, {**_JSON, HEADER: sign(SECRET, content)}


async def post_webhook(
    session: aiohttp.ClientSession, url: str, messages: Sequence[tuple[str, str, str]]
) -> aiohttp.ClientResponse:
    """Post a webhook once; the answer, read."""
    content, headers = signed_messages(messages)
    async with session.post(f"{url}/webhook", data=content, headers=headers) as answer:
        await answer.read()
        return answer


class Caller:
    """Asks again and again, as long as the gateway is away, and records what it heard."""

    def __init__(self, urls: str | Sequence[str], session: aiohttp.ClientSession, record: Record) -> None:
        """``urls``: of a gateway, or of several that are asked in turn."""
        self._urls = itertools.cycle((urls,) if isinstance(urls, str) else urls)
        self._session = session
        self._record = record

    async def until_taken(self, path: str, content: bytes, headers: dict[str, str]) -> bytes:
        """The body of the answer with success, however often it has to be asked for. Fails on an answer that
        is neither a success nor a 503."""
        deadline = time.monotonic() + _TAKEN_S
        while True:
            assert time.monotonic() < deadline, f"{path} was not taken in {_TAKEN_S:.0f} s"
            try:
                url = next(self._urls) + path
                async with self._session.post(url, data=content, headers=headers) as answer:
                    text = await answer.read()
            except (aiohttp.ClientError, OSError):
                self._record.broken += 1
            else:
                if answer.status in (200, 202):
                    return text
                assert answer.status == 503, (answer.status, text)
                self._record.refused += 1
            await asyncio.sleep(_AGAIN_S)

    async def send(self, path: str, fields: Mapping[str, Any], people: list[str]) -> None:
        """Have this sent to these. Who got no answer asks again, and that is another task: the one before may
        be sent too."""
        answer = msgspec.json.decode(await self.until_taken(path, msgspec.json.encode(fields), _JSON))
        assert answer["success"], answer
        self._record.sends[answer["task_id"]] = people
        if path == "/api/send-message" and "data" in answer:
            self._record.direct[answer["task_id"]] = answer["data"]["messages"][0]["id"]
        self._record.count()


class Load:
    """Callers of every kind, each with one request under way at a time, at a gateway or at any of several."""

    def __init__(
        self,
        url: str | Sequence[str],
        rng: random.Random,
        *,
        callers: int = 6,
        most: int = 20,
        numbers: Sequence[str] = (),
        patience_s: float = GUARD_S,
    ) -> None:
        """``callers``: so many for webhooks, as many for queued sends, half for direct ones, one for sends to
        many. ``most``: messages in a webhook, recipients in a send. ``numbers``: of ours, to send from any of
        them; none: from the default. ``patience_s``: how long an answer is waited for."""
        self.record = Record()
        self._urls = url
        self._from = tuple(numbers)
        self._patience_s = patience_s
        self._rng = rng
        self._callers = callers
        self._most = most
        self._numbers = 0
        self._ending = False
        self._caller: Caller

    async def run(self) -> None:
        """Load until :meth:`end`. Fails on an answer that is neither a success nor a 503."""
        timeout = aiohttp.ClientTimeout(total=self._patience_s)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            self._caller = Caller(self._urls, session, self.record)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._callers):
                    tasks.create_task(self._repeat(self._webhook))
                    tasks.create_task(self._repeat(self._queued))
                for _ in range((self._callers + 1) // 2):
                    tasks.create_task(self._repeat(self._direct))
                tasks.create_task(self._repeat(self._bulk))

    def end(self) -> None:
        """Begin no further request; :meth:`run` returns once those under way are answered."""
        self._ending = True

    async def _repeat(self, work: Callable[[], Any]) -> None:
        while not self._ending:
            await work()

    async def _webhook(self) -> None:
        messages = [self._message() for _ in range(self._rng.choice((1, 1, 1, 2, 5, self._most)))]
        if self._rng.random() < 0.1:
            messages.append(messages[0])
        content, headers = signed_messages(messages)
        # Meta at its worst: the same body twice at the same time, or again although it was answered.
        copies = 2 if self._rng.random() < 0.1 else 1
        async with asyncio.TaskGroup() as posts:
            for _ in range(copies):
                posts.create_task(self._caller.until_taken("/webhook", content, headers))
        self.record.webhooks.update((wamid, (sender, text)) for wamid, sender, text in messages)
        self.record.count()
        if self._rng.random() < 0.1:
            await self._caller.until_taken("/webhook", content, headers)
            self.record.repeated += 1

    async def _queued(self) -> None:
        await self._send("/api/send-message", [self._person()], use_queue=True)

    async def _direct(self) -> None:
        await self._send("/api/send-message", [self._person()], use_queue=False)

    async def _bulk(self) -> None:
        people = [self._person() for _ in range(self._rng.randint(2, self._most))]
        await self._send("/api/send-bulk", people, use_queue=True)

    async def _send(self, path: str, people: list[str], *, use_queue: bool) -> None:
        texts = [{"phone": phone, "message": f"message {self._number()}"} for phone in people]
        fields = texts[0] if path == "/api/send-message" else {"recipients": texts}
        ours = {"phone_number_id": self._rng.choice(self._from)} if self._from else {}
        await self._caller.send(path, {**fields, **ours, "use_queue": use_queue}, people)

    def _message(self) -> tuple[str, str, str]:
        text = KEYWORD if self._rng.random() < 0.1 else f"order {self._number()}"
        return f"wamid.{self._number()}", self._person(), text

    def _person(self) -> str:
        # No phone ends as those do that the sandbox refuses.
        return f"4915155{self._rng.randrange(CONTACTS):06d}"

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers
