"""What Meta grants a number: its level of throughput, and whether it is in the Business app too.

Owns what is read of a number and the rate that follows (:class:`Rates`, pure), and when it is read: as its
lane starts, every hour, and when a webhook tells of a change. A token that Meta refuses is found out by it,
before a message is. What Meta really lets pass is learnt from its refusals, in ``learned_rate.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from store.records import Event
from whatsapp.errors import classify, parse_error
from whatsapp.events import EventType
from whatsapp.failures import SendError
from whatsapp.graph import Graph
from whatsapp.outcome import Answer

__all__ = ["Level", "LevelReader", "Rates", "is_shared_with_app", "read_level", "tells_level"]

_log = logging.getLogger(__name__)

_HIGH = "HIGH"
_COEXISTENCE_RATE = 20.0
_STANDARD_RATE = 80.0
_HOUR_S = 3600.0
_AGAIN_S = 60.0
"""Until the next try, and until a change that was told has come into force: an upgrade takes a minute
(CLOUD_API.md 3)."""
_OF_THE_TOKEN = frozenset({0, 102, 104, 190})
"""Codes that no call with the token is spared (CLOUD_API.md 2). One that may not read may be able to send."""
_LEVEL_FIELD = "phone_number_quality_update"
_APP_ECHOES = "smb_message_echoes"


class Level(msgspec.Struct, frozen=True):
    """As last read."""

    throughput: str = ""
    """STANDARD, HIGH or NOT_APPLICABLE (CLOUD_API.md 3); empty: not known."""
    coexistence: bool = False
    """The number is used in the WhatsApp Business app as well."""


class Rates(msgspec.Struct, frozen=True):
    """Messages a second."""

    standard: float
    raised: float
    """At the level HIGH; the same as ``standard`` where the operator set a rate of the number's own."""

    def of(self, level: Level) -> float:
        """80 by default, up to 1,000 once Meta has raised it, 20 in coexistence (CLOUD_API.md 3)."""
        rate = self.standard
        # Less than Meta's 80 is the operator's wish, and no matter of levels.
        if level.throughput == _HIGH and rate >= _STANDARD_RATE:
            rate = max(rate, self.raised)
        return min(rate, _COEXISTENCE_RATE) if level.coexistence else rate


class _Throughput(msgspec.Struct):
    level: str = ""


class _Number(msgspec.Struct):
    throughput: _Throughput | None = None
    is_on_biz_app: bool | None = None


def read_level(answer: Answer, before: Level) -> Level | None:
    """What Graph says of a number; of what it leaves out, ``before`` stands. None: it says nothing of use."""
    if answer.status != 200:
        return None
    try:
        number = msgspec.json.decode(answer.body, type=_Number)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    throughput = number.throughput.level if number.throughput else before.throughput
    on_app = before.coexistence if number.is_on_biz_app is None else number.is_on_biz_app
    return Level(throughput, on_app)


class _Update(msgspec.Struct):
    field: str = ""


class _Body(msgspec.Struct):
    data: _Update


def tells_level(event: Event) -> bool:
    """Whether a webhook told of a number's quality or throughput (CLOUD_API.md 4.7). It names the number as
    displayed, so all that there are look anew."""
    return event.type == EventType.ACCOUNT_UPDATE and _field_of(event) == _LEVEL_FIELD


def is_shared_with_app(event: Event) -> bool:
    """Whether its number was written from in the Business app (CLOUD_API.md 4.7, ``smb_message_echoes``)."""
    return event.type == EventType.MESSAGE_ECHO and _field_of(event) == _APP_ECHOES


def _field_of(event: Event) -> str:
    try:
        return msgspec.json.decode(event.body, type=_Body).data.field
    except msgspec.MsgspecError:
        return ""


class LevelReader:
    """That of one lane. ``take`` is given the number's rate whenever it may have changed, ``refused`` why
    nothing can be sent with the token that it has."""

    def __init__(
        self,
        phone_number_id: str,
        rates: Rates,
        *,
        graph: Graph,
        take: Callable[[float], None],
        refused: Callable[[str], None],
    ) -> None:
        self._phone_number_id = phone_number_id
        self._rates = rates
        self._graph = graph
        self._take = take
        self._refused = refused
        self._told = ""
        self._level = Level()
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Read now, every hour, and when asked to. Until cancelled."""
        while True:
            asked = self._asked.is_set()
            self._asked.clear()
            wait_s = _HOUR_S if await self._read() and not asked else _AGAIN_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._asked.wait()
            except TimeoutError:
                pass

    def look(self) -> None:
        """The level may have changed: read it."""
        self._asked.set()

    def shared_with_app(self) -> None:
        """A message that was written in the Business app shows that the number is there too."""
        if not self._level.coexistence:
            self._settle(msgspec.structs.replace(self._level, coexistence=True))

    def status(self) -> dict[str, Any]:
        """For status pages."""
        return {"level": self._level.throughput or None, "coexistence": self._level.coexistence}

    async def _read(self) -> bool:
        try:
            answer = await self._graph.number_level(self._phone_number_id)
        except SendError:
            return False
        level = read_level(answer, self._level)
        if level is None:
            self._judge(answer)
            return False
        self._told = ""
        self._settle(level)
        return True

    def _judge(self, answer: Answer) -> None:
        """Tell why the number cannot be read, once, and whether it cannot send either."""
        error = parse_error(answer.status, answer.body, answer.headers)
        verdict = classify(error)
        if error.from_graph and verdict.code in _OF_THE_TOKEN:
            self._refused(verdict.operator)
        elif self._told != verdict.operator:
            _log.warning("number %s cannot be looked at: %s", self._phone_number_id, verdict.operator)
            self._told = verdict.operator

    def _settle(self, level: Level) -> None:
        self._level = level
        self._take(self._rates.of(level))
