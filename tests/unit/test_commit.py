"""The group commit: what shares a commit, in which order, and what a caller hears."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from store.commit import GroupCommit, Portion
from store.errors import StoreError, StoreUnavailable
from tests.support.waiting import GUARD_S

NEVER_S = 60.0
SOON_S = 0.02


class Disk:
    """A commit function that notes its batches, may be held back, and refuses what the test names."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.refused: dict[str, Exception] = {}
        self.broken: list[Exception] = []
        """Raised by the next commits, one each."""
        self.at_work = 0
        self._begun = asyncio.Event()
        self._gate = asyncio.Event()
        self._gate.set()

    async def commit(self, items: Sequence[str]) -> list[str | Exception]:
        """Answer each item with itself in capitals."""
        assert self.at_work == 0, "two commits at once"
        self.at_work += 1
        self.batches.append(list(items))
        self._begun.set()
        try:
            await self._gate.wait()
            if self.broken:
                raise self.broken.pop(0)
            return [self.refused.get(item, item.upper()) for item in items]
        finally:
            self.at_work -= 1

    def hold(self) -> None:
        """Keep commits waiting."""
        self._gate.clear()

    def release(self) -> None:
        """Let them go on."""
        self._gate.set()

    async def begun(self, count: int) -> None:
        """Return once so many commits have begun."""
        async with asyncio.timeout(GUARD_S):
            while len(self.batches) < count:
                self._begun.clear()
                await self._begun.wait()


def group(
    disk: Disk, *, max_weight: int = 500, max_waiting: int = 100, timeout_s: float = NEVER_S
) -> GroupCommit[str, str]:
    return GroupCommit(disk.commit, max_weight=max_weight, max_waiting=max_waiting, timeout_s=timeout_s)


async def outcomes(futures: Sequence[asyncio.Future[str]]) -> list[str | BaseException]:
    """What each caller heard."""
    async with asyncio.timeout(GUARD_S):
        return await asyncio.gather(*futures, return_exceptions=True)


# -- batches -----------------------------------------------------------------------------------------------


async def test_items_submitted_together_are_committed_together_in_their_order() -> None:
    disk = Disk()
    commits = group(disk)
    futures = [commits.submit(item) for item in "cab"]
    assert await outcomes(futures) == ["C", "A", "B"]
    assert disk.batches == [["c", "a", "b"]]


async def test_what_arrives_during_a_commit_shares_the_next() -> None:
    disk = Disk()
    commits = group(disk)
    disk.hold()
    first = commits.submit("a")
    await disk.begun(1)
    later = [commits.submit(item) for item in "bcd"]
    assert disk.batches == [["a"]]
    disk.release()
    assert await outcomes([first, *later]) == ["A", "B", "C", "D"]
    assert disk.batches == [["a"], ["b", "c", "d"]]


async def test_a_commit_takes_no_more_than_its_share_and_the_order_is_kept() -> None:
    disk = Disk()
    commits = group(disk, max_weight=3)
    futures = [commits.submit(str(n)) for n in range(8)]
    assert await outcomes(futures) == [str(n) for n in range(8)]
    assert disk.batches == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


async def test_heavy_items_fill_a_commit_and_the_heaviest_has_its_own() -> None:
    disk = Disk()
    commits = group(disk, max_weight=5)
    futures = [commits.submit(str(n), weight) for n, weight in enumerate((2, 3, 1, 9, 4, 1, 1))]
    assert await outcomes(futures) == [str(n) for n in range(7)]
    assert disk.batches == [["0", "1"], ["2"], ["3"], ["4", "5"], ["6"]]


async def test_what_waits_is_bounded_by_weight() -> None:
    disk = Disk()
    disk.hold()
    commits = group(disk, max_waiting=10)
    first = commits.submit("a", 50)
    await disk.begun(1)
    others = [commits.submit("b", 9), commits.submit("c", 9)]
    with pytest.raises(StoreUnavailable):
        commits.submit("d")
    disk.release()
    assert await outcomes([first, *others]) == ["A", "B", "C"]
    assert await commits.submit("e") == "E"


async def test_after_a_rest_commits_go_on() -> None:
    disk = Disk()
    commits = group(disk)
    assert await commits.submit("a") == "A"
    await commits.flush()
    assert await commits.submit("b") == "B"
    assert disk.batches == [["a"], ["b"]]


async def test_a_caller_that_goes_on_at_once_finds_the_next_commit() -> None:
    disk = Disk()
    commits = group(disk)
    assert [await commits.submit(item) for item in "abc"] == ["A", "B", "C"]
    assert disk.batches == [["a"], ["b"], ["c"]]


# -- what callers hear -------------------------------------------------------------------------------------


async def test_the_refusal_of_one_item_reaches_its_caller_alone() -> None:
    disk = Disk()
    commits = group(disk)
    refusal = StoreError("not this one")
    disk.refused["b"] = refusal
    assert await outcomes([commits.submit(item) for item in "abc"]) == ["A", refusal, "C"]


@pytest.mark.parametrize("error", [StoreUnavailable("the disk is full"), ZeroDivisionError("our fault")])
async def test_the_failure_of_a_commit_reaches_all_of_it_and_none_after_it(error: Exception) -> None:
    disk = Disk()
    commits = group(disk)
    disk.broken = [error]
    disk.hold()
    failed = [commits.submit(item) for item in "ab"]
    await disk.begun(1)
    after = commits.submit("c")
    disk.release()
    assert await outcomes([*failed, after]) == [error, error, "C"]
    assert disk.batches == [["a", "b"], ["c"]]


async def test_what_is_too_much_for_the_store_at_once_is_tried_in_smaller_commits() -> None:
    disk = Disk()
    room = 3

    async def commit(items: Sequence[str]) -> list[str | Exception]:
        if len(items) > room:
            disk.batches.append(list(items))
            raise StoreUnavailable("the disk is full")
        return await disk.commit(items)

    group = GroupCommit[str, str](commit, max_weight=16, timeout_s=NEVER_S)
    answers = await asyncio.gather(*(group.submit(f"{n}") for n in range(40)), return_exceptions=True)
    # What fails is halved; what succeeds grows by a fourth and one.
    assert [len(batch) for batch in disk.batches] == [16, 8, 4, 2, 3, 4, 2, 1]
    assert [isinstance(answer, StoreUnavailable) for answer in answers].count(False) == 8
    disk.batches.clear()
    room = 100
    await asyncio.gather(*(group.submit(f"{n}") for n in range(100)))
    assert [len(batch) for batch in disk.batches] == [4, 6, 8, 11, 14, 16, 16, 16, 9]


@pytest.mark.parametrize("weight", [1, 3, 9])
async def test_a_lone_item_that_is_refused_does_not_make_the_next_commit_smaller(weight: int) -> None:
    disk = Disk()
    disk.broken = [StoreUnavailable("the store is away")]
    commits = group(disk, max_weight=8)
    assert isinstance((await outcomes([commits.submit("a", weight)]))[0], StoreUnavailable)
    await outcomes([commits.submit(f"{n}") for n in range(16)])
    assert [len(batch) for batch in disk.batches] == [1, 8, 8]


def test_a_portion_is_halved_by_what_was_asked_and_not_by_one_alone() -> None:
    portion = Portion(500)
    portion.refused(1)
    assert portion.size == 500
    portion.refused(100)
    assert portion.size == 50


async def test_a_commit_of_which_some_was_taken_does_not_make_the_next_smaller() -> None:
    disk = Disk()
    disk.refused = {f"{n}": StoreUnavailable("not this one") for n in range(3)}
    group = GroupCommit[str, str](disk.commit, max_weight=4, timeout_s=NEVER_S)
    await asyncio.gather(*(group.submit(f"{n}") for n in range(8)), return_exceptions=True)
    assert [len(batch) for batch in disk.batches] == [4, 4]


async def test_beyond_the_bound_an_item_is_refused_and_those_that_wait_are_not() -> None:
    disk = Disk()
    commits = group(disk, max_waiting=2)
    disk.hold()
    first = commits.submit("a")
    await disk.begun(1)  # no longer waiting
    waiting = [commits.submit(item) for item in "bc"]
    with pytest.raises(StoreUnavailable, match="too many writes are waiting"):
        commits.submit("d")
    disk.release()
    assert await outcomes([first, *waiting]) == ["A", "B", "C"]
    assert await commits.submit("d") == "D"
    assert disk.batches == [["a"], ["b", "c"], ["d"]]


# -- withdrawing -------------------------------------------------------------------------------------------


async def test_an_item_that_waited_too_long_is_withdrawn() -> None:
    disk = Disk()
    commits = group(disk, timeout_s=SOON_S)
    disk.hold()
    begun = commits.submit("a")
    await disk.begun(1)
    waiting = commits.submit("b")
    for future in (begun, waiting):
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            await asyncio.wait_for(future, GUARD_S)
    disk.release()
    await commits.flush()
    # The first had begun: it goes on, unheard. The second never does.
    assert disk.batches == [["a"]]


async def test_each_item_has_its_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    commits = group(disk, timeout_s=SOON_S)
    disk.hold()
    first = commits.submit("a")
    await disk.begun(1)
    later = asyncio.get_running_loop().time() + NEVER_S
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: later)
        second = commits.submit("b")
    assert isinstance((await outcomes([first]))[0], StoreUnavailable)
    assert not second.done()
    disk.release()
    assert await outcomes([second]) == ["B"]
    third = commits.submit("c")
    assert await outcomes([third]) == ["C"]


async def test_an_answer_in_time_is_not_overtaken_by_the_deadline_of_another() -> None:
    disk = Disk()
    commits = group(disk, timeout_s=SOON_S)
    answered = commits.submit("a")
    assert await answered == "A"
    disk.hold()
    late = commits.submit("b")
    assert isinstance((await outcomes([late]))[0], StoreUnavailable)
    assert answered.result() == "A"
    disk.release()
    await commits.flush()


async def test_a_cancelled_item_that_waits_is_withdrawn() -> None:
    disk = Disk()
    commits = group(disk)
    disk.hold()
    first = commits.submit("a")
    await disk.begun(1)
    second, third = commits.submit("b"), commits.submit("c")
    second.cancel()
    disk.release()
    assert await outcomes([first, third]) == ["A", "C"]
    assert disk.batches == [["a"], ["c"]]


async def test_a_cancelled_item_that_is_being_committed_disturbs_nobody() -> None:
    disk = Disk()
    commits = group(disk)
    disk.hold()
    first, second = commits.submit("a"), commits.submit("b")
    await disk.begun(1)
    first.cancel()
    disk.release()
    assert await second == "B"
    assert first.cancelled()
    assert disk.batches == [["a", "b"]]


async def test_where_all_are_withdrawn_nothing_is_committed() -> None:
    disk = Disk()
    commits = group(disk)
    for item in "ab":
        commits.submit(item).cancel()
    await commits.flush()
    assert disk.batches == []
    assert await commits.submit("c") == "C"


# -- flush -------------------------------------------------------------------------------------------------


async def test_flush_without_anything_submitted_returns() -> None:
    await asyncio.wait_for(group(Disk()).flush(), GUARD_S)


async def test_flush_returns_once_all_have_been_committed_or_refused() -> None:
    disk = Disk()
    commits = group(disk, max_weight=2)
    disk.hold()
    disk.refused["d"] = StoreError("not this one")
    futures = [commits.submit(item) for item in "abcde"]
    flushing = asyncio.create_task(commits.flush())
    await disk.begun(1)
    assert not flushing.done()
    disk.release()
    await asyncio.wait_for(flushing, GUARD_S)
    assert all(future.done() for future in futures)
    assert disk.batches == [["a", "b"], ["c", "d"], ["e"]]
    assert isinstance((await outcomes(futures))[3], StoreError)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_loop_that_cancels_its_tasks_leaves_a_group_that_can_be_flushed(begun: bool) -> None:
    disk = Disk()
    commits = group(disk, timeout_s=SOON_S)
    disk.hold()
    first = commits.submit("a")
    if begun:
        await disk.begun(1)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_name() == "group-commit":
            task.cancel()
    await asyncio.sleep(0)  # it is cancelled now
    await asyncio.wait_for(commits.flush(), GUARD_S)
    assert isinstance((await outcomes([first]))[0], StoreUnavailable)
    disk.release()
    assert await commits.submit("b") == "B"
    assert disk.batches[begun:] == [["b"]]
