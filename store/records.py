"""Values that cross the store's border. All are frozen; times are integer milliseconds since 1970, UTC.

Owns the shapes only. How they are kept is each store's own business; what may be done with them is said in
``base.py``. An event's ``body`` and a row's ``payload`` are JSON texts that the store never looks into.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from store.states import TAKEN, State, can_move

__all__ = [
    "ALL_DEAD",
    "NOTES_FIRST",
    "NOTES_LAST",
    "TIME_OF",
    "TOLD",
    "Alias",
    "AnswerRecord",
    "Change",
    "Cursor",
    "DeadCounts",
    "DeadFilter",
    "Event",
    "History",
    "KnownMedia",
    "Lease",
    "LogBounds",
    "Memo",
    "NewEvent",
    "NewRow",
    "NewTask",
    "Place",
    "Priority",
    "Progress",
    "Row",
    "RowView",
    "Standing",
    "Subscriber",
    "Suppression",
    "TaskPlace",
    "TaskView",
    "Window",
    "claim_of",
    "intake_at",
    "suppression_after",
]

Priority = int
"""0 high, 1 normal, 2 low."""

NOTES_FIRST = 2
NOTES_LAST = 8
"""How many notes a row keeps of its attempts: the first, and the last; those between are only counted."""


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that happened, on its way into the log."""

    key: str
    """Names the happening itself: a second append with the same key is dropped."""
    type: str
    """``message.received``, ``message.sent``, ..."""
    at: int
    """When the gateway learnt of it."""
    body: bytes
    """The event as subscribers see it: a JSON object, not empty, without ``type``, ``offset`` and ``prev``.
    """
    phone_number_id: str = ""
    """Our number that it concerns; empty where none."""
    contact: str = ""
    """Key of the contact that it concerns; empty where none."""
    message_id: str = ""
    """The outbox row that it concerns; empty where none."""

    def placed(self, offset: int, prev: int) -> Event:
        """This event at its place in the log."""
        return Event(
            offset,
            prev,
            self.key,
            self.type,
            self.at,
            self.body,
            self.phone_number_id,
            self.contact,
            self.message_id,
        )


class Event(msgspec.Struct, frozen=True, gc=False):
    """A :class:`NewEvent` with its place in the log."""

    offset: int
    prev: int
    """Offset of the event just before it in the log; 0 before the first."""
    key: str
    type: str
    at: int
    body: bytes
    phone_number_id: str = ""
    contact: str = ""
    message_id: str = ""


class LogBounds(NamedTuple):
    """What the log holds. A cursor below ``floor`` has missed events that were removed."""

    floor: int
    """``prev`` of the oldest event kept; equals ``head`` when the log is empty."""
    head: int
    """Offset of the newest event; 0 when there never was one."""


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """How far a named consumer has come."""

    name: str
    offset: int


class Subscriber(msgspec.Struct, frozen=True, gc=False):
    """A subscriber with a name, whose place in the log is kept."""

    name: str
    offset: int
    """It has acknowledged everything up to here."""
    wanted: bytes
    """Its filter, in the form of whoever gave it."""
    created_at: int
    seen_at: int
    """When it last came, acknowledged something, or went."""
    holder: str
    """The process that it is connected to, or was when that was killed; empty once it went."""
    session: str
    """Names its newest connection, which alone may acknowledge."""


class Progress(msgspec.Struct, frozen=True, gc=False):
    """How far a connection of a named subscriber has come."""

    name: str
    session: str
    offset: int
    leaves: bool = False
    """Whether the connection is over."""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """Proof that one owner may work on a named thing for a while."""

    name: str
    owner: str
    term: int
    """Grows each time the lease changes hands; a write with an older one is refused."""


class Memo(msgspec.Struct, frozen=True, gc=False):
    """What a part of the gateway keeps of itself from one start to the next, for all processes."""

    name: str
    version: int
    """From 1; one more each time that it changes."""
    body: bytes
    """JSON."""


class Alias(msgspec.Struct, frozen=True, gc=False):
    """One address under which a contact is known."""

    alias: str
    """A phone (digits) or a user id (``CC.`` and more), as it stands in webhooks."""
    contact: str
    """Key of the contact that answers to it."""
    peer: str = ""
    """The address of the other kind that it was last seen with."""
    at: int = 0
    """When it came to lead there, and to be seen with that, by Meta's clock; 0: not known."""


class Window(msgspec.Struct, frozen=True, gc=False):
    """When a contact was last heard from, at one of our numbers."""

    phone_number_id: str
    contact: str
    inbound_at: int
    first: bool = True
    """Whether it may be the first that is kept of the contact; else it only counts for one that is there."""


class Suppression(msgspec.Struct, frozen=True, gc=False):
    """The last word on whether a contact may be sent what they did not ask for."""

    contact: str
    since: int
    """Since when they may not, by the clock of who said so; 0: that was never said."""
    until: int = 0
    """When they came back; 0 while it holds."""
    reason: str = ""
    source: str = ""
    """Where the word came from."""
    note: str = ""
    firm: bool = False
    """Whether the contact's own word does not end it, only an operator's."""
    heard: int = 0
    """When it was said last what was so already; 0: never since."""

    @property
    def at(self) -> int:
        """When the last word was said."""
        return max(self.since, self.until, self.heard)

    @property
    def in_force(self) -> bool:
        """Whether it holds."""
        return bool(self.since) and not self.until


class NewTask(msgspec.Struct, frozen=True, gc=False):
    """One request to send, to one recipient or many."""

    id: str
    kind: str
    """What is sent: ``text``, ``template``, ..."""
    source: str
    """Who asked: ``api``, or ``autoreply:<rule>``."""
    total: int
    """How many rows it has, or will have once it is ready."""
    created_at: int
    skipped: int = 0
    """How many recipients were asked for, could not be taken, and have no row."""


class NewRow(msgspec.Struct, frozen=True, gc=False):
    """One message to one recipient, to be put into the outbox. Its id is ``<task id>-<n>``."""

    n: int
    """Its number in the task, from 0; there may be gaps."""
    lane: str
    """The phone number id that sends it."""
    contact: str
    priority: Priority
    due: int
    """Not sent before this time. 0: at once; the store then puts the time at which it takes the row, which
    never goes back within a process, so that a reader that has passed a place does not miss a row that
    came later."""
    payload: bytes
    """Meta's message object as JSON, without ``biz_opaque_callback_data``."""
    expires_at: int = 0
    """Not sent after this time; 0: no limit."""
    callback_data: str = ""
    ordered: bool = False
    """Whether later rows of its contact and priority wait until it was delivered."""
    on_unknown: str = ""
    """What is to become of it where nobody knows whether Meta has it; empty: as the gateway is set."""
    fallback: bytes = b""
    """A message object to be sent in its place, once Meta refuses it for want of an open window; empty:
    none."""
    heeds_opt_out: bool = False
    """Whether it is not sent to a contact with a suppression in force."""


class KnownMedia(msgspec.Struct, frozen=True, gc=False):
    """A file that was uploaded, and the id that it has where it was uploaded to."""

    phone_number_id: str
    """Our number that it was uploaded for."""
    sha256: str
    """Of its bytes, in hex."""
    mime_type: str
    media_id: str
    until: int
    """When the id is no longer to be used."""


class TaskPlace(NamedTuple):
    """Where a task stands among all, which are listed from the newest on."""

    created_at: int
    id: str


class Place(NamedTuple):
    """Where a row stands in its lane's order."""

    due: int
    seq: int


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a lane needs of a row to send it."""

    id: str
    seq: int
    """Order of acceptance within the store; grows, with gaps."""
    task_id: str
    lane: str
    contact: str
    priority: Priority
    due: int
    payload: bytes
    """What is to be sent now: of a row that fell back, its fallback."""
    state: State
    attempt: int
    """How often it was marked ``sending``; the number of the attempt under way or last made."""
    failures: int
    """How many of those attempts count against the limit."""
    doubt: bool
    """An earlier attempt may have reached Meta (it was unknown, or failed in a way that leaves doubt)."""
    expires_at: int
    callback_data: str
    created_at: int
    retried: int = 0
    """How often it was queued anew after it had failed for good, or after Meta had failed what it had taken.
    """
    ordered: bool = False
    on_unknown: str = ""
    has_fallback: bool = False
    """Whether there is something to be sent in its place, and it has not fallen back to it yet."""
    fell_back: bool = False
    claimed_at: int = 0
    """When it was last marked ``sending``; 0: not known."""
    spared: int = 0
    """How many attempts were refused without counting against the limit, since it was last queued afresh."""
    heeds_opt_out: bool = False
    """Whether it is not sent to a contact with a suppression in force."""


class RowView(msgspec.Struct, frozen=True, gc=False):
    """A row with all that is known of its fate."""

    row: Row
    wamids: tuple[str, ...]
    """Every id that Meta gave it, oldest first; two or more are a counted double."""
    error: bytes
    """The last refusal as JSON; empty where none."""
    sent_at: int
    """When Meta was first known to have taken it, by its answer or by any status that proves it."""
    delivered_at: int
    read_at: int
    ended_at: int
    """When it failed, was cancelled or expired."""
    last_sent_at: int = 0
    """When it last came into ``sent``: of a row that was sent anew this is not ``sent_at``."""
    over: int = 0
    """Attempts up to this one are over, see :class:`Standing`."""
    played_at: int = 0
    pricing: bytes = b""
    """What it costs as Meta told last, as JSON; empty where it did not."""


class History(NamedTuple):
    """What a row keeps of its attempts."""

    notes: tuple[bytes, ...]
    """Each as a change brought it, oldest first: the first :data:`NOTES_FIRST`, the last
    :data:`NOTES_LAST`."""
    left_out: int
    """How many there were between the first and the last."""


class DeadFilter(msgspec.Struct, frozen=True):
    """Which dead letters: those in which everything is as it says; empty and 0: any."""

    lane: str = ""
    task_id: str = ""
    contact: str = ""
    error_name: str = ""
    error_code: int = 0
    since: int = 0
    """Failed at this time or later."""
    until: int = 0
    """Failed before this time."""


ALL_DEAD = DeadFilter()
"""Every one."""


class DeadCounts(NamedTuple):
    """How many dead letters there are, among the last of them."""

    total: int
    by_name: dict[str, int]
    """Of those that failed since the time asked for, by the name of their error."""


TIME_OF: dict[State, str] = {
    State.DELIVERED: "delivered_at",
    State.READ: "read_at",
    State.PLAYED: "played_at",
    State.FAILED: "ended_at",
    State.CANCELLED: "ended_at",
    State.EXPIRED: "ended_at",
}
"""The field of :class:`RowView` for when a row came into a state; ``sent_at`` has a rule of its own."""

TOLD: frozenset[State] = TAKEN & TIME_OF.keys()
"""States whose time is told by Meta, and kept even where the row is past them."""


class TaskView(msgspec.Struct, frozen=True, gc=False):
    """A task with the present counts of its rows."""

    task: NewTask
    completed_at: int
    """0 while any row is open."""
    counts: dict[State, int]
    retrying: int
    """Rows of ``queued`` that have been tried before."""
    taken: int
    """Rows that Meta took at some time (their ``sent_at`` is set), whatever became of them later."""
    errors: tuple[bytes, ...]
    """``error`` of the first rows that have one and did not go after all, at most 20, by ``n``."""
    retried: int = 0
    """Sum of its rows' ``retried``; not newer than ``counts``."""


class Standing(NamedTuple):
    """How a row stands, as far as guards ask."""

    state: State
    attempt: int
    term: int
    has_fallback: bool
    over: int
    """Attempts up to this one are over: the row was queued afresh, or fell back, after it."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """What is to become of one row. Applied only where every guard holds, else it changes nothing."""

    row_id: str
    to: State
    at: int
    attempt: int = 0
    """Guard: only if this is the row's attempt; 0: any."""
    term: int = 0
    """Guard: only if the row was marked under this term of its lane's lease; 0: any."""
    before_term: int = 0
    """Guard: only if the row was marked under an older term than this; 0: any."""
    only_from: tuple[State, ...] = ()
    """Guard, beside the table of moves: only from these states; empty: any that the table allows."""
    word_of: int = 0
    """The attempt that this is word of; 0: not known. Guard, with ``to`` = sent: one that is not over. What
    Meta says late of an attempt that failed does not stop what was queued in its place."""
    wamid: str = ""
    """An id of Meta's to keep. It is kept even where a guard stops the move, and so are ``pricing`` and, with
    ``to`` in :data:`~store.states.TAKEN`, the first time at which Meta was known to have taken the row; with
    ``to`` in :data:`TOLD` also the earliest time of that."""
    told_at: int = 0
    """With ``to`` in :data:`TOLD`: when it happened, as Meta tells; 0: at ``at``."""
    pricing: bytes = b""
    """JSON to keep as what Meta told of the price; empty leaves what is there."""
    due: int = 0
    """With ``to`` = queued: when to try again."""
    burn: bool = False
    """Count the attempt against the limit."""
    spared: bool = False
    """Count the attempt as one that was refused without counting against the limit."""
    doubt: bool = False
    """Mark that Meta may have taken an attempt."""
    undone: bool = False
    """With ``to`` = queued: Meta failed what it had taken, and it is sent again, with one more in
    ``retried``; ``attempt``, which must be given, and all before it are over."""
    fresh: bool = False
    """With ``to`` = queued: begin anew, with no failures, none spared, no end, and one more in ``retried``;
    ``attempt``, which must be given, and all before it are over."""
    fall_back: bool = False
    """With ``to`` = queued: send the row's fallback from now on; ``attempt``, which must be given, and all
    before it are over. Guard: only if it has one, and has not fallen back yet."""
    error: bytes = b""
    """JSON to keep as the row's last error; empty leaves what is there."""
    error_name: str = ""
    """Goes with ``error``: its name, by which dead letters are found."""
    error_code: int = 0
    """Goes with ``error``: Meta's code; 0 where there is none."""
    note: bytes = b""
    """JSON to keep in the row's history, if the row moves; empty: none."""
    event: NewEvent | None = None
    """What to tell the log if the row moves; an event that is true in any case is none of a change's."""

    @property
    def time(self) -> int:
        """When the row came into its state, for the field of :data:`TIME_OF`."""
        return (self.told_at if self.to in TOLD else 0) or self.at

    @property
    def ends_attempts(self) -> bool:
        """Whether the attempts made so far are over with it."""
        return self.fresh or self.undone or self.fall_back

    @property
    def sends_anew(self) -> bool:
        """Whether what follows has an id of Meta's of its own by right."""
        return self.fresh or self.undone

    def allowed(self, row: Standing) -> bool:
        """Whether every guard holds for a row that stands like this."""
        return (
            can_move(row.state, self.to)
            and (not self.only_from or row.state in self.only_from)
            and self.attempt in (0, row.attempt)
            and self.term in (0, row.term)
            and (not self.before_term or row.term < self.before_term)
            and (not self.fall_back or row.has_fallback)
            and (self.to is not State.SENT or not row.over or self.word_of > row.over)
        )


class AnswerRecord(msgspec.Struct, frozen=True, gc=False):
    """What is known of a request that its caller may repeat: who works on it, or what it was answered."""

    key: str
    digest: str
    """Of the request's content: a repetition has the same."""
    holder: str
    """Who works on it, or did."""
    at: int
    """When it was first claimed."""
    until: int
    """While it has no answer: until when its holder counts as working on it."""
    status: int = 0
    """The answer's status; 0: none yet."""
    body: bytes = b""


def claim_of(found: AnswerRecord | None, wanted: AnswerRecord, keep_ms: int) -> AnswerRecord | None:
    """The record after a claim, ``wanted`` being one made afresh now; None where what is found stays."""
    now = wanted.at
    if found is None or now - found.at >= keep_ms:
        return wanted
    free = not found.status and (found.holder == wanted.holder or found.until <= now)
    if found.digest != wanted.digest or not free:
        return None
    return msgspec.structs.replace(found, holder=wanted.holder, until=wanted.until)


def intake_at(found: tuple[int, int] | None, now: int, gap_ms: int, broken: bool) -> tuple[int, int]:
    """Since when webhooks were taken in without a gap, and the time noted last, once ``now`` is noted.

    ``found``: the same two as they stand; None where nothing was ever noted.
    """
    if found is None or abs(now - found[1]) > gap_ms:
        return now, now
    since, at = found
    return (max(since, now) if broken else since), max(at, now)


def suppression_after(found: Suppression | None, wanted: Suppression, by_operator: bool) -> Suppression:
    """The last word on a contact once ``wanted`` is said: one in force, or one that ends what there is.

    A word older by whole seconds, which is what Meta's clock tells, changes nothing; nor does a contact's
    own where the suppression is firm, nor one that says again what holds.
    """
    if found is None:
        return wanted
    if wanted.at // 1000 < found.at // 1000 or (found.in_force and found.firm and not by_operator):
        return found
    if wanted.in_force:
        again = found.in_force and not by_operator
        same = found.in_force and _without_times(found) == _without_times(wanted)
        return _heard_again(found, wanted) if again or same else wanted
    if found.in_force:
        return msgspec.structs.replace(found, until=wanted.until, heard=0)
    return _heard_again(found, wanted) if found.since else wanted


def _heard_again(found: Suppression, wanted: Suppression) -> Suppression:
    return msgspec.structs.replace(found, heard=wanted.at) if wanted.at > found.at else found


def _without_times(one: Suppression) -> Suppression:
    return msgspec.structs.replace(one, since=0, until=0, heard=0)
