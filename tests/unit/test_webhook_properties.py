"""Whatever the bytes are: updates, or one documented error."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.webhooks import SAMPLES, body, entry, message_value, text_message
from whatsapp.envelope import BadPayload
from whatsapp.events import EVENT_TYPES, FROM_CUSTOMERS
from whatsapp.webhook import Update, parse

# The clock of a busy machine says nothing about the parser.
_any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_SAMPLES = [json.loads(path.read_bytes()) for path in sorted(SAMPLES.glob("*.json"))]

# Names that the walk looks at, so that arbitrary JSON gets deep into it.
_NAMES = st.sampled_from(
    [
        *(
            "id",
            "time",
            "changes",
            "field",
            "value",
            "metadata",
            "phone_number_id",
            "contacts",
            "messages",
            "statuses",
        ),
        *(
            "errors",
            "message_echoes",
            "user_actions",
            "wa_id",
            "user_id",
            "from",
            "from_user_id",
            "to",
            "type",
            "text",
        ),
        *(
            "body",
            "system",
            "previous_user_id",
            "status",
            "recipient_id",
            "recipient_type",
            "interactive",
            "edit",
        ),
        *("message", "biz_opaque_callback_data", "recipient_participant_id", "button_reply", "name", "title"),
    ]
)
_WORDS = st.sampled_from(
    [
        *(
            "messages",
            "standby",
            "smb_message_echoes",
            "history",
            "account_update",
            "system",
            "text",
            "interactive",
        ),
        *(
            "user_changed_number",
            "customer_identity_changed",
            "edit",
            "contacts",
            "delivered",
            "sent",
            "group",
            "call",
        ),
        *("wamid.A", "16505551234", "US.1", "0190163d-8694-739b-aea5-966c26f8ad91-17.2", "button_reply", ""),
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
_CHANGES = st.fixed_dictionaries({"field": _WORDS, "value": _VALUES | _JSON})
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
