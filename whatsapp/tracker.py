"""Carries what the log says about our rows to the rows: statuses of Meta's, and the end of tasks.

A consumer of the log. Owns the reading of events into moves (pure: :func:`change_of_status`) and the telling
of what follows from them: ``message.sent`` where a status is the first proof, ``message.doubled``,
``message.dead``, ``task.completed``. Each step may be repeated: events have keys, rows move forward only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from store.base import Store
from store.records import Change, Cursor, Event, Lease, NewEvent, RowView, TaskView
from store.states import ENDED, OPEN, TAKEN, State
from whatsapp.attempt_history import Ending, noted, noted_by_event
from whatsapp.clock import metas_time
from whatsapp.drafts import GROUP_KEY
from whatsapp.errors import Verdict, classify, error_object, parse_status_errors
from whatsapp.events import STATUS_KEY, EventType, build_event, task_key, task_of
from whatsapp.outcome import (
    WINDOW_CLOSED,
    died,
    doubled,
    fell_back,
    is_doubled,
    kept_error,
    name_of,
    proved,
    undone,
)
from whatsapp.outcome_events import carried_again, carried_held, tells_held
from whatsapp.pricing import kept_pricing
from whatsapp.retry import RetryPolicy
from whatsapp.unheard import carried_unheard, tells_unheard

__all__ = ["StatusEvent", "Tracker", "change_of_status"]

_STATE_OF = {
    "sent": State.SENT,
    "delivered": State.DELIVERED,
    "read": State.READ,
    "played": State.PLAYED,
    "failed": State.FAILED,
}
_STATUS_TYPES = frozenset(
    {
        EventType.MESSAGE_STATUS,
        EventType.MESSAGE_DELIVERED,
        EventType.MESSAGE_READ,
        EventType.MESSAGE_PLAYED,
        EventType.MESSAGE_FAILED,
    }
)
_STATE_AFTER = {
    EventType.MESSAGE_SENT: State.SENT,
    EventType.MESSAGE_FAILED: State.FAILED,
    EventType.MESSAGE_UNKNOWN: State.UNKNOWN,
    EventType.MESSAGE_EXPIRED: State.EXPIRED,
    EventType.MESSAGE_CANCELLED: State.CANCELLED,
}


_EARLY_MS = 60_000
_MOST_EARLY = 500
"""How long, and how many, statuses without our reference wait for Meta's answer. Most that nobody waits for
are about messages of other programs."""


class _Status(msgspec.Struct):
    id: str = ""
    status: str = ""
    timestamp: object = None
    pricing: object = None
    errors: object = None


class _Data(msgspec.Struct):
    status: _Status | None = None
    attempt: int | None = None
    wamid: str | None = None
    error: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    data: _Data


class StatusEvent(msgspec.Struct, frozen=True):
    """A status of Meta's that is about one of our rows."""

    row_id: str
    state: State
    attempt: int
    """The attempt it answers; 0 where Meta did not echo our reference."""
    wamid: str
    at: int
    error: Mapping[str, Any] | None = None
    """Of a failure: as :func:`~whatsapp.errors.error_object` tells it."""
    verdict: Verdict | None = None
    """Of a failure: what the error table says of it."""
    offset: int = 0
    """Of its event."""
    told_at: int = 0
    """When it happened, by Meta's clock; by ours where that is earlier, or where Meta does not tell."""
    pricing: bytes = b""
    """What the message costs, as :func:`~whatsapp.pricing.kept_pricing` keeps it."""


def change_of_status(status: StatusEvent) -> Change:
    """What a status does to its row. A failure settles only the attempt it is about (CLOUD_API.md 4.6)."""
    if status.state is State.FAILED:
        # Without our reference it is about an attempt that Meta has answered, not about one under way since.
        doubtful = (State.SENDING, State.UNKNOWN) if status.attempt else ()
        return Change(
            status.row_id,
            State.FAILED,
            status.at,
            attempt=status.attempt,
            only_from=(State.SENT, *doubtful),
            wamid=status.wamid,
            pricing=status.pricing,
            **(kept_error(status.error) if status.error else {}),
        )
    return Change(
        status.row_id,
        status.state,
        status.at,
        word_of=status.attempt,
        wamid=status.wamid,
        told_at=status.told_at,
        pricing=status.pricing,
    )


class Tracker:
    """The handler of the consumer ``tracker``."""

    def __init__(
        self, store: Store, *, policy: RetryPolicy, random: Callable[[], float], now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._policy = policy
        self._random = random
        self._now_ms = now_ms
        self._early: list[StatusEvent] = []  # of rows that are not known by Meta's id, or not yet

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """Apply a batch, then save the cursor. Raises StoreUnavailable, LeaseLost."""
        statuses, early = await self._named(
            [status for event in batch if (status := _read_status(event)) is not None]
        )
        await self._settle(await self._changes(batch, statuses), statuses)
        early = [*self._early, *early]
        if early and any(event.type == EventType.MESSAGE_SENT for event in batch):
            # By now the answers that were told in this batch are with their rows.
            late, early = await self._named(early)
            await self._settle(await self._changes((), late), late)
            statuses += late
        await self._tell_deaths(batch, statuses)
        await self._complete(_ended_tasks(batch, statuses))
        await self._store.save_cursor(cursor, lease)
        oldest = self._now_ms() - _EARLY_MS
        self._early = [status for status in early if status.at > oldest][-_MOST_EARLY:]

    async def _named(self, found: Sequence[StatusEvent]) -> tuple[list[StatusEvent], list[StatusEvent]]:
        """Those whose row is known, and the others. Meta echoes our reference in statuses; where it did not,
        the id that it gave the message names the row, once its answer is there."""
        nameless = {status.wamid for status in found if not status.row_id}
        by_wamid = await self._store.find_by_wamid(nameless) if nameless else {}
        named, others = [], []
        for status in found:
            row_id = status.row_id or by_wamid.get(status.wamid, "")
            if row_id:
                named.append(msgspec.structs.replace(status, row_id=row_id))
            else:
                others.append(status)
        return named, others

    async def _settle(self, changes: Sequence[Change], statuses: Sequence[StatusEvent]) -> None:
        if changes:
            await self._store.apply(changes, await self._derived(statuses))

    async def _changes(self, batch: Sequence[Event], statuses: Sequence[StatusEvent]) -> list[Change]:
        """What a batch does to rows, in the order in which it came, and then what statuses do that came with
        none of its events."""
        by_offset = {status.offset: status for status in statuses}
        failed = {status.row_id for status in statuses if status.state is State.FAILED}
        failed |= set() if self._store.atomic else {event.message_id for event in batch if tells_held(event)}
        views = await self._store.find_rows(failed) if failed else {}
        changes: list[Change] = []
        for event in batch:
            if (status := by_offset.get(event.offset)) is not None:
                changes += self._changes_of(status, views.get(status.row_id))
            elif not self._store.atomic and (
                change := _change_of_outcome(event, views.get(event.message_id))
            ):
                changes.append(change)
        told = {event.offset for event in batch}
        for status in statuses:
            if status.offset not in told:
                changes += self._changes_of(status, views.get(status.row_id))
        return changes

    def _changes_of(self, status: StatusEvent, view: RowView | None) -> list[Change]:
        """``view``: of a failure its row, which may be sent again, or have something else to be sent."""
        change = change_of_status(status)
        if status.verdict is None or view is None:
            return [change]
        if not status.attempt and view.wamids and view.wamids[-1] != status.wamid:
            # Of an attempt that was followed by another, which it does not end.
            return []
        row, now = view.row, self._now_ms()
        change = noted(change, row, Ending.FAILED)
        if status.attempt not in (0, row.attempt):
            return [change]
        if row.state is State.FAILED and name_of(view.error) != status.verdict.name:
            # It has died of something else.
            return [change]
        if status.verdict.name == WINDOW_CLOSED and (row.has_fallback or row.fell_back):
            # Also where it fell back before: a repetition completes what a crash left out, and moves no more.
            return [change, fell_back(row, change, now)]
        if row.contact.startswith(GROUP_KEY):
            # Of a group it is the word of one participant; the others may have it.
            return [change]
        return [undone(view, change, status.verdict, self._policy, self._random, now) or change]

    async def _derived(self, statuses: Sequence[StatusEvent]) -> list[NewEvent]:
        """Events that follow from statuses, by what the rows are before they are applied.

        A double is told with every batch that has a status of its row, and is once in the log by its key: its
        ids may come together, or a crash may have come between the storing of one and the telling.
        """
        proofs = [status for status in statuses if status.state in TAKEN]
        views = await self._store.find_rows({status.row_id for status in proofs}) if proofs else {}
        events = []
        wamids = {row_id: dict.fromkeys(view.wamids) for row_id, view in views.items()}
        for status in proofs:
            view = views.get(status.row_id)
            if view is None:
                continue
            if _tells_sent(status, view):
                events.append(proved(view.row, status.wamid, status.state, self._now_ms()))
            if status.wamid:
                wamids[status.row_id][status.wamid] = None
        events += [
            doubled(views[row_id].row, tuple(ids), self._now_ms())
            for row_id, ids in wamids.items()
            if is_doubled(views[row_id].row, ids)
        ]
        return events

    async def _tell_deaths(self, batch: Sequence[Event], statuses: Sequence[StatusEvent]) -> None:
        """Tell of rows that have come to rest in ``failed``, whoever brought them there: not of one that its
        fallback, a retry or a late proof has taken on by now."""
        ids = {event.message_id for event in batch if event.type == EventType.MESSAGE_FAILED}
        ids |= {status.row_id for status in statuses if status.state is State.FAILED}
        views = await self._store.find_rows(ids - {""}) if ids - {""} else {}
        dead = [view for _, view in sorted(views.items()) if view.row.state is State.FAILED]
        if dead:
            await self._store.append_events([died(view) for view in dead])

    async def _complete(self, task_ids: Collection[str]) -> None:
        finished = await self._store.finished_tasks(task_ids) if task_ids else set()
        if not finished:
            return
        now = self._now_ms()
        tasks = [await self._store.find_task(task_id) for task_id in sorted(finished)]
        # One that a person has retried just now comes to its end later.
        ended = [task for task in tasks if task is not None and not OPEN & task.counts.keys()]
        await self._store.apply((), [_completed(task, now) for task in ended])
        await self._store.complete_tasks([task.task.id for task in ended], now)


def _tells_sent(status: StatusEvent, view: RowView) -> bool:
    """Whether it is the first proof that Meta took what the row sends now."""
    if status.state is State.SENT and 0 < view.over >= status.attempt:
        # Word of an attempt that is over: Meta failed it, or a person had the row sent anew.
        return False
    # Of a row that is sent anew, which may have been taken before, its new state tells.
    return not view.sent_at or (view.row.retried > 0 and view.row.state not in TAKEN)


def _completed(task: TaskView, now: int) -> NewEvent:
    """Told once for each time that the task comes to its end: between two, rows of it were retried."""
    task_id = task.task.id
    key = task_key(task_id, f"completed:{task.retried}" if task.retried else "completed")
    counts = {state.value: number for state, number in task.counts.items()}
    return build_event(EventType.TASK_COMPLETED, key, now, {"task_id": task_id, "counts": counts})


def _read_status(event: Event) -> StatusEvent | None:
    """The status in an event of the webhook's; None for any other event. ``row_id`` is empty where Meta gave
    no reference."""
    if event.type not in _STATUS_TYPES or not event.key.startswith(STATUS_KEY):
        return None
    data = _decode(event)
    if data is None or data.status is None:
        return None
    state = _STATE_OF.get(data.status.status)
    if state is None:
        return None
    error, verdict = None, None
    if state is State.FAILED:
        refusal = parse_status_errors(data.status.errors)
        verdict = classify(refusal)
        error = error_object(refusal, verdict)
    return StatusEvent(
        event.message_id,
        state,
        data.attempt or 0,
        data.status.id,
        event.at,
        error,
        verdict,
        event.offset,
        min(metas_time(data.status.timestamp, event.at), event.at),
        kept_pricing(data.status.pricing),
    )


def _change_of_outcome(event: Event, view: RowView | None) -> Change | None:
    """The move that the lane stored together with this event; a crash may have come between the two.
    ``view``: its row, where it failed while it waited."""
    state = _STATE_AFTER.get(event.type)
    told = state is not None or event.type == EventType.MESSAGE_RETRYING
    if not (told and event.message_id) or event.key.startswith(STATUS_KEY):
        return None
    data = _decode(event)
    if data is None or data.attempt is None:
        return None
    if state is None:
        return carried_again(event, data.attempt)
    if tells_held(event):
        return carried_held(event, view, data.error) if view is not None and data.error else None
    if state is State.SENT:
        return Change(event.message_id, state, event.at, word_of=data.attempt, wamid=data.wamid or "")
    if tells_unheard(event):
        return carried_unheard(event, data.attempt, data.error)
    if state in (State.CANCELLED, State.EXPIRED):
        return Change(event.message_id, state, event.at, only_from=(State.QUEUED,))
    change = Change(
        event.message_id,
        state,
        event.at,
        attempt=data.attempt,
        # One that failed may have been unknown before: nobody had word of it in time.
        only_from=(State.SENDING, State.UNKNOWN) if state is State.FAILED else (State.SENDING,),
        burn=state is State.FAILED,
        doubt=state is State.UNKNOWN,
        **(kept_error(data.error) if data.error else {}),
    )
    return noted_by_event(change, event, data.attempt, Ending(state.value))


def _decode(event: Event) -> _Data | None:
    try:
        return msgspec.json.decode(event.body, type=_Body).data
    except msgspec.MsgspecError:
        return None


def _ended_tasks(batch: Sequence[Event], statuses: Sequence[StatusEvent]) -> set[str]:
    """Tasks of which a row may have ended in this batch."""
    tasks = {task_of(status.row_id) for status in statuses if status.state in ENDED}
    for event in batch:
        if event.message_id and _STATE_AFTER.get(event.type) in ENDED:
            tasks.add(task_of(event.message_id))
    return tasks
