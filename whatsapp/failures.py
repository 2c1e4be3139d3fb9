"""The kinds of error of this room, below :class:`store.errors.GatewayError`.

::

    GatewayError
    ├── InvalidRequest     what a caller asked for cannot be sent; ``details`` says where and why
    ├── Draining           the gateway is stopping and takes nothing new
    └── SendError
        ├── NotSent        the request never left: sending it again is safe
        └── NoAnswer       it may have left and been taken: nobody knows (outcome unknown)
"""

from __future__ import annotations

from store.errors import GatewayError

__all__ = ["Draining", "InvalidRequest", "NoAnswer", "NotSent", "SendError"]


class InvalidRequest(GatewayError):
    """The request cannot be carried out as it stands; nothing was stored."""

    code = "invalid_request"


class Draining(GatewayError):
    """The gateway is stopping. Ask again in a moment."""

    code = "draining"


class SendError(GatewayError):
    """A call to the Graph API had no answer."""

    code = "send_error"


class NotSent(SendError):
    """The connection could not be made, so Meta has not seen the request."""

    code = "graph_unreachable"


class NoAnswer(SendError):
    """The connection broke, or time ran out, after the request may have left."""

    code = "graph_no_answer"
