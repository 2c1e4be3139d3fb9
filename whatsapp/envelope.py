"""The bytes of a webhook to a decoded envelope: what is no envelope is refused, broken text is repaired.

Pure. Owns decoding and its bounds; what the envelope holds is read in ``webhook.py``. The usual body is
decoded once, by msgspec. Only when that refuses it, a slower way tries to save the batch: half of a
surrogate pair (a name that was cut inside an emoji) and bytes that are not UTF-8 become U+FFFD, and a
number too large to be one is kept as its text.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from store.errors import GatewayError

__all__ = ["MAX_DEPTH", "OBJECT", "BadPayload", "decode_envelope"]

OBJECT = "whatsapp_business_account"
"""The only ``object`` that is taken; Meta's other products have their own envelopes (CLOUD_API.md 4.3)."""

MAX_DEPTH = 100
"""Levels of nesting; Meta's own bodies stay below 20. With it every update is safe to encode again, however
deep the stack is by then."""

_MAX_DIGITS = 400
_REPLACEMENT = "\\ufffd"

# A doubled backslash is matched whole: in the text \\ud83d it is the backslash that is escaped.
_ESCAPES = re.compile(
    r"\\(?:\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2}))"
)


class BadPayload(GatewayError):
    """The body is not JSON, or not a webhook envelope of WhatsApp's."""

    code = "bad_payload"


def decode_envelope(body: bytes) -> list[Any]:
    """The items of ``entry``, whatever they are.

    Raises :class:`BadPayload` for what is not JSON, nested deeper than :data:`MAX_DEPTH`, or not
    ``{"object": "whatsapp_business_account", "entry": [...]}``. Of an object's repeated keys the last counts.
    """
    payload = _decode(body)
    if not isinstance(payload, dict):
        raise BadPayload("The body must be a JSON object.")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and not _is_shallow(payload, MAX_DEPTH):
        raise BadPayload(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if payload.get("object") != OBJECT:
        raise BadPayload(f'The field "object" of the body must be "{OBJECT}".')
    entries = payload.get("entry")
    if not isinstance(entries, list):
        raise BadPayload('The field "entry" of the body must be a list.')
    return entries


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except RecursionError as error:
        raise BadPayload("The body is nested too deeply.") from error
    except ValueError:  # msgspec's errors and UnicodeDecodeError are its kinds
        return _decode_broken(body)


def _decode_broken(body: bytes) -> Any:
    text = _ESCAPES.sub(_mend, body.decode("utf-8", "replace"))
    try:
        return json.loads(text, parse_int=_whole, parse_float=_real, parse_constant=_refuse)
    except RecursionError as error:
        raise BadPayload("The body is nested too deeply.") from error
    except ValueError as error:
        raise BadPayload("The body is not JSON.") from error


def _mend(escape: re.Match[str]) -> str:
    return _REPLACEMENT if escape["lone"] else escape[0]


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _real(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _is_shallow(value: dict[str, Any] | list[Any], levels: int) -> bool:
    """Whether an object or list, itself counted, nests at most so many levels."""
    if not levels:
        return False
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list) and not _is_shallow(inner, levels - 1):
            return False
    return True
