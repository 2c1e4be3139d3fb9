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
    Batch,
    error_frame,
    event_frame,
    event_json,
    hello_frame,
    pong_frame,
    position_frame,
    result_frame,
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
