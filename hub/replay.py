"""Where a client goes on, and how the log's past joins the live stream without gap or repetition.

Pure. The rule of the join: a client is sent pages of the log in order, and becomes live only at the very
moment when its place is the log's head; from then on each batch that the log publishes continues right there.
``hub.py`` asks
:func:`next_step` with no await between the question and what it does with the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from store.errors import GatewayError
from store.records import Event, LogBounds

__all__ = [
    "BadPosition",
    "Portion",
    "Position",
    "Start",
    "Step",
    "next_step",
    "parse_position",
    "portions",
    "resume",
]

_MAX_OFFSET = (1 << 53) - 1
"""JSON numbers are exact up to here everywhere (contract.md, Events)."""


class BadPosition(GatewayError):
    """A position that is not written as one."""

    code = "bad_position"


class Position(NamedTuple):
    """A place in a log: everything up to ``offset`` is known to the client."""

    epoch: str
    """Identity of the log; empty where the client did not say."""
    offset: int


class Start(NamedTuple):
    """Where reading starts."""

    offset: int
    """Events past this one follow."""
    recovered: bool
    """False when events that the client has not seen may be missing."""


def parse_position(since: str | int, called: str = "since") -> Position:
    """A position as clients write it: ``epoch:offset``, or an offset alone. Raises BadPosition, which
    says what they call it."""
    if isinstance(since, int):
        epoch, offset = "", since
    else:
        epoch, colon, digits = since.rpartition(":")
        if (colon and not epoch) or not (digits.isascii() and digits.isdigit() and len(digits) <= 16):
            raise BadPosition(f"{called}: a position is <epoch>:<offset>, or an offset alone")
        offset = int(digits)
    if not 0 <= offset <= _MAX_OFFSET:
        raise BadPosition(f"{called}: an offset is between 0 and {_MAX_OFFSET}")
    return Position(epoch, offset)


def resume(since: str | int | None, epoch: str, bounds: LogBounds, called: str = "since") -> Start:
    """Where a client goes on that asks for what comes after ``since``; None: what comes from now on.

    What cannot be continued (another log, an offset that the log never reached, events removed since) starts
    at the oldest event kept, with ``recovered`` False. Raises BadPosition.
    """
    if since is None:
        return Start(bounds.head, True)
    position = parse_position(since, called)
    is_same_log = not position.epoch or position.epoch == epoch
    if is_same_log and bounds.floor <= position.offset <= bounds.head:
        return Start(position.offset, True)
    return Start(bounds.floor, False)


class Step(Enum):
    """What a client that is catching up needs next."""

    SEND = "send"
    """The page that was read continues at its place."""
    LOST = "lost"
    """Events past its place were removed before it got them: tell it, and go on behind the gap."""
    LIVE = "live"
    """It has everything; what is published next continues at its place."""
    WAIT = "wait"
    """It is ahead of what this process has published (another one told it); wait for that."""
    LOOK = "look"
    """The log has grown since the page was read, or was emptied: look at its bounds, read again."""


def next_step(page: Sequence[Event], place: int, head: int) -> Step:
    """What a client at ``place`` needs, given the page read past it and the head as published until now."""
    if page:
        return Step.LOST if page[0].prev > place else Step.SEND
    if place == head:
        return Step.LIVE
    return Step.WAIT if place > head else Step.LOOK


class Portion(NamedTuple):
    """A part of a page that is sent at once."""

    data: bytes
    """Frames of the events that the client wants; may be empty."""
    events: int
    """How many those are."""
    place: int
    """The client's place once it has this."""


def portions(
    page: Sequence[Event],
    wanted: Callable[[Event], bool],
    frame_of: Callable[[Event], bytes],
    max_bytes: int,
) -> Iterator[Portion]:
    """Cut a page, in order, into what is sent at once: at most ``max_bytes``, or one event that is larger."""
    frames: list[bytes] = []
    size = 0
    place = 0
    for event in page:
        if wanted(event):
            frame = frame_of(event)
            if frames and size + len(frame) > max_bytes:
                yield Portion(b"".join(frames), len(frames), place)
                frames, size = [], 0
            frames.append(frame)
            size += len(frame)
        place = event.offset
    if page:
        yield Portion(b"".join(frames), len(frames), place)
