"""Two gateways on one store: who answers a request that both of them got (``handlers/idempotency.py``)."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from handlers import idempotency
from handlers.idempotency import HOLD_MS, Idempotency, IdempotencyMismatch, Work
from store.base import Store
from store.records import AnswerRecord

NOW = 1_700_000_000_000


class Pair:
    """The same request comes to ``a`` and to ``b``."""

    def __init__(self, store: Store) -> None:
        self.now = NOW
        self.a = Idempotency(store, holder="a", now_ms=lambda: self.now)
        self.b = Idempotency(store, holder="b", now_ms=lambda: self.now)

    async def work(self, who: Idempotency, body: bytes = b"body") -> Work:
        found = await who.begin("/api/x", "key", body)
        assert isinstance(found, Work)
        return found


async def ended(who: Idempotency, work: Work, status: int, body: bytes | None) -> None:
    answered = asyncio.Event()
    who.end(work, status, body, answered.set)
    await answered.wait()
    await who.close()


async def test_the_other_waits_for_the_answer(store: Store) -> None:
    pair = Pair(store)
    work = await pair.work(pair.a)
    with mock.patch.object(idempotency, "_POLL_S", (0.001,)):
        waiting = asyncio.ensure_future(pair.b.begin("/api/x", "key", b"body"))
        await ended(pair.a, work, 200, b"answer")
        found = await waiting
    assert isinstance(found, AnswerRecord)
    assert (found.status, found.body) == (200, b"answer")


async def test_who_takes_over_has_the_same_task(store: Store) -> None:
    pair = Pair(store)
    first = await pair.work(pair.a)
    pair.now += HOLD_MS
    assert await pair.work(pair.b) == first
    await ended(pair.b, first, 200, b"b")
    await ended(pair.a, first, 200, b"a")
    found = await pair.a.begin("/api/x", "key", b"body")
    assert isinstance(found, AnswerRecord) and found.body == b"b"


async def test_what_one_failed_at_the_other_tries_at_once_with_the_same_task(store: Store) -> None:
    pair = Pair(store)
    first = await pair.work(pair.a)
    await ended(pair.a, first, 503, b"away")
    assert await pair.work(pair.b) == first


async def test_a_key_that_was_forgotten_names_another_task(store: Store) -> None:
    pair = Pair(store)
    first = await pair.work(pair.a)
    await ended(pair.a, first, 200, b"answer")
    pair.now += 24 * 3600 * 1000
    assert (await pair.work(pair.b, b"another")).task_id != first.task_id


async def test_another_body_is_refused_by_both(store: Store) -> None:
    pair = Pair(store)
    await pair.work(pair.a)
    for who in (pair.a, pair.b):
        with pytest.raises(IdempotencyMismatch):
            await who.begin("/api/x", "key", b"another")
