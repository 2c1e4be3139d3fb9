"""Which bodies are refused, and which are saved although a part of their text is broken."""

from __future__ import annotations

import json

import pytest

from tests.support.webhooks import body, entry, message_value, text_message
from whatsapp.envelope import MAX_DEPTH, OBJECT, BadPayload, decode_envelope
from whatsapp.webhook import parse

_HEAD = b'{"object":"whatsapp_business_account","entry":'


def _with_text(raw: bytes) -> bytes:
    """A text message whose body is these bytes of JSON."""
    return body(entry(message_value(messages=[text_message(text="@@")]))).replace(b'"@@"', raw)


def _nested(levels: int) -> bytes:
    """An envelope that nests so many levels: itself, ``entry`` and lists inside."""
    return _HEAD + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b"", "JSON"),
        (b"   ", "JSON"),
        (b"\x00", "JSON"),
        (b"{", "JSON"),
        (b"{}x", "JSON"),
        (b"\xef\xbb\xbf{}", "JSON"),
        (b"NaN", "JSON"),
        (_HEAD + b"[-Infinity]}", "JSON"),
        (_HEAD + b"[1e999, NaN]}", "JSON"),
        (b"a=1&b=2", "JSON"),
        (b"null", "object"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"{}", '"object"'),
        (b'{"object":null,"entry":[]}', '"object"'),
        (b'{"object":["whatsapp_business_account"],"entry":[]}', '"object"'),
        (b'{"object":"instagram","entry":[]}', '"object"'),
        (b'{"object":"whatsapp_business_account"}', '"entry"'),
        (b'{"object":"whatsapp_business_account","entry":{}}', '"entry"'),
        (b"[" * 4_000_000, "nested"),
        (b'{"a":' * 800_000, "nested"),
        (_HEAD + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (_HEAD + b"[1e999," + b"[" * 100_000 + b"]" * 100_000 + b"]}", "nested"),
        (_nested(MAX_DEPTH + 1), "nested"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_refused(raw: bytes, names: str) -> None:
    with pytest.raises(BadPayload) as caught:
        parse(raw)
    assert names in caught.value.message
    assert caught.value.code == "bad_payload"


def test_what_is_just_shallow_enough_passes() -> None:
    (update,) = parse(_nested(MAX_DEPTH))
    assert update.type == "webhook.unparsed"


def test_an_empty_list_of_entries_holds_nothing() -> None:
    assert decode_envelope(_HEAD + b"[]}") == []
    assert parse(_HEAD + b"[]}") == []


def test_of_repeated_keys_the_last_counts() -> None:
    assert decode_envelope(b'{"object":"x","entry":[1],"entry":[2],"object":"%s"}' % OBJECT.encode()) == [2]
    assert decode_envelope(b'{"object":"x","entry":[1],"entry":[1e999],"object":"%s"}' % OBJECT.encode()) == [
        "1e999"
    ]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb'"caf\u00e9 \ud83d\ude00"', "café 😀"),
        ('"café 😀"'.encode(), "café 😀"),
        (rb'"a\/b\n"', "a/b\n"),
        (rb'"\u0000"', "\x00"),
        (rb'"a\ud83d b"', "a\ufffd b"),
        (rb'"a\uD83D"', "a\ufffd"),
        (rb'"\ude00b"', "\ufffdb"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\n\ude00"', "\ufffd\n\ufffd"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\\ud83d \ud83d \\\\ude00 \"\ude00\""', '\\ud83d \ufffd \\\\ude00 "\ufffd"'),
        (b'"a\xff b"', "a\ufffd b"),
        (b'"a\xed\xa0\xbd"', "a\ufffd\ufffd\ufffd"),
    ],
    ids=repr,
)
def test_text_is_kept_or_repaired_and_nothing_else_changes(raw: bytes, text: str) -> None:
    (update,) = parse(_with_text(raw))
    assert update.data["text"] == text
    assert update.data["message"] == text_message(text=text)
    assert update.data["metadata"] == message_value()["metadata"]


def test_a_broken_name_of_a_field_is_repaired_too() -> None:
    (update,) = parse(_with_text(rb'"hi", "\ud83d": 1'))
    assert update.data["message"]["text"] == {"body": "hi", "\ufffd": 1}


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"18446744073709551616", 18446744073709551616),
        (b"1e999", "1e999"),
        (b"-1.5e4000", "-1.5e4000"),
        (b"1" * 5000, "1" * 5000),
        (b"[1e999, 12, 1.5, -0, true, null]", ["1e999", 12, 1.5, 0, True, None]),
    ],
    ids=["beyond 64 bits", "no double", "no double, negative", "5,000 digits", "among others"],
)
def test_a_number_too_large_costs_its_batch_nothing(raw: bytes, value: object) -> None:
    message = text_message()
    raw_body = body(entry(message_value(messages=[message, text_message("wamid.B", odd="@@")])))
    first, second = parse(raw_body.replace(b'"@@"', raw))
    assert first.data["message"] == message
    assert second.data["message"]["odd"] == value
    assert json.dumps(second.data)
