"""The calls of one lane that are under way: call, read the answer, store the outcome, let the next row go.

Thin: what an answer means is decided in ``outcome.py``, what it does beyond the row in ``brakes.py``. Owns
that no outcome is lost between Meta's answer and the store, however long the store is away, and that a row's
contact is free again only after that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from store.base import Store
from store.errors import StoreError
from store.log import Log
from store.records import Change, Lease, NewEvent, Row, RowView
from store.states import OPEN, State
from whatsapp.brakes import Brakes
from whatsapp.clock import Clock
from whatsapp.contacts import Contacts
from whatsapp.drafts import GROUP_KEY
from whatsapp.errors import GraphError, Verdict, classify
from whatsapp.events import RowRef
from whatsapp.failures import NoAnswer, NotSent, Withheld
from whatsapp.graph import Graph
from whatsapp.identity import Address
from whatsapp.outcome import (
    Taken,
    doubled,
    expired,
    held_too_long,
    is_doubled,
    lost,
    not_sent,
    read_answer,
    refused,
    shut_out,
    suppressed,
    taken,
    unanswered,
)
from whatsapp.queue import LaneQueue
from whatsapp.retry import RetryPolicy, store_pause
from whatsapp.template_holds import TemplateHolds
from whatsapp.unknown import UnknownRows

__all__ = ["Attempts", "HeldLease"]

_log = logging.getLogger(__name__)


class HeldLease:
    """A lease and how long it may be trusted, by the monotonic clock; kept up to date by who renews it."""

    def __init__(self, lease: Lease, trusted_until: float) -> None:
        self.lease = lease
        self.trusted_until = trusted_until
        self.lost = False

    def trusted(self, now: float) -> bool:
        """Whether a call may begin now."""
        return now < self.trusted_until

    def lose(self) -> None:
        """Another owner has it: no call may begin any more. Those under way end as they end."""
        self.lost = True
        self.trusted_until = float("-inf")


class Attempts:
    """Use between :meth:`open` and the end of the task group given there."""

    def __init__(
        self,
        *,
        store: Store,
        log: Log,
        graph: Graph,
        contacts: Contacts,
        queue: LaneQueue,
        brakes: Brakes,
        templates: TemplateHolds,
        unknown: UnknownRows,
        policy: RetryPolicy,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._log = log
        self._graph = graph
        self._contacts = contacts
        self._queue = queue
        self._brakes = brakes
        self._templates = templates
        self._unknown = unknown
        self._policy = policy
        self._clock = clock
        self._random = random
        self._tasks: asyncio.TaskGroup | None = None
        self._wake: Callable[[], None] = lambda: None
        self._under_way: dict[str, Row] = {}

    @property
    def in_flight(self) -> int:
        """Attempts, and other settlements, under way."""
        return len(self._under_way)

    def holds(self, row: Row) -> bool:
        """Whether this row is among them."""
        return row.id in self._under_way

    def open(self, tasks: asyncio.TaskGroup, wake: Callable[[], None]) -> None:
        """Run attempts in ``tasks``; ``wake`` is called when one has ended."""
        self._tasks = tasks
        self._wake = wake

    def send(self, row: Row, held: HeldLease, term: int) -> None:
        """Start the call for a row that is claimed under this term: its attempt is the one to be made."""
        self._start(row, self._attempt(row, held, term))

    def shut_out(self, row: Row, term: int) -> None:
        """End a row that is claimed under this term without a call: its window is closed."""
        self._start(row, self._settle(row, shut_out(row, term, self._clock.now_ms())))

    def give_back(self, row: Row, term: int) -> None:
        """Put a row back whose claim may have been stored, and for which no call was made."""
        self._start(row, self._settle(row, self._back(row, term, "the store was away")))

    def lost(self, row: Row, term: int) -> None:
        """Settle a row that stands in ``sending`` under this term at most, and has no call."""
        why = "its claim was stored after it had been given up"
        self._start(row, self._settle(row, lost(row, why, term + 1, self._clock.now_ms())))

    def expire(self, row: Row) -> None:
        """End a row whose time has passed before it left."""
        self._start(row, self._settle(row, expired(row, self._clock.now_ms())))

    def refuse(self, row: Row) -> None:
        """End a row whose contact has opted out."""
        self._start(row, self._settle(row, suppressed(row, self._clock.now_ms())))

    def give_up(self, row: Row) -> None:
        """End a row that has waited too long for its template."""
        verdict = self._templates.why(row)
        assert verdict is not None, "nothing holds it"
        self._start(row, self._settle(row, held_too_long(row, verdict, self._clock.now_ms())))

    # -- a call ----------------------------------------------------------------------------------------

    async def _attempt(self, row: Row, held: HeldLease, term: int) -> None:
        reference = str(RowRef(row.id, row.attempt, bool(row.callback_data)))
        try:
            # The last look at the lease is just before the bytes leave: the claim, or the way to a
            # connection, may have taken longer than it lasts.
            answer = await self._graph.send(
                row.lane, row.payload, reference, lambda: held.trusted(self._clock.monotonic())
            )
            result = read_answer(answer, self._clock.now_ms())
        except Withheld:
            await self._settle(row, self._back(row, term, "the lane's lease was not renewed in time"))
            return
        except NotSent as failure:
            delay_s = self._brakes.unreachable(failure.message)
            await self._settle(row, self._back(row, term, failure.message, delay_s))
            return
        except NoAnswer:
            await self._settle(row, self._refusal(row, term, *unanswered()))
            return
        self._brakes.answered(answer.headers)
        if isinstance(result, Taken):
            await self._accepted(row, result, answer.body)
        else:
            verdict = self._brakes.react(row, classify(result))
            await self._settle(row, self._refusal(row, term, result, verdict))

    async def _accepted(self, row: Row, result: Taken, body: bytes) -> None:
        self._brakes.accepted(row)
        stopped_at = await self._settle(row, *taken(row, result.wamid, body, self._clock.now_ms()))
        reached = result.contacts[0] if result.contacts and not row.contact.startswith(GROUP_KEY) else None
        if reached is not None and (address := Address(reached.wa_id, reached.user_id)):
            await self._learn(row, address)
        # Where it moved nothing, a status has overtaken it; or another owner of the lane has settled the row,
        # and perhaps sent it again, of which our copy knows nothing.
        if row.doubt or stopped_at is not None:
            await self._tell_double(row, stopped_at)

    def _refusal(self, row: Row, term: int, error: GraphError, verdict: Verdict) -> Change:
        return refused(row, term, error, verdict, self._policy, self._random, self._clock.now_ms())

    def _back(self, row: Row, term: int, why: str, delay_s: float = 0.0) -> Change:
        return not_sent(row, term, why, self._clock.now_ms(), delay_s)

    # -- its outcome -----------------------------------------------------------------------------------

    async def _settle(self, row: Row, change: Change, *events: NewEvent) -> RowView | None:
        """Store the outcome; then let the next row of the contact go, or what waits behind this one wait. The
        row as it stands where the outcome did not move it."""
        storing = asyncio.Task(self._store_outcome(change, events), name="outcome")
        state = change.to
        try:
            # Shielded: once Meta has answered, a lane that is cancelled still writes down what it said.
            view = await asyncio.shield(storing)
            if view is not None:
                state = view.row.state
            return view
        finally:
            if row.ordered and state is State.SENT:
                # Looked up at once: word that it was delivered may have come before this.
                self._queue.waits(row, self._clock.monotonic())
            elif state not in OPEN or (state is State.QUEUED and self._templates.why(row) is not None):
                # Also one that waits with its template: nobody waits behind it.
                self._queue.ended(row)
            elif state is State.QUEUED:
                self._queue.waits(row, self._clock.monotonic_at(change.due))
            else:
                self._queue.waits(row, None)
                self._unknown.add(row)

    async def _store_outcome(self, change: Change, events: Sequence[NewEvent]) -> RowView | None:
        """The row where it was not moved: a status, or another owner, may have settled it during the call."""
        tries = 0
        while True:
            tries += 1
            try:
                if (await self._store.apply([change], events))[0]:
                    return None
                return (await self._store.find_rows([change.row_id])).get(change.row_id)
            except StoreError as error:
                _log.warning("store away, an outcome waits: %s", error.message)
                await asyncio.sleep(store_pause(tries, self._random))

    async def _learn(self, row: Row, address: Address) -> None:
        """Remember the id that Meta knows the recipient by: it may differ from what was dialled (CLOUD_API.md
        0.1)."""
        try:
            await self._contacts.learn(row.contact, address)
        except StoreError as error:
            _log.warning("an alias was not stored: %s", error.message)

    async def _tell_double(self, row: Row, view: RowView | None) -> None:
        """Two ids on the row mean that the recipient may have it twice. ``view``: the row, where it was read
        since its id was stored."""
        try:
            if view is None:
                view = (await self._store.find_rows([row.id])).get(row.id)
            if view is not None and is_doubled(view.row, view.wamids):
                await self._log.append([doubled(row, view.wamids, self._clock.now_ms())])
        except StoreError as error:
            _log.warning("a double was not told: %s", error.message)

    # -- tasks -----------------------------------------------------------------------------------------

    def _start(self, row: Row, work: Coroutine[Any, Any, object]) -> None:
        assert self._tasks is not None, "the lane is not running"
        self._under_way[row.id] = row
        self._tasks.create_task(work).add_done_callback(partial(self._ended, row.id))

    def _ended(self, row_id: str, task: asyncio.Task[object]) -> None:
        del self._under_way[row_id]
        self._wake()
