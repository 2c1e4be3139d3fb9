"""The shapes of answers (contract.md, Answers), as the API's description tells them.

Pure. Handlers build their answers as they go; a test holds them against these types.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "Alive",
    "Broadcast",
    "Cancelled",
    "ContactTold",
    "ConversationPage",
    "DeadLetter",
    "DeadLetterDetails",
    "DeadLetterPage",
    "Done",
    "EventPage",
    "Fault",
    "HookChanged",
    "HookPage",
    "HookReplayed",
    "HookState",
    "Marked",
    "MediaInfo",
    "MessageLife",
    "MessagePage",
    "MetaError",
    "OwnSent",
    "Queued",
    "Refusal",
    "Resumed",
    "Retried",
    "Revived",
    "RevivedMany",
    "SentMany",
    "SentOne",
    "SentResult",
    "Status",
    "SubscriberPage",
    "SuppressedMany",
    "SuppressionPage",
    "SuppressionState",
    "TaskPage",
    "TaskResult",
    "TaskState",
    "TemplatePage",
    "ThreadPage",
    "Uploaded",
]


class Fault(msgspec.Struct, frozen=True):
    """Something wrong in a request."""

    path: str
    problem: str


class MetaError(msgspec.Struct, frozen=True):
    """What Meta refused with."""

    code: int | None
    subcode: int | None
    title: str | None
    details: str | None
    fbtrace_id: str | None


class Refusal(msgspec.Struct, frozen=True):
    """Why nothing was done."""

    success: Literal[False]
    error: str
    """One sentence that names the field or the cause."""
    code: str
    """A stable word for programs."""
    details: list[Fault] | UnsetType = UNSET
    """At most 100."""
    meta: MetaError | UnsetType = UNSET
    advice: str | UnsetType = UNSET
    """What to do about an error of Meta's, or about a message that has failed."""
    task_id: str | UnsetType = UNSET


class Queued(msgspec.Struct, frozen=True):
    """It is stored, and goes its way."""

    success: Literal[True]
    message: str
    task_id: str
    warnings: list[str] | UnsetType = UNSET


class SentOne(msgspec.Struct, frozen=True):
    """Queued, or sent with Meta's own answer in ``data``."""

    success: Literal[True]
    message: str
    task_id: str
    data: dict[str, Any] | UnsetType = UNSET
    fallback: Literal[True] | UnsetType = UNSET
    """Its fallback was sent: Meta refused the message itself."""
    warnings: list[str] | UnsetType = UNSET


class SentResult(msgspec.Struct, frozen=True):
    """What became of many."""

    total: int
    successful: int
    failed: int
    errors: list[str]


class SentMany(msgspec.Struct, frozen=True):
    """Queued, or sent with the ``result``."""

    success: Literal[True]
    message: str
    task_id: str
    result: SentResult | UnsetType = UNSET
    skipped: int | UnsetType = UNSET
    suppressed: int | UnsetType = UNSET
    """Those of the skipped who have opted out."""
    warnings: list[str] | UnsetType = UNSET


class Broadcast(msgspec.Struct, frozen=True):
    """A file of people, stored to be sent, or looked at."""

    success: Literal[True]
    total: int
    task_id: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    skipped: int | UnsetType = UNSET
    """Recipients who get nothing; left out where there is none."""
    dry_run: Literal[True] | UnsetType = UNSET
    valid: int | UnsetType = UNSET
    invalid: int | UnsetType = UNSET
    repeated: int | UnsetType = UNSET
    suppressed: int | UnsetType = UNSET
    """Recipients who have opted out, and get nothing for that; left out where there is none."""
    problems: list[Fault] | UnsetType = UNSET
    """The first 100."""
    preview: list[dict[str, Any]] | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class SuppressionState(msgspec.Struct, frozen=True):
    """Whether broadcasts pass over a contact, and why."""

    contact: str
    """Our key, as events name it."""
    suppressed: bool
    reason: str
    """``opted_out`` (the contact may come back) or ``blocked`` (an operator ends it)."""
    source: str
    """``word``, ``preference`` or ``refusal`` (Meta's), ``api``, ``import``."""
    note: str | None
    since: str | None
    until: str | None


class SuppressionPage(msgspec.Struct, frozen=True):
    """Those in force, in the order of contacts."""

    suppressions: list[SuppressionState]
    next: str | None


class SuppressedMany(msgspec.Struct, frozen=True):
    """What became of a list."""

    success: Literal[True]
    message: str
    total: int
    suppressed: int
    """Those of it who are suppressed now; the others have come back since the time that was given."""


class OwnSent(msgspec.Struct, frozen=True):
    """Of a message of Meta's form, or of a mark, which has no task."""

    success: Literal[True]
    message: str | UnsetType = UNSET
    task_id: str | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    fallback: Literal[True] | UnsetType = UNSET
    result: SentResult | UnsetType = UNSET
    skipped: int | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class TaskResult(msgspec.Struct, frozen=True):
    """Counts that callers of the earlier service read."""

    total: int
    sent: int
    failed: int


class TaskState(msgspec.Struct, frozen=True):
    """How a task stands."""

    task_id: str
    status: Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]
    result: TaskResult
    created_at: str
    completed_at: str | None
    kind: str
    source: str
    counts: dict[str, int]
    progress: float
    eta_seconds: float | None
    errors: list[dict[str, Any]]


class TaskPage(msgspec.Struct, frozen=True):
    """Tasks, the newest first."""

    tasks: list[TaskState]
    next: str | None


class MessagePage(msgspec.Struct, frozen=True):
    """What became of the recipients of a task."""

    task_id: str
    messages: list[dict[str, Any]]
    next: int | None


class Cancelled(msgspec.Struct, frozen=True):
    """What was taken back."""

    success: Literal[True]
    message: str
    task_id: str
    cancelled: int
    too_late: int


class Retried(msgspec.Struct, frozen=True):
    """What is sent anew."""

    success: Literal[True]
    message: str
    task_id: str
    retried: int
    not_failed: int


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that failed for good."""

    message_id: str
    task_id: str
    phone_number_id: str
    to: dict[str, str | None]
    state: str
    attempt: int
    wamids: list[str]
    error: dict[str, Any] | None
    created_at: str
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    played_at: str | None
    failed_at: str | None
    callback_data: str | None
    fallback: bool
    pricing: dict[str, Any] | None
    """What it costs, as Meta told it last: billable, pricing_model, type, category."""
    retried: int
    """How often a person has had it sent anew."""
    doubt: bool
    """Whether an attempt may have reached the recipient all the same."""


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Those that failed last first."""

    dead_letters: list[DeadLetter]
    next: str | None


class AttemptTold(msgspec.Struct, frozen=True):
    """How one attempt ended, or what was done about it since."""

    attempt: int
    outcome: str
    started_at: str | None
    ended_at: str | None
    error: dict[str, Any] | None
    wamid: str | None
    burnt: bool
    """Whether it counted against the limit."""
    doubt: bool
    retry_in_ms: int | None


class DeadLetterDetails(DeadLetter, frozen=True):
    """All that is known of one."""

    message: dict[str, Any]
    """Meta's object, as it is sent."""
    advice: str | None
    """What the operator is to do; null where it has not failed, or not any more."""
    attempts: list[AttemptTold]
    attempts_left_out: int
    """How many between the first two and the last eight are not kept."""


class Revived(msgspec.Struct, frozen=True):
    """What is sent anew."""

    success: Literal[True]
    message: str
    retried: int
    skipped: dict[Literal["not_found", "not_failed", "expired"], int]
    """How many are not, by the reason."""


class RevivedMany(Revived, frozen=True):
    """The same of many."""

    more: bool
    """Whether there are more that the filter fits."""


class StatusTold(msgspec.Struct, frozen=True):
    """What Meta told of a message."""

    status: str
    at: str
    """When the gateway learnt of it."""
    timestamp: Any
    """Meta's own time, as it came."""
    wamid: str | None
    attempt: int | None
    recipient: Any
    pricing: Any
    conversation: Any
    errors: Any


class EventTold(msgspec.Struct, frozen=True):
    """An event of the log."""

    offset: int
    event: str
    at: str
    data: dict[str, Any]


class DeliveryTold(msgspec.Struct, frozen=True):
    """How a message of ours stands."""

    task_id: str
    message_id: str
    state: str
    attempt: int
    wamids: list[str]
    error: dict[str, Any] | None
    created_at: str
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    played_at: str | None
    ended_at: str | None
    callback_data: str | None
    fallback: bool
    pricing: dict[str, Any] | None


class ThreadMessage(msgspec.Struct, frozen=True):
    """A message in a conversation."""

    position: int
    """Its place, which no other message has."""
    at: str
    direction: Literal["in", "out"]
    from_: Literal["customer", "gateway", "elsewhere"] = msgspec.field(name="from")
    standby: bool
    """Whether it is in a thread that Meta's own agent answers."""
    phone_number_id: str
    """Our number."""
    sender: str | None
    """Within a group: the key of who wrote it."""
    wamid: str | None
    type: str | None
    text: str | None
    message: dict[str, Any] | None
    """Meta's object; null where it was taken back, or is too large to be shown."""
    reply_to: str | None
    """Meta's id of the message that it answers."""
    edited_at: str | None
    revoked_at: str | None
    delivery: DeliveryTold | None
    """Of what the gateway sent."""


class MessageLife(msgspec.Struct, frozen=True):
    """All that is known of a message; what only one of ours has is left out of others."""

    direction: Literal["in", "out"]
    phone_number_id: str
    contact: str
    message: dict[str, Any] | None
    """Of ours Meta's object as it is sent; else as conversations show it."""
    statuses: list[StatusTold]
    replies: list[ThreadMessage]
    """What answers it, among the next two hundred messages."""
    events: list[EventTold]
    wamid: str | UnsetType = UNSET
    message_id: str | UnsetType = UNSET
    task_id: str | UnsetType = UNSET
    to: dict[str, str | None] | UnsetType = UNSET
    state: str | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    wamids: list[str] | UnsetType = UNSET
    error: dict[str, Any] | UnsetType | None = UNSET
    created_at: str | UnsetType = UNSET
    sent_at: str | UnsetType | None = UNSET
    delivered_at: str | UnsetType | None = UNSET
    read_at: str | UnsetType | None = UNSET
    played_at: str | UnsetType | None = UNSET
    ended_at: str | UnsetType | None = UNSET
    callback_data: str | UnsetType | None = UNSET
    fallback: bool | UnsetType = UNSET
    pricing: dict[str, Any] | UnsetType | None = UNSET
    retried: int | UnsetType = UNSET
    doubt: bool | UnsetType = UNSET
    advice: str | UnsetType | None = UNSET
    attempts: list[AttemptTold] | UnsetType = UNSET
    attempts_left_out: int | UnsetType = UNSET


class ConversationTold(msgspec.Struct, frozen=True):
    """How a conversation stands."""

    contact: str
    phone_number_id: str
    name: str | None
    position: int
    """Of its last message."""
    last_at: str
    last_heard_at: str | None
    unread: int
    """Up to 100."""
    last: ThreadMessage | None


class ConversationPage(msgspec.Struct, frozen=True):
    """Those in which something was said last first."""

    conversations: list[ConversationTold]
    next: int | None


class ThreadPage(msgspec.Struct, frozen=True):
    """What was said, the oldest first."""

    contact: str
    messages: list[ThreadMessage]
    older: int | None
    """For `before`; null where this is the beginning."""
    newer: int
    """For `after`, now or once there is more."""


class Marked(msgspec.Struct, frozen=True):
    """What Meta was told of."""

    success: Literal[True]
    contact: str
    phone_number_id: str
    wamid: str
    """The last message of the customer's."""
    position: int


class WindowTold(msgspec.Struct, frozen=True):
    """How the 24-hour window is at one of our numbers."""

    phone_number_id: str
    state: Literal["open", "closed", "unknown"]
    until: str | None
    last_heard_at: str | None


class ContactTold(msgspec.Struct, frozen=True):
    """All that is known of a contact."""

    contact: str
    """Our permanent key."""
    name: str | None
    phones: list[str]
    user_ids: list[str]
    first_heard_at: str | None
    last_heard_at: str | None
    windows: list[WindowTold]
    last_received: ThreadMessage | None
    last_sent: ThreadMessage | None
    preferences: dict[str, Any] | None
    """As Meta told them last."""
    suppression: SuppressionState | None


class ErasureState(msgspec.Struct, frozen=True):
    """How a request to erase a contact stands."""

    erasure: str
    state: Literal["running", "waiting", "done"]
    """``waiting``: for a message to them that is under way, or of which nobody knows whether it left."""
    asked_at: str
    done_at: str | None
    events: int
    """How many were emptied, or had an address blotted out, so far."""
    messages: int
    """How many of ours were removed."""
    files: int


class ErasureAsked(ErasureState, frozen=True):
    """A request to erase a contact, which is durable."""

    success: Literal[True] = True
    message: str = ""


class MediaInfo(msgspec.Struct, frozen=True):
    """What Meta knows of a file."""

    success: Literal[True]
    media_url: str
    mime_type: str | None
    sha256: str | None
    file_size: int | None


class Uploaded(msgspec.Struct, frozen=True):
    """The id of a file."""

    success: Literal[True]
    media_id: str
    reused: bool


class Done(msgspec.Struct, frozen=True):
    """It is done."""

    success: Literal[True]


class TemplatePage(msgspec.Struct, frozen=True):
    """The account's templates."""

    success: Literal[True]
    templates: list[dict[str, Any]]
    fetched_at: str


class Resumed(msgspec.Struct, frozen=True):
    """What may go on."""

    success: Literal[True]
    message: str
    phone_number_ids: list[str]


class HookState(msgspec.Struct, frozen=True):
    """How an outside receiver of events stands."""

    name: str
    kind: Literal["webhook", "websocket"]
    address: str
    """Scheme, host and port; the rest may be secret."""
    state: Literal["running", "failing", "paused"]
    here: bool
    """Whether the process that was asked does the work."""
    connected: bool | None
    """Of a WebSocket, and only where the work is done."""
    position: str
    """It has everything up to here."""
    lag: int
    """Offsets behind the head of the log."""
    behind_since: str | None
    """Since when it has not had everything; known only where the work is done, as what follows the pause."""
    failing_since: str | None
    """It has taken nothing since."""
    last_error: str | None
    paused_at: str | None
    reason: Literal["person", "gone", "refused", "failing"] | None
    """Of the pause."""
    last_taken_at: str | None
    taken: int
    """Events, since the process started."""
    skipped: int


class HookPage(msgspec.Struct, frozen=True):
    """All of them."""

    hooks: list[HookState]


class HookChanged(msgspec.Struct, frozen=True):
    """What was asked is done."""

    success: Literal[True]
    message: str
    hook: HookState


class HookReplayed(HookChanged, frozen=True):
    """Where it goes on."""

    offset: int
    recovered: bool
    """False where events after the position were removed from the log: it goes on with the oldest kept."""


class EventPage(msgspec.Struct, frozen=True):
    """Events of the log, oldest first."""

    events: list[dict[str, Any]]
    next: str
    """The position to go on after, also where there is none."""
    more: bool
    """Whether there is more to read right now."""
    recovered: bool
    """False where events past the position were removed unseen, or the position is of another log."""
    warnings: list[str] | UnsetType = UNSET
    """Which of `types` no event of this version has."""


class SubscriberTold(msgspec.Struct, frozen=True):
    """A name, or a connection without one."""

    name: str | None
    kind: Literal["ws", "sse"]
    connected: bool
    number: int | None
    """Of the connection, in its process; null where it is not at the process that answers."""
    state: Literal["idle", "replaying", "live"] | None
    since: str | None
    process: str | None
    cursor: int
    """Of a name: what it acknowledged last; else what it was given."""
    lag: int
    """Events past the cursor."""
    buffer_bytes: int | None
    filters: dict[str, Any]
    created_at: str | None
    seen_at: str | None
    """Of a name: when it last came, acknowledged, or went."""


class SubscriberPage(msgspec.Struct, frozen=True):
    """Who reads the log."""

    subscribers: list[SubscriberTold]
    next: str | None


class Alive(msgspec.Struct, frozen=True):
    """A word."""

    status: str


class Status(msgspec.Struct, frozen=True):
    """All that there is to see; docs/operations.md has it field by field."""

    status: Literal["healthy", "degraded"]
    services: dict[str, bool]
    trouble: list[dict[str, Any]]
    """What is wrong now, and what to do."""
