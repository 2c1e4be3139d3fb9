"""Who works which lanes: even shares, all lanes worked, and nothing that goes to and fro."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from whatsapp.spreading import Spreading, SpreadingMoves, shares

MOST_LOOKS = 60
PATIENCE = 5


class World:
    """Processes over one set of leases, each looking in turn; what is given up is free at the next look."""

    def __init__(self, numbers: tuple[str, ...], knows: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """``knows``: the numbers of processes that are configured otherwise."""
        self.numbers = numbers
        self.knows = knows or {}
        self.holders: dict[str, str] = {}
        self.living: dict[str, Spreading] = {}
        self.asleep: set[str] = set()
        self.moved = 0

    def join(self, process: str) -> None:
        self.living[process] = Spreading(process, self.knows.get(process, self.numbers))

    def die(self, process: str) -> None:
        """And its leases have run out."""
        del self.living[process]
        self.asleep.discard(process)
        self.holders = {n: owner for n, owner in self.holders.items() if owner != process}

    def look(self) -> None:
        for process in self.living:
            if process not in self.asleep:
                self._move(process, self.living[process].look(dict(self.holders), set(self.living)))

    def settle(self) -> None:
        """Look until nothing has moved for longer than anybody's patience."""
        quiet = 0
        for _ in range(MOST_LOOKS):
            before = self.moved
            self.look()
            quiet = quiet + 1 if before == self.moved else 0
            if quiet > 2 * PATIENCE:
                return
        raise AssertionError(f"it goes to and fro: {self.holders}")

    def count(self) -> dict[str, int]:
        return {p: list(self.holders.values()).count(p) for p in self.living}

    def _move(self, process: str, moves: SpreadingMoves) -> None:
        for number in moves.give_up:
            assert self.holders.pop(number) == process
            self.moved += 1
        for number in moves.seek:
            # Of two that seek one at the same time the first gets it.
            if self.holders.setdefault(number, process) == process:
                self.moved += 1


def names(what: str, most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.integers(1, most).map(lambda n: tuple(f"{what}{i}" for i in range(n)))


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Processes that come and go; at least one is left."""
    alive: list[str] = []
    steps = []
    for n in range(draw(st.integers(1, 10))):
        if len(alive) > 1 and draw(st.booleans()):
            steps.append(("die", alive.pop(draw(st.integers(0, len(alive) - 1)))))
        else:
            alive.append(f"p{draw(st.integers(0, 9))}{n}")
            steps.append(("join", alive[-1]))
    return steps


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 50), min_size=1), st.integers(0, 200))
def test_shares_are_all_lanes_and_differ_by_one_at_most(held: dict[str, int], lanes: int) -> None:
    due = shares(held, lanes)
    assert sum(due.values()) == lanes and due.keys() == held.keys()
    assert max(due.values()) - min(due.values()) <= 1
    # The larger ones are those of who holds most.
    assert all(due[a] >= due[b] for a in held for b in held if held[a] > held[b])


@given(names("n", 12), lives())
def test_after_any_comings_and_goings_all_lanes_are_worked_in_even_shares(
    numbers: tuple[str, ...], steps: list[tuple[str, str]]
) -> None:
    world = World(numbers)
    for what, process in steps:
        world.join(process) if what == "join" else world.die(process)
        world.look()
    world.settle()
    assert world.holders.keys() == set(numbers)
    assert max(world.count().values()) - min(world.count().values()) <= 1


@given(names("n", 12), lives())
def test_what_is_settled_moves_only_as_far_as_a_newcomer_is_due(
    numbers: tuple[str, ...], steps: list[tuple[str, str]]
) -> None:
    world = World(numbers)
    for what, process in steps:
        world.join(process) if what == "join" else world.die(process)
    world.settle()
    before, world.moved = dict(world.holders), 0
    world.join("newcomer")
    world.settle()
    due = len(numbers) // len(world.living)
    assert world.count()["newcomer"] == due
    assert world.moved == 2 * due  # each given up once, and taken once
    assert all(world.holders[n] in (before[n], "newcomer") for n in numbers)


@given(names("n", 12), st.integers(2, 5))
def test_what_the_dead_held_goes_to_the_others_and_nothing_else_moves(
    numbers: tuple[str, ...], processes: int
) -> None:
    world = World(numbers)
    for n in range(processes):
        world.join(f"p{n}")
    world.settle()
    freed = world.count()["p0"]
    world.moved = 0
    world.die("p0")
    world.look()
    # At once, without anybody's patience.
    assert world.holders.keys() == set(numbers)
    assert world.moved == freed
    world.settle()
    assert world.moved == freed


@given(names("n", 12), names("p", 4), st.data())
def test_who_sleeps_with_its_leases_is_waited_for_and_nothing_else_is_given_up(
    numbers: tuple[str, ...], processes: tuple[str, ...], data: st.DataObject
) -> None:
    world = World(numbers)
    for process in processes:
        world.join(process)
    world.settle()
    world.asleep.add(data.draw(st.sampled_from(processes)))
    world.moved = 0
    world.settle()
    assert world.moved == 0


def test_a_lane_that_its_heir_does_not_take_is_taken_by_another_and_kept() -> None:
    # One that is configured for fewer numbers than the others.
    world = World(("n0", "n1", "n2", "n3"), {"b": ("n0",)})
    world.join("a")
    world.join("b")
    for _ in range(10 * PATIENCE):
        world.look()
    world.moved = 0
    assert world.holders.keys() == set(world.numbers)
    for _ in range(10 * PATIENCE):
        world.look()
    assert world.moved == 0


def test_what_is_given_up_already_is_counted() -> None:
    one = Spreading("a", ("n0", "n1", "n2", "n3"))
    holders = dict.fromkeys(("n0", "n1", "n2", "n3"), "a")
    first = one.look(holders, {"a", "b"})
    assert first == SpreadingMoves(give_up=("n2", "n3"))
    # Their calls under way take their time.
    assert one.look(holders, {"a", "b"}, first.give_up) == SpreadingMoves()
    assert one.look(holders, {"a", "b", "c"}, first.give_up) == SpreadingMoves()


def test_free_lanes_are_divided_among_all_who_lack_some() -> None:
    numbers = ("n0", "n1", "n2", "n3", "n4")
    looks = [Spreading(p, numbers).look({"n0": "c"}, {"a", "b", "c"}) for p in ("a", "b", "c")]
    sought = [number for moves in looks for number in moves.seek]
    assert sorted(sought) == ["n1", "n2", "n3", "n4"]
    assert [len(moves.seek) for moves in looks] == [2, 1, 1]
