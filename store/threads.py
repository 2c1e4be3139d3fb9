"""What the store keeps of conversations: who said what, in the order of the log, and how each thread stands.

Owns the shapes and the one rule that both stores share (:func:`summed`). Times are integer milliseconds since
1970, UTC. A projection of the log: any of it may be written again from there, and nothing here is ever made
less by that, since every field of a thread only grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

__all__ = ["Amended", "Kind", "Moved", "Said", "Thread", "ThreadNews", "renamed", "summed"]

Kind = Literal["in", "out", "end", "echo", "standby"]
"""``in``: a customer's; ``out``: of ours, taken by Meta; ``end``: of ours, ended before Meta took it;
``echo``: the business's, typed elsewhere; ``standby``: a customer's, in a thread that somebody else answers.
"""


class Said(msgspec.Struct, frozen=True, gc=False):
    """A message in a thread."""

    offset: int
    """Of the event that told it: its place in every thread, and its name."""
    contact: str
    phone_number_id: str
    """Our number."""
    at: int
    kind: Kind
    message_id: str = ""
    """The outbox row that tells the rest; empty of what is not ours."""
    wamid: str = ""
    """Of what has no row."""
    body: bytes = b""
    """JSON, what callers are told of what has no row."""
    name: str = ""
    """How its contact is called, as far as it says so."""
    amended: bytes = b""
    """JSON, what its writer has made of it since; empty: nothing."""


class Amended(msgspec.Struct, frozen=True, gc=False):
    """What its writer has made of a message."""

    offset: int
    """Of the message."""
    body: bytes


class Moved(msgspec.Struct, frozen=True, gc=False):
    """Two contacts turned out to be one person: what was said with the one belongs to the other."""

    gone: str
    kept: str


class Thread(msgspec.Struct, frozen=True, gc=False):
    """How the conversation of a contact with one of our numbers stands. 0 and empty: there is none yet."""

    contact: str
    phone_number_id: str
    last_offset: int = 0
    """Of what was said last, by whomever."""
    last_at: int = 0
    heard_offset: int = 0
    """Of what the customer said last."""
    heard_at: int = 0
    first_heard_at: int = 0
    spoke_offset: int = 0
    """Of what the business said last."""
    read_offset: int = 0
    """All up to here was marked as read."""
    name: str = ""
    preferences: bytes = b""
    """JSON, what the contact told last of what they want to get."""

    @property
    def unread(self) -> bool:
        """Whether the customer has said something since it was marked as read."""
        return self.heard_offset > self.read_offset


class ThreadNews(msgspec.Struct, frozen=True, gc=False):
    """What a part of the log brings."""

    said: tuple[Said, ...] = ()
    amended: tuple[Amended, ...] = ()
    more: tuple[Thread, ...] = ()
    """What else there is of threads, such as how far they were read."""
    moved: tuple[Moved, ...] = ()
    """In this order, after all else."""

    def __bool__(self) -> bool:
        return bool(self.said or self.amended or self.more or self.moved)


def renamed(news: ThreadNews, moved: Mapping[str, str]) -> ThreadNews:
    """As it is of contacts that are found by other keys now."""
    if not moved:
        return news
    return msgspec.structs.replace(
        news,
        said=tuple(msgspec.structs.replace(s, contact=moved.get(s.contact, s.contact)) for s in news.said),
        more=tuple(msgspec.structs.replace(t, contact=moved.get(t.contact, t.contact)) for t in news.more),
    )


def summed(news: ThreadNews) -> list[Thread]:
    """What it makes of each thread: of every field the most, but of the first time the least."""
    threads: dict[tuple[str, str], Thread] = {}
    for thread in (*map(_thread_of, news.said), *news.more):
        key = (thread.contact, thread.phone_number_id)
        known = threads.get(key)
        threads[key] = _both(known, thread) if known is not None else thread
    return list(threads.values())


def _thread_of(said: Said) -> Thread:
    heard = said.kind == "in"
    return Thread(
        said.contact,
        said.phone_number_id,
        last_offset=said.offset,
        last_at=said.at,
        heard_offset=said.offset if heard else 0,
        heard_at=said.at if heard else 0,
        first_heard_at=said.at if heard else 0,
        spoke_offset=said.offset if said.kind in ("out", "echo") else 0,
        name=said.name,
    )


def _both(one: Thread, other: Thread) -> Thread:
    return Thread(
        one.contact,
        one.phone_number_id,
        last_offset=max(one.last_offset, other.last_offset),
        last_at=max(one.last_at, other.last_at),
        heard_offset=max(one.heard_offset, other.heard_offset),
        heard_at=max(one.heard_at, other.heard_at),
        first_heard_at=_first(one.first_heard_at, other.first_heard_at),
        spoke_offset=max(one.spoke_offset, other.spoke_offset),
        read_offset=max(one.read_offset, other.read_offset),
        name=other.name or one.name,
        preferences=other.preferences or one.preferences,
    )


def _first(*times: int) -> int:
    return min((at for at in times if at), default=0)
