"""Which events each field of Meta's webhooks becomes (CLOUD_API.md 4.7, CLOUD_API_2026.md 10).

Pure. Owns the two tables: fields that are told as one, and fields whose lists are told item by item. What is
in neither is ``webhook.other``; so is a list that is not in the table, within a field that is. A new field of
Meta's gets its name here, and its section in docs/events.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from whatsapp.events import EventType
from whatsapp.people import listed, preferring, sender
from whatsapp.webhook_items import (
    ECHO_FIELDS,
    ECHOES,
    MESSAGES,
    STANDBY,
    Frame,
    Update,
    read_call,
    read_error,
    read_item,
    read_message,
    read_past,
    read_status,
)

__all__ = ["HISTORY", "MESSAGE_FIELDS", "PARTS", "WHOLE", "Reader"]

Reader = Callable[[Frame, str, Any], Update]
"""Of one item: what stands around it, the name of its list, the item. Raises Unreadable."""

HISTORY = "history"
"""The field, and the list in it, whose items hold threads of messages: ``webhook_history.py``."""

MESSAGE_FIELDS = frozenset({MESSAGES, STANDBY}) | ECHO_FIELDS
"""Fields that hold messages and statuses of now. ``standby`` is what Meta's own agent answers: recorded,
never taken for a message to answer (CLOUD_API_2026.md 6.4), but its statuses settle rows like any other."""

WHOLE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "message_template_status_update",
            "message_template_quality_update",
            "message_template_components_update",
            "template_category_update",
            "template_correct_category_detection",
        ),
        EventType.TEMPLATE_STATUS,
    ),
    **dict.fromkeys(
        (
            "account_update",
            "account_review_update",
            "account_alerts",
            "account_settings_update",
            "business_capability_update",
            "business_username_update",
            "business_username_updates",
            "phone_number_quality_update",
            "phone_number_name_update",
            "partner_solutions",
            "payment_configuration_update",
            "security",
        ),
        EventType.ACCOUNT_UPDATE,
    ),
    "flows": EventType.FLOW_UPDATE,
    "consumer_profile": EventType.CONTACT_PROFILE,
    "messaging_handovers": EventType.STANDBY_HANDOVER,
    "automatic_events": EventType.MARKETING_EVENT,
    "tracking_events": EventType.MARKETING_EVENT,
}
"""The event of a field whose change is told as one."""

_OF_MESSAGES: Mapping[str, Reader] = {
    MESSAGES: read_message,
    ECHOES: read_message,
    "statuses": read_status,
    "errors": read_error,
    "user_actions": partial(read_item, type=EventType.CONTACT_ACTION, person=sender),
}


def _of_groups(type: str) -> Mapping[str, Reader]:
    return {"groups": partial(read_item, type=type), "errors": read_error}


PARTS: Mapping[str, Mapping[str, Reader]] = {
    **dict.fromkeys(MESSAGE_FIELDS, _OF_MESSAGES),
    "calls": {"calls": read_call, "statuses": read_status, "errors": read_error},
    "group_lifecycle_update": _of_groups(EventType.GROUP_LIFECYCLE),
    "group_participants_update": _of_groups(EventType.GROUP_PARTICIPANTS),
    # As Meta's OpenAPI file spells it (CLOUD_API.md 8).
    "group_participant_update": _of_groups(EventType.GROUP_PARTICIPANTS),
    "group_settings_update": _of_groups(EventType.GROUP_SETTINGS),
    "group_status_update": _of_groups(EventType.GROUP_STATUS),
    "user_preferences": {
        "user_preferences": partial(read_item, type=EventType.CONTACT_PREFERENCES, person=preferring),
    },
    "smb_app_state_sync": {
        "state_sync": partial(read_item, type=EventType.CONTACT_SYNCED, person=listed),
    },
    # The files that belong to messages told before come as messages of their own.
    HISTORY: {MESSAGES: read_past, "errors": read_error},
}
"""Who reads the items of each list of a field."""
