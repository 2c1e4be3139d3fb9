"""What clients may say on ``/ws``: JSON objects with an ``op`` (contract.md, Events).

Pure: text in, a request or :class:`BadFrame` out. What a request leads to is decided in ``socket.py``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from store.errors import GatewayError
from whatsapp.validate import problem_of

__all__ = ["Ack", "Auth", "BadFrame", "Ping", "Request", "Send", "Subscribe", "decode"]


class BadFrame(GatewayError):
    """A frame that is not one of those a client may send."""

    code = "bad_frame"


class Ping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Is anybody there? Answered with a pong."""


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API key, where it was not given with the request."""

    token: str


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The client is done with everything up to ``offset``."""

    offset: int


class Subscribe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to hand over from now on, and from where."""

    types: tuple[str, ...] | str | None = None
    """Event names; in one text they are separated by commas."""
    phone_number_id: str | None = None
    contact: str | None = None
    """A phone, a user id, or a contact's key."""
    since: str | int | None = None
    """A position; None: from now on."""
    subscriber: str | None = None
    """The name under which the server keeps the client's place; None: it keeps none."""

    @property
    def filters(self) -> bool:
        """Whether it says what to hand over."""
        return bool(self.type_names or self.phone_number_id or self.contact)

    @property
    def type_names(self) -> tuple[str, ...]:
        """``types`` one by one; empty for all."""
        if isinstance(self.types, str):
            return tuple(name for part in self.types.split(",") if (name := part.strip()))
        return self.types or ()


class Send(msgspec.Struct, frozen=True):
    """Send a message; answered under the same ``id``."""

    id: str | int
    fields: dict[str, Any]
    """All that the frame held beside ``op`` and ``id``."""


Request = Ping | Auth | Ack | Subscribe | Send

_PLAIN: Final[dict[str, type[Ping | Auth | Ack | Subscribe]]] = {
    "ping": Ping,
    "auth": Auth,
    "ack": Ack,
    "subscribe": Subscribe,
}
_MAX_ID = 128


def decode(message: str | bytes) -> Request:
    """The request in a frame's text. Raises BadFrame; binary frames (bytes) always do."""
    if isinstance(message, bytes):
        raise BadFrame("binary frames are not taken: send JSON text")
    try:
        frame = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(f"the frame is not JSON: {error}") from error
    if not isinstance(frame, dict):
        raise BadFrame("the frame must be a JSON object")
    op = frame.pop("op", None)
    if op == "send":
        return _decode_send(frame)
    if not isinstance(op, str) or op not in _PLAIN:
        raise BadFrame(f"op must be one of {', '.join(_PLAIN)}, send")
    try:
        return msgspec.convert(frame, _PLAIN[op])
    except msgspec.ValidationError as error:
        raise BadFrame(f"{op}: {': '.join(filter(None, problem_of(error, _PLAIN[op])))}") from error


def _decode_send(frame: dict[str, Any]) -> Send:
    id = frame.pop("id", None)
    if isinstance(id, bool) or not isinstance(id, str | int) or len(str(id)) > _MAX_ID:
        raise BadFrame(f"send: id must be a number or a text of at most {_MAX_ID} characters")
    return Send(id, frame)
