"""The Graph client at the moment at which a message leaves: who has lost the right to send sends nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.slow_meta import calling
from whatsapp.failures import NotSent, Withheld
from whatsapp.graph import Graph

_MESSAGE = b'{"to":"1"}'


async def test_a_message_is_withheld_where_the_right_to_send_went_while_it_waited_for_a_connection() -> None:
    async with calling(1) as (meta, graph):
        may = True
        first = asyncio.create_task(graph.send("1", _MESSAGE, "first"))
        assert "first" in await meta.requests.get()
        waiting = asyncio.create_task(graph.send("1", _MESSAGE, "second", lambda: may))
        # A turn of the loop, so that it has begun.
        await asyncio.sleep(0)
        assert not waiting.done()
        may = False
        meta.answer()
        assert (await first).status == 200
        with pytest.raises(Withheld):
            await waiting
        # The connection is as good as before.
        meta.answer()
        assert (await graph.send("1", _MESSAGE, "third", lambda: True)).status == 200
        assert "third" in meta.requests.get_nowait()
        assert meta.requests.empty() and meta.connections == 1


async def test_a_new_connection_is_made_before_the_right_to_send_is_asked_for() -> None:
    async with calling(8) as (meta, graph):
        asked: list[int] = []

        def may_leave() -> bool:
            asked.append(meta.requests.qsize())
            return False

        with pytest.raises(Withheld):
            await graph.send("1", _MESSAGE, "first", may_leave)
        assert asked == [0]
        # What is no message is nobody's right to refuse.
        meta.answer()
        number = asyncio.create_task(graph.mark_read("1", _MESSAGE))
        assert (await number).status == 200
        assert meta.connections == 1


async def test_who_is_not_there_cannot_be_asked_for() -> None:
    async with calling(1) as (meta, _):
        graph = Graph("http://127.0.0.1:9", "v26.0", "T")
        await graph.open()
        try:
            with pytest.raises(NotSent) as raised:
                await graph.send("1", _MESSAGE, "first", lambda: False)
            assert not isinstance(raised.value, Withheld)
        finally:
            await graph.close()
        assert meta.connections == 0
