"""``Idempotency-Key``: a POST below ``/api`` that is repeated has its effect once (contract.md, Part 2).

Owns who works out the answer to a key, what is kept of it, and the ids of tasks that follow from keys. It is
wired in one place, :meth:`handlers.base.BaseHandler.prepare` and ``finish``; a handler that stores a task
gives it ``self.task_id``, so that a crash between the storing and the keeping of the answer does not send
twice: the repetition finds the task known and answers for it.

Repetitions under way at once wait for the first: those of this process for a word, those of others by looking
at the record. A holder that died is waited for no longer than :data:`HOLD_MS`. One that lives and takes
longer may be joined by another: both answer for the same task.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import uuid
from collections.abc import Callable
from typing import NamedTuple

from handlers.parameters import KEY_HEADER, KEY_PATTERN
from store.base import Store
from store.errors import GatewayError, StoreError
from store.monitor import KEEP_ANSWERS_MS
from store.records import AnswerRecord
from whatsapp.failures import Draining, InvalidRequest

__all__ = ["HOLD_MS", "REPLAYED", "Idempotency", "IdempotencyMismatch", "Work", "check_key"]

_log = logging.getLogger(__name__)

REPLAYED = "Idempotency-Replayed"

HOLD_MS = 15_000
_POLL_S = (0.02, 0.05, 0.1, 0.25)
_KEY = re.compile(KEY_PATTERN, re.ASCII)
_TASKS = uuid.UUID("b7f5bd2f-6e0c-4b52-9c1d-0f6f7f0c7c55")


def check_key(key: str, called: str = KEY_HEADER) -> None:
    """Raise InvalidRequest for what can be no key; ``called``: what it stands in."""
    if _KEY.fullmatch(key) is None:
        problem = "must be 1 to 255 visible ASCII characters"
        raise InvalidRequest(f"{called}: {problem}", [(called, problem)])


class IdempotencyMismatch(GatewayError):
    """The key was used for another request."""

    code = "idempotency_mismatch"


class Work(NamedTuple):
    """The right to work out the answer to a request."""

    name: str
    task_id: str
    """The same for every repetition of the request, and for no other."""


class _UnderWay(NamedTuple):
    digest: str
    over: asyncio.Event


class Idempotency:
    """One per process; ``holder`` names it."""

    def __init__(self, store: Store, *, holder: str, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._holder = holder
        self._now_ms = now_ms
        self._under_way: dict[str, _UnderWay] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._draining = False
        self._closed = False

    def drain(self) -> None:
        """Begin nothing more, and let nobody wait any longer."""
        self._draining = True
        for other in self._under_way.values():
            other.over.set()

    async def close(self) -> None:
        """Return once all that was answered so far is kept. Nothing is kept afterwards."""
        if self._ends:
            await asyncio.wait(self._ends)
        self._closed = True

    async def begin(self, path: str, key: str, body: bytes) -> Work | AnswerRecord:
        """The answer that a request was given before, or the right to work it out, which :meth:`end` must
        follow.

        Raises InvalidRequest, IdempotencyMismatch, Draining, StoreUnavailable.
        """
        check_key(key)
        name, digest = f"{path}\n{key}", hashlib.sha256(body).hexdigest()
        turn = 0
        while True:
            if self._draining:
                raise Draining("the gateway is stopping, try again in a moment")
            if (other := self._under_way.get(name)) is not None:
                _compare(other.digest, digest)
                await other.over.wait()
                continue
            if (found := await self._claim(name, digest)) is not None:
                return found
            await asyncio.sleep(_POLL_S[min(turn, len(_POLL_S) - 1)])
            turn += 1

    def end(self, work: Work, status: int, body: bytes | None, answer: Callable[[], None]) -> None:
        """Keep what the request is answered, then ``answer`` it. A status from 500 on, or no body, is not
        kept: it is answered at once, and who repeats the request tries anew."""
        task = asyncio.Task(self._end(work, status, body, answer), name="idempotency")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _claim(self, name: str, digest: str) -> Work | AnswerRecord | None:
        """None while another process works on it."""
        self._under_way[name] = _UnderWay(digest, asyncio.Event())
        mine = False
        try:
            record = await self._store.claim_answer(
                name, digest, self._holder, self._now_ms(), hold_ms=HOLD_MS, keep_ms=KEEP_ANSWERS_MS
            )
            _compare(record.digest, digest)
            if record.status:
                return record
            mine = record.holder == self._holder
            # With the time, since a key may be used for something else once it is forgotten.
            return Work(name, str(uuid.uuid5(_TASKS, f"{name}\n{record.at}"))) if mine else None
        finally:
            if not mine:
                self._let_go(name)

    async def _end(self, work: Work, status: int, body: bytes | None, answer: Callable[[], None]) -> None:
        try:
            if self._closed:
                answer()
            elif body is None or status >= 500:
                answer()
                await self._store.release_answer(work.name, self._holder)
            else:
                try:
                    await self._store.keep_answer(work.name, status, body)
                finally:
                    answer()
        except StoreError as error:
            _log.warning("an answer is not kept for a repetition of its request: %s", error.message)
        finally:
            self._let_go(work.name)

    def _let_go(self, name: str) -> None:
        self._under_way.pop(name).over.set()


def _compare(known: str, digest: str) -> None:
    if known != digest:
        raise IdempotencyMismatch(f"{KEY_HEADER}: this key was used for a request with another body")
