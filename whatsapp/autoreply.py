"""Automations: the consumer of the log that acts by rules on what customers write.

Which rules are met is decided in ``rules.py``. Owns what keeps an answer from being sent twice: its task has
an id made from the inbound event and the rule, and each rule acts for a contact once per cooldown. Only
customers' messages of the field ``messages`` are looked at; echoes of our own, ``standby`` and ``history``
are other events. What is handed over to a program of the operator's is only asked for here, by an event:
whoever carries it there (``handover.py``) keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from store.base import Store
from store.errors import StoreUnavailable
from store.records import Cursor, Event, Lease, NewEvent
from whatsapp.clock import metas_time
from whatsapp.compose import addressed, encode, is_marketing
from whatsapp.events import EventType, build_event
from whatsapp.failures import Draining
from whatsapp.identity import Address, parse_address
from whatsapp.loop_guard import LoopGuard
from whatsapp.outbox import HIGH, Draft, Outbox
from whatsapp.places import MESSAGE_ID, settled
from whatsapp.rules import Incoming, Matched, Rule, match
from whatsapp.silence import Silence

__all__ = ["AutoReply", "Automation", "failed_event", "sender_of", "task_id_of"]

_AT_ONCE = 32
"""Contacts."""
_NAMESPACE = uuid.UUID("6f1f2a52-4f0c-4a53-9a5e-0e3c5c3f7a10")


class Automation(msgspec.Struct, frozen=True):
    """A rule, and what it does: it answers, or hands the message over."""

    rule: Rule
    kind: str = "text"
    """Of the answer, as tasks have it."""
    content: Mapping[str, Any] = {}
    """Meta's object of the answer, without to whom, with its places."""
    hand_over: str = ""
    """The name of who is to get the message instead."""


class _Message(msgspec.Struct):
    # "from" is a word of the language; the struct renames it.
    sender: str = msgspec.field(default="", name="from")
    from_user_id: str = ""
    id: str = ""
    group_id: str = ""
    timestamp: object = None
    """Seconds since 1970, as text."""
    type: str = ""
    interactive: Any = None
    button: Any = None


class _Metadata(msgspec.Struct):
    display_phone_number: str = ""


class _Data(msgspec.Struct):
    message: _Message
    metadata: _Metadata | None = None
    text: str = ""
    contact: Any = None


class _Body(msgspec.Struct):
    data: _Data


class _Called(NamedTuple):
    """A message that calls for something."""

    event: Event
    matched: Sequence[Matched]
    to: Address
    data: _Data


_decode = msgspec.json.Decoder(_Body).decode


class AutoReply:
    """The handler of the consumer ``autoreply``. ``numbers``: those that we can send from."""

    def __init__(
        self,
        automations: Sequence[Automation],
        *,
        store: Store,
        outbox: Outbox,
        numbers: Collection[str],
        max_age_s: float,
        max_per_minute: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._by_name = {automation.rule.name: automation for automation in automations}
        self._rules = tuple(automation.rule for automation in automations)
        self._asks_silence = any(_asks_silence(rule) for rule in self._rules)
        self._store = store
        self._outbox = outbox
        self._numbers = frozenset(numbers)
        self._max_age_ms = int(max_age_s * 1000)
        self._guard = LoopGuard(max_per_minute)
        self._silence = Silence(store)
        self._now_ms = now_ms

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """Act on what calls for it, then save the cursor. Raises StoreUnavailable, LeaseLost."""
        called: dict[str, list[_Called]] = {}
        self._silence.begin()
        for event in batch:
            if event.type == EventType.MESSAGE_RECEIVED and event.phone_number_id in self._numbers:
                one = await self._met(event)
                if one is not None:
                    called.setdefault(event.contact, []).append(one)
        told = await self._act_on_all(list(called.values())) if called else []
        if told:
            await self._store.apply((), told, cursor, lease)
        else:
            await self._store.save_cursor(cursor, lease)
        self._silence.keep()

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._silence.forget()
        self._guard.forget()

    async def _met(self, event: Event) -> _Called | None:
        """The rules that a message meets; None where there are none."""
        try:
            data = _decode(event.body).data
        except msgspec.MsgspecError:
            return None
        if self._now_ms() - min(event.at, metas_time(data.message.timestamp, event.at)) > self._max_age_ms:
            self._silence.note(event)
            return None
        silent_ms = await self._silence.before(event) if self._asks_silence and event.contact else None
        address = _sender(data)
        if not address:
            return None
        incoming = Incoming(
            data.text,
            data.message.type,
            _button(data.message),
            event.phone_number_id,
            event.at,
            silent_ms,
        )
        matched = match(self._rules, incoming)
        return _Called(event, matched, address, data) if matched else None

    async def _act_on_all(self, calls: Collection[Sequence[_Called]]) -> list[NewEvent]:
        """Act on those of each contact one after the other, and on contacts side by side, since it is the
        store that is waited for; what is to be told, in the order of the log."""
        room = asyncio.Semaphore(_AT_ONCE)
        told: list[tuple[int, NewEvent]] = []

        async def act_on(own: Sequence[_Called]) -> None:
            async with room:
                for event, matched, to, data in own:
                    for one in matched:
                        if (event_of_it := await self._act(event, one, to, data)) is not None:
                            told.append((event.offset, event_of_it))

        # To the end of each, since the batch that comes again must meet none of them under way.
        for error in await asyncio.gather(*map(act_on, calls), return_exceptions=True):
            if error is not None:
                raise error
        return [one for _, one in sorted(told, key=lambda pair: pair[0])]

    async def _act(self, event: Event, matched: Matched, to: Address, data: _Data) -> NewEvent | None:
        """Do what a rule says, once; what is to be told of it, if anything."""
        rule, now = matched.rule, self._now_ms()
        claim = f"autoreply:{rule.name}:{event.contact}"
        token = f"{event.key}:{rule.name}"
        # Before the claim, which would keep the rule from acting for as long as its cooldown.
        if not self._guard.has_room(event.contact, token, now):
            return _limited(event, rule.name, now)
        if not await self._store.claim_once(claim, event.key, now, rule.cooldown_ms):
            return None
        self._guard.count(event.contact, token, now)
        automation = self._by_name[rule.name]
        if automation.hand_over:
            return _handover(event, automation, matched, now)
        content, findings = settled(
            automation.content, {**matched.values(_name(data)), MESSAGE_ID: data.message.id}
        )
        if findings.problems:
            why = "; ".join(f"{path}: {problem}" for path, problem in findings.problems)
            return failed_event(event, rule.name, "answer", why, now)
        payload = addressed(to, encode(content))
        try:
            await self._outbox.submit(
                automation.kind,
                [Draft(to, payload, heeds_opt_out=is_marketing(payload))],
                lane=event.phone_number_id,
                priority=HIGH,
                source=f"autoreply:{rule.name}",
                task_id=task_id_of(event.key, rule.name),
            )
        except Draining as error:
            # The cursor stays before this event, so the next start answers it.
            raise StoreUnavailable("the gateway is stopping") from error
        return None


def task_id_of(event_key: str, rule: str, place: int = 0) -> str:
    """The id of the task of a rule's answer to an event; ``place``: which of several answers."""
    return str(uuid.uuid5(_NAMESPACE, f"{event_key}:{rule}" + (f":{place}" if place else "")))


def sender_of(event: Event) -> Address:
    """Who to answer a ``message.received``; nobody where it cannot be told."""
    try:
        return _sender(_decode(event.body).data)
    except msgspec.MsgspecError:
        return Address()


def failed_event(event: Event, rule: str, what: str, why: str, now: int) -> NewEvent:
    """That a rule could not do what it should for an inbound event. ``what``: ``answer`` or ``hand_over``."""
    data = {"rule": rule, "what": what, "error": why[:1000], "offset": event.offset}
    return _event(
        EventType.AUTOMATION_FAILED, event, f"automation:{event.key}:{rule}:failed:{what}", now, data
    )


def _handover(event: Event, automation: Automation, matched: Matched, now: int) -> NewEvent:
    name = automation.rule.name
    data = {
        "rule": name,
        "handover": automation.hand_over,
        "offset": event.offset,
        "match": [text[:1000] for text in matched.found[:10]],
    }
    return _event(EventType.AUTOMATION_HANDOVER, event, f"automation:{event.key}:{name}", now, data)


def _limited(event: Event, rule: str, now: int) -> NewEvent:
    """Once a minute for each contact."""
    key = f"automation:limited:{event.contact}:{now // 60_000}"
    return _event(EventType.AUTOMATION_LIMITED, event, key, now, {"rule": rule, "offset": event.offset})


def _event(type: str, event: Event, key: str, now: int, data: dict[str, Any]) -> NewEvent:
    return build_event(type, key, now, data, phone_number_id=event.phone_number_id, contact=event.contact)


def _asks_silence(rule: Rule) -> bool:
    return any(one is not None and one.first_within_ms is not None for one in (rule.when, rule.unless))


def _sender(data: _Data) -> Address:
    """Who to answer; nobody for our own messages, and for groups, where a keyword is no question to us."""
    message = data.message
    phone = message.sender.removeprefix("+")
    ours = parse_address(data.metadata.display_phone_number) if data.metadata else None
    if message.group_id or (phone and ours and phone == ours.phone):
        return Address()
    return parse_address(phone or message.from_user_id) or Address()


def _button(message: _Message) -> str:
    """The id of what was chosen (CLOUD_API.md 4.5)."""
    if isinstance(message.interactive, dict):
        for name in ("button_reply", "list_reply"):
            chosen = message.interactive.get(name)
            if isinstance(chosen, dict) and isinstance(chosen.get("id"), str):
                return str(chosen["id"])
    payload = message.button.get("payload") if isinstance(message.button, dict) else None
    return payload if isinstance(payload, str) else ""


def _name(data: _Data) -> str:
    """What the contact calls themselves."""
    profile = data.contact.get("profile") if isinstance(data.contact, dict) else None
    name = profile.get("name") if isinstance(profile, dict) else None
    return name if isinstance(name, str) else ""
