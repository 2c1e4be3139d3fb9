"""Whatever the bytes are: updates, or one documented error."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.webhooks import (
    CONTACT,
    PHONE,
    SAMPLES,
    USER_ID,
    body,
    entry,
    message_value,
    status,
    system_message,
    text_message,
)
from whatsapp.envelope import BadPayload
from whatsapp.events import EVENT_TYPES, FROM_CUSTOMERS
from whatsapp.webhook import MAX_UPDATES, Update, parse
from whatsapp.webhook_fields import PARTS, WHOLE

# The clock of a busy machine says nothing about the parser.
_any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_CALL = {"id": "wacid.A", "event": "connect", "direction": "USER_INITIATED", "from": PHONE, "timestamp": "1"}
_RINGING = status("RINGING", type="call")
_THREAD = {
    "id": PHONE,
    "context": {"user_id": USER_ID},
    "messages": [text_message(), text_message("wamid.B")],
}
_PART = {"metadata": {"phase": 0}, "threads": [_THREAD]}
_LISTED = {"action": "add", "contact": {"phone_number": PHONE}}
_MADE = [
    entry(message_value(calls=[_CALL], statuses=[_RINGING], contacts=[CONTACT]), "calls"),
    entry(message_value(history=[_PART], errors=[{}]), "history"),
    entry(message_value(user_preferences=[{"wa_id": PHONE, "value": "stop"}]), "user_preferences"),
    entry(message_value(state_sync=[_LISTED]), "smb_app_state_sync"),
    entry(message_value(message_echoes=[text_message(to=PHONE)], statuses=[status()]), "standby"),
    entry(message_value(messages=[system_message("user_changed_number", wa_id="12195555358")])),
]
"""Of what Meta gives no sample of."""
_SAMPLES = [json.loads(path.read_bytes()) for path in sorted(SAMPLES.glob("*.json"))]
_SAMPLES += [json.loads(body(made)) for made in _MADE]

# Names and words that the walk looks at, so that arbitrary JSON gets deep into it.
_NAMES = st.sampled_from(
    """id time changes field value metadata phone_number_id display_phone_number contacts messages statuses
    errors message_echoes user_actions calls groups user_preferences state_sync history threads context
    contact phone_number wa_id user_id from from_user_id to to_user_id type text body system previous_user_id
    status recipient_id recipient_type recipient_participant_id interactive button_reply edit revoke message
    event direction timestamp biz_opaque_callback_data name title vcard""".split()
)
_WORDS = st.sampled_from(
    [
        *PARTS,
        *WHOLE,
        *"""system text interactive edit revoke contacts media_placeholder user_changed_number
        customer_identity_changed delivered sent failed group call payment connect terminate
        BUSINESS_INITIATED wamid.A 16505551234 1749416383 US.1 button_reply""".split(),
        "0190163d-8694-739b-aea5-966c26f8ad91-17.2",
        "",
    ]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | _WORDS
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | st.text(), inner, max_size=6),
    max_leaves=40,
)
_VALUES = st.dictionaries(
    _NAMES, _JSON | st.lists(st.dictionaries(_NAMES, _JSON, max_size=6), max_size=3), max_size=6
)
_FIELDS = st.sampled_from([*PARTS, *WHOLE])
_CHANGES = st.fixed_dictionaries({"field": _FIELDS | _WORDS, "value": _VALUES | _JSON})
_ENTRIES = st.fixed_dictionaries(
    {"changes": st.lists(_CHANGES | _JSON, max_size=3)}, optional={"id": _JSON, "time": _JSON}
)


def _check(updates: list[Update]) -> None:
    """What must hold of any updates, whatever they came from."""
    for update in updates:
        msgspec.json.encode(update.data)
        assert update.key and len(update.key) <= 512
        assert update.type in EVENT_TYPES
        assert update.inbound == (update.type in FROM_CUSTOMERS)
        assert update.address.phone == "" or update.address.phone.isdigit()
        assert bool(update.message_id) == (update.data.get("message_id") is not None)


@_any_speed
@given(st.binary())
def test_any_bytes_give_updates_or_one_error(raw: bytes) -> None:
    try:
        updates = parse(raw)
    except BadPayload:
        return
    _check(updates)


@_any_speed
@given(st.data())
def test_a_body_with_some_bytes_changed_gives_updates_or_one_error(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(data.draw(st.sampled_from(_SAMPLES))).encode())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        updates = parse(bytes(raw))
    except BadPayload:
        return
    _check(updates)


_TEXTS = st.sampled_from(
    [
        rb'"\ud83d"',
        rb'"a\ude00\ud83d\\ud83d"',
        b'"\xff\xed\xa0\xbd"',
        b'"\xc3\xa9"',
        rb'"\u0000"',
        b'"' + b"x" * 3000 + b'"',
    ]
)
_ODD = _TEXTS | st.sampled_from(
    [b"NaN", b"-Infinity", b"1e999", b"-1.5e4000", b"9" * 500, b"1" * 5000, b"-0", b"18446744073709551616"]
)
_RAW_NAMES = _NAMES.map(lambda name: json.dumps(name).encode()) | _TEXTS
_RAW_JSON = st.recursive(
    _ODD | _SCALARS.map(lambda value: json.dumps(value).encode()),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"[" + b",".join(items) + b"]")
        # Names may stand twice.
        | st.lists(st.tuples(_RAW_NAMES, inner), max_size=5).map(
            lambda pairs: b"{" + b",".join(b":".join(pair) for pair in pairs) + b"}"
        )
    ),
    max_leaves=25,
)


@_any_speed
@given(_FIELDS, st.lists(_RAW_JSON, min_size=1, max_size=3), st.data())
def test_what_json_libraries_fall_out_over_gives_updates_or_one_error(
    field: str, odd: list[bytes], data: st.DataObject
) -> None:
    part = data.draw(st.sampled_from([*PARTS.get(field, ()), "messages", "history", "threads"]))
    value = message_value(**{part: ["@@", {"threads": ["@@"], "type": "@@", "id": "@@"}]}, contacts=["@@"])
    raw = body(entry(value, field), entry(message_value(messages=[text_message("wamid.good")])))
    head, *rest = raw.split(b'"@@"')
    for piece in rest:
        head += data.draw(st.sampled_from(odd)) + piece
    try:
        updates = parse(head)
    except BadPayload:
        return
    _check(updates)
    assert updates[-1].key == "in:messages:wamid.good"


@_any_speed
@given(st.lists(_ENTRIES | _JSON, max_size=4))
def test_any_json_inside_the_envelope_gives_updates(entries: list[Any]) -> None:
    updates = parse(body(*entries))
    _check(updates)
    assert [update.key for update in parse(body(*entries))] == [update.key for update in updates]


@_any_speed
@given(st.lists(_ENTRIES | _JSON, max_size=4))
def test_nothing_inside_the_envelope_costs_its_neighbours(entries: list[Any]) -> None:
    good = entry(message_value(messages=[text_message("wamid.good")]))
    updates = parse(body(good, *entries, good))
    alone = parse(body(good))
    assert updates[0] == updates[-1] == alone[0]


@_any_speed
@given(st.lists(_JSON, max_size=3), st.lists(_JSON, max_size=3))
def test_no_list_costs_the_message_beside_it(before: list[Any], after: list[Any]) -> None:
    messages = [*before, text_message("wamid.good"), *after]
    value = message_value(
        errors=before, statuses=after, messages=messages, contacts=before, user_actions=after
    )
    updates = parse(body(entry(value)))
    _check(updates)
    assert [u.data["message"] for u in updates if u.key == "in:messages:wamid.good"] == [
        text_message("wamid.good")
    ]


@_any_speed
@given(st.integers(0, 2**32), st.lists(_JSON, min_size=1, max_size=4))
def test_a_mutated_sample_costs_the_messages_beside_it_nothing(seed: int, replacements: list[Any]) -> None:
    chance = random.Random(seed)
    mutated = [_mutate(sample["entry"][0], chance, replacements) for sample in chance.sample(_SAMPLES, 3)]
    untouched = [entry(message_value(messages=[text_message(f"wamid.good{n}")])) for n in range(4)]
    entries = [untouched[0], mutated[0], untouched[1], mutated[1], untouched[2], mutated[2], untouched[3]]
    updates = parse(body(*entries))
    _check(updates)
    good = [update for update in updates if update.key.startswith("in:messages:wamid.good")]
    assert good == [update for each in untouched for update in parse(body(each))]


@_any_speed
@given(st.integers(0, 2**32), st.lists(_JSON, min_size=1, max_size=4))
def test_a_mutated_message_costs_those_in_its_list_nothing(seed: int, replacements: list[Any]) -> None:
    chance = random.Random(seed)
    originals = [
        sample["entry"][0]["changes"][0]["value"]["messages"][0]
        for sample in _SAMPLES
        if "messages" in sample["entry"][0]["changes"][0]["value"]
    ]
    messages: list[Any] = [_mutate(each, chance, replacements) for each in originals]
    for n in range(0, len(messages), 2):
        messages[n] = text_message(f"wamid.good{n}")
    updates = parse(body(entry(message_value(messages=messages))))
    _check(updates)
    assert len(updates) == len(messages)
    for n in range(0, len(messages), 2):
        assert updates[n].data["message"] == text_message(f"wamid.good{n}")
        assert updates[n].type == "message.received"


def _mutate(root: Any, chance: random.Random, replacements: list[Any]) -> Any:
    """A copy with one to three of its sub-values removed or replaced; the root itself may be replaced too."""
    root = [copy.deepcopy(root)]
    for _ in range(chance.randint(1, 3)):
        holder, key = chance.choice(list(_places(root)))
        if holder is not root and chance.random() < 0.4:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(chance.choice(replacements))
    return root[0]


def _places(holder: Any) -> Any:
    """Every (container, key) in a tree."""
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


# -- bodies that are made to cost more than they weigh -------------------------------------------------------

_MIB = 1024 * 1024
_MANY = 4 * _MIB // 3
_HEAD = b'{"object":"whatsapp_business_account","entry":['


def _change(field: str, value: bytes) -> bytes:
    return _HEAD + b'{"id":"1","changes":[{"field":"%s","value":%s}]}]}' % (field.encode(), value)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_HEAD + b"0," * _MANY + b"0]}", id="entries"),
        pytest.param(_HEAD + b'{"changes":[' + b"0," * _MANY + b"0]}]}", id="changes"),
        pytest.param(_change("messages", b'{"messages":[' + b"{}," * (_MANY // 2) + b"{}]}"), id="messages"),
        pytest.param(_change("messages", b'{"contacts":[' + b"0," * _MANY + b"0]}"), id="contacts"),
        pytest.param(
            _change("messages", b'{"' + b"n" * _MIB + b'":[' + b"0," * _MIB + b"0]}"), id="a long name"
        ),
        pytest.param(_change("calls", b'{"calls":[' + b"{}," * _MIB + b"{}]}"), id="calls"),
        pytest.param(
            _change("history", b'{"history":[{"threads":[{"messages":[' + b"0," * _MANY + b"0]}]}]}"),
            id="history",
        ),
    ],
)
def test_more_updates_than_meta_can_send_are_refused(raw: bytes) -> None:
    assert len(raw) < 6 * _MIB
    with pytest.raises(BadPayload, match=str(MAX_UPDATES)):
        parse(raw)


def test_as_many_as_may_be_are_taken() -> None:
    assert len(parse(_HEAD + b"0," * (MAX_UPDATES - 1) + b"0]}")) == MAX_UPDATES


def test_names_and_ids_of_any_length_are_not_multiplied() -> None:
    long = b"9" * (_MIB // 2)
    value = b'{"metadata":{"phone_number_id":"%s"},"%s":[%s0]}' % (long, long, b"0," * 20_000)
    updates = parse(
        _HEAD + b'{"id":"%s","time":"%s","changes":[{"field":"messages","value":%s}]}]}' % (long, long, value)
    )
    assert len(updates) == 20_001
    assert {update.phone_number_id for update in updates} == {""}
    assert all(len(update.key) <= 512 for update in updates)
