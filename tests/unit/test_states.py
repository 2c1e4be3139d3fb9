"""The table of moves as a whole: what it promises beyond its single entries."""

from __future__ import annotations

from itertools import product

import pytest

from store.states import ENDED, MOVES, OPEN, TAKEN, State, can_move, sources_of

ALL = tuple(State)
PAIRS = list(product(ALL, ALL))
RANK = {State.SENT: 1, State.DELIVERED: 2, State.READ: 3, State.PLAYED: 4}


def reachable(start: State) -> set[State]:
    """The states that a row in ``start`` may come to, ``start`` itself where it may come back."""
    found: set[State] = set()
    ahead = set(MOVES[start])
    while ahead:
        state = ahead.pop()
        found.add(state)
        ahead |= MOVES[state] - found
    return found


def test_every_state_has_its_moves_and_its_side() -> None:
    assert set(MOVES) == set(ALL)
    assert OPEN | ENDED == set(ALL)
    assert not OPEN & ENDED
    assert TAKEN < ENDED


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_both_ways_to_ask_agree_with_the_table(source: State, target: State) -> None:
    assert can_move(source, target) is (target in MOVES[source])
    assert (source in sources_of(target)) is can_move(source, target)


@pytest.mark.parametrize("state", ALL)
def test_no_move_stays_where_it_is(state: State) -> None:
    # So a change that is repeated moves nothing, and is not told twice.
    assert not can_move(state, state)


@pytest.mark.parametrize(
    ("target", "sources"),
    [
        (State.SENDING, {State.QUEUED}),
        (State.CANCELLED, {State.QUEUED}),
        (State.UNKNOWN, {State.SENDING}),
        (State.EXPIRED, {State.QUEUED, State.SENT}),
        (State.QUEUED, {State.SENDING, State.UNKNOWN, State.SENT, State.FAILED}),
        (State.SENT, {State.QUEUED, State.SENDING, State.UNKNOWN}),
        (State.PLAYED, set(State) - {State.PLAYED, State.CANCELLED}),
        (State.FAILED, {State.QUEUED, State.SENDING, State.UNKNOWN, State.SENT}),
    ],
)
def test_a_state_is_entered_from_these_alone(target: State, sources: set[State]) -> None:
    assert sources_of(target) == sources


@pytest.mark.parametrize("source", RANK)
def test_what_meta_took_never_goes_back(source: State) -> None:
    later = {state for state, rank in RANK.items() if rank > RANK[source]}
    assert MOVES[source] & TAKEN == later
    # Meta may fail what it took, and then it is sent again; what has arrived it cannot take back.
    assert MOVES[source] & OPEN == ({State.QUEUED} if source is State.SENT else set())


@pytest.mark.parametrize("source", [State.DELIVERED, State.READ, State.PLAYED])
def test_proof_of_delivery_is_final(source: State) -> None:
    assert reachable(source) == {state for state, rank in RANK.items() if rank > RANK[source]}


@pytest.mark.parametrize("source", sorted(OPEN | {State.FAILED, State.EXPIRED}))
def test_proof_of_arrival_is_taken_even_where_it_was_given_up(source: State) -> None:
    assert can_move(source, State.DELIVERED)
    assert can_move(source, State.READ)


@pytest.mark.parametrize("state", [State.CANCELLED, State.PLAYED])
def test_from_a_last_state_nothing_leads_on(state: State) -> None:
    assert MOVES[state] == frozenset()


@pytest.mark.parametrize("state", sorted(OPEN))
def test_what_is_open_can_come_to_every_end_of_a_message(state: State) -> None:
    assert reachable(state) >= {State.SENT, State.DELIVERED, State.READ, State.PLAYED, State.FAILED}


def test_a_row_that_was_cancelled_is_never_sent() -> None:
    assert State.SENDING not in reachable(State.CANCELLED)


def test_every_state_but_the_first_is_reached_from_it() -> None:
    assert reachable(State.QUEUED) == set(ALL)  # itself by a retry


@pytest.mark.parametrize("state", ALL)
def test_the_stored_value_is_the_word_that_is_answered(state: State) -> None:
    assert str(state) == state.value == state.name.lower()
    assert State(state.value) is state
