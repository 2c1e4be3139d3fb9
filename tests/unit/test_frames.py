"""Frames are what RFC 6455 says, carry the log's own text, and are built once."""

from __future__ import annotations

from collections.abc import Generator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from hub.frames import (
    WEBSOCKET,
    Batch,
    closing_text,
    error_frame,
    event_frame,
    event_json,
    hello_frame,
    pong_frame,
    position_frame,
    result_frame,
    server_sent,
    text_frame,
)
from store.records import Event
from tests.support.fake_transport import read_frames, split_frames
from tests.support.memory_log import new_event


def parse(data: bytes) -> Frame:
    """Read one frame with the parser of another implementation, which must consume all of it."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parser: Generator[None, None, Frame] = Frame.parse(reader.read_exact, mask=False)
    try:
        next(parser)
    except StopIteration as done:
        assert not reader.buffer
        frame: Frame = done.value
        return frame
    raise AssertionError("the frame is not whole")


def event(n: int, type: str = "message.received") -> Event:
    return Event(offset=n, prev=n - 1, **msgspec.structs.asdict(new_event(n, type)))


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8100"),
        (125, "817d"),
        (126, "817e007e"),
        (65_535, "817effff"),
        (65_536, "817f0000000000010000"),
        (100_000, "817f00000000000186a0"),
    ],
)
def test_head_has_the_shortest_length_that_fits(size: int, head: str) -> None:
    frame = text_frame(b"x" * size)
    assert frame == bytes.fromhex(head) + b"x" * size
    assert parse(frame).data == b"x" * size


@given(st.text(max_size=400))
def test_another_implementation_reads_any_text(text: str) -> None:
    frame = parse(text_frame(text.encode()))
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, text.encode())


def test_event_is_its_body_with_its_place_in_front() -> None:
    body = '{"event":"message.sent","data":{"text":"\u00e1\\u00e1", "n": 1.0}}'.encode()
    stored = Event(offset=7, prev=5, key="k", type="message.sent", at=1, body=body)
    assert event_json(stored) == b'{"type":"event","offset":7,"prev":5,' + body[1:]
    assert split_frames(event_frame(stored)) == [event_json(stored)]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (hello_frame("e", 4, False), {"type": "hello", "epoch": "e", "offset": 4, "recovered": False}),
        (
            hello_frame("e", 4, True, ["types: x is none"]),
            {"type": "hello", "epoch": "e", "offset": 4, "recovered": True, "warnings": ["types: x is none"]},
        ),
        (position_frame(9), {"type": "position", "offset": 9}),
        (pong_frame(), {"type": "pong"}),
        (error_frame("bad", "It is bad."), {"type": "error", "code": "bad", "message": "It is bad."}),
        (
            error_frame("bad", "b", [("to", "missing")], id=3),
            {
                "type": "error",
                "code": "bad",
                "message": "b",
                "id": 3,
                "details": [{"path": "to", "problem": "missing"}],
            },
        ),
        (
            result_frame("a", {"task_id": "t", "type": "x", "id": "y"}),
            {"task_id": "t", "type": "result", "id": "a"},
        ),
    ],
)
def test_what_the_other_frames_say(frame: bytes, says: dict[str, object]) -> None:
    assert read_frames(frame) == [says]


class Builder:
    """Builds frames and remembers of which events."""

    def __init__(self) -> None:
        self.built: list[int] = []

    def __call__(self, event: Event) -> bytes:
        self.built.append(event.offset)
        return event_frame(event)


def test_batch_builds_each_frame_once_however_many_ask() -> None:
    builder = Builder()
    batch = Batch([event(1), event(2, "message.read"), event(3)], builder)
    both = batch.joined(lambda event: event.type == "message.received")
    everything = batch.joined()
    assert builder.built == [1, 3, 2]
    assert [frame["offset"] for frame in read_frames(both[0])] == [1, 3]
    assert [frame["offset"] for frame in read_frames(everything[0])] == [1, 2, 3]
    assert (both[1], everything[1]) == (2, 3)


def test_batch_builds_nothing_that_nobody_wants() -> None:
    builder = Builder()
    assert Batch([event(1)], builder).joined(lambda event: False) == (b"", 0)
    assert builder.built == []


# -- server-sent events --------------------------------------------------------------------------------------

SSE = server_sent("e1", 1500)


def messages(text: bytes) -> list[dict[str, str]]:
    """As a browser takes them apart (WHATWG HTML, 9.2.6): lines end with CR, LF, or both."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in text.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line:
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        elif fields:
            found.append(fields)
            fields = {}
    assert not fields, "the last message is not ended"
    return found


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_any_event_is_one_server_sent_event_with_its_position(data: object) -> None:
    body = msgspec.json.format(msgspec.json.encode({"event": "a", "data": data}), indent=2)
    for given_body in (body, body.replace(b"\n", b"\r\n"), body.replace(b"\n", b"\r")):
        (message,) = messages(SSE.event(Event(7, 6, "k", "a", 0, given_body)))
        assert message.keys() == {"id", "data"} and message["id"] == "e1:7"
        assert msgspec.json.decode(message["data"]) == {
            "type": "event",
            "offset": 7,
            "prev": 6,
            "event": "a",
            "data": data,
        }


def test_what_is_no_event_has_a_name_for_browsers() -> None:
    (hello,) = messages(SSE.hello("e1", 3, True, ["w"], ""))
    assert (hello["event"], hello["id"], hello["retry"]) == ("hello", "e1:3", "1500")
    (framed,) = read_frames(WEBSOCKET.hello("e1", 3, True, ["w"], ""))
    assert msgspec.json.decode(hello["data"]) == framed
    (position,) = messages(SSE.position(9))
    assert (position["event"], position["id"]) == ("position", "e1:9")
    (close,) = messages(closing_text(4008, "too slow"))
    said = {"type": "close", "code": 4008, "reason": "too slow"}
    assert close["event"] == "close" and msgspec.json.decode(close["data"]) == said
    assert messages(SSE.idle) == [{"": ""}], "a comment"


def test_a_name_is_told_in_the_hello_of_who_has_one() -> None:
    (hello,) = read_frames(hello_frame("e1", 3, True, (), "crm"))
    assert hello == {"type": "hello", "epoch": "e1", "offset": 3, "recovered": True, "subscriber": "crm"}
