"""The sends that clients of ``/ws`` have under way: how many may be, and the frames that answer them.

Owns their tasks, since the loop does not hold them, and a send must end also when its client has gone. How a
message is sent is said by the :data:`SendOp` (``inward.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from handlers.socket_frames import Send
from hub.frames import error_frame, result_frame
from hub.hub import Hub
from hub.subscription import Subscription
from store.errors import GatewayError

__all__ = ["SendDesk", "SendOp"]

_log = logging.getLogger(__name__)

_MOST = 1000
"""Of all clients, those that have gone among them."""

SendOp = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Does what a ``send`` frame asks for, given its fields; returns what the REST API would answer, refusals
too. May raise GatewayError."""


class SendDesk:
    """One per server. ``send_op`` None: clients cannot send. ``most``: of one client."""

    def __init__(self, hub: Hub, send_op: SendOp | None, most: int) -> None:
        self._hub = hub
        self._send_op = send_op
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._of: Counter[Subscription] = Counter()

    def start(self, subscription: Subscription, request: Send) -> None:
        """Have it done beside the reader, which must go on to see the client's pongs."""
        if self._send_op is None:
            self._refuse(subscription, request, "unsupported", "sending over /ws is not available here")
        elif self._of[subscription] >= self._most or len(self._tasks) >= _MOST:
            self._refuse(subscription, request, "busy", "too many sends are under way, wait for results")
        else:
            work = self._send(self._send_op, subscription, request)
            task = asyncio.get_running_loop().create_task(work, name="socket-send")
            self._of[subscription] += 1
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _refuse(self, subscription: Subscription, request: Send, code: str, message: str) -> None:
        self._hub.send(subscription, error_frame(code, message, id=request.id))

    async def _send(self, send_op: SendOp, subscription: Subscription, request: Send) -> None:
        try:
            answer = _answer_frame(request.id, await send_op(request.fields))
        except GatewayError as error:
            answer = error_frame(error.code, error.message, error.details, id=request.id)
        except Exception:  # noqa: BLE001 - whatever it is, the client is answered
            _log.exception("send over /ws failed")
            answer = error_frame("internal", "the gateway failed at this, its log says why", id=request.id)
        finally:
            self._of[subscription] -= 1
            if not self._of[subscription]:
                del self._of[subscription]
        self._hub.send(subscription, answer)


def _answer_frame(id: str | int, answer: Mapping[str, Any]) -> bytes:
    """What the REST API answers, as a frame: a refusal is an error frame with all that it says."""
    if answer.get("success") is not False:
        return result_frame(id, answer)
    more = {name: value for name, value in answer.items() if name not in ("success", "error", "code")}
    return error_frame(str(answer["code"]), str(answer["error"]), id=id, more=more)
