"""Marks of reading, and the sign that an answer is being written: calls to Meta that are no messages.

Owns what Meta's answer to them means. They go at once and are not kept: one that comes late says nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from whatsapp.errors import parse_error
from whatsapp.graph import Graph
from whatsapp.media import refused_by_meta

__all__ = ["ReadMarks"]


class ReadMarks:
    """Tells Meta what was read."""

    def __init__(self, graph: Graph, *, now_ms: Callable[[], int]) -> None:
        self._graph = graph
        self._now_ms = now_ms

    async def mark(self, phone_number_id: str, mark: bytes) -> None:
        """Give Meta this object (``payloads.ReadMark``, as JSON) as from this number.

        Raises MetaRefused, SendError.
        """
        answer = await self._graph.mark_read(phone_number_id, mark)
        if answer.status != 200:
            raise refused_by_meta(parse_error(answer.status, answer.body, answer.headers, self._now_ms()))
