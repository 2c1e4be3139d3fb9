"""Who a contact is: the rules as tables, and over random histories of people and their phones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Alias
from whatsapp.identity import Address
from whatsapp.identity_rules import attach, move, place

P, Q, R = "15550000001", "15550000002", "15550000003"
U, V, W = "US.111", "US.222", "US.333"
P_NEXT = f"{P}/{P}"
"""Who has the phone P after its first owner."""


def known(*aliases: Alias) -> dict[str, Alias]:
    return {alias.alias: alias for alias in aliases}


def put(book: dict[str, Alias], aliases: Sequence[Alias]) -> dict[str, Alias]:
    """The book with these stored in it."""
    return book | known(*aliases)


def pair(contact: str, phone: str, user_id: str) -> tuple[Alias, Alias]:
    """Both addresses of a contact, met together."""
    return Alias(phone, contact, user_id), Alias(user_id, contact, phone)


# -- place -------------------------------------------------------------------------------------------------

FRESH: dict[str, Alias] = {}
BY_PHONE = known(Alias(P, P))
BY_USER = known(Alias(U, U))
BOTH = known(*pair(P, P, U))


@pytest.mark.parametrize(
    ("book", "address", "contact", "stored"),
    [
        pytest.param(FRESH, Address(P), P, [Alias(P, P)], id="a new phone is its own key"),
        pytest.param(FRESH, Address("", U), U, [Alias(U, U)], id="a new user id is its own key"),
        pytest.param(FRESH, Address(P, U), P, [*pair(P, P, U)], id="of both, the phone is the key"),
        pytest.param(BY_PHONE, Address(P), P, [], id="a known phone"),
        pytest.param(BY_USER, Address("", U), U, [], id="a known user id"),
        pytest.param(BOTH, Address(P), P, [], id="the phone of a person with both"),
        pytest.param(BOTH, Address("", U), P, [], id="the user id of a person with both"),
        pytest.param(BOTH, Address(P, U), P, [], id="both of a person with both"),
        pytest.param(BY_PHONE, Address(P, U), P, [*pair(P, P, U)], id="a known phone learns its user id"),
        pytest.param(BY_USER, Address(P, U), U, [*pair(U, P, U)], id="a known user id learns its phone"),
        pytest.param(
            BOTH, Address(P, V), V, [*pair(V, P, V)], id="a phone with another user id is another person"
        ),
        pytest.param(
            known(*pair(P, P, U), *pair(Q, Q, V)),
            Address(P, V),
            Q,
            [Alias(P, Q, V), Alias(V, Q, P)],
            id="a phone that passes to a known person",
        ),
        pytest.param(
            known(Alias(P, P), Alias(U, U)),
            Address(P, U),
            U,
            [*pair(U, P, U)],
            id="two keys that turn out to be one person are the user id's",
        ),
        pytest.param(
            known(Alias(P, P, U), Alias(U, U)),
            Address(P, U),
            U,
            [*pair(U, P, U)],
            id="half of a pair that was stored is completed",
        ),
        pytest.param(known(Alias(P, P, U)), Address(P, U), P, [Alias(U, P, P)], id="or its other half"),
    ],
)
def test_place(book: dict[str, Alias], address: Address, contact: str, stored: list[Alias]) -> None:
    assert place(book, address)[:2] == (contact, stored)


def test_a_recycled_phone_leaves_the_former_owner_their_user_id() -> None:
    book = put(BOTH, place(BOTH, Address(P, V))[1])
    assert place(book, Address(P))[0] == V
    assert place(book, Address("", U))[0] == P
    assert place(book, Address(Q, U))[0] == P


ADDRESSES = st.builds(Address, st.sampled_from(["", P, Q, R]), st.sampled_from(["", U, V, W])).filter(bool)
MOVES = st.tuples(ADDRESSES, ADDRESSES)
HISTORIES = st.lists(ADDRESSES | MOVES, max_size=12)


def after(history: Sequence[Address | tuple[Address, Address]]) -> dict[str, Alias]:
    """What is known once all this has happened."""
    book: dict[str, Alias] = {}
    for happening in history:
        if isinstance(happening, Address):
            book = put(book, place(book, happening)[1])
        else:
            book = put(book, move(book, *happening)[1])
    return book


@given(HISTORIES, ADDRESSES)
def test_placing_again_finds_the_same_and_stores_nothing(
    history: list[Address | tuple[Address, Address]], address: Address
) -> None:
    book = after(history)
    contact, stored, _ = place(book, address)
    assert place(put(book, stored), address) == (contact, [], "")


@given(HISTORIES, ADDRESSES)
def test_each_part_of_an_address_leads_to_its_contact(
    history: list[Address | tuple[Address, Address]], address: Address
) -> None:
    book = after(history)
    contact, stored, _ = place(book, address)
    book = put(book, stored)
    assert {book[part].contact for part in address if part} == {contact}


@given(HISTORIES, ADDRESSES)
def test_only_addresses_that_were_named_are_stored(
    history: list[Address | tuple[Address, Address]], address: Address
) -> None:
    told = place(after(history), address)
    assert told.merged or {alias.alias for alias in told.aliases} <= set(address)


# -- move --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("book", "old", "new", "contact", "stored"),
    [
        pytest.param(
            BOTH,
            Address(P, U),
            Address(Q, V),
            P,
            [*pair(P, Q, V), Alias(P, P_NEXT)],
            id="number and user id change together",
        ),
        pytest.param(
            BY_PHONE, Address(P), Address(Q), P, [Alias(Q, P), Alias(P, P_NEXT)], id="a number alone"
        ),
        pytest.param(
            BOTH, Address("", U), Address("", V), P, [Alias(V, P)], id="a user id, and no phone is told"
        ),
        pytest.param(
            BOTH, Address(P, U), Address(P, V), P, [*pair(P, P, V)], id="a user id, and the phone stays"
        ),
        pytest.param(
            FRESH,
            Address(P, U),
            Address(Q, V),
            P,
            [*pair(P, Q, V), Alias(U, P, P), Alias(P, P_NEXT)],
            id="a person not met before",
        ),
        pytest.param(
            known(*pair(P, P, U), *pair(V, Q, V)),
            Address(P, U),
            Address(Q, V),
            P,
            [*pair(P, Q, V), Alias(P, P_NEXT)],
            id="a person who wrote from the new number before the change was told",
        ),
        pytest.param(
            known(Alias(P, P), Alias(U, U)),
            Address(P, U),
            Address(Q),
            U,
            [Alias(Q, U), Alias(P, f"{U}/{P}")],
            id="the user id tells who it is",
        ),
        pytest.param(BOTH, Address(P, U), Address(), P, [], id="no new address"),
        pytest.param(BOTH, Address(), Address(Q, V), "", [], id="nobody named"),
    ],
)
def test_move(book: dict[str, Alias], old: Address, new: Address, contact: str, stored: list[Alias]) -> None:
    assert move(book, old, new)[:2] == (contact, stored)


def test_after_a_change_both_old_ids_and_new_ones_lead_where_they_should() -> None:
    book = put(BOTH, move(BOTH, Address(P, U), Address(Q, V))[1])
    assert [place(book, address)[0] for address in (Address(Q), Address("", V), Address("", U))] == [P, P, P]
    assert place(book, Address(P))[0] == P_NEXT
    assert place(book, Address(P, W))[0] == P_NEXT


@pytest.mark.parametrize(
    ("book", "contact", "address", "kept", "merged"),
    [
        pytest.param(BY_PHONE, P, Address(P), P, "", id="what is known"),
        pytest.param(BY_PHONE, P, Address(Q, U), P, "", id="what is new"),
        pytest.param(known(Alias(P, P), *pair(Q, Q, U)), P, Address(Q), Q, P, id="dialled in another form"),
        pytest.param(known(Alias(P, P), *pair(Q, Q, U)), P, Address(P, U), Q, P, id="of a user who is known"),
        pytest.param(
            known(*pair(P, P, V), *pair(Q, Q, U)), P, Address(Q, U), P, "", id="of two who are known"
        ),
        pytest.param(known(Alias(U, U), Alias(P, P)), U, Address(P, U), P, U, id="a phone that was dialled"),
        pytest.param(
            known(Alias(U, U), *pair(P, P, V)), U, Address(P, U), U, "", id="a phone that was another user's"
        ),
        pytest.param(
            known(Alias(P, U, U), Alias(U, U, P)), P, Address(P), U, "", id="a key that was merged since"
        ),
        pytest.param(
            known(*pair(P, Q, V), Alias(P, P_NEXT)),
            P,
            Address(P),
            P,
            "",
            id="a key whose phone was left",
        ),
    ],
)
def test_attach(book: dict[str, Alias], contact: str, address: Address, kept: str, merged: str) -> None:
    told = attach(book, contact, address)
    assert (told.contact, told.merged) == (kept, merged)
    assert attach(put(book, told.aliases), contact, address) == (kept, [], "")


CHANGES = [
    pytest.param(Address(P, U), Address(Q, V), id="number and user id"),
    pytest.param(Address(P), Address(Q), id="number alone"),
    pytest.param(Address(P), Address(Q, V), id="old user id not told"),
    pytest.param(Address("", U), Address("", V), id="user id alone"),
    pytest.param(Address(P, U), Address(P, V), id="user id with its phone"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
@pytest.mark.parametrize("start", [pytest.param(FRESH, id="fresh"), pytest.param(BOTH, id="known")])
@pytest.mark.parametrize("at", [0, 5])
def test_a_repeated_change_changes_nothing(
    start: dict[str, Alias], old: Address, new: Address, at: int
) -> None:
    contact, stored, _ = move(start, old, new, at)
    assert stored
    assert move(put(start, stored), old, new, at) == (contact, [], "")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((Address(P, U), Address(Q, V)), (Address(Q, V), Address(R, W)), id="with user ids"),
        pytest.param((Address(P), Address(Q)), (Address(Q), Address(R)), id="numbers alone"),
        pytest.param((Address("", U), Address("", V)), (Address("", V), Address("", W)), id="user ids alone"),
    ],
)
def test_a_stale_change_does_not_undo_a_newer_one(
    first: tuple[Address, Address], second: tuple[Address, Address]
) -> None:
    book = put(BOTH, move(BOTH, *first)[1])
    book = put(book, move(book, *second)[1])
    assert move(book, *first) == (P, [], "")
    assert place(book, second[1])[0] == P


def test_whoever_has_a_phone_next_is_nobody_else() -> None:
    # One person moves twice, and leaves two phones to two others.
    book = put(BOTH, move(BOTH, Address(P, U), Address(Q, V))[1])
    book = put(book, move(book, Address(Q, V), Address(R, W))[1])
    contacts = [place(book, Address(phone))[0] for phone in (P, Q, R)]
    assert len(set(contacts)) == 3
    assert contacts[2] == P


def test_a_person_may_come_back_to_an_old_number() -> None:
    book = put(BOTH, move(BOTH, Address(P, U), Address(Q, V))[1])
    book = put(book, move(book, Address(Q, V), Address(P, W))[1])
    assert [place(book, Address(phone))[0] for phone in (P, Q)] == [P, f"{P}/{Q}"]


def test_a_phone_may_be_given_up_by_one_after_another() -> None:
    book = put(BOTH, move(BOTH, Address(P, U), Address(Q, V))[1])
    book = put(book, place(book, Address(P, W))[1])
    book = put(book, move(book, Address(P, W), Address(R, "US.444"))[1])
    owners = [P, P_NEXT, f"{P_NEXT}/{P}"]
    assert [place(book, address)[0] for address in (Address(Q), Address(R), Address(P))] == owners


@given(HISTORIES, MOVES)
def test_a_change_with_user_ids_is_made_once(
    history: list[Address | tuple[Address, Address]], change: tuple[Address, Address]
) -> None:
    old, new = change
    book = after(history)
    contact, stored, _ = move(book, old, new)
    if old.user_id and new.user_id and old.user_id in book:
        assert move(put(book, stored), old, new) == (contact, [], "")
        assert put(book, stored)[new.user_id].contact == contact
