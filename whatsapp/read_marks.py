"""Marks of reading, and the sign that an answer is being written: calls to Meta that are no messages.

Owns what Meta's answer to them means, and the event that tells of it. They go at once and are not kept: one
that comes late says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from store.base import Store
from store.errors import StoreError
from store.records import NewEvent
from store.threads import Said
from whatsapp.errors import parse_error
from whatsapp.events import EventType, build_event
from whatsapp.graph import Graph
from whatsapp.media import refused_by_meta
from whatsapp.thread_events import keys_of_message, read_event

__all__ = ["ReadMarks"]

_log = logging.getLogger(__name__)


class _Mark(msgspec.Struct):
    message_id: str


class ReadMarks:
    """Tells Meta what was read, and the log what Meta was told."""

    def __init__(self, graph: Graph, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._graph = graph
        self._store = store
        self._now_ms = now_ms

    async def mark(self, phone_number_id: str, mark: bytes) -> None:
        """Give Meta this object (``payloads.ReadMark``, as JSON) as from this number.

        Raises MetaRefused, SendError.
        """
        answer = await self._graph.mark_read(phone_number_id, mark)
        if answer.status != 200:
            raise refused_by_meta(parse_error(answer.status, answer.body, answer.headers, self._now_ms()))
        try:
            await self._tell(msgspec.json.decode(mark, type=_Mark).message_id)
        except StoreError as error:
            # Meta has it, and a repetition tells it.
            _log.warning("that messages were marked as read is not told: %s", error.message)

    async def _tell(self, wamid: str) -> None:
        for event in await self._store.events_of(keys_of_message(wamid)):
            if isinstance(said := read_event(event), Said):
                await self._store.append_events([_read(wamid, said, self._now_ms())])


def _read(wamid: str, said: Said, now: int) -> NewEvent:
    return build_event(
        EventType.CONVERSATION_READ,
        f"read:{wamid}",
        now,
        {"wamid": wamid, "position": said.offset},
        phone_number_id=said.phone_number_id,
        contact=said.contact,
    )
