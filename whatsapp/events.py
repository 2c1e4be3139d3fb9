"""The events of the log: their names, and how one is built.

Owns the shape of an event's body, which is what subscribers get (contract.md, Part 2)::

    {"event": "message.received", "at": "2026-11-24T08:07:08.123Z", "phone_number_id": "...", "contact":
    "...",
     "data": {...}}

and the reference to an outbox row that travels in ``biz_opaque_callback_data`` (CLOUD_API.md 1.1):
``<row>.<attempt>``, where a row's id is ``<task id>-<n>``, and a ``+`` where its caller's data is to be told
with what comes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from store.records import NewEvent

__all__ = [
    "CALLS",
    "EVENT_TYPES",
    "FROM_CUSTOMERS",
    "INBOUND_KEY",
    "STATUS_KEY",
    "UPDATE_KEY",
    "WEBHOOK_KEYS",
    "EventType",
    "RowRef",
    "build_event",
    "rfc3339",
    "task_key",
    "task_of",
    "task_of_key",
    "unknown_types",
]


class EventType:
    """The names that subscribers see."""

    MESSAGE_RECEIVED = "message.received"
    MESSAGE_EDITED = "message.edited"
    """A customer changed what they had written. In older logs it is ``message.received``."""
    MESSAGE_REVOKED = "message.revoked"
    """A customer took back what they had written. In older logs it is ``message.received``."""
    MESSAGE_ECHO = "message.echo"
    MESSAGE_SYSTEM = "message.system"
    """A note of the system's that is not about who the customer is."""
    MESSAGE_STATUS = "message.status"
    """A status of Meta's that has no name of its own here; ``sent`` among them, since ``message.sent`` is
    told once a row, at the first proof."""
    MESSAGE_SENT = "message.sent"
    MESSAGE_DELIVERED = "message.delivered"
    MESSAGE_READ = "message.read"
    MESSAGE_PLAYED = "message.played"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_DEAD = "message.dead"
    """A row has failed, and nothing but a person has it sent again."""
    MESSAGE_RETRYING = "message.retrying"
    MESSAGE_UNKNOWN = "message.unknown"
    MESSAGE_DOUBLED = "message.doubled"
    """Meta gave a second id for one row: the recipient may have it twice."""
    MESSAGE_EXPIRED = "message.expired"
    MESSAGE_CANCELLED = "message.cancelled"
    TASK_CREATED = "task.created"
    TASK_RETRIED = "task.retried"
    """Rows of it that had failed are queued again."""
    TASK_COMPLETED = "task.completed"
    CONVERSATION_READ = "conversation.read"
    """Meta was told that a customer's message, and all before it, was read."""
    CONTACT_CHANGED = "contact.changed"
    CONTACT_MERGED = "contact.merged"
    """Two contacts turned out to be one person."""
    CONTACT_PREFERENCES = "contact.preferences"
    """A customer stopped or resumed marketing messages, or signed up."""
    CONTACT_ACTION = "contact.action"
    """A customer did something with a message, such as following its link."""
    CONTACT_SYNCED = "contact.synced"
    """An entry of the Business app's address book came or went."""
    CONTACT_PROFILE = "contact.profile"
    CALL_CONNECTED = "call.connected"
    CALL_TERMINATED = "call.terminated"
    CALL_UPDATE = "call.update"
    """Something about a call that has no name of its own here."""
    CALL_STATUS = "call.status"
    """It rings, was accepted or rejected."""
    GROUP_LIFECYCLE = "group.lifecycle"
    GROUP_PARTICIPANTS = "group.participants"
    GROUP_SETTINGS = "group.settings"
    GROUP_STATUS = "group.status"
    HISTORY_MESSAGE = "history.message"
    """One from before the number was connected: nothing to answer."""
    HISTORY_PROGRESS = "history.progress"
    """A part of the history has been told."""
    STANDBY_MESSAGE = "standby.message"
    """A customer wrote in a thread that Meta's own agent answers."""
    STANDBY_ECHO = "standby.echo"
    """The answer in such a thread."""
    STANDBY_HANDOVER = "standby.handover"
    """Who answers a thread from now on."""
    PAYMENT_STATUS = "payment.status"
    FLOW_UPDATE = "flow.update"
    MARKETING_EVENT = "marketing.event"
    CONTACT_SUPPRESSED = "contact.suppressed"
    """Somebody opted out, or was blocked: broadcasts pass them over from now on."""
    CONTACT_RESTORED = "contact.restored"
    """They came back."""
    AUTOMATION_HANDOVER = "automation.handover"
    """A rule has a customer's message handed over to a program of the operator's."""
    AUTOMATION_FAILED = "automation.failed"
    """A rule could not do what it should."""
    AUTOMATION_LIMITED = "automation.limited"
    """A contact was answered too often within a minute: a rule was passed over."""
    CONTACT_ERASED = "contact.erased"
    """All that was kept of somebody is gone."""
    EVENT_ERASED = "event.erased"
    """What stands in the place of an event about somebody who was erased."""
    TEMPLATE_STATUS = "template.status"
    TEMPLATE_RESUMED = "template.resumed"
    """A person says that Meta takes it again."""
    NUMBER_RESUMED = "number.resumed"
    """A person says that it may go on."""
    ACCOUNT_UPDATE = "account.update"
    HOOK_PAUSED = "hook.paused"
    """An outside receiver gets nothing until a person has it go on."""
    HOOK_RESUMED = "hook.resumed"
    HOOK_REPLAYED = "hook.replayed"
    """A person has it go on from another place."""
    HOOK_SKIPPED = "hook.skipped"
    """It did not get what it was to get."""
    SUBSCRIBER_OVERTAKEN = "subscriber.overtaken"
    """Events were removed by age that a subscriber with a name had not acknowledged."""
    WEBHOOK_ERROR = "webhook.error"
    """Meta reports an error that belongs to no message."""
    WEBHOOK_OTHER = "webhook.other"
    """An update of a field that has no name of its own here, passed on unchanged."""
    WEBHOOK_UNPARSED = "webhook.unparsed"
    """A part of a webhook that could not be understood, kept as it came."""


EVENT_TYPES: tuple[str, ...] = tuple(
    value for name, value in vars(EventType).items() if not name.startswith("_")
)
"""All of them, in the order above."""

CALLS = frozenset(
    {EventType.CALL_CONNECTED, EventType.CALL_TERMINATED, EventType.CALL_UPDATE, EventType.CALL_STATUS}
)
"""What is about calls, which open the window like words do."""

FROM_CUSTOMERS = frozenset({EventType.MESSAGE_RECEIVED, EventType.MESSAGE_EDITED, EventType.MESSAGE_REVOKED})
"""What a customer has said to us: it opens the window, and counts against the number's throughput."""

STATUS_KEY = "st:"
"""What the keys of Meta's statuses begin with."""
INBOUND_KEY = "in:"
"""The same of messages that have an id."""
UPDATE_KEY = "up:"
"""The same of whatever else came by a webhook."""
WEBHOOK_KEYS = (INBOUND_KEY, STATUS_KEY, UPDATE_KEY)


class RowRef(NamedTuple):
    """One attempt at one row, as it travels through Meta and back."""

    row_id: str
    attempt: int
    has_data: bool = False
    """Whether the row has ``callback_data``: what comes back looks it up only then."""

    def __str__(self) -> str:
        return f"{self.row_id}.{self.attempt}{'+' if self.has_data else ''}"

    @classmethod
    def parse(cls, text: object) -> RowRef | None:
        """The reference in a status's ``biz_opaque_callback_data``; None if it is not one of ours."""
        if not isinstance(text, str) or (match := _ROW_REF.fullmatch(text)) is None:
            return None
        return cls(match[1], int(match[2]), bool(match[3]))


_ROW_REF = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-[0-9]{1,9})\.([0-9]{1,6})(\+?)", re.ASCII
)


def task_of(row_id: str) -> str:
    """The id of the task that a row belongs to."""
    return row_id.rpartition("-")[0]


def place_of(row_id: str) -> int:
    """The ``n`` of a row in its task."""
    return int(row_id.rpartition("-")[2])


def task_key(task_id: str, what: str) -> str:
    """Key of an event about a task."""
    return f"task:{task_id}:{what}"


def task_of_key(key: str) -> str:
    """The id of the task that a key of :func:`task_key` is about."""
    return key.split(":", 2)[1]


def rfc3339(at: int) -> str:
    """A time in milliseconds as subscribers and callers read it, in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unknown_types(wanted: Iterable[str]) -> list[str]:
    """Those of a subscriber's types, each a name, ``message.*`` or ``*``, that no event can be of."""
    return [one for one in dict.fromkeys(wanted) if not any(_fits(type, one) for type in EVENT_TYPES)]


def _fits(type: str, wanted: str) -> bool:
    return type.startswith(wanted[:-1]) if wanted.endswith("*") else type == wanted


def build_event(
    type: str,
    key: str,
    at: int,
    data: dict[str, Any],
    *,
    phone_number_id: str = "",
    contact: str = "",
    message_id: str = "",
) -> NewEvent:
    """An event ready for the log, its body encoded once for everybody who will ever read it."""
    body = {
        "event": type,
        "at": rfc3339(at),
        "phone_number_id": phone_number_id or None,
        "contact": contact or None,
        "data": data,
    }
    return NewEvent(
        key=key,
        type=type,
        at=at,
        body=msgspec.json.encode(body),
        phone_number_id=phone_number_id,
        contact=contact,
        message_id=message_id,
    )
