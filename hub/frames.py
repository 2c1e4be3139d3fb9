"""What goes over the wire to a subscriber: WebSocket frames, built once per event.

Pure: bytes out of records, no sockets, no clients. Frames are those a server sends (RFC 6455, section 5.2:
final, text, not masked), so one sequence of bytes serves every client. An event's frame is made by putting
its place in front of the JSON text that the log keeps; the text is never decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from store.errors import Problem
from store.records import Event

__all__ = [
    "Batch",
    "error_frame",
    "event_frame",
    "event_json",
    "hello_frame",
    "hello_json",
    "pong_frame",
    "position_frame",
    "result_frame",
    "text_frame",
]

_TEXT = 0x81
"""First byte of a frame that is a whole text message."""


def text_frame(payload: bytes) -> bytes:
    """A whole text message from a server, as one frame. ``payload`` must be UTF-8."""
    size = len(payload)
    if size < 126:
        head = bytes((_TEXT, size))
    elif size < 1 << 16:
        head = bytes((_TEXT, 126)) + size.to_bytes(2)
    else:
        head = bytes((_TEXT, 127)) + size.to_bytes(8)
    return head + payload


def event_json(event: Event) -> bytes:
    """The event as subscribers see it: its body with type, offset and the offset before it in front."""
    return b'{"type":"event","offset":%d,"prev":%d,' % (event.offset, event.prev) + event.body[1:]


def event_frame(event: Event) -> bytes:
    """The frame of one event."""
    return text_frame(event_json(event))


def hello_frame(epoch: str, offset: int, recovered: bool, warnings: Sequence[str] = ()) -> bytes:
    """Opens a stream of events: those that follow are past ``offset``.

    ``recovered`` is False when what the client asked to go on from is not there any more. ``warnings``: what
    it asked for and can never get; told only where there are any.
    """
    return text_frame(hello_json(epoch, offset, recovered, warnings))


def hello_json(epoch: str, offset: int, recovered: bool, warnings: Sequence[str] = ()) -> bytes:
    """What :func:`hello_frame` frames."""
    hello = {"type": "hello", "epoch": epoch, "offset": offset, "recovered": recovered}
    return msgspec.json.encode({**hello, "warnings": list(warnings)} if warnings else hello)


def position_frame(offset: int) -> bytes:
    """Tells a client with filters that it has been given everything of its own up to ``offset``."""
    return _json_frame({"type": "position", "offset": offset})


def error_frame(
    code: str, message: str, details: Sequence[Problem] = (), *, id: str | int | None = None
) -> bytes:
    """Refuses something the client sent; ``id`` is that of the request, where it had one."""
    answer: dict[str, Any] = {"type": "error", "code": code, "message": message}
    if id is not None:
        answer["id"] = id
    if details:
        answer["details"] = [{"path": path, "problem": problem} for path, problem in details]
    return _json_frame(answer)


def result_frame(id: str | int, answer: Mapping[str, Any]) -> bytes:
    """Answers the client's request ``id``; ``answer`` may not override the frame's own two fields."""
    return _json_frame({**answer, "type": "result", "id": id})


def pong_frame() -> bytes:
    """Answers a client's ping."""
    return _json_frame({"type": "pong"})


def _json_frame(value: Mapping[str, Any]) -> bytes:
    return text_frame(msgspec.json.encode(value))


class Batch:
    """Events that are ready together. The frame of each is built when first wanted, and once."""

    __slots__ = ("_build", "_events", "_frames")

    def __init__(self, events: Sequence[Event], build: Callable[[Event], bytes] = event_frame) -> None:
        self._events = events
        self._build = build
        self._frames: list[bytes | None] = [None] * len(events)

    def joined(self, wanted: Callable[[Event], bool] | None = None) -> tuple[bytes, int]:
        """The frames of the wanted events (None: all) as one run of bytes, and how many they are."""
        frames = [
            self._frame(index) for index, event in enumerate(self._events) if wanted is None or wanted(event)
        ]
        # Joining a list of one would copy it for nothing, and one event at a time is the usual case.
        return frames[0] if len(frames) == 1 else b"".join(frames), len(frames)

    def _frame(self, index: int) -> bytes:
        frame = self._frames[index]
        if frame is None:
            frame = self._frames[index] = self._build(self._events[index])
        return frame
