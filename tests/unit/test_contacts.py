"""Addresses to contacts: the cache, and who asks at once, over the real embedded store."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import cast

import msgspec
import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.errors import StoreUnavailable
from store.records import Alias, Event, Suppression
from store.sqlite import SqliteStore
from tests.support.faulty_store import FaultyStore
from tests.support.waiting import GUARD_S
from whatsapp.contacts import Contacts, Merge
from whatsapp.identity import Address

P, Q, R = "15550000001", "15550000002", "15550000003"
U, V, W = "US.111", "US.222", "US.333"
P_NEXT = f"{P}/{P}"
"""Who has the phone P after its first owner."""


def known(*aliases: Alias) -> dict[str, Alias]:
    return {alias.alias: alias for alias in aliases}


def pair(contact: str, phone: str, user_id: str) -> tuple[Alias, Alias]:
    """Both addresses of a contact, met together."""
    return Alias(phone, contact, user_id), Alias(user_id, contact, phone)


# -- Contacts ----------------------------------------------------------------------------------------------


@pytest.fixture
def store(io_loop: IOLoop, tmp_path: Path) -> Iterator[FaultyStore]:
    real = SqliteStore(tmp_path / "store.db")
    io_loop.run_sync(real.open)
    yield FaultyStore(real)
    io_loop.run_sync(real.close)


def changed() -> list[Event]:
    """What the log says when an identity has changed."""
    return [Event(1, 0, "key", "contact.changed", 0, b"{}")]


async def told(store: FaultyStore) -> list[Merge]:
    """The merges that the log tells of."""
    events = await store.as_store().events_after(0, 100)
    bodies = [msgspec.json.decode(event.body)["data"] for event in events if event.type == "contact.merged"]
    return [Merge(data["gone"], data["kept"]) for data in bodies]


async def test_a_new_person_is_stored_before_the_answer(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    assert await contacts.resolve([Address(P, U)]) == {Address(P, U): P}
    assert await store.as_store().find_aliases([P, U, Q]) == known(*pair(P, P, U))


async def test_a_person_met_before_is_answered_from_memory(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    assert contacts.cached(Address(P)) is None
    await contacts.resolve([Address(P, U)])
    store.fail_all()
    everyone = [Address(P), Address("", U), Address(P, U)]
    assert await contacts.resolve(everyone) == dict.fromkeys(everyone, P)
    assert [contacts.cached(address) for address in everyone] == [P, P, P]


async def test_what_is_half_known_is_not_answered_from_memory(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P)])
    assert contacts.cached(Address(P, U)) is None
    await contacts.resolve([Address(P, U)])
    assert contacts.cached(Address("", U)) == P


async def test_a_person_is_known_to_the_next_process(store: FaultyStore) -> None:
    await Contacts(store.as_store()).resolve([Address(P, U)])
    assert await Contacts(store.as_store()).resolve([Address("", U)]) == {Address("", U): P}


async def test_nobody_is_stored_where_the_store_is_away(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    store.fail("put_aliases")
    with pytest.raises(StoreUnavailable):
        await contacts.resolve([Address(P)])
    assert contacts.cached(Address(P)) is None
    store.heal()
    assert await contacts.resolve([Address(P)]) == {Address(P): P}


async def test_requests_that_meet_a_person_at_once_agree_about_the_key(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    asked = [Address("", U), Address(P, U), Address("", U), Address(P)]
    found = await asyncio.gather(*(contacts.resolve([address]) for address in asked))
    assert found == [{address: P} for address in asked]
    assert await contacts.resolve(asked) == dict.fromkeys(asked, P)
    assert store.calls["put_aliases"] == 1


async def test_requests_that_share_what_one_has_stored_agree_with_it(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    store.hold("find_aliases")
    first = asyncio.create_task(contacts.resolve([Address("", U)]))
    await store.arrived("find_aliases")
    asked = [Address(P), Address(P, U)]
    later = asyncio.gather(*(contacts.resolve([address]) for address in asked))
    await asyncio.sleep(0)  # they have asked
    store.heal()
    assert await first == {Address("", U): U}
    assert await later == [{address: U} for address in asked]


async def test_many_new_contacts_cost_one_read_and_one_write(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    people = [Address(str(15550000000 + n), f"US.{n}") for n in range(300)]
    found = await asyncio.gather(*(contacts.resolve([person]) for person in people))
    assert found == [{person: person.phone} for person in people]
    assert (store.calls["find_aliases"], store.calls["put_aliases"]) == (1, 1)
    assert await Contacts(store.as_store()).resolve(people) == {person: person.phone for person in people}


async def test_those_that_come_during_a_write_share_the_next(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    people = [Address(str(15550000000 + n)) for n in range(20)]
    store.hold("put_aliases")
    first = asyncio.create_task(contacts.resolve(people[:1]))
    await store.arrived("put_aliases")
    later = asyncio.gather(*(contacts.resolve([person]) for person in people[1:]))
    await asyncio.sleep(0)  # they have asked
    store.heal()
    assert await first | {key: value for keys in await later for key, value in keys.items()} == {
        person: person.phone for person in people
    }
    assert (store.calls["find_aliases"], store.calls["put_aliases"]) == (2, 2)


async def test_callers_that_bring_many_addresses_do_not_share_without_bound(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    people = [[Address(str(15550000000 + 500 * n + i)) for i in range(500)] for n in range(5)]
    found = await asyncio.gather(*(contacts.resolve(some) for some in people))
    assert found == [{person: person.phone for person in some} for some in people]
    assert (store.calls["find_aliases"], store.calls["put_aliases"]) == (3, 3)


@pytest.mark.parametrize("order", list(permutations([Address(P), Address("", U), Address(P, U)])))
async def test_addresses_asked_for_together_are_one_person_in_any_order(
    store: FaultyStore, order: Sequence[Address]
) -> None:
    assert await Contacts(store.as_store()).resolve(order) == dict.fromkeys(order, P)


async def test_many_are_asked_for_and_stored_at_once(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    people = [Address(str(15550000000 + n)) for n in range(200)]
    assert await contacts.resolve(people) == {person: person.phone for person in people}
    assert (store.calls["find_aliases"], store.calls["put_aliases"]) == (1, 1)


async def test_nobody_costs_nothing(store: FaultyStore) -> None:
    assert await Contacts(store.as_store()).resolve([]) == {}
    assert store.calls.total() == 0


async def test_memory_is_bounded_and_forgets_nobody_for_good(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store(), cache_size=4)
    people = [Address(str(15550000000 + n), f"US.{n}") for n in range(9)]
    for person in people:
        assert await contacts.resolve([person]) == {person: person.phone}
    for person in people:
        assert await contacts.resolve([Address("", person.user_id)]) == {
            Address("", person.user_id): person.phone
        }
    assert sum(contacts.cached(person) is not None for person in people) <= 2


async def test_who_is_known_by_one_part_stays_known_while_memory_is_full(store: FaultyStore) -> None:
    # Loading the one part may empty the memory of the other.
    first = Contacts(store.as_store())
    await first.resolve([Address(P, U)])
    contacts = Contacts(store.as_store(), cache_size=1)
    await contacts.resolve([Address("", U)])
    assert await contacts.resolve([Address(P, U)]) == {Address(P, U): P}
    await contacts.learn("another", Address(P, U))
    assert await store.as_store().find_aliases([P, U]) == known(*pair(P, P, U))


async def test_a_change_is_kept_and_may_be_repeated(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P, U)])
    for _ in range(3):
        assert await contacts.change(Address(P, U), Address(Q, V)) == P
    assert store.calls["put_aliases"] == 2
    assert await contacts.resolve([Address(Q), Address(P)]) == {Address(Q): P, Address(P): P_NEXT}


@pytest.mark.parametrize("first", ["resolve", "change"])
async def test_a_change_and_who_asks_meanwhile_see_each_other_in_order(
    store: FaultyStore, first: str
) -> None:
    await Contacts(store.as_store()).resolve([Address(P, U)])
    contacts = Contacts(store.as_store())
    change = contacts.change(Address(P, U), Address(Q, V))
    asked = [Address(P), Address(Q)]
    resolve = contacts.resolve(asked)
    if first == "change":
        assert await asyncio.gather(change, resolve) == [P, {Address(P): P_NEXT, Address(Q): P}]
    else:
        # The new phone was somebody's own until the change was heard of.
        assert await asyncio.gather(resolve, change) == [{Address(P): P, Address(Q): Q}, P]
    after = {Address(P): P_NEXT, Address(Q): P}
    assert await contacts.resolve(asked) == await Contacts(store.as_store()).resolve(asked) == after


@pytest.mark.parametrize("order", list(permutations(["resolve", "change", "learn"])))
async def test_what_is_asked_at_once_comes_to_what_it_would_one_after_another(
    tmp_path: Path, order: Sequence[str]
) -> None:
    def calls(contacts: Contacts) -> list[Coroutine[None, None, object]]:
        made: dict[str, Coroutine[None, None, object]] = {
            "resolve": contacts.resolve([Address(Q), Address("", U), Address(R, W)]),
            "change": contacts.change(Address(P, U), Address(Q, V)),
            "learn": contacts.learn(P, Address(R, V)),
        }
        return [made[name] for name in order]

    books, answers = [], []
    for name in ("at once", "one by one"):
        real = SqliteStore(tmp_path / name)
        await real.open()
        try:
            contacts = Contacts(real)
            if name == "at once":
                answers.append(await asyncio.gather(*calls(contacts)))
            else:
                answers.append([await call for call in calls(contacts)])
            books.append(await real.find_aliases([P, Q, R, U, V, W]))
        finally:
            await real.close()
    assert answers[0] == answers[1]
    assert books[0] == books[1]


async def test_a_change_that_names_nobody_stores_nothing(store: FaultyStore) -> None:
    assert await Contacts(store.as_store()).change(Address(), Address()) == ""
    assert store.calls["put_aliases"] == 0


async def test_what_meta_answers_is_learnt(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P)])
    await contacts.learn(P, Address(Q, U))
    assert await contacts.resolve([Address(Q), Address("", U)]) == {Address(Q): P, Address("", U): P}
    assert await store.as_store().find_aliases([Q, U]) == known(Alias(Q, P, U), Alias(U, P, Q))


@pytest.mark.parametrize(("first", "contact"), [("learn", P), ("resolve", Q)])
async def test_of_what_meta_answers_and_who_asks_meanwhile_the_first_counts(
    store: FaultyStore, first: str, contact: str
) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P)])
    learn, resolve = contacts.learn(P, Address(Q)), contacts.resolve([Address(Q)])
    calls = [learn, resolve] if first == "learn" else [resolve, learn]
    assert {Address(Q): contact} in await asyncio.gather(*calls)
    assert await store.as_store().find_aliases([Q]) == known(Alias(Q, contact))


async def test_many_that_are_learnt_at_once_cost_one_write(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    phones = [str(15550000000 + n) for n in range(50)]
    await asyncio.gather(*(contacts.learn(phone, Address(phone, f"US.{phone}")) for phone in phones))
    assert (store.calls["find_aliases"], store.calls["put_aliases"]) == (1, 1)


async def test_a_fault_of_the_store_reaches_those_that_shared_it_and_none_after(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    store.fail("put_aliases")
    found = await asyncio.gather(
        contacts.resolve([Address(P)]),
        contacts.learn(P, Address(Q)),
        contacts.change(Address(R), Address("", W)),
        return_exceptions=True,
    )
    assert [type(error) for error in found] == [StoreUnavailable] * 3
    assert [contacts.cached(address) for address in (Address(P), Address(Q), Address("", W))] == [None] * 3
    store.heal()
    assert await contacts.resolve([Address(P), Address(Q)]) == {Address(P): P, Address(Q): Q}


async def test_a_store_that_hangs_is_not_waited_for(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    store.hold("find_aliases")
    found = await asyncio.gather(
        contacts.resolve([Address(P)]), contacts.learn(P, Address(Q)), return_exceptions=True
    )
    assert [type(error) for error in found] == [StoreUnavailable] * 2
    store.heal()
    assert await contacts.resolve([Address(P)]) == {Address(P): P}


async def test_who_stops_to_wait_leaves_nothing_under_way(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    store.hold("put_aliases")
    asking = asyncio.create_task(contacts.resolve([Address(P)]))
    await store.arrived("put_aliases")
    asking.cancel()
    await asyncio.wait({asking})
    flushed = asyncio.create_task(contacts.flush())
    await asyncio.sleep(0)  # it has begun
    assert not flushed.done()
    store.heal()
    await asyncio.wait_for(flushed, GUARD_S)
    assert contacts.cached(Address(P)) == P


async def test_a_number_that_was_only_dialled_is_whoever_the_answer_names(store: FaultyStore) -> None:
    # Brazil, Mexico and Argentina: the number that a customer writes from is not quite the one to dial.
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P), Address(Q, U)])
    await contacts.learn(P, Address(Q))
    assert await contacts.resolve([Address(P), Address(Q), Address("", U)]) == {
        Address(P): Q,
        Address(Q): Q,
        Address("", U): Q,
    }
    assert await told(store) == [Merge(P, Q)]
    calls = store.calls["put_aliases"]
    await contacts.learn(P, Address(Q))
    assert (store.calls["put_aliases"], await told(store)) == (calls, [Merge(P, Q)])


async def test_of_a_person_who_is_known_what_leads_elsewhere_is_not_learnt(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P, V), Address(Q)])
    await contacts.learn(P, Address(Q, U))
    assert await contacts.resolve([Address(P), Address(Q), Address("", U)]) == {
        Address(P): P,
        Address(Q): Q,
        Address("", U): P,
    }
    assert await told(store) == []


async def test_all_addresses_of_who_is_merged_lead_to_the_one_who_stays(store: FaultyStore) -> None:
    first = Contacts(store.as_store())
    await first.resolve([Address(P)])
    await first.learn(P, Address(Q))
    await first.resolve([Address("", U)])
    contacts = Contacts(store.as_store())
    asked = [Address(P, U), Address(Q), Address("", U)]
    assert await contacts.resolve(asked) == dict.fromkeys(asked, U)
    assert await told(store) == [Merge(P, U)]
    assert {alias.alias for alias in await store.as_store().aliases_of(U)} == {P, Q, U}
    assert await store.as_store().aliases_of(P) == []


@pytest.mark.parametrize("firm", [False, True])
async def test_who_asked_for_silence_under_one_key_has_it_under_the_other(
    store: FaultyStore, firm: bool
) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P)])
    await contacts.resolve([Address("", U)])
    word = Suppression(P, since=5000, reason="opt_out", source="message", firm=firm)
    await store.as_store().put_suppressions([word], by_operator=firm)
    store.fail("put_aliases")
    with pytest.raises(StoreUnavailable):
        await contacts.resolve([Address(P, U)])
    store.heal()
    await contacts.resolve([Address(P, U)])
    assert await told(store) == [Merge(P, U)]
    found = await store.as_store().find_suppressions([P, U])
    assert found[U] == msgspec.structs.replace(word, contact=U)


async def test_who_came_after_somebody_may_turn_out_to_be_known(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address("", W)])
    await contacts.change(Address(P, U), Address(Q, V), 5)
    assert await contacts.resolve([Address(P)]) == {Address(P): P_NEXT}
    assert await contacts.resolve([Address(P, W)]) == {Address(P, W): W}
    assert await told(store) == [Merge(P_NEXT, W)]
    # The key that is no address leads there too.
    assert await contacts.find_text(P_NEXT) == W


async def test_words_that_come_late_do_not_give_a_phone_back(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    for address, at in ((Address(P, U), 1000), (Address(P, V), 2000), (Address(P, U), 1000)):
        await contacts.resolve([address], {address: at})
    asked = [Address(P), Address("", U), Address("", V)]
    assert await contacts.resolve(asked) == {asked[0]: V, asked[1]: P, asked[2]: V}


async def test_learning_what_is_known_asks_nobody(store: FaultyStore) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address(P, U)])
    store.fail_all()
    await contacts.learn(P, Address(P, U))
    await contacts.learn(P, Address())


@pytest.mark.parametrize(
    ("text", "contact"), [(P, U), (f"+{P[:1]} {P[1:]}", U), (U, U), (Q, Q), (f"{Q}/{Q}", f"{Q}/{Q}")]
)
async def test_a_text_leads_to_a_contact_and_stores_nobody(
    store: FaultyStore, text: str, contact: str
) -> None:
    contacts = Contacts(store.as_store())
    await contacts.resolve([Address("", U)])
    await contacts.resolve([Address(P, U)])
    puts = store.calls["put_aliases"]
    assert await contacts.find_text(text) == contact
    assert store.calls["put_aliases"] == puts


@pytest.mark.parametrize("kind", ["contact.changed", "contact.merged"])
async def test_a_change_made_elsewhere_is_seen_once_the_log_tells_of_it(
    store: FaultyStore, kind: str
) -> None:
    here, elsewhere = Contacts(store.as_store()), Contacts(store.as_store())
    await here.resolve([Address(P, U)])
    await elsewhere.change(Address(P, U), Address(Q, V))
    assert here.cached(Address(P)) == P
    here.notice([Event(1, 0, "key", "message.received", 0, b"{}")])
    assert here.cached(Address(P)) == P
    here.notice([Event(1, 0, "key", kind, 0, b"{}")])
    assert here.cached(Address(P)) is None
    assert await here.resolve([Address(P)]) == {Address(P): P_NEXT}


class _SlowReads:
    """A store whose first answer travels: it holds what was true when it set out."""

    def __init__(self, real: Store) -> None:
        self._real = real
        self.read = asyncio.Event()
        self.arrive = asyncio.Event()

    async def find_aliases(self, aliases: Collection[str]) -> dict[str, Alias]:
        found = await self._real.find_aliases(aliases)
        if not self.read.is_set():
            self.read.set()
            await self.arrive.wait()
        return found

    async def put_aliases(self, aliases: Sequence[Alias]) -> None:
        await self._real.put_aliases(aliases)


async def test_an_answer_older_than_a_change_is_not_remembered(store: FaultyStore) -> None:
    elsewhere = Contacts(store.as_store())
    await elsewhere.resolve([Address(P, U)])
    slow = _SlowReads(store.as_store())
    contacts = Contacts(cast(Store, slow))
    asking = asyncio.create_task(contacts.find_text(P))
    await slow.read.wait()
    await elsewhere.change(Address(P, U), Address(Q, V))
    contacts.notice(changed())
    slow.arrive.set()
    assert await asking == P
    assert await contacts.find_text(P) == P_NEXT


async def test_an_answer_older_than_a_memory_that_was_full_is_not_remembered(store: FaultyStore) -> None:
    await Contacts(store.as_store()).resolve([Address(P)])
    slow = _SlowReads(store.as_store())
    contacts = Contacts(cast(Store, slow), cache_size=2)
    asking = asyncio.create_task(contacts.find_text(P))
    await slow.read.wait()
    await contacts.change(Address(P), Address(R))
    await contacts.resolve([Address(Q)])  # takes the place of what was known
    slow.arrive.set()
    assert await asking == P
    assert await contacts.find_text(P) == P_NEXT


async def test_an_answer_older_than_what_was_learnt_meanwhile_is_not_remembered(store: FaultyStore) -> None:
    await Contacts(store.as_store()).resolve([Address(P)])
    slow = _SlowReads(store.as_store())
    contacts = Contacts(cast(Store, slow))
    asking = asyncio.create_task(contacts.find_text(P))
    await slow.read.wait()
    await contacts.resolve([Address(P, U)])
    slow.arrive.set()
    assert await asking == P
    assert contacts.cached(Address(P, U)) == P


class _BreaksOnce(_SlowReads):
    """A store whose first answer does not arrive."""

    async def find_aliases(self, aliases: Collection[str]) -> dict[str, Alias]:
        first = not self.read.is_set()
        found = await super().find_aliases(aliases)
        if first:
            raise StoreUnavailable("the store is away, says the test")
        return found


async def test_a_fault_does_not_reach_those_that_come_during_it(store: FaultyStore) -> None:
    breaks = _BreaksOnce(store.as_store())
    contacts = Contacts(cast(Store, breaks))
    hit = asyncio.create_task(contacts.resolve([Address(P)]))
    await breaks.read.wait()
    after = asyncio.create_task(contacts.resolve([Address(Q)]))
    await asyncio.sleep(0)  # it has asked
    breaks.arrive.set()
    with pytest.raises(StoreUnavailable):
        await hit
    assert await after == {Address(Q): Q}
