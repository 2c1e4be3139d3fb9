"""What webhooks say against an account, what lifts it, and when it is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Event
from tests.support.accounts import AT, AT_MS, BIZ, WABA, ban, event, restriction
from whatsapp.account_standing import Account, Standing, Word, in_force, joined, standing_of

DAY = 24 * 3600
LIFTS = (ban("REINSTATE", AT + 1), event({"event": "ACCOUNT_RECONNECTED"}, AT + 1))


def told(*events: Event, seconds: int = 1) -> list[str]:
    """The reasons that stand so long after :data:`AT`."""
    return [word.why for _, word in in_force(standing_of(events), AT_MS + 1000 * seconds)]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (restriction(BIZ), "Meta restricts the account: RESTRICTED_BIZ_INITIATED_MESSAGING"),
        (restriction(BIZ, {"restriction_type": "RESTRICTED_OTHER"}), "MESSAGING, RESTRICTED_OTHER"),
        (restriction(), "Meta restricts the account (account"),
        (event({"event": "ACCOUNT_RESTRICTION", "restriction_info": "odd"}), "Meta restricts the account"),
        (ban("DISABLE"), "Meta has disabled the account, as of April 17, 2026"),
        (ban("SCHEDULE_FOR_DISABLE"), "Meta is going to disable the account, as of April 17, 2026"),
        (event({"event": "ACCOUNT_DELETED"}), "deleted"),
        (
            event({"event": "ACCOUNT_OFFBOARDED", "disconnection_info": {"reason": "ASKED"}}),
            "Cloud API: ASKED",
        ),
    ],
)
def test_what_stands_against_an_account(said: Event, why: str) -> None:
    (reason,) = told(said)
    assert why in reason
    assert WABA in reason


@pytest.mark.parametrize(
    "said",
    [
        event({"event": "PARTNER_ADDED"}),
        event({"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "SCAM"}}),
        event({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "NEW"}}),
        event({"event": "ACCOUNT_DELETED"}, field="account_review_update"),
        event({"event": "ACCOUNT_DELETED"}, entry_id=None),
        event({"event": 7}),
        event([]),
    ],
)
def test_what_says_nothing_against_an_account(said: Event) -> None:
    assert told(said) == []


def test_the_account_is_the_one_that_the_value_names() -> None:
    standing = standing_of([event({"event": "ACCOUNT_DELETED", "waba_info": {"waba_id": "7"}})])
    assert list(standing) == ["7"]


@pytest.mark.parametrize("lifted", LIFTS)
def test_what_is_lifted_is_over_in_whichever_order_it_comes(lifted: Event) -> None:
    assert told(ban("DISABLE"), restriction(BIZ), lifted) == []
    assert told(lifted, ban("DISABLE"), restriction(BIZ)) == []
    assert len(told(lifted, ban("DISABLE", AT + 2))) == 1


def test_the_last_word_of_a_kind_counts_beside_those_of_another() -> None:
    reasons = told(ban("DISABLE"), restriction(BIZ, at=AT + 1), restriction(), ban("SCHEDULE_FOR_DISABLE", 1))
    assert [reason[:24] for reason in reasons] == ["Meta has disabled the ac", "Meta restricts the accou"]
    assert "RESTRICTED_BIZ" in reasons[1]


@pytest.mark.parametrize("expiration", [AT + DAY, str(AT + DAY)])
def test_a_restriction_ends_when_meta_said_that_it_would(expiration: object) -> None:
    said = restriction(BIZ | {"expiration": expiration})
    assert told(said, seconds=DAY - 1)
    assert told(said, seconds=DAY) == []


def test_what_has_no_end_is_forgotten_after_thirty_days() -> None:
    for said in (restriction(BIZ | {"expiration": AT + DAY}, {"restriction_type": "OPEN"}), ban("DISABLE")):
        assert told(said, seconds=30 * DAY - 1)
        assert told(said, seconds=30 * DAY) == []


WORDS = st.builds(Word, at=st.integers(0, 5), until=st.just(9), why=st.just("why"))
STANDINGS = st.dictionaries(
    st.sampled_from("ab"),
    st.builds(
        Account, lifted_at=st.integers(0, 5), words=st.dictionaries(st.sampled_from("xy"), WORDS, max_size=2)
    ),
)


@given(STANDINGS, STANDINGS, STANDINGS)
def test_all_orders_of_joining_come_to_the_same(a: Standing, b: Standing, c: Standing) -> None:
    assert joined(joined(a, b), c) == joined(a, joined(b, c)) == joined(c, b, a)
    assert joined(a, a) == joined(a)


@given(st.binary())
def test_no_body_is_too_odd(noise: bytes) -> None:
    assert standing_of([Event(1, 1, "up:1", "account.update", 1, noise)]) in ({}, standing_of([]))
