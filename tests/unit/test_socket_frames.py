"""What clients send on /ws is a request, or refused with a sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.socket_frames import Ack, Auth, BadFrame, Ping, Request, Send, Subscribe, decode


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ('{"op":"ping"}', Ping()),
        ('{"op":"auth","token":"t"}', Auth("t")),
        ('{"op":"ack","offset":4}', Ack(4)),
        ('{"op":"subscribe"}', Subscribe()),
        (
            '{"op":"subscribe","types":["a"],"since":null,"contact":"+34 600"}',
            Subscribe(("a",), contact="+34 600"),
        ),
        ('{"op":"subscribe","types":"a, b","since":3}', Subscribe("a, b", since=3)),
        ('{"op":"subscribe","subscriber":"crm"}', Subscribe(subscriber="crm")),
        (
            '{"op":"send","id":"x","to":"1","text":{"body":"b"}}',
            Send("x", {"to": "1", "text": {"body": "b"}}),
        ),
        ('{"op":"send","id":7}', Send(7, {})),
    ],
)
def test_requests(text: str, request_: Request) -> None:
    assert decode(text) == request_


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b'{"op":"ping"}', "binary"),
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 60_000, "JSON"),
        ("[]", "object"),
        ("null", "object"),
        ("{}", "op must be one of ping, auth, ack, subscribe, send"),
        ('{"op":"open"}', "op must"),
        ('{"op":["ping"]}', "op must"),
        ('{"op":"ping","x":1}', "ping: x: is not known"),
        ('{"op":"auth"}', "auth: token: is required"),
        ('{"op":"ack"}', "ack: offset: is required"),
        ('{"op":"ack","offset":"4"}', "ack: offset: must be a whole number, got text"),
        ('{"op":"ack","offset":true}', "ack: .*offset"),
        ('{"op":"ack","offset":1e999}', "JSON|ack: "),
        ('{"op":"subscribe","types":[1]}', "subscribe: .*types"),
        ('{"op":"subscribe","since":true}', "subscribe: .*since"),
        ('{"op":"subscribe","filter":"a"}', "subscribe: filter: is not known"),
        ('{"op":"subscribe","type":"a"}', "subscribe: type: is not known; did you mean `types`?"),
        ('{"op":"send","to":"1"}', "send: id"),
        ('{"op":"send","id":true}', "send: id"),
        ('{"op":"send","id":1.5}', "send: id"),
        (json.dumps({"op": "send", "id": "x" * 129}), "send: id"),
    ],
)
def test_what_is_no_request_is_refused_by_name(message: str | bytes, says: str) -> None:
    with pytest.raises(BadFrame, match=says):
        decode(message)


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["op", "id", "since", "types"]), inner)
        ),
    ).map(json.dumps)
    | st.fixed_dictionaries(
        {"op": st.sampled_from(["ping", "auth", "ack", "subscribe", "send"])},
        optional={name: st.none() | st.integers() | st.text() for name in ("id", "token", "offset", "since")},
    ).map(json.dumps)
)
def test_anything_is_a_request_or_the_documented_error(text: str) -> None:
    try:
        request = decode(text)
    except BadFrame as error:
        assert error.message
        return
    assert isinstance(request, Ping | Auth | Ack | Subscribe | Send)


@pytest.mark.parametrize(
    ("types", "names"), [(None, ()), ("", ()), (",a,, b ,", ("a", "b")), (("a", "b"), ("a", "b")), ((), ())]
)
def test_types_come_as_a_list_or_as_one_text(
    types: tuple[str, ...] | str | None, names: tuple[str, ...]
) -> None:
    assert Subscribe(types).type_names == names
