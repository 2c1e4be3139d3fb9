"""One event of each name, made by the code that makes it for subscribers: the examples of docs/events.md.

Owns what goes into them. A new event gets its example here, and its section on the page.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from hub import hook_events
from hub.delivery import Record
from store.log import Log
from store.records import NewEvent, Subscriber, Suppression
from store.states import State
from store.threads import Said
from tests.support.rows import LANE, TASK, make_row, make_task, make_view
from tests.support.webhooks import PHONE, USER_ID, body, entry, system_message, text_message
from whatsapp.autoreply import Automation, _handover, _limited, failed_event
from whatsapp.contacts import Merge, merged
from whatsapp.erasure_rules import _emptied, erased_event
from whatsapp.errors import GraphError, classify
from whatsapp.events import EventType, RowRef, build_event
from whatsapp.identity_rules import place
from whatsapp.lanes import Lanes
from whatsapp.opt_out import OPTED_OUT, PREFERENCE, WORD, event_of
from whatsapp.outbox import _task_created
from whatsapp.outcome import (
    cancelled,
    died,
    doubled,
    expired,
    kept_error,
    refused,
    taken,
)
from whatsapp.read_marks import _read
from whatsapp.requeue import _task_retried
from whatsapp.resuming import Resuming
from whatsapp.retention import overtaken
from whatsapp.retry import RetryPolicy
from whatsapp.rules import Conditions, Matched, Rule
from whatsapp.tracker import _completed
from whatsapp.webhook import parse

__all__ = ["examples"]

Json = dict[str, Any]

_NOW = 1_795_524_415_516
_SAID = "1795524415"
_METADATA = {"display_phone_number": "15550783881", "phone_number_id": LANE}
_CONTACT = {"profile": {"name": "Ann", "username": "ann.1"}, "wa_id": PHONE, "user_id": USER_ID}
_GROUP = "Y2FwaV9ncm91cDox"
_TEMPLATE = {
    "message_template_id": 1689556908129832,
    "message_template_name": "order_update",
    "message_template_language": "es",
}
_POLICY = RetryPolicy(max_attempts=8)
_ROW = make_row(0, state=State.SENDING, attempt=1, contact=PHONE, callback_data="order-7")
_ANSWER = {
    "messaging_product": "whatsapp",
    "contacts": [{"input": f"+{PHONE}", "wa_id": PHONE}],
    "messages": [{"id": "wamid.OUT1", "message_status": "accepted"}],
}


def examples() -> dict[str, NewEvent]:
    """By name."""
    made = [
        *_of_messages(),
        *_of_statuses(),
        *_of_rows(),
        *_of_tasks(),
        *_of_fields(),
        *_of_operators(),
        *_of_opt_outs(),
        *_of_rules(),
    ]
    found = {event.type: event for event in made}
    assert len(found) == len(made), "two examples of one name"
    return found


# -- what came by a webhook --------------------------------------------------------------------------------


def _told(field: str, value: Any, **fields: Any) -> list[NewEvent]:
    """As the intake has it in the log, from contacts that it meets for the first time."""
    return [
        build_event(
            update.type,
            update.key,
            _NOW,
            update.data,
            phone_number_id=update.phone_number_id,
            contact=place({}, update.address)[0] if update.address else "",
        )
        for update in parse(body(entry(value, field, **fields)))
    ]


def _value(**parts: Any) -> Json:
    return {"messaging_product": "whatsapp", "metadata": _METADATA, **parts}


def _message(wamid: str, **content: Any) -> Json:
    said = {"timestamp": _SAID, "from_user_id": USER_ID}
    return text_message(wamid, **({"text": None, **said, **content} if "type" in content else said | content))


def _of_messages() -> list[NewEvent]:
    edit = {"original_message_id": "wamid.IN1", "message": {"type": "text", "text": {"body": "two, please"}}}
    revoke = {"original_message_id": "wamid.IN1"}
    ours = {"from": "15550783881", "to": PHONE, "from_user_id": None}
    past = {**_message("wamid.OLD1", text="is it open?"), "history_context": {"status": "READ"}}
    note = system_message("group_renamed", body="Ann renamed the group")
    moved = system_message(
        "user_changed_number",
        wa_id="12195555358",
        user_id="US.24680",
        previous_user_id=USER_ID,
        body="Ann changed from 16505551234 to 12195555358",
    )
    part = {
        "metadata": {"phase": 0, "chunk_order": 1, "progress": 100},
        "threads": [{"id": PHONE, "context": {"user_id": USER_ID}, "messages": [past]}],
    }
    return [
        *_told("messages", _value(contacts=[_CONTACT], messages=[_message("wamid.IN1", text="one, please")])),
        *_told(
            "messages", _value(contacts=[_CONTACT], messages=[_message("wamid.IN2", type="edit", edit=edit)])
        ),
        *_told(
            "messages",
            _value(contacts=[_CONTACT], messages=[_message("wamid.IN3", type="revoke", revoke=revoke)]),
        ),
        *_told(
            "smb_message_echoes", _value(message_echoes=[_message("wamid.APP1", text="on my way", **ours)])
        ),
        *_told("messages", _value(messages=[note | {"id": "wamid.SYS1", "timestamp": _SAID}])),
        *_told("messages", _value(messages=[moved | {"id": "wamid.SYS2", "timestamp": _SAID}])),
        *_told("history", _value(history=[part])),
        *_told("standby", _value(messages=[_message("wamid.IN4", text="when do you open?")])),
        merged(Merge(PHONE, USER_ID), _NOW),
        *_told("standby", _value(message_echoes=[_message("wamid.BOT1", text="at nine", **ours)])),
    ]


def _of_statuses() -> list[NewEvent]:
    def status(name: str, **fields: Any) -> Json:
        reference = str(RowRef(_ROW.id, 1, True))
        return {
            "id": "wamid.OUT1",
            "status": name,
            "timestamp": _SAID,
            "recipient_id": PHONE,
            "biz_opaque_callback_data": reference,
            **fields,
        }

    pricing = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "utility"}
    failed = [{"code": 131049, "title": "not delivered", "error_data": {"details": "limit of the user"}}]
    call = {"id": "wacid.A", "type": "call", "status": "RINGING", "timestamp": _SAID, "recipient_id": PHONE}
    payment = {"id": "wamid.OUT2", "type": "payment", "status": "captured", "payment": {"reference_id": "7"}}
    return [
        event
        for field, statuses in (
            (
                "messages",
                [
                    status("sent"),
                    status("delivered", pricing=pricing),
                    status("read"),
                    status("played"),
                    status("failed", errors=failed),
                    payment | {"timestamp": _SAID, "recipient_id": PHONE},
                ],
            ),
            ("calls", [call]),
        )
        for event in _told(field, _value(statuses=statuses))
    ]


def _of_fields() -> list[NewEvent]:
    call = {"id": "wacid.A", "from": PHONE, "from_user_id": USER_ID, "to": "15550783881", "timestamp": _SAID}
    call |= {"direction": "USER_INITIATED"}
    calls = [
        {**call, "event": "connect", "session": {"sdp_type": "offer", "sdp": "v=0 ..."}},
        {**call, "event": "terminate", "status": "COMPLETED", "duration": 41},
        {**call, "event": "transfer"},
    ]
    group = {"timestamp": _SAID, "group_id": _GROUP}
    joined = [{"wa_id": PHONE, "user_id": USER_ID}]
    preference = {
        "wa_id": PHONE,
        "user_id": USER_ID,
        "detail": "User requested to stop marketing messages",
        "category": "marketing_messages",
        "value": "stop",
        "timestamp": int(_SAID),
    }
    listed = {
        "type": "contact",
        "contact": {"full_name": "Ann Smith", "first_name": "Ann", "phone_number": PHONE},
        "action": "add",
        "metadata": {"timestamp": _SAID},
    }
    click = {
        "from": PHONE,
        "action_type": "marketing_messages_link_click",
        "marketing_messages_link_click_data": {"click_component": "cta", "tracking_token": "t"},
    }
    flow = {"event": "FLOW_STATUS_CHANGE", "flow_id": "12", "old_status": "DRAFT", "new_status": "PUBLISHED"}
    paused = {"event": "PAUSED", **_TEMPLATE, "reason": None, "other_info": {"title": "FIRST_PAUSE"}}
    quality = {"display_phone_number": "15550783881", "event": "THROUGHPUT_UPGRADE"}
    error = {"code": 131000, "title": "Something went wrong"}
    at = {"time": int(_SAID)}
    return [
        *_told("user_preferences", _value(contacts=[_CONTACT], user_preferences=[preference])),
        *_told("messages", _value(contacts=[_CONTACT], user_actions=[click])),
        *_told("smb_app_state_sync", _value(state_sync=[listed])),
        *_told("consumer_profile", {"what": "as Meta sends it"}, **at),
        *_told("calls", _value(calls=calls)),
        *_told(
            "group_lifecycle_update", _value(groups=[{**group, "type": "group_create", "subject": "Trip"}])
        ),
        *_told(
            "group_participants_update",
            _value(groups=[{**group, "type": "group_participants_add", "added_participants": joined}]),
        ),
        *_told(
            "group_settings_update",
            _value(groups=[{**group, "type": "group_settings_update", "group_subject": {"text": "Trip 2"}}]),
        ),
        *_told("group_status_update", _value(groups=[{**group, "type": "group_suspend"}])),
        *_told("messaging_handovers", {"what": "as Meta sends it"}, **at),
        *_told("flows", flow, **at),
        *_told("automatic_events", {"what": "as Meta sends it"}, **at),
        *_told("message_template_status_update", paused, **at),
        *_told("phone_number_quality_update", quality, **at),
        *_told("messages", _value(errors=[error])),
        *_told("field_of_next_year", {"what": "as Meta sends it"}, **at),
        *_told("messages", _value(messages=["no message"])),
    ]


# -- what became of what we send ---------------------------------------------------------------------------


def _of_rows() -> list[NewEvent]:
    busy = GraphError(
        code=131016, http_status=500, from_graph=True, title="Service unavailable", fbtrace_id="A1b2"
    )
    later = refused(_ROW, 1, busy, classify(busy), _POLICY, lambda: 0.5, _NOW)
    silent = GraphError()
    unknown = refused(_ROW, 1, silent, classify(silent), _POLICY, lambda: 0.5, _NOW)
    over = make_view(make_row(0, state=State.FAILED, attempt=8, contact=PHONE, callback_data="order-7"))
    over = msgspec.structs.replace(over, error=kept_error(_error_of(later.event))["error"], ended_at=_NOW)
    _, sent = taken(_ROW, "wamid.OUT1", msgspec.json.encode(_ANSWER), _NOW)
    made = [
        sent,
        died(over),
        later.event,
        unknown.event,
        doubled(_ROW, ["wamid.OUT1", "wamid.OUT2"], _NOW),
        expired(_ROW, _NOW).event,
        cancelled(_ROW, _NOW).event,
    ]
    return [event for event in made if event is not None]


def _error_of(event: NewEvent | None) -> Json:
    assert event is not None
    error: Json = msgspec.json.decode(event.body)["data"]["error"]
    return error


def _of_tasks() -> list[NewEvent]:
    done = make_task({State.READ: 1, State.DELIVERED: 1}, created_at=_NOW)
    task = msgspec.structs.replace(done.task, total=2)
    return [
        _task_created(task, LANE),
        _task_retried(TASK, LANE, 1, _NOW),
        _completed(done, _NOW),
        _read("wamid.IN1", Said(7, PHONE, LANE, _NOW, "in"), _NOW + 1000),
    ]


def _of_operators() -> list[NewEvent]:
    failing = Record(failing_since=_NOW - 86_400_000, refused_since=_NOW - 3_600_000, why="HTTP 422")
    refused_event = _told("messages", _value(messages=[text_message()]))[0].placed(1042, 1041)
    resuming = Resuming(cast(Log, None), cast(Lanes, None), now_ms=lambda: _NOW)
    return [
        resuming._event(EventType.TEMPLATE_RESUMED, "1", {"name": "order_update", "language": "es"}),
        resuming._event(EventType.NUMBER_RESUMED, "1", {}, LANE),
        hook_events.paused("crm", "2", "failing", failing, 1041, _NOW),
        hook_events.resumed("crm", "3", 1041, _NOW),
        hook_events.replayed("crm", "4", 1041, 1000, _NOW),
        hook_events.skipped("crm", "5", refused_event, failing, _NOW),
        erased_event("0d9c1a52-3a9e-4f0e-9d52-5b3c1b3f1f0a", "5f1d", [PHONE, USER_ID], ["4711"], _NOW),
        _emptied(refused_event),
        overtaken(Subscriber("dashboard", 1042, b"", 0, _NOW - 36 * 86_400_000, "", ""), 2100, _NOW),
    ]


def _of_opt_outs() -> list[NewEvent]:
    begun = Suppression(PHONE, _NOW, 0, OPTED_OUT, WORD, "STOP")
    ended = msgspec.structs.replace(begun, until=_NOW + 86_400_000)
    return [event_of(begun, _NOW, LANE), event_of(ended, ended.until, LANE, PREFERENCE)]


def _of_rules() -> list[NewEvent]:
    said = build_event(
        EventType.MESSAGE_RECEIVED, "in:messages:wamid.IN1", _NOW, {}, phone_number_id=LANE, contact=PHONE
    ).placed(4711, 4710)
    matched = Matched(Rule("orders", Conditions()), ("order 77", "77"))
    away = failed_event(said, "orders", "hand_over", "shop: HTTP 503", _NOW)
    automation = Automation(matched.rule, hand_over="shop")
    return [_handover(said, automation, matched, _NOW), away, _limited(said, "orders", _NOW)]
