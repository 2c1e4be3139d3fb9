"""What goes over the wire to a subscriber: WebSocket frames and server-sent events, built once per event.

Pure: bytes out of records, no sockets, no clients. Frames are those a server sends (RFC 6455, section 5.2:
final, text, not masked), so one sequence of bytes serves every client; server-sent events are lines of text.
An event's frame is made by putting its place in front of the JSON text that the log keeps; the text is never
decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from store.errors import Problem
from store.records import Event

__all__ = [
    "WEBSOCKET",
    "Batch",
    "Wire",
    "closing_text",
    "error_frame",
    "event_frame",
    "event_json",
    "hello_frame",
    "hello_json",
    "pong_frame",
    "position_frame",
    "result_frame",
    "server_sent",
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


def hello_frame(
    epoch: str, offset: int, recovered: bool, warnings: Sequence[str] = (), subscriber: str = ""
) -> bytes:
    """Opens a stream of events: those that follow are past ``offset``.

    ``recovered`` is False when what the client asked to go on from is not there any more. ``warnings``: what
    it asked for and can never get; told only where there are any. ``subscriber``: its name, where it has one.
    """
    return text_frame(hello_json(epoch, offset, recovered, warnings, subscriber))


def hello_json(
    epoch: str, offset: int, recovered: bool, warnings: Sequence[str] = (), subscriber: str = ""
) -> bytes:
    """What :func:`hello_frame` frames."""
    hello: dict[str, Any] = {"type": "hello", "epoch": epoch, "offset": offset, "recovered": recovered}
    if subscriber:
        hello["subscriber"] = subscriber
    if warnings:
        hello["warnings"] = list(warnings)
    return msgspec.json.encode(hello)


def position_frame(offset: int) -> bytes:
    """Tells a client with filters that it has been given everything of its own up to ``offset``."""
    return text_frame(_position_json(offset))


def error_frame(
    code: str,
    message: str,
    details: Sequence[Problem] = (),
    *,
    id: str | int | None = None,
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """Refuses something the client sent; ``id`` is that of the request, where it had one. ``more`` may not
    override the frame's own fields."""
    answer: dict[str, Any] = {**(more or {}), "type": "error", "code": code, "message": message}
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


def _position_json(offset: int) -> bytes:
    return msgspec.json.encode({"type": "position", "offset": offset})


def _json_frame(value: Mapping[str, Any]) -> bytes:
    return text_frame(msgspec.json.encode(value))


class Wire(NamedTuple):
    """How clients of one kind are told what the log says. One object for all of them."""

    kind: str
    event: Callable[[Event], bytes]
    hello: Callable[[str, int, bool, Sequence[str], str], bytes]
    """As :func:`hello_frame`."""
    position: Callable[[int], bytes]
    idle: bytes
    """What is sent now and then to who gets no positions, so that one that is gone is found out; may be
    empty."""


WEBSOCKET = Wire("ws", event_frame, hello_frame, position_frame, b"")
"""Their pings are the connection's."""


def server_sent(epoch: str, retry_ms: int) -> Wire:
    """Server-sent events (WHATWG HTML, 9.2): the same JSON, each under its position as its id.

    What is no event of the log has a name (``hello``, ``position``), so that a page's ``onmessage`` gets just
    those. ``retry_ms``: how long a browser waits before it comes back.
    """

    def field(name: str, offset: int, json: bytes) -> bytes:
        if b"\n" in json or b"\r" in json:
            # Between JSON's tokens only, where they are blanks: within texts they are escaped.
            json = json.replace(b"\n", b" ").replace(b"\r", b" ")
        return b"%sid: %s:%d\ndata: %s\n\n" % (name.encode(), epoch.encode(), offset, json)

    def hello(
        epoch: str, offset: int, recovered: bool, warnings: Sequence[str] = (), subscriber: str = ""
    ) -> bytes:
        head = f"retry: {retry_ms}\nevent: hello\n"
        return field(head, offset, hello_json(epoch, offset, recovered, warnings, subscriber))

    return Wire(
        "sse",
        lambda event: field("", event.offset, event_json(event)),
        hello,
        lambda offset: field("event: position\n", offset, _position_json(offset)),
        b":\n\n",
    )


def closing_text(code: int, reason: str) -> bytes:
    """The last of a stream of server-sent events: what a WebSocket would be closed with."""
    close = msgspec.json.encode({"type": "close", "code": code, "reason": reason})
    return b"event: close\ndata: %s\n\n" % close


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
