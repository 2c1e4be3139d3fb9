"""Automatic replies: the rules, and the consumer of the log that answers by them.

Owns the matching (pure: :func:`match`) and what keeps a reply from being sent twice: a reply's task has an id
made from the inbound event and the rule, and each rule answers a contact once per cooldown. Only customers'
messages of the field ``messages`` are looked at; echoes of our own, ``standby`` and ``history`` are other
events.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

import msgspec

from store.base import Store
from store.errors import StoreUnavailable
from store.records import Cursor, Event, Lease
from whatsapp.clock import metas_time
from whatsapp.compose import text_message
from whatsapp.events import EventType
from whatsapp.failures import Draining
from whatsapp.identity import Address, parse_address
from whatsapp.outbox import HIGH, Draft, Outbox
from whatsapp.plain_words import plain_words

__all__ = ["AutoReply", "Rule", "match"]

_NAMESPACE = uuid.UUID("6f1f2a52-4f0c-4a53-9a5e-0e3c5c3f7a10")


class Rule(msgspec.Struct, frozen=True):
    """Answers ``text`` to a message that has one of ``keywords`` as a whole word."""

    name: str
    keywords: tuple[str, ...]
    text: str


class _Message(msgspec.Struct):
    # "from" is a word of the language; the struct renames it.
    sender: str = msgspec.field(default="", name="from")
    from_user_id: str = ""
    id: str = ""
    group_id: str = ""
    timestamp: object = None
    """Seconds since 1970, as text."""


class _Metadata(msgspec.Struct):
    display_phone_number: str = ""


class _Data(msgspec.Struct):
    message: _Message
    metadata: _Metadata | None = None
    text: str = ""


class _Body(msgspec.Struct):
    data: _Data


def match(rules: Sequence[Rule], text: str) -> Rule | None:
    """The first rule with a keyword in this text: whole words, case and accents ignored."""
    words = _words(text)
    for rule in rules:
        if any(keyword in words for keyword in map(_phrase, rule.keywords)):
            return rule
    return None


def _words(text: str) -> str:
    """The words of a text with a space before and after each, so that a phrase is found as a part."""
    return f" {plain_words(text)} "


@lru_cache(maxsize=1024)
def _phrase(keyword: str) -> str:
    # Asked for every keyword with every inbound message; there are few keywords.
    words = _words(keyword)
    return words if words.strip() else "\n"


class AutoReply:
    """The handler of the consumer ``autoreply``. ``numbers``: those that we can send from."""

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        store: Store,
        outbox: Outbox,
        numbers: Collection[str],
        cooldown_s: float,
        max_age_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._rules = tuple(rules)
        self._store = store
        self._outbox = outbox
        self._numbers = frozenset(numbers)
        self._cooldown_ms = int(cooldown_s * 1000)
        self._max_age_ms = int(max_age_s * 1000)
        self._now_ms = now_ms

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """Answer what is to be answered, then save the cursor. Raises StoreUnavailable, LeaseLost."""
        for event in batch:
            if event.type == EventType.MESSAGE_RECEIVED and event.phone_number_id in self._numbers:
                await self._consider(event)
        await self._store.save_cursor(cursor, lease)

    async def _consider(self, event: Event) -> None:
        try:
            data = msgspec.json.decode(event.body, type=_Body).data
        except msgspec.MsgspecError:
            return
        if self._now_ms() - min(event.at, metas_time(data.message.timestamp, event.at)) > self._max_age_ms:
            return
        address = _sender(data)
        rule = match(self._rules, data.text) if address and data.text else None
        if rule is not None:
            await self._answer(event, rule, address)

    async def _answer(self, event: Event, rule: Rule, to: Address) -> None:
        claim = f"autoreply:{rule.name}:{event.contact}"
        if not await self._store.claim_once(claim, event.key, self._now_ms(), self._cooldown_ms):
            return
        draft = Draft(to, text_message(to, rule.text))
        try:
            await self._outbox.submit(
                "text",
                [draft],
                lane=event.phone_number_id,
                priority=HIGH,
                source=f"autoreply:{rule.name}",
                task_id=str(uuid.uuid5(_NAMESPACE, f"{event.key}:{rule.name}")),
            )
        except Draining as error:
            # The cursor stays before this event, so the next start answers it.
            raise StoreUnavailable("the gateway is stopping") from error


def _sender(data: _Data) -> Address:
    """Who to answer; nobody for our own messages, and for groups, where a keyword is no question to us."""
    message = data.message
    phone = message.sender.removeprefix("+")
    ours = parse_address(data.metadata.display_phone_number) if data.metadata else None
    if message.group_id or (phone and ours and phone == ours.phone):
        return Address()
    return Address(phone, "" if phone else message.from_user_id)
