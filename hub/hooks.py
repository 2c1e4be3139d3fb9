"""Events to an outside address by POST: a webhook of the gateway's own.

Owns the form of such a POST: the event as ``/ws`` tells it, or a list of events where several go together,
and the headers beside it. Signing and connections are ``whatsapp/outside.py``'s; what follows from an answer
is ``delivery.py``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hub.carrier import Carried
from hub.delivery import Failure, Fault, failure_of
from hub.frames import event_json
from store.records import Event
from whatsapp.outside import Poster, Unanswered

__all__ = ["Hook"]


class Hook:
    """The carrier of one address."""

    kind = "webhook"
    connected = None

    def __init__(
        self,
        name: str,
        poster: Poster,
        *,
        address: str,
        batch: int,
        epoch: Callable[[], str],
        now_ms: Callable[[], int],
    ) -> None:
        """``batch``: 1: each event alone, as an object; more: up to so many together, always as a list."""
        self.address = address
        self.most = batch
        self._name = name
        self._poster = poster
        self._epoch = epoch
        self._now_ms = now_ms

    def set_secret(self, secret: str) -> bool:
        """Sign with this one from now on; whether it is another one."""
        return self._poster.set_secret(secret)

    async def look(self, after: int) -> Failure | None:
        """There is nothing to see before a POST."""
        return None

    async def carry(self, events: Sequence[Event], after: int) -> Carried:
        """One POST."""
        texts = [event_json(event) for event in events]
        body = b"[%s]" % b",".join(texts) if self.most > 1 else texts[0]
        headers = {
            "X-Gateway-Hook": self._name,
            "X-Gateway-Event": events[0].type if self.most == 1 else "batch",
            "X-Gateway-Event-Id": f"{self._epoch()}:{events[-1].offset}",
        }
        try:
            answer = await self._poster.post(body, headers)
        except Unanswered as error:
            return Carried(0, Failure(Fault.AWAY, error.message))
        failure = failure_of(answer.status, answer.headers, self._now_ms())
        return Carried(0, failure) if failure else Carried(len(events))

    async def parted(self) -> None:
        """Never."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Let go of its connections."""
        await self._poster.close()
