"""docs/automations.md: each example is run, and each key has its line."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

import config
from automations import automations_of
from settings import AutoReplyRule, HandOverSettings
from store.log import Log
from store.records import Cursor, Lease, Place
from store.sqlite import SqliteStore
from tests.support.pages import page, section, table
from tests.support.webhooks import OUR_ID, PHONE, body, entry, message_value, text_message
from whatsapp.autoreply import AutoReply
from whatsapp.contacts import Contacts
from whatsapp.intake import Intake
from whatsapp.outbox import HIGH, Outbox

PAGE = page("docs/automations.md")
EXAMPLES = re.findall(r"```toml\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
OTHERS = {"?": "16505550000"}


class Talk:
    """A gateway's rules, and what they do with each line of a talk."""

    def __init__(self, settings: config.Settings, store: SqliteStore, lease: Lease) -> None:
        self.now = int(datetime(2026, 11, 27, 10, tzinfo=ZoneInfo("Europe/Madrid")).timestamp() * 1000)
        self._store, self._lease = store, lease
        self._log = Log(store)
        contacts = Contacts(store)
        self._outbox = Outbox(store, self._log, contacts, now_ms=lambda: self.now)
        self._intake = Intake(self._log, contacts, store, now_ms=lambda: self.now)
        self._replies = AutoReply(
            automations_of(settings.autoreply),
            store=store,
            outbox=self._outbox,
            numbers=[OUR_ID],
            max_age_s=300,
            max_per_minute=20,
            now_ms=lambda: self.now,
        )
        self._seen = 0
        self._count = 0

    async def start(self) -> None:
        await self._log.start()

    async def hear(self, who: str, said: str) -> list[str]:
        """Lines of what follows on a message."""
        self._count += 1
        message: dict[str, Any] = {"timestamp": str(self.now // 1000), "from": OTHERS.get(who, PHONE)}
        if (special := re.fullmatch(r"\((\w+) ?(.*)\)", said)) is None:
            message["text"] = said
        elif special[1] == "button":
            reply = {"type": "button_reply", "button_reply": {"id": special[2], "title": "Chosen"}}
            message |= {"text": None, "type": "interactive", "interactive": reply}
        else:
            message |= {"text": None, "type": special[1], special[1]: {"id": "1", "caption": special[2]}}
        people = [{"profile": {"name": who}, "wa_id": PHONE}] if who not in OTHERS else []
        value = message_value(messages=[text_message(f"wamid.{self._count}", **message)], contacts=people)
        head = self._log.head
        await self._intake.take(body(entry(value)))
        events = await self._log.read(head, 10)
        await self._replies.handle(events, Cursor("autoreply", events[-1].offset), self._lease)
        rows = await self._store.read_ahead(OUR_ID, HIGH, Place(0, 0), 2**53, 100)
        fresh, self._seen = rows[self._seen :], len(rows)
        asked = [e for e in await self._log.read(events[-1].offset, 10) if e.type == "automation.handover"]
        handed = [json.loads(event.body)["data"] for event in asked]
        return [
            *(f"gateway: {_shown(json.loads(row.payload))}" for row in fresh),
            *(
                f'{one["handover"]}: {{"rule": "{one["rule"]}", "match": {json.dumps(one["match"])}, '
                '"event": "message.received", ...}'
                for one in handed
            ),
        ]


def _shown(message: dict[str, Any]) -> str:
    kind = message["type"]
    if kind == "text":
        return str(message["text"]["body"])
    if kind == "interactive":
        buttons = message["interactive"]["action"]["buttons"]
        titles = " ".join(f"[{button['reply']['title']}]" for button in buttons)
        return f"{message['interactive']['body']['text']} {titles}"
    return f"({kind})"


@asynccontextmanager
async def talking(toml: str, tmp_path: Path) -> AsyncIterator[Talk]:
    path = tmp_path / "config.toml"
    path.write_text(toml)
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    lease = await store.acquire_lease("consumer:autoreply", "me", 10**9)
    assert lease is not None
    talk = Talk(config.load({}, dotenv=None, toml=path), store, lease)
    await talk.start()
    yield talk
    await store.close()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6
    assert len(EXAMPLES) == PAGE.count("```toml") == PAGE.count("```text")


@pytest.mark.parametrize(
    ("toml", "talk"), EXAMPLES, ids=lambda text: text.split('"')[1] if '"' in text else ""
)
async def test_an_example_does_what_the_page_says(toml: str, talk: str, tmp_path: Path) -> None:
    lines = talk.splitlines()
    async with talking(toml, tmp_path) as gateway:
        heard: list[str] = []
        for line in lines:
            who, _, said = line.partition(": ")
            if line.startswith("at "):
                moment = datetime.fromisoformat(line[3:]).replace(tzinfo=ZoneInfo("Europe/Madrid"))
                gateway.now = int(moment.timestamp() * 1000)
                heard.append(line)
            elif who in ("Ana", "?"):
                heard += [line, *await gateway.hear(who, said)]
        assert heard == lines


class Keys(NamedTuple):
    names: tuple[str, ...]
    heading: str
    head: str


@pytest.mark.parametrize(
    "keys",
    [
        Keys(AutoReplyRule.__struct_fields__, "A rule", "key"),
        Keys(HandOverSettings.__struct_fields__, "Handing over", "key"),
    ],
    ids=lambda keys: keys.heading,
)
def test_every_key_has_its_line(keys: Keys) -> None:
    rows = table(section(PAGE, keys.heading).text, keys.head)
    assert {row[0].strip("`") for row in rows} == set(keys.names)
