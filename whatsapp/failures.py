"""The kinds of error of this room, below :class:`store.errors.GatewayError`.

::

    GatewayError
    ├── InvalidRequest     what a caller asked for cannot be sent; ``details`` says where and why
    │   └── OptedOut       nobody whom it would go to wants it
    ├── Draining           the gateway is stopping and takes nothing new
    ├── NoSuchMedia        Meta does not know a file by this id
    ├── MetaRefused        Meta says no to a call that is no send; ``meta`` says why
    │   └── MetaFailed     the same, and it is not the caller's doing: later it may do
    └── SendError
        ├── NotSent        the request never left: sending it again is safe
        │   └── Withheld   it was held back at the last moment: its sender may send no longer
        └── NoAnswer       it may have left and been taken: nobody knows (outcome unknown)
"""

from __future__ import annotations

from typing import Any

from store.errors import GatewayError

__all__ = [
    "Draining",
    "InvalidRequest",
    "MetaFailed",
    "MetaRefused",
    "NoAnswer",
    "NoSuchMedia",
    "NotSent",
    "OptedOut",
    "SendError",
    "Withheld",
]


class InvalidRequest(GatewayError):
    """The request cannot be carried out as it stands; nothing was stored."""

    code = "invalid_request"


class OptedOut(InvalidRequest):
    """Everybody whom it would go to has opted out of what they did not ask for; nothing was stored."""

    code = "suppressed"


class Draining(GatewayError):
    """The gateway is stopping. Ask again in a moment."""

    code = "draining"


class NoSuchMedia(GatewayError):
    """There is no file by this id, or it is gone, or it is another number's."""

    code = "not_found"


class MetaRefused(GatewayError):
    """Meta's error to a call that is no send. ``meta``: its object, as answers show it (contract.md)."""

    code = "meta_refused"

    def __init__(self, message: str, meta: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.meta = meta


class MetaFailed(MetaRefused):
    """Meta, or something before it, could not do what was asked."""

    code = "meta_failed"


class SendError(GatewayError):
    """A call to the Graph API had no answer."""

    code = "send_error"


class NotSent(SendError):
    """The connection could not be made, so Meta has not seen the request."""

    code = "graph_unreachable"


class Withheld(NotSent):
    """There was a connection, and no right to send on it any more."""

    code = "withheld"


class NoAnswer(SendError):
    """The connection broke, or time ran out, after the request may have left."""

    code = "graph_no_answer"
