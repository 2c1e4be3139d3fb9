"""The ledger of windows through random histories: no window is ever called closed that Meta has open.

The truth is all that customers said; what the gateway knows of it went through webhooks that came, came late
after the process was down, or are still to come, and through restarts that lost what was in memory.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.log import Log
from store.records import Cursor
from store.sqlite import SqliteStore
from tests.support.rows import make_row
from tests.support.store_values import lane_lease
from tests.support.webhooks import OUR_ID, body, entry, message_value, status, text_message
from whatsapp.contacts import Contacts
from whatsapp.intake import Intake
from whatsapp.intake_watch import IntakeWatch
from whatsapp.windows import WINDOWS, Windows

MINUTE_MS = 60_000
DAY_MIN = 24 * 60
NOW = 1_750_000_000_000
PEOPLE = {"16505550001": "US.1", "16505550002": "US.2"}

PERSON = st.sampled_from(sorted(PEOPLE))
STEPS = st.one_of(
    st.tuples(st.just("say"), PERSON, st.sampled_from(["both", "user id", "call"])),
    st.tuples(st.just("pass"), st.sampled_from([1, 59, 60 * 20, DAY_MIN, DAY_MIN + 2])),
    st.tuples(st.just("down"), st.sampled_from([2, 60 * 3, DAY_MIN]), st.lists(PERSON, max_size=2)),
    st.tuples(st.just("repeat")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("keep"), st.integers(1, 5)),
    st.tuples(st.just("keep"), st.just(1000)),
)


class World:
    """Customers, Meta, and a gateway with a ledger."""

    def __init__(self, path: Path) -> None:
        self.now = NOW
        self.said: dict[str, int] = {}
        """When each person last said something, whoever knows."""
        self.store = SqliteStore(path, now_ms=lambda: self.now)
        self._refused: list[bytes] = []
        self._seen = self._count = 0
        self.closed = 0

    async def start(self) -> None:
        await self.store.open()
        self._log = Log(self.store)
        await self._log.start()
        self._lease = await lane_lease(self.store, name=f"consumer:{WINDOWS}")
        self._begin()
        await self._watch._note()
        # Both are known by both of their addresses.
        for person in PEOPLE:
            await self.say(person, "both")

    def _begin(self) -> None:
        self._contacts = Contacts(self.store)
        self._intake = Intake(self._log, self._contacts, self.store, now_ms=lambda: self.now)
        self._watch = IntakeWatch(self.store, now_ms=lambda: self.now)
        self._windows = Windows(
            self.store,
            self._contacts,
            self._watch,
            head=self._log.head,
            keep_days=35,
            now_ms=lambda: self.now,
        )
        for undo in getattr(self, "_undo", ()):
            undo()
        self._undo = [self._log.subscribe(part.notice) for part in (self._watch, self._windows)]

    # -- what may happen -------------------------------------------------------------------------------

    async def say(self, person: str, how: str = "both") -> None:
        await self._intake.take(self._word(person, how))

    async def pass_time(self, minutes: int) -> None:
        """With a note every few seconds all along."""
        self.now += minutes * MINUTE_MS
        await self.store.note_intake(self.now, 10**12)
        await self._watch._note()

    async def down(self, minutes: int, talkers: Sequence[str]) -> None:
        """The process is gone; what is said meanwhile Meta cannot deliver."""
        for talker in talkers:
            self._refused.append(self._word(talker, "both"))
        self.now += minutes * MINUTE_MS
        await self.restart()

    async def repeat(self) -> None:
        """Meta delivers one of those after all."""
        if self._refused:
            await self._intake.take(self._refused.pop())

    async def restart(self) -> None:
        self._begin()
        await self._watch._note()

    async def keep(self, most: int) -> None:
        """The ledger takes some of what is new."""
        events = await self.store.events_after(self._seen, most)
        if events:
            self._seen = events[-1].offset
            await self._windows.handle(events, Cursor(WINDOWS, self._seen), self._lease)

    async def step(self, what: str, *given: Any) -> None:
        await {"pass": self.pass_time}.get(what, getattr(self, what, None))(*given)  # type: ignore[misc]

    async def look(self) -> None:
        """A message is to be sent to each, and something has come for the number a moment ago."""
        self._count += 1
        proof = status("read", id=f"wamid.S{self._count}")
        await self._intake.take(body(entry(message_value(statuses=[proof]))))
        rows = [make_row(n, lane=OUR_ID, contact=person) for n, person in enumerate(sorted(PEOPLE))]
        for row in rows:
            if row.id in await self._windows.closed(rows) and not self._windows.may_have_opened(row):
                assert self.now - self.said[row.contact] >= DAY_MIN * MINUTE_MS
                self.closed += 1

    def _word(self, person: str, how: str) -> bytes:
        self.said[person] = self.now
        self._count += 1
        wamid, at = f"wamid.{self._count}", str(self.now // 1000)
        ends = {"from": person, "from_user_id": PEOPLE[person]}
        if how == "call":
            call = {"id": wamid, "event": "connect", "timestamp": at, **ends}
            return body(entry(message_value(calls=[call]), "calls", time=self._count))
        if how == "user id":
            ends["from"] = None  # type: ignore[assignment]
        return body(entry(message_value(messages=[text_message(wamid, timestamp=at, **ends)])))


async def play(steps: Sequence[tuple[Any, ...]]) -> int:
    """How often a window was called closed."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory) / "store.db")
        await world.start()
        try:
            for step in steps:
                await world.step(*step)
                await world.look()
        finally:
            await world.store.close()
        return world.closed


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=20))
def test_no_window_is_called_closed_that_is_open(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(steps))


@pytest.mark.parametrize(
    ("steps", "closed"),
    [
        ([("keep", 9), ("pass", DAY_MIN + 2)], 2),
        ([("keep", 9), ("pass", DAY_MIN + 2), ("say", "16505550001", "user id")], 3),
        ([("keep", 9), ("pass", DAY_MIN + 2), ("say", "16505550001", "call")], 2),
        ([("keep", 9), ("pass", DAY_MIN + 2), ("say", "16505550001", "call"), ("keep", 9)], 3),
        ([("keep", 9), ("pass", DAY_MIN + 2), ("restart",)], 2),
        ([("keep", 9), ("down", 2, ["16505550001"]), ("keep", 9), ("pass", DAY_MIN), ("repeat",)], 0),
        ([("keep", 9), ("down", 2, ["16505550001"]), ("keep", 9), ("pass", DAY_MIN + 2)], 2),
    ],
)
def test_closed_windows_are_told_all_the_same(steps: list[tuple[Any, ...]], closed: int) -> None:
    assert asyncio.run(play(steps)) == closed
