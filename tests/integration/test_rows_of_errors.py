"""Every row of Meta's errors over real sockets, by a refused call and by a status: what becomes of the
message, its attempts and its number, what else goes on, and what the operator reads.

A gateway meets many of them, each on a number of its own and one after another, so that starting it takes
little time; each test looks at what its row has left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from settings import NumberSettings
from store.records import Row
from tests.support.error_rows import ROWS, ErrorRow
from tests.support.gateway import NUMBER, Harness, serving
from tests.support.waiting import eventually
from whatsapp.sandbox import SandboxSettings

WAYS = ("call", "status")
PHONE = "5215550001111"
_BACKOFF_S = 300.0
_AT_ONCE = 24
"""Numbers of one gateway: they all look for messages every second, and more would slow each other down."""
_STEADY = ("row", "pair", "template", "broadcast")
"""Scopes that leave the number sending."""
_WIDE = ("app", "account")
"""Scopes that stop other numbers too: the sandbox's answers name no account that they could belong to."""


class Seen(NamedTuple):
    """What a row has left."""

    row: Row
    error: dict[str, Any]
    told: dict[str, Any]
    """``data`` of the last event about it."""
    lane: dict[str, Any]
    calls: int
    goes_on: int
    """HTTP status of a reply to somebody else from the same number just after; 0: not tried."""
    others_go_on: int
    """The same from another number."""


Key = tuple[int, str]


def _lane(place: int, way: str) -> str:
    return f"2{place:06d}{WAYS.index(way)}"


def _keys(app: bool) -> list[Key]:
    return [(n, way) for n, row in enumerate(ROWS) for way in WAYS if (row.scope in _WIDE) is app]


async def _meet(gateway: Harness, place: int, way: str) -> Seen:
    expected, lane = ROWS[place], _lane(place, way)
    fault: dict[str, Any] = {"code": expected.codes[0], "later": way == "status"}
    if expected.http:
        fault["http"] = expected.http
    gateway.sandbox.set_faults({"error": fault})
    before = len(gateway.calls.all)
    task_id = await _queue(gateway, lane, expected.scope == "template")
    event = "message.failed" if expected.what == "fail" else "message.retrying"
    (told,) = await gateway.events.wait(event, task_id=task_id)
    if expected.what == "fail":
        await gateway.task_when(task_id, lambda task: task["counts"]["failed"] == 1)
    calls = len(gateway.calls.all) - before
    status = await _status(gateway, lane, expected.scope)
    steady = expected.scope in _STEADY
    goes_on = await _reply(gateway, f"52155600{place:05d}", lane) if steady else 0
    others = await _reply(gateway, f"52155700{place:05d}", NUMBER) if expected.scope not in _WIDE else 0
    ((view),) = await gateway.store.as_store().task_rows(task_id, -1, 1)
    return Seen(view.row, json.loads(view.error), told, status, calls, goes_on, others)


async def _queue(gateway: Harness, lane: str, template: bool) -> str:
    if not template:
        return await gateway.queue(PHONE, phone_number_id=lane)
    body = {"phone": PHONE, "template_name": "promo", "use_queue": True, "phone_number_id": lane}
    task_id: str = (await gateway.post("/api/send-template", body)).ok["task_id"]
    return task_id


async def _reply(gateway: Harness, phone: str, lane: str) -> int:
    return (await gateway.send(phone, "a reply", phone_number_id=lane)).status


async def _status(gateway: Harness, lane: str, scope: str) -> dict[str, Any]:
    """What the status page says of a lane, once it has heard of a template that was stopped by a status."""

    async def ask() -> dict[str, Any] | None:
        # Not by the page itself, which counts what waits of every lane.
        (found,) = (one for one in gateway.gateway._lanes.status() if one["phone_number_id"] == lane)
        return None if scope == "template" and not found["templates"] else found

    return await eventually(ask)


async def _meet_all(directory: Path, keys: list[Key]) -> dict[Key, Seen]:
    lanes = [_lane(place, way) for place, way in keys]
    numbers = tuple(NumberSettings(phone_number_id=lane) for lane in lanes)
    sandbox = SandboxSettings(
        enforce_limits=False,
        status_delays=(0.0, 0.005, 0.01),
        phone_numbers=((NUMBER, "15550000001"), *((lane, f"1555{lane}") for lane in lanes)),
    )
    async with AsyncExitStack() as stack:
        # That a number is parked is logged as an error, which no test may leave behind.
        stack.enter_context(mock.patch.object(logging.getLogger("whatsapp.parking"), "disabled", True))
        # Backoff is half of what it may be, so nothing comes back while others are met.
        stack.enter_context(mock.patch.object(random, "random", lambda: 0.5))
        gateway = await stack.enter_async_context(
            serving(
                directory,
                sandbox=sandbox,
                whatsapp={"numbers": numbers},
                lane={"rate": 1000.0, "probe_s": 3600.0},
                retry={"base_s": _BACKOFF_S, "cap_s": _BACKOFF_S},
            )
        )
        return {key: await _meet(gateway, *key) for key in keys}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Key, Seen]:
    """What every row has left. A limit of the app has a gateway of its own: it stops all of its numbers."""

    async def meet() -> dict[Key, Seen]:
        found: dict[Key, Seen] = {}
        keys = _keys(app=False)
        for start in range(0, len(keys), _AT_ONCE):
            found |= await _meet_all(tmp_path_factory.mktemp("rows"), keys[start : start + _AT_ONCE])
        for key in _keys(app=True):
            found |= await _meet_all(tmp_path_factory.mktemp("app"), [key])
        return found

    return asyncio.run(meet())


def _ids(value: object) -> str:
    return str(value.codes[0]) if isinstance(value, ErrorRow) else str(value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("place", "row"), list(enumerate(ROWS)), ids=_ids)
def test_a_row(seen: Mapping[Key, Seen], place: int, row: ErrorRow, way: str) -> None:
    left = seen[place, way]
    _check_message(row, left, way)
    _check_number(row, left)
    assert left.calls == 1
    assert left.goes_on == (200 if row.scope in _STEADY else 0)
    assert left.others_go_on == (0 if row.scope in _WIDE else 200)


def _check_message(row: ErrorRow, left: Seen, way: str) -> None:
    assert left.row.state == ("failed" if row.what == "fail" else "queued")
    assert left.row.attempt == 1
    if row.what != "fail" or way == "call":
        assert left.row.failures == row.burn
    assert left.row.doubt is (way == "call" and row.what == "retry" and row.doubt)
    assert left.error["code"] == row.codes[0]
    assert row.says in left.error["advice"]
    if row.what == "retry":
        wait_s = left.told["retry_in_ms"] / 1000
        assert wait_s >= (row.after_s or _BACKOFF_S / 2)
    if row.what == "park":
        assert left.told["retry_in_ms"] == 0


def _check_number(row: ErrorRow, left: Seen) -> None:
    paused = row.scope in (*_WIDE, "number")
    state = "parked" if row.what == "park" else "paused" if paused else "running"
    assert left.lane["state"] == state
    if row.what == "park":
        assert row.says in left.lane["why"]
    assert (left.lane["broadcasts_paused_s"] > 3600) is (row.scope == "broadcast")
    assert (left.lane["rate"] < left.lane["limit"]) is (row.scope == "lane")
    assert [held["name"] for held in left.lane["templates"]] == (["promo"] if row.scope == "template" else [])
