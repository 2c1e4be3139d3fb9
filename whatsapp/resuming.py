"""A person says that what is held may go on: a template that Meta had stopped, a number, its broadcasts.

Owns the events that carry this word through the log to the lane, in whichever process that is. What a lane
then does is in ``brakes.py`` and ``template_holds.py``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from store.log import Log
from store.records import NewEvent
from whatsapp.events import EventType, build_event
from whatsapp.lanes import Lanes
from whatsapp.template_holds import Template

__all__ = ["Resuming"]


class Resuming:
    """For all numbers, those that another process works too."""

    def __init__(self, log: Log, lanes: Lanes, *, now_ms: Callable[[], int]) -> None:
        self._log = log
        self._lanes = lanes
        self._now_ms = now_ms

    async def template(self, template: Template, request: str) -> list[str]:
        """Have the next message of a template that is held tried at once; the numbers of this process that
        hold it. ``request``: an id by which a repetition is known; empty: it is none. Raises
        StoreUnavailable."""
        holding = [lane["phone_number_id"] for lane in self._lanes.status() if _holds(lane, template)]
        await self._log.append([self._event(EventType.TEMPLATE_RESUMED, request, template._asdict())])
        return holding

    async def numbers(self, numbers: Sequence[str], request: str) -> None:
        """End what pauses these numbers or their broadcasts, and have those that are parked probed at once.
        Raises StoreUnavailable."""
        await self._log.append(
            [self._event(EventType.NUMBER_RESUMED, request, {}, number) for number in numbers]
        )

    def _event(self, type: str, request: str, data: dict[str, str], number: str = "") -> NewEvent:
        key = f"resumed:{request or uuid.uuid4()}:{number}"
        return build_event(type, key, self._now_ms(), data, phone_number_id=number)


def _holds(lane: dict[str, object], template: Template) -> bool:
    held = lane.get("templates")
    return isinstance(held, list) and any((one["name"], one["language"]) == template for one in held)
