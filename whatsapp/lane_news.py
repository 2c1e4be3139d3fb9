"""What the log tells a lane: rows that come in, move or end elsewhere, and Meta's word of what it holds.

Owns what each event means for the lane, before its first message and while it works, and hands it on: rows
to the window and what fills it, refusals to the brakes. The loop that then sends is in ``lane.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from store.base import Store
from store.log import Log
from store.records import Event
from whatsapp.brakes import Brakes
from whatsapp.clock import Clock
from whatsapp.error_policy import Scope
from whatsapp.errors import Verdict
from whatsapp.events import FROM_CUSTOMERS, STATUS_KEY, EventType
from whatsapp.number_level import LevelReader, is_shared_with_app, tells_level
from whatsapp.outcome_events import holds_of, tells_fallback, tells_undone, verdict_of
from whatsapp.pacing import LanePacer
from whatsapp.pair_history import PairHistory
from whatsapp.queue import LaneQueue
from whatsapp.read_ahead import ReadAhead
from whatsapp.template_holds import news_of, resumed
from whatsapp.unknown import UnknownRows
from whatsapp.window import is_fresh

__all__ = ["LaneNews"]

_SOON_S = 1.0
"""How long after its event a row is looked up: by then it has mostly followed it."""

_ENDINGS = frozenset(
    {
        EventType.MESSAGE_SENT,
        EventType.MESSAGE_DELIVERED,
        EventType.MESSAGE_READ,
        EventType.MESSAGE_PLAYED,
        EventType.MESSAGE_FAILED,
        EventType.MESSAGE_CANCELLED,
        EventType.MESSAGE_EXPIRED,
    }
)


class LaneNews:
    """That of one lane."""

    def __init__(
        self,
        phone_number_id: str,
        *,
        store: Store,
        log: Log,
        history: PairHistory,
        queue: LaneQueue,
        reader: ReadAhead,
        pacer: LanePacer,
        brakes: Brakes,
        level: LevelReader,
        unknown: UnknownRows,
        clock: Clock,
    ) -> None:
        self._phone_number_id = phone_number_id
        self._store = store
        self._log = log
        self._history = history
        self._queue = queue
        self._reader = reader
        self._pacer = pacer
        self._brakes = brakes
        self._level = level
        self._unknown = unknown
        self._clock = clock
        self._wake: Callable[[], None] = lambda: None
        self._failed_later: dict[str, Verdict] = {}  # rows that Meta took and failed for their template

    async def look_back(self, stops: Callable[[], bool]) -> None:
        """Learn what the log has of the time before, or leave off where the lane ``stops``. Raises
        StoreUnavailable."""
        await self._history.read(stops)

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Hear what comes; ``wake`` is called where the lane has something to do. Ends it when called."""
        self._wake = wake
        return self._log.subscribe(self._notice)

    async def stop_templates(self) -> None:
        """Hold those of rows that Meta failed by a status. Raises StoreUnavailable."""
        if self._failed_later:
            failed = dict(self._failed_later)
            for row_id, view in (await self._store.find_rows(failed)).items():
                self._brakes.stop_template(view.row, failed[row_id])
            for row_id in failed:
                del self._failed_later[row_id]

    def _notice(self, batch: Sequence[Event]) -> None:
        """New and retried tasks, inbound messages that share the number's budget, rows that ended
        elsewhere."""
        inbound = 0
        for event in batch:
            if event.type == EventType.TEMPLATE_STATUS:
                # Of the account: which of its numbers send the template it does not say.
                if (news := news_of(event)) is not None:
                    self._brakes.heard(news)
                    self._wake()
                continue
            if event.type == EventType.TEMPLATE_RESUMED:
                self._brakes.resume_template(resumed(event))
                continue
            if tells_level(event):
                self._level.look()
                continue
            if event.phone_number_id != self._phone_number_id:
                continue
            if event.type in (EventType.TASK_CREATED, EventType.TASK_RETRIED):
                self._reader.news(event.at)
                self._wake()
            elif tells_fallback(event) or tells_undone(event):
                # By a status: nothing held its place in memory. The row may follow its event a moment later.
                self._reader.news(event.at)
                self._queue.recall(event.message_id, self._clock.monotonic() + _SOON_S)
                if tells_undone(event):
                    self._brake(event)
                self._wake()
            elif event.type in FROM_CUSTOMERS:
                inbound += is_fresh(event, self._clock.now_ms())
            elif event.type == EventType.NUMBER_RESUMED:
                self._brakes.resume()
                self._wake()
            elif is_shared_with_app(event):
                self._level.shared_with_app()
            elif event.message_id and event.type in _ENDINGS:
                self._end(event)
                self._wake()
        if inbound:
            self._pacer.inbound(self._clock.monotonic(), inbound)

    def _brake(self, event: Event) -> None:
        """Meta failed what it had taken: what goes beyond the row is as if it had refused the call."""
        verdict = holds_of(event)
        if verdict is None:
            return
        if verdict.scope is Scope.TEMPLATE:
            self._failed_later[event.message_id] = verdict
        self._brakes.told(event.contact, verdict)

    def _end(self, event: Event) -> None:
        row_id = event.message_id
        if event.type == EventType.MESSAGE_FAILED and event.key.startswith(STATUS_KEY):
            if (verdict := verdict_of(event)).scope is Scope.TEMPLATE:
                self._failed_later[row_id] = verdict
            # One of an earlier attempt does not end its row: the tracker finds out, and is soon there.
            self._queue.may_have_ended(row_id, self._clock.monotonic() + _SOON_S)
            return
        if event.type == EventType.MESSAGE_SENT:
            self._queue.sent(row_id)
            self._unknown.settled(row_id)
            return
        if event.type == EventType.MESSAGE_CANCELLED:
            self._queue.withdraw(row_id)
        self._queue.unblock(row_id)
