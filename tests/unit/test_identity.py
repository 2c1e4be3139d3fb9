"""How callers write addresses."""

from __future__ import annotations

import gc
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.identity import Address, parse_address

PHONE = "5215550001111"
USER_ID = "US.13491208655302741918"


@pytest.mark.parametrize(
    "text",
    [
        PHONE,
        int(PHONE),
        f"+{PHONE}",
        f"  +{PHONE}\n",
        "+52 1 555 000 1111",
        "52-1-555-000-1111",
        "(521) 555-000-1111",
        "521.555.000.1111",
        "+52\u00a01\u00a05550001111",  # spaces that do not break, as they come from web pages
        "\u202a+5215550001111\u202c",  # marks of direction, as they come from address books
    ],
)
def test_a_phone_in_any_usual_spelling(text: str | int) -> None:
    assert parse_address(text) == Address(phone=PHONE)


@pytest.mark.parametrize("text", ["1234567", "123456789012345"])
def test_the_shortest_and_the_longest_phone(text: str) -> None:
    assert parse_address(text) == Address(phone=text)


@pytest.mark.parametrize(
    "text",
    [USER_ID, f" {USER_ID} ", "MX.Ab9", "US.ENT.9fK2", "US.1", f"US.{'a' * 128}", "BR.ENT"],
)
def test_a_user_id_is_kept_as_it_stands(text: str) -> None:
    assert parse_address(text) == Address(user_id=text.strip())


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "123456",
        "1234567890123456",
        "05215550001111",
        "+0 5215550001111",
        "521555000111a",
        "521,5550001111",
        "521/5550001111",
        "٥٢١٥٥٥٠٠٠١١١١",
        "5215550001111 ext 2",
        "us.134912",
        "USA.134912",
        "U.134912",
        "US.",
        "US.ENT.",
        "US.134-912",
        "US.134 912",
        f"US.{'a' * 129}",
        f"+{USER_ID}",
        "someone@example.org",
        0,
        -5215550001111,
        10**15,
        10**30,
    ],
)
def test_anything_else_is_nobody(text: str | int) -> None:
    assert parse_address(text) is None


@given(st.text() | st.integers())
def test_whatever_is_given_the_answer_has_one_part_and_is_well_formed(text: str | int) -> None:
    address = parse_address(text)
    if address is not None:
        assert bool(address.phone) != bool(address.user_id)
        assert re.fullmatch(r"[1-9][0-9]{6,14}|[A-Z]{2}\.[A-Za-z0-9.]+", address.phone or address.user_id)
        assert parse_address(address.phone or address.user_id) == address


@given(st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True), st.lists(st.sampled_from(" -().+\u00a0")))
def test_dressing_changes_no_phone(phone: str, dressing: list[str]) -> None:
    spread = "".join(digit + "".join(dressing[n : n + 1]) for n, digit in enumerate(phone))
    assert parse_address(f"+{spread}") == Address(phone=phone)


def test_an_address_is_its_parts_and_nothing_to_the_garbage_collector() -> None:
    address = Address(PHONE, USER_ID)
    gc.collect()
    assert not gc.is_tracked(address)
    assert list(address) == [PHONE, USER_ID]
    assert {address: 1}[Address(PHONE, USER_ID)] == 1


@pytest.mark.parametrize(
    ("address", "known"),
    [
        (Address(), False),
        (Address(PHONE), True),
        (Address("", USER_ID), True),
        (Address(PHONE, USER_ID), True),
    ],
)
def test_an_address_without_parts_is_none(address: Address, known: bool) -> None:
    assert bool(address) is known
