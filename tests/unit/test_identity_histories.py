"""People who change phones and user ids, phones that pass on, webhooks that come late, twice, out of order.

Nobody is split into two contacts, and nobody gets another's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from store.records import Alias
from store.sqlite import SqliteStore
from whatsapp.contacts import Contacts
from whatsapp.identity import Address
from whatsapp.identity_rules import Told, attach, move, place

PHONES = ["15550000001", "15550000002", "15550000003"]


class Word(NamedTuple):
    """A message or status at a time."""

    person: int
    address: Address
    at: int


class Change(NamedTuple):
    """A message of the system's."""

    person: int
    old: Address
    new: Address
    at: int


class World:
    """What really happens. People are numbers; a phone is one person's at a time, and a user id for good."""

    def __init__(self) -> None:
        self.webhooks: list[Word | Change] = []
        self.now = 0
        self.holders: dict[str, int] = {}
        self.addresses: dict[int, Address] = {}
        self.ids = 0

    def take(self, person: int, phone: str, *, without_phones: bool) -> None:
        """A person gets a phone that is nobody's: with it comes another user id."""
        if self.holders.get(phone, person) != person:
            return
        old = self.addresses.get(person)
        new = Address(phone, self._new_id(person))
        if old is not None:
            self.holders.pop(old.phone)
            told = (old, new) if not without_phones else (Address("", old.user_id), Address("", new.user_id))
            self.webhooks.append(Change(person, *told, self._tick()))
        self.holders[phone] = person
        self.addresses[person] = new

    def vanish(self, person: int) -> None:
        """A person gives the phone up without a word; whoever comes by that number is somebody else."""
        if person in self.addresses:
            self.holders.pop(self.addresses.pop(person).phone)

    def say(self, person: int, *, with_phone: bool) -> None:
        address = self.addresses.get(person)
        if address is not None:
            said = address if with_phone else Address("", address.user_id)
            self.webhooks.append(Word(person, said, self._tick()))

    def _tick(self) -> int:
        self.now += 1000
        return self.now

    def _new_id(self, person: int) -> str:
        self.ids += 1
        return f"US.{person}x{self.ids:03}"


class Gateway:
    """What is made of it: the store's addresses, and the key that each webhook was filed under."""

    def __init__(self) -> None:
        self.book: dict[str, Alias] = {}
        self.merges: dict[str, str] = {}
        self.filed: list[tuple[int, str]] = []

    def hear(self, webhook: Word | Change) -> None:
        if isinstance(webhook, Word):
            told = self._whole(lambda: place(self.book, webhook.address, webhook.at))
        else:
            told = self._whole(lambda: move(self.book, webhook.old, webhook.new, webhook.at))
        self.filed.append((webhook.person, told.contact))

    def dial(self, phone: str) -> str:
        return self._whole(lambda: place(self.book, Address(phone))).contact

    def answered(self, contact: str, address: Address) -> None:
        self._whole(lambda: attach(self.book, contact, address))

    def _whole(self, rule: Callable[[], Told]) -> Told:
        told = rule()
        self.book |= {alias.alias: alias for alias in told.aliases}
        if told.merged:
            assert all(alias.contact != told.merged for alias in self.book.values())
            self.merges[told.merged] = told.contact
        return told

    def now_of(self, key: str) -> str:
        """The contact that a key has become."""
        while key in self.merges:
            key = self.merges[key]
        return key

    def keys_of(self, person: int) -> set[str]:
        """All contacts that the person's user ids lead to."""
        theirs = [name for name in self.book if name.startswith(f"US.{person}x") and "/" not in name]
        return {self.book[name].contact for name in theirs}


PEOPLE = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("take"), PEOPLE, st.sampled_from(PHONES), st.booleans()),
    st.tuples(st.just("say"), PEOPLE, st.booleans()),
    st.tuples(st.just("say"), PEOPLE, st.just(True)),
    st.tuples(st.just("vanish"), PEOPLE),
)


def world_of(steps: Sequence[tuple[object, ...]], *, silent: bool) -> World:
    world = World()
    # Who vanishes comes back as somebody else.
    lives = dict.fromkeys(range(3), 0)
    for kind, person, *more in steps:
        assert isinstance(person, int)
        who = person * 10 + lives[person]
        if kind == "take":
            world.take(who, str(more[0]), without_phones=bool(more[1]))
        elif kind == "say":
            world.say(who, with_phone=bool(more[0]))
        elif silent and lives[person] < 9:
            world.vanish(who)
            lives[person] += 1
    return world


@st.composite
def delivered(draw: st.DrawFn, *, silent: bool) -> tuple[World, list[Word | Change]]:
    """A world, and its webhooks in some order, some of them twice and more."""
    world = world_of(draw(st.lists(STEPS, max_size=14)), silent=silent)
    repeats = draw(st.lists(st.sampled_from(world.webhooks), max_size=4)) if world.webhooks else []
    return world, draw(st.permutations([*world.webhooks, *repeats]))


def heard(webhooks: Sequence[Word | Change]) -> Gateway:
    gateway = Gateway()
    for webhook in webhooks:
        gateway.hear(webhook)
    return gateway


@settings(deadline=None, max_examples=400)
@given(delivered(silent=True))
def test_nobody_is_filed_under_anothers_key(run: tuple[World, list[Word | Change]]) -> None:
    gateway = heard(run[1])
    owners: dict[str, set[int]] = {}
    for person, key in gateway.filed:
        owners.setdefault(gateway.now_of(key), set()).add(person)
    assert [key for key, people in owners.items() if len(people) > 1] == []


@settings(deadline=None, max_examples=400)
@given(delivered(silent=True))
def test_nobody_is_split_into_two_contacts(run: tuple[World, list[Word | Change]]) -> None:
    gateway = heard(run[1])
    for person in {webhook.person for webhook in run[1]}:
        assert len(gateway.keys_of(person)) == 1
        assert {gateway.now_of(key) for who, key in gateway.filed if who == person} == gateway.keys_of(person)


@settings(deadline=None, max_examples=400)
@given(delivered(silent=True))
def test_a_phone_leads_to_whoever_was_last_known_to_have_it(run: tuple[World, list[Word | Change]]) -> None:
    world, webhooks = run
    gateway = heard(webhooks)
    last: dict[str, tuple[int, int | None]] = {}
    for webhook in world.webhooks:
        if isinstance(webhook, Word):
            if webhook.address.phone:
                last[webhook.address.phone] = (webhook.at, webhook.person)
        else:
            if webhook.old.phone:
                last[webhook.old.phone] = (webhook.at, None)
            if webhook.new.phone:
                last[webhook.new.phone] = (webhook.at, webhook.person)
    for phone, (_, person) in last.items():
        contact = gateway.book[phone].contact
        if person is None:
            assert "/" in contact
        else:
            assert {contact} == gateway.keys_of(person), phone


@settings(deadline=None, max_examples=200)
@given(delivered(silent=True), st.data())
def test_what_is_repeated_later_changes_nothing(
    run: tuple[World, list[Word | Change]], data: st.DataObject
) -> None:
    gateway = heard(run[1])
    book = {name: (alias.contact, alias.peer) for name, alias in gateway.book.items()}
    again = data.draw(st.permutations(run[0].webhooks))
    for webhook in again:
        gateway.hear(webhook)
    assert {name: (alias.contact, alias.peer) for name, alias in gateway.book.items()} == book


# -- what we send ------------------------------------------------------------------------------------------

DIALLED = "5511987654321"
"""As callers write a number of which Meta's form has a digit less."""
REAL = "551187654321"
USER = "BR.1"
SENDS = st.sampled_from(
    ["dial", "dial as Meta has it", "answer", "answer with the user", "word", "user", "phone"]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(SENDS, max_size=8), st.permutations(["answer", "word"]))
def test_whom_we_write_to_and_who_writes_become_one(steps: list[str], last: list[str]) -> None:
    """However a person is met first: by a number that was dialled, by Meta's form of it, by a user id."""
    gateway = Gateway()
    at = 0
    for step in (*steps, *last):
        at += 1000
        if step.startswith("dial"):
            gateway.filed.append((0, gateway.dial(DIALLED if step == "dial" else REAL)))
        elif step.startswith("answer"):
            user = USER if step.endswith("user") else ""
            gateway.answered(gateway.dial(DIALLED), Address(REAL, user))
        else:
            said = {"word": Address(REAL, USER), "user": Address("", USER), "phone": Address(REAL)}[step]
            gateway.hear(Word(0, said, at))
    assert len({gateway.book[alias].contact for alias in (DIALLED, REAL, USER)}) == 1
    assert {gateway.now_of(key) for _, key in gateway.filed} == {gateway.book[USER].contact}


# -- the same through the cache and a store ----------------------------------------------------------------


async def _file(
    directory: Path, webhooks: Sequence[Word | Change], groups: Sequence[int], cache_size: int
) -> Gateway:
    """Have the webhooks come in groups, each at once; what the gateway has made of them."""
    store = SqliteStore(directory / "store.db")
    await store.open()
    try:
        contacts = Contacts(store, cache_size=cache_size)
        gateway = Gateway()
        rest = list(webhooks)
        for size in (*groups, len(rest) or 1):
            group, rest = rest[:size], rest[size:]
            keys = await asyncio.gather(*(_key(contacts, webhook) for webhook in group))
            gateway.filed += [(webhook.person, key) for webhook, key in zip(group, keys, strict=True)]
        merges = [json.loads(event.body)["data"] for event in await store.events_after(0, 100)]
        gateway.merges = {merge["gone"]: merge["kept"] for merge in merges}
        named = {part for one in webhooks for part in _parts(one)}
        gateway.book = await store.find_aliases(named)
        return gateway
    finally:
        await store.close()


async def _key(contacts: Contacts, webhook: Word | Change) -> str:
    if isinstance(webhook, Change):
        return await contacts.change(webhook.old, webhook.new, webhook.at)
    return (await contacts.resolve([webhook.address], {webhook.address: webhook.at}))[webhook.address]


def _parts(webhook: Word | Change) -> set[str]:
    named = [webhook.address] if isinstance(webhook, Word) else [webhook.old, webhook.new]
    return {part for address in named for part in address if part}


@settings(deadline=None, max_examples=60)
@given(delivered(silent=True), st.lists(st.integers(1, 4), max_size=8), st.sampled_from([1, 3, 1000]))
def test_however_many_come_at_once_everybody_is_one_contact_of_their_own(
    run: tuple[World, list[Word | Change]], groups: list[int], cache_size: int
) -> None:
    with TemporaryDirectory() as directory:
        gateway = asyncio.run(_file(Path(directory), run[1], groups, cache_size))
    owners: dict[str, set[int]] = {}
    for person, key in gateway.filed:
        owners.setdefault(gateway.now_of(key), set()).add(person)
    assert [key for key, people in owners.items() if len(people) > 1] == []
    for person in {webhook.person for webhook in run[1]}:
        assert len(gateway.keys_of(person)) == 1
        assert {gateway.now_of(key) for who, key in gateway.filed if who == person} == gateway.keys_of(person)
