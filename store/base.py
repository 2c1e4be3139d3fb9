"""The store's contract, in prose. ``sqlite.py`` and ``mongo.py`` keep it; ``tests/contract`` is its
definition.

Rules that hold for every method:

- A method that returns has made its effect durable: it survives ``kill -9`` and a power cut.
- A method that raises :class:`~store.errors.StoreUnavailable` has had its effect fully, or not at all, per
  item; which of the two is not known. Every write may be repeated with the same keys and ids and then has its
  effect once.
- Nothing waits longer than two seconds for a database that is away; it raises ``StoreUnavailable`` instead.
- Methods may be called concurrently from one event loop. Writes called in an order are applied in that order
  where they touch the same row or key.
- Backend exceptions stop here: callers see only :mod:`store.errors`.

**Log.** Events are numbered by growing offsets, not always by one. ``prev`` of an event is the offset of the
one before it, so a reader can tell a gap. An event's key is unique in the log for as long as it is kept. Once
a reader has seen offset n, no event below n appears any more.

**Outbox.** Rows move along the table in ``states.py`` only. A row is visible to its lane once its task is
ready.

**Leases.** One owner at a time; each change of hands raises the term. The owner's own clock decides only when
it must stop trusting its lease, never that it still holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from store.erasing import Erasure, Found, Mentions, Shelf
from store.records import (
    ALL_DEAD,
    Alias,
    AnswerRecord,
    Change,
    Cursor,
    DeadCounts,
    DeadFilter,
    Event,
    History,
    KnownMedia,
    Lease,
    LogBounds,
    Memo,
    NewEvent,
    NewRow,
    NewTask,
    Place,
    Priority,
    Progress,
    Row,
    RowView,
    Subscriber,
    Suppression,
    TaskPlace,
    TaskView,
    Window,
)
from store.states import State
from store.threads import Said, Thread, ThreadNews

__all__ = ["Store"]


class Store(Protocol):
    """Everything durable. See the module's docstring for the rules of all methods."""

    @property
    def epoch(self) -> str:
        """Identity of this log, made when the store was first opened; offsets of another mean nothing."""
        ...

    @property
    def atomic(self) -> bool:
        """Whether :meth:`apply` commits log, rows and cursor as one; else a crash may leave the log ahead."""
        ...

    # -- life ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, make or migrate the schema, start to follow the log.

        Raises StoreBusy where another process holds a store for one process, StoreUnavailable where the
        database does not answer.
        """
        ...

    async def close(self) -> None:
        """Flush what was accepted, then let go. Idempotent; no other method may be called afterwards."""
        ...

    async def ping(self) -> None:
        """Return if a write would be taken now; raise StoreUnavailable if not."""
        ...

    # -- log -------------------------------------------------------------------------------------------

    async def append_events(self, events: Sequence[NewEvent]) -> list[Event]:
        """Append those whose key is not in the log yet, in the order given; return just these.

        All or none, together with the dropping of duplicates: also of the same key twice in one call, and of
        two calls under way at once (one of them gets the event, the other does not).
        """
        ...

    async def find_events(self, beginnings: Collection[str], limit: int) -> list[Event]:
        """Events whose key begins with one of these, in the order of the log, at most ``limit``. Of each
        beginning there must be few: where there are more than ``limit``, any of them are left out."""
        ...

    async def events_of(self, keys: Collection[str]) -> list[Event]:
        """Events with these keys, in the order of the log; callers ask for a few thousand at most."""
        ...

    async def known_keys(self, keys: Collection[str]) -> Collection[str]:
        """Those of these keys whose event is in the log."""
        ...

    async def events_after(self, offset: int, limit: int) -> list[Event]:
        """The oldest events past ``offset``, in order, at most ``limit``, maybe fewer; none only where there
        is none."""
        ...

    async def log_bounds(self) -> LogBounds:
        """What the log holds now."""
        ...

    def on_events(self, callback: Callable[[Sequence[Event]], None]) -> None:
        """Call back, in the event loop, with every batch of events that the log takes from :meth:`open` on.

        In order, without gap or repetition, those of other processes too. The callback must not block or
        raise. It runs before the append that brought the events returns.
        """
        ...

    async def load_cursor(self, name: str) -> int:
        """How far the consumer of this name has come; 0 if it never saved."""
        ...

    async def save_cursor(self, cursor: Cursor, lease: Lease | None = None) -> None:
        """Save a consumer's place. With ``lease``: raises LeaseLost unless it is still the newest term."""
        ...

    async def count_past(self, offsets: Collection[int]) -> dict[int, int]:
        """How many events of the log are past each of these; more than there are where a version that did not
        count them stored some."""
        ...

    # -- memos -----------------------------------------------------------------------------------------

    async def find_memo(self, name: str) -> Memo | None:
        """The memo as it stands, or None."""
        ...

    async def put_memo(self, memo: Memo) -> bool:
        """Store it in the place of the version before it, or of none with version 1; False, and no effect,
        where the one that stands is neither that nor this very memo."""
        ...

    # -- named subscribers ---------------------------------------------------------------------------------

    async def take_subscriber(
        self,
        name: str,
        session: str,
        holder: str,
        now: int,
        *,
        start: int,
        wanted: bytes | None,
        most: int,
    ) -> tuple[Subscriber, bool] | None:
        """Give a name to a new connection, whoever has it: how it stands then, and whether it is new.

        A new one has its place at ``start``, and none is made (None) where there are ``most`` already; of two
        processes at once each may make the last. ``wanted``: its filter from now on; None: as it was.
        """
        ...

    async def save_progress(self, progress: Sequence[Progress], now: int) -> set[str]:
        """Move these on, never back; sessions among them whose name was taken by another or removed, for whom
        it had no effect."""
        ...

    async def find_subscribers(self, names: Collection[str]) -> dict[str, Subscriber]:
        """Those of these names that there are."""
        ...

    async def list_subscribers(self, limit: int, after: str = "") -> list[Subscriber]:
        """In the order of their names, past ``after``."""
        ...

    async def remove_subscriber(self, name: str) -> bool:
        """Forget a name and its place; whether there was such a one."""
        ...

    # -- contacts --------------------------------------------------------------------------------------

    async def find_aliases(self, aliases: Collection[str]) -> dict[str, Alias]:
        """Those of these addresses that are known."""
        ...

    async def put_aliases(self, aliases: Sequence[Alias]) -> None:
        """Store each, in place of what the same address was before."""
        ...

    async def aliases_of(self, contact: str) -> list[Alias]:
        """All addresses that lead to this contact, in the order of their text."""
        ...

    # -- conversations ---------------------------------------------------------------------------------

    async def note_threads(self, news: ThreadNews, cursor: Cursor, lease: Lease) -> None:
        """Keep what a part of the log brings, then save the cursor as in :meth:`save_cursor`.

        A message whose offset is there already stays as it is; of a thread every field only grows, as
        :func:`~store.threads.summed` does it, and an amendment counts only for a message that is there. What
        was moved stays so: what comes of the contact who is gone later goes to the one who is kept, and who
        asks for the one is answered of the other.
        """
        ...

    async def said_of(
        self,
        contact: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        phone_number_id: str = "",
    ) -> list[Said]:
        """What was said in a contact's threads, in the order of offsets: the first past ``after``, else the
        last, those before ``before``; with one number only, or with all."""
        ...

    async def find_said(self, offsets: Collection[int]) -> dict[int, Said]:
        """Those of these messages that are there."""
        ...

    async def threads_of(self, contact: str) -> list[Thread]:
        """The threads of a contact, with each of our numbers that there is one with, in no order."""
        ...

    async def list_threads(
        self, numbers: Sequence[str], limit: int, before: int | None = None, *, unread: bool = False
    ) -> list[Thread]:
        """Threads with these numbers in which something was said, from the last offset down, below
        ``before``; only those that are unread, or all."""
        ...

    async def count_unread(self, threads: Sequence[Thread], most: int) -> list[int]:
        """Of each how many messages of the customer's came since it was marked as read, at most so many."""
        ...

    # -- windows ---------------------------------------------------------------------------------------

    async def note_inbound(self, windows: Sequence[Window]) -> None:
        """Keep when each contact was last heard from; a time before the one that is kept changes nothing, nor
        does one that may not be the first of its contact, and is."""
        ...

    async def find_inbound(self, phone_number_id: str, contacts: Collection[str]) -> dict[str, int]:
        """When each of these was last heard from at this number; those that are known."""
        ...

    async def sweep_inbound(self, before: int) -> int:
        """Forget whom nobody has heard from since; how many."""
        ...

    async def note_intake(self, now: int, gap_ms: int, *, broken: bool = False) -> int:
        """Note that webhooks are taken in at ``now``; since when they have been without a gap.

        One record for all processes. Where the time noted last is more than ``gap_ms`` from ``now``, to
        either side (a clock may have been put back), or with ``broken``, there was a gap, which ends now.
        """
        ...

    # -- who is not to be written to unasked -----------------------------------------------------------

    async def put_suppressions(
        self, wanted: Sequence[Suppression], *, by_operator: bool = False
    ) -> list[Suppression]:
        """Say each of these words, in order; how the contact of each stands after all of them, by
        :func:`~store.records.suppression_after`. Words on one contact under way at once are said one after
        the other."""
        ...

    async def find_suppressions(self, contacts: Collection[str]) -> dict[str, Suppression]:
        """Those of these contacts whose suppression is in force; callers ask for a thousand at most."""
        ...

    async def list_suppressions(self, limit: int, after: str = "") -> list[Suppression]:
        """Suppressions in force in the order of contacts, past this contact."""
        ...

    # -- media -----------------------------------------------------------------------------------------

    async def remember_media(self, media: KnownMedia, now: int) -> None:
        """Keep the id of an uploaded file, in place of what the same bytes, number and type had before.

        What is over (``until <= now``) is removed by the way.
        """
        ...

    async def find_media(self, phone_number_id: str, sha256: str, mime_type: str, now: int) -> str | None:
        """The id that these bytes have for this number and type, while it may be used."""
        ...

    # -- outbox ----------------------------------------------------------------------------------------

    async def create_task(
        self, task: NewTask, rows: Sequence[NewRow], events: Sequence[NewEvent] = (), *, ready: bool = True
    ) -> bool:
        """Store a task with these rows and append these events; False, and no effect, if its id is known.

        With ``ready=False`` its rows stay invisible to lanes until :meth:`mark_ready`, and more may be added.
        """
        ...

    async def add_rows(self, task_id: str, rows: Sequence[NewRow]) -> None:
        """Add rows to a task that is not ready. A row whose ``n`` is there already is left as it is.

        Raises StoreError where there is no such task: it may have been swept away.
        """
        ...

    async def mark_ready(
        self, task_id: str, events: Sequence[NewEvent] = (), counts: tuple[int, int] | None = None
    ) -> None:
        """Make a task's rows visible to their lanes, and append these events. Raises as :meth:`add_rows`.

        ``counts``: its total and skipped, where they may have come out otherwise than when a try before this
        one created it. No effect on a task that is ready.
        """
        ...

    async def sweep_unready(self, created_before: int) -> int:
        """Remove tasks, with their rows, that never became ready and are older; how many tasks."""
        ...

    async def read_ahead(
        self, lane: str, priority: Priority, after: Place, now: int, limit: int
    ) -> list[Row]:
        """Rows of ready tasks in ``queued`` with ``due <= now`` past ``after``, ordered by (due, seq)."""
        ...

    async def read_contact(
        self, lane: str, priority: Priority, contact: str, after: Place, now: int, limit: int
    ) -> list[Row]:
        """As :meth:`read_ahead`, for one contact only."""
        ...

    async def blocking_rows(self, lane: str, after_seq: int, limit: int) -> list[Row]:
        """Rows that hold back later ones of their contact and priority: ``sending``, ``unknown``, or
        ``queued`` with an attempt made, due or not; in the order of seq, past ``after_seq``."""
        ...

    async def undelivered(
        self, lane: str, after: Place, limit: int, *, before: int | None = None, ordered: bool = True
    ) -> list[RowView]:
        """Rows of a lane that stand in ``sent``, in the order of (last_sent_at, seq), past ``after``, whose
        ``due`` is such a time; with ``before`` those that came there earlier; with ``ordered`` only those
        that others wait for."""
        ...

    async def mark_sending(self, lease: Lease, rows: Sequence[Row], at: int = 0) -> set[str]:
        """Move these rows from ``queued`` to ``sending`` with attempt + 1 under the lease's term; ids of
        those moved. ``at`` is kept as the time of it.

        A row is left out when it is no longer ``queued`` with the attempt that ``row`` shows, or was marked
        under a newer term. Raises LeaseLost where the store knows of a newer term of the lease.
        """
        ...

    async def apply(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent] = (),
        cursor: Cursor | None = None,
        lease: Lease | None = None,
    ) -> list[bool]:
        """Append events, apply changes in order, save the cursor; whether each change moved its row.

        A change's own event is appended where it moves its row. One transaction where :attr:`atomic`; else
        events first, then moves, then the cursor, so that a repetition completes it, and a row that somebody
        else moves at that moment may leave the event of a change that was stopped. ``lease`` guards the
        cursor as in :meth:`save_cursor`. A change of an unknown row is no error; it moves nothing.
        """
        ...

    async def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
        """Those of these rows that exist."""
        ...

    async def find_by_wamid(self, wamids: Collection[str]) -> dict[str, str]:
        """Row ids by the ids that Meta gave them; those that are known."""
        ...

    async def rows_in_state(self, lane: str, state: State, after_seq: int, limit: int) -> list[Row]:
        """Rows of ready tasks of a lane in one state, in the order of seq, past ``after_seq``."""
        ...

    async def task_rows(
        self, task_id: str, after_n: int, limit: int, state: State | None = None
    ) -> list[RowView]:
        """Rows of a task in the order of ``n``, past ``after_n`` (-1: from the start); of one state only, or
        of all."""
        ...

    async def list_tasks(
        self,
        limit: int,
        before: TaskPlace | None = None,
        *,
        kind: str = "",
        source: str = "",
        complete: bool | None = None,
    ) -> list[NewTask]:
        """Ready tasks from the newest on, past the place ``before``; those of this kind and source (empty:
        any), and only those that are marked complete, or are not (None: all)."""
        ...

    async def find_task(self, task_id: str) -> TaskView | None:
        """A ready task with its counts, or None."""
        ...

    async def finished_tasks(self, task_ids: Collection[str]) -> set[str]:
        """Those of these that are ready, hold all their rows, have none open, and are not marked complete."""
        ...

    async def complete_tasks(self, task_ids: Collection[str], at: int) -> None:
        """Mark these complete, unless they are already, or have an open row again."""
        ...

    async def depth(self, lane: str) -> Mapping[State, int]:
        """How many rows of a lane are in each open state, those of tasks that are not ready left out."""
        ...

    # -- dead letters: rows in ``failed`` --------------------------------------------------------------

    async def dead_letters(
        self, limit: int, before: Place | None = None, only: DeadFilter = ALL_DEAD
    ) -> list[RowView]:
        """Rows in ``failed``, those that failed last first, past the place ``before``, whose ``due`` is the
        time at which a row failed."""
        ...

    async def count_dead(self, since: int, most: int) -> DeadCounts:
        """Of the ``most`` rows that came into ``failed`` last: how many there are; and of those since then,
        how many by the name of their error. As cheap however many have failed."""
        ...

    async def find_history(self, row_id: str) -> History:
        """What a row keeps of its attempts; nothing of one that does not exist."""
        ...

    # -- removal by age: a little in one call, so that others get in between ---------------------------

    async def list_cursors(self) -> list[Cursor]:
        """How far each consumer has come that ever saved its place, in the order of names."""
        ...

    async def remove_events(self, upto: int, before: int, limit: int) -> int:
        """Remove the oldest events: those up to ``upto`` that the gateway learnt of before that time, some
        ``limit`` at most; how many. None that has a younger one below it, and never the newest; where the log
        is kept in batches only whole ones. What is left has its offsets and ``prev`` as they were."""
        ...

    async def retire_tasks(self, before: int, after: TaskPlace, limit: int) -> TaskPlace | None:
        """Retire tasks that have no open row and of which nothing has happened since ``before``, among the
        next ``limit`` ready ones past a place, from the oldest on, that were made before; fewer where they
        have many rows. The place of the last that was looked at, None where there is none. A retired task is
        not found any more."""
        ...

    async def remove_retired(self, limit: int) -> int:
        """Remove rows of retired tasks, and tasks that have none left, some at most; how many of both. A row
        that was queued again meanwhile stays, and its task is found again with what is left."""
        ...

    async def remove_said(self, before: int, limit: int) -> int:
        """Remove what was said before, among the ``limit`` oldest messages of conversations, and threads in
        which nothing was said since; how many messages."""
        ...

    async def remove_claims(self, before: int, limit: int) -> int:
        """Remove claims made before, at most ``limit``; how many."""
        ...

    # -- erasing a contact -----------------------------------------------------------------------------

    async def put_erasure(self, erasure: Erasure) -> None:
        """Keep it, in place of what the same id had; no effect where that is done."""
        ...

    async def find_erasure(self, id: str) -> Erasure | None:
        """The request of this id, or None."""
        ...

    async def list_erasures(self, done_since: int) -> list[Erasure]:
        """Those that are not done, and those done since then, in the order in which they were asked for."""
        ...

    async def remove_erasures(self, done_before: int) -> None:
        """Forget requests that were done before."""
        ...

    async def rewrite_events(self, events: Sequence[Event]) -> None:
        """Put these in place of those at the same offsets, as far as they are there; ``at``,
        ``phone_number_id``, offsets and ``prev`` stay. A key that is new must be no other event's."""
        ...

    async def search_shelf(self, shelf: Shelf, who: Mentions, after: str, limit: int) -> Found:
        """Look through the next ``limit`` records past a place (empty: from the beginning): those that are
        about these contacts, or in which one of their addresses stands."""
        ...

    async def erase(self, shelf: Shelf, ids: Sequence[str], answer: bytes = b"") -> int:
        """Remove records of a shelf; how many went. With ``answer`` the bodies of answers are replaced by it,
        and they stay. Messages that are open, or of tasks that are not ready, stay; a task has so many less,
        and goes with its last."""
        ...

    async def forget_contacts(self, contacts: Collection[str]) -> None:
        """Remove the addresses, windows, threads and suppressions of these keys."""
        ...

    async def purge(self) -> bool:
        """See to it that nothing of what was removed or replaced is left in the store's own files, as far as
        that is the store's to see to; False where somebody who reads stands in the way: try again."""
        ...

    # -- coordination ----------------------------------------------------------------------------------

    async def acquire_lease(self, name: str, owner: str, ttl_ms: int) -> Lease | None:
        """Take or extend the lease of this name for ``ttl_ms`` from now, by the store's clock.

        None while another owner holds it. Extending keeps the term; a change of hands raises it by one, and
        so does taking it again after it ran out.
        """
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back, if it is still this owner's under this term."""
        ...

    async def held_leases(self) -> list[Lease]:
        """Every lease that somebody holds now, by the store's clock, in no order."""
        ...

    async def claim_once(self, key: str, token: str, now: int, cooldown_ms: int) -> bool:
        """Whether the holder of ``token`` may do what ``key`` names, which may be done once per cooldown.

        True if no claim of ``key`` is younger than ``cooldown_ms``, or the youngest is this token's own (the
        repetition of a claim after a crash); the claim is then this token's, from its first ``now`` on.
        """
        ...

    # -- answers that may be asked for again -----------------------------------------------------------

    async def claim_answer(
        self, key: str, digest: str, holder: str, now: int, *, hold_ms: int, keep_ms: int
    ) -> AnswerRecord:
        """Claim the right to work out the answer to the request ``key``; the record as it stands then.

        The claim is the caller's where the record names it as holder and has no answer. That is so where
        there was no record, or one claimed ``keep_ms`` ago or earlier (a new one takes its place); where the
        same request (``digest``) has no answer and its holder is the caller, or has held it too long; it then
        holds it for ``hold_ms`` from ``now``. Of calls under way at once by different holders one gets it.
        """
        ...

    async def keep_answer(self, key: str, status: int, body: bytes) -> None:
        """Keep this answer in the record, unless it has one. No record, no effect."""
        ...

    async def release_answer(self, key: str, holder: str) -> None:
        """Let somebody else work it out, at once: there is no answer worth keeping. The record stays, so that
        another request under its key is told apart still. No effect where another holds it."""
        ...

    async def sweep_answers(self, claimed_before: int) -> int:
        """Remove records that were first claimed before; how many."""
        ...
