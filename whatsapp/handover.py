"""Messages that a rule hands over to a program of the operator's: posted, and what it answers is sent.

A follower of the log with a lease and a cursor of its own for each such program, so that one that is slow or
dead keeps neither rules nor other programs waiting; and within one, a contact waits only for what they wrote
before. Follows the ``automation.handover`` events of ``autoreply.py``. What a POST's answer means is decided
by :func:`verdict`; how its messages are composed is given.

**At least once.** The cursor stands before the oldest message that is not done with. One that is posted again
after a crash may be answered otherwise, and yet is answered once: its tasks have ids made from the event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from store.base import Store
from store.errors import GatewayError, LeaseLost, StoreUnavailable
from store.leasing import under_lease
from store.log import Log
from store.records import Cursor, Event, Lease, Memo
from whatsapp.autoreply import failed_event, sender_of, task_id_of
from whatsapp.drafts import Prepared
from whatsapp.events import EventType
from whatsapp.failures import Draining
from whatsapp.identity import Address
from whatsapp.outbox import Outbox
from whatsapp.outside import Posted, Unanswered
from whatsapp.retry import store_pause

__all__ = ["HandOver", "Messages", "Result", "verdict"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_MESSAGES = 5
"""That one answer may hold."""
_PAGE = 100
_AT_ONCE = 32
"""Messages under way at once."""
_RETRY_S = 1.0
_SAVE_MS = 1000
"""How often a cursor is saved that only passes what is for others."""
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


Messages = Callable[[Sequence[Any], Address], Sequence[Prepared]]
"""From the ``messages`` of an answer, and to whom they go. Raises GatewayError that says what is wrong."""


class Post(Protocol):
    """How the program is reached."""

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Posted:
        """Once. Raises Unanswered."""
        ...

    def set_secret(self, secret: str) -> bool:
        """Sign with this one from now on; whether it is another one."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class Result(Enum):
    """What an answer says."""

    TAKEN = "taken"
    AGAIN = "again"
    REFUSED = "refused"


class _Answer(msgspec.Struct):
    messages: list[Any] | None = None


class _Wanted(msgspec.Struct):
    rule: str
    handover: str
    offset: int
    match: list[str] = []


class _Body(msgspec.Struct):
    data: _Wanted


_decode = msgspec.json.Decoder(_Body).decode


def verdict(status: int) -> Result:
    """What follows from the status of an answer: 2xx has it, 408, 425, 429 and 5xx may do later, and all
    else never will."""
    if 200 <= status < 300:
        return Result.TAKEN
    return Result.AGAIN if status in (408, 425, 429) or status >= 500 else Result.REFUSED


class HandOver:
    """The way to the program ``name``; every process has one, and one of them goes it."""

    def __init__(
        self,
        name: str,
        poster: Post,
        messages: Messages,
        *,
        store: Store,
        log: Log,
        outbox: Outbox,
        owner: str,
        lease_ttl_ms: int,
        max_age_s: float,
        now_ms: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self.name = f"handover:{name}"
        self.offset = 0
        """Every event up to here is done with."""
        self.fault = ""
        """Why the last try failed, while they do."""
        self.skipped = 0
        """How many messages were given up since the start."""
        self.last_skipped = 0
        self.target = name
        self._poster = poster
        self._messages = messages
        self._store = store
        self._log = log
        self._outbox = outbox
        self._owner = owner
        self._lease_ttl_ms = lease_ttl_ms
        self._max_age_ms = int(max_age_s * 1000)
        self._now_ms = now_ms
        self._random = random
        self._under_way: dict[int, asyncio.Task[None]] = {}  # by the offset of what asked for it
        self._last_of: dict[str, asyncio.Task[None]] = {}  # by contact
        self._read = 0
        self._done = asyncio.Event()

    def set_secret(self, secret: str) -> bool:
        """Sign with this one from now on; whether it is another one."""
        return self._poster.set_secret(secret)

    async def begin(self) -> None:
        """Have it begin with what comes from now on, if it never did. Raises StoreUnavailable."""
        # The memo, and not the cursor, tells that it has begun: a cursor of 0 would look like none.
        if await self._store.find_memo(self.name) is None:
            await self._store.save_cursor(Cursor(self.name, self._log.head))
            await self._store.put_memo(Memo(self.name, 1, b"{}"))

    async def run(self) -> None:
        """Work, or wait until it is this process's turn, until cancelled. Faults are waited out."""
        while True:
            try:
                await under_lease(
                    self._store, f"consumer:{self.name}", self._owner, self._lease_ttl_ms, self._work
                )
                self.fault = ""  # another process is at work
            except LeaseLost:
                _log.warning("lease lost, another process goes on", extra={"consumer": self.name})
            except StoreUnavailable as error:
                _log.warning("store away, %s waits: %s", self.name, error.message)
            except Exception:  # noqa: BLE001 - it is told, and nothing else must feel it
                _log.exception("%s failed after offset %s", self.name, self.offset)
            finally:
                await self._drop_all()
                await self._poster.close()
            await asyncio.sleep(_RETRY_S)

    # -- the log ---------------------------------------------------------------------------------------

    async def _work(self, lease: Lease, lost: asyncio.Task[None]) -> None:
        self.offset = self._read = await self._store.load_cursor(self.name)
        saved_at = self._now_ms()
        while not lost.done():
            finished = self._done.is_set()
            self._done.clear()
            room = _AT_ONCE - len(self._under_way)
            page = await self._log.read(self._read, _PAGE) if room > 0 else ()
            for event in page:
                if event.type == EventType.AUTOMATION_HANDOVER and self._is_mine(event):
                    if not room:
                        break
                    room -= 1
                    self._begin(event)
                self._read = event.offset
            # Not at each growth of the log: most of it is for others.
            if finished or self._now_ms() - saved_at >= _SAVE_MS:
                await self._save(lease)
                saved_at = self._now_ms()
            if not page or not room:
                await self._wait(lost)
        raise LeaseLost(f"the lease {lease.name} went to another owner")

    def _is_mine(self, event: Event) -> bool:
        try:
            return _decode(event.body).data.handover == self.target
        except msgspec.MsgspecError:
            return False

    @property
    def _passed(self) -> int:
        """How far all is done with."""
        return min(self._under_way) - 1 if self._under_way else self._read

    async def _save(self, lease: Lease) -> None:
        """Save how far all is done with; later where the store is away, since what is under way would be
        posted again if all began anew. Raises LeaseLost."""
        passed = self._passed
        if passed <= self.offset:
            return
        try:
            await self._store.save_cursor(Cursor(self.name, passed), lease)
        except StoreUnavailable as error:
            _log.warning("store away, the place of %s is saved later: %s", self.name, error.message)
        else:
            self.offset = passed

    async def _wait(self, lost: asyncio.Task[None]) -> None:
        """Until there is more to read and room for it, or something is done, or to be saved."""
        waits: list[asyncio.Task[Any]] = [asyncio.Task(self._done.wait())]
        if len(self._under_way) < _AT_ONCE:
            waits.append(asyncio.Task(self._log.wait(self._read)))
        try:
            timeout_s = _SAVE_MS / 1000 if self._passed > self.offset else None
            await asyncio.wait({lost, *waits}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _begin(self, event: Event) -> None:
        before = self._last_of.get(event.contact)
        task = asyncio.Task(self._one(event, before), name=f"{self.name}-{event.offset}")
        self._under_way[event.offset] = self._last_of[event.contact] = task

        def ended(task: asyncio.Task[None]) -> None:
            self._under_way.pop(event.offset, None)
            if self._last_of.get(event.contact) is task:
                del self._last_of[event.contact]
            self._done.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("%s lost the event at offset %s", self.name, event.offset, exc_info=error)

        task.add_done_callback(ended)

    async def _drop_all(self) -> None:
        tasks = set(self._under_way.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._under_way.clear()
        self._last_of.clear()

    # -- one message -----------------------------------------------------------------------------------

    async def _one(self, asked: Event, before: asyncio.Task[None] | None) -> None:
        """Carry one over, and send what is answered."""
        if before is not None:
            await asyncio.wait({before})
        wanted = _decode(asked.body).data
        try:
            await self._carry(wanted)
        except Exception as error:  # noqa: BLE001 - nothing else must feel it, and it is told
            _log.exception("%s failed at the event at offset %s", self.name, wanted.offset)
            await self._give_up(asked, wanted.rule, f"the gateway failed at it: {type(error).__name__}")

    async def _carry(self, wanted: _Wanted) -> None:
        found = await self._insist(lambda: self._log.read(wanted.offset - 1, 1))
        if not found or found[0].offset != wanted.offset:
            return  # Removed, so it is far too old.
        event = found[0]
        answer = await self._answer(event, wanted)
        if isinstance(answer, str):
            await self._give_up(event, wanted.rule, answer)
            return
        try:
            prepared = _read(answer, self._messages, sender_of(event))
        except GatewayError as error:
            await self._give_up(event, wanted.rule, error.message)
            return
        for place, one in enumerate(prepared):
            await self._insist(partial(self._send, event, wanted.rule, place, one))

    async def _send(self, event: Event, rule: str, place: int, one: Prepared) -> None:
        await self._outbox.submit(
            one.kind,
            [one.draft],
            lane=event.phone_number_id,
            priority=one.priority,
            source=f"autoreply:{rule}",
            task_id=task_id_of(event.key, rule, place),
            terms=one.terms,
        )

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, however long the store is away: what is under way is read by nobody else while this process
        works. While the gateway stops nothing is taken: the next start goes on from the cursor."""
        tries = 0
        while True:
            tries += 1
            try:
                return await work()
            except (StoreUnavailable, Draining) as error:
                _log.warning("%s waits: %s", self.name, error.message)
            await asyncio.sleep(store_pause(tries, self._random))

    async def _answer(self, event: Event, wanted: _Wanted) -> Posted | str:
        """What the program answers; why it has none, once it is too late or no use to try again."""
        body = _posted(event, wanted)
        headers = {
            "X-Gateway-Hook": self.target,
            "X-Gateway-Event": event.type,
            "X-Gateway-Event-Id": f"{self._log.epoch}:{event.offset}",
        }
        why = "it is too old"
        tries = 0
        while self._now_ms() - event.at <= self._max_age_ms:
            try:
                answer = await self._poster.post(body, headers)
            except Unanswered as error:
                why = error.message
            else:
                result = verdict(answer.status)
                if result is Result.TAKEN:
                    if self.fault:
                        _log.info("%s takes messages again", self.name)
                    self.fault = ""
                    return answer
                why = f"HTTP {answer.status}"
                if result is Result.REFUSED:
                    return why
            if not self.fault:
                _log.warning("%s does not take messages: %s", self.name, why)
            self.fault = f"{self.target}: {why}"
            wait_s = _WAITS_S[min(tries, len(_WAITS_S) - 1)]
            await asyncio.sleep(wait_s * (0.5 + self._random() / 2))
            tries += 1
        return why

    async def _give_up(self, event: Event, rule: str, why: str) -> None:
        told = failed_event(event, rule, "hand_over", f"{self.target}: {why}", self._now_ms())
        await self._insist(lambda: self._store.append_events([told]))
        self.skipped += 1
        self.last_skipped = event.offset


def _posted(event: Event, wanted: _Wanted) -> bytes:
    """The event as subscribers see it, with the rule and what it matched in front."""
    head = msgspec.json.encode({"rule": wanted.rule, "match": wanted.match, "offset": event.offset})
    return head[:-1] + b"," + event.body[1:]


def _read(answer: Posted, messages: Messages, to: Address) -> Sequence[Prepared]:
    """The messages of an answer. Raises GatewayError for what is none."""
    if not answer.body.strip():
        return ()
    if not answer.is_whole:
        raise GatewayError("its answer is too long, or broke off")
    try:
        given = msgspec.json.decode(answer.body, type=_Answer).messages or []
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise GatewayError(f"its answer is not JSON with a list of messages: {error}") from error
    if len(given) > MAX_MESSAGES:
        raise GatewayError(f"its answer has {len(given)} messages, at most {MAX_MESSAGES}")
    if given and not to:
        raise GatewayError("there is nobody to answer")
    return messages(given, to)
