"""What goes wrong in the sandbox on demand, and how much of it is left.

Pure: the source of randomness is an argument. Owns which faults there are and their limits; what each does to
a send or a webhook happens in ``sandbox_account.py``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from whatsapp.sandbox_rules import Refused, SandboxError

__all__ = ["ErrorFault", "FaultBook", "Faults", "HttpFault"]

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ErrorFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next ``count`` sends are refused with this; ``later``: taken, and then failed by a status."""

    code: Annotated[int, msgspec.Meta(ge=0)]
    http: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    count: _Count = 1
    message: str = ""
    later: bool = False


class HttpFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next ``count`` sends get this status and a page of HTML, as from a proxy on the way."""

    status: Annotated[int, msgspec.Meta(ge=500, le=599)] = 503
    count: _Count = 1


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that goes wrong on demand. The defaults: nothing does."""

    rate_limit: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Messages a second and number, in place of the usual limit; holds also where limits are not enforced."""
    drop_answers: _Fraction = 0.0
    """Part of the sends that are taken, and then the connection is closed without an answer."""
    error: ErrorFault | None = None
    delay_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Every answer comes this much later; what was asked for is done at once."""
    duplicate_webhooks: _Fraction = 0.0
    """Part of the updates that are told twice."""
    reorder_webhooks: bool | _Fraction = False
    """Part of the messages whose statuses come in the reverse order; true: all."""
    bad_token: bool = False
    """Every call answers 190."""
    http_5xx: HttpFault | None = None
    statuses: bool = True
    """False: no statuses are sent."""
    level: Literal["STANDARD", "HIGH", "NOT_APPLICABLE"] | None = None
    """Of every number, in place of the one that the rate makes likely; what is let pass does not change."""
    coexistence: bool = False
    """Every number is in the Business app too, as its fields say; what is let pass does not change."""
    app_usage: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    """Percent of the app's calls that answers to sends say are used up."""


_MUST: Mapping[str, str] = {
    "rate_limit": "a number from 0, of messages a second",
    "drop_answers": "a number from 0 to 1",
    "error": "an object",
    "error.code": "a whole number from 0",
    "error.http": "a whole number from 400 to 599",
    "error.count": "a whole number from 1",
    "error.message": "a text",
    "error.later": "true or false",
    "delay_ms": "a whole number from 0, of milliseconds",
    "duplicate_webhooks": "a number from 0 to 1",
    "reorder_webhooks": "true, false, or a number from 0 to 1",
    "bad_token": "true or false",
    "http_5xx": "an object",
    "http_5xx.status": "a whole number from 500 to 599",
    "http_5xx.count": "a whole number from 1",
    "statuses": "true or false",
    "level": "STANDARD, HIGH or NOT_APPLICABLE",
    "coexistence": "true or false",
    "app_usage": "a number from 0 to 1000, of percent",
}
"""What each may be, in the words of who asks for it."""

_OBJECTS: Mapping[str, type[msgspec.Struct]] = {"error": ErrorFault, "http_5xx": HttpFault}


class FaultBook:
    """The faults that are on, and how much of each is left."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.now = Faults()

    def change(self, wanted: Any) -> Faults:
        """Set the faults named in ``wanted``; null ends one, ``reset`` true ends all others first.

        Returns what is on afterwards. Raises SandboxError, and changes nothing, where a key is unknown or a
        value cannot be used.
        """
        if not isinstance(wanted, dict):
            raise SandboxError("Faults must be a JSON object.")
        asked = dict(wanted)
        reset = asked.pop("reset", False)
        if not isinstance(reset, bool):
            raise SandboxError.at("reset", "must be true or false")
        known = {} if reset else {name: getattr(self.now, name) for name in Faults.__struct_fields__}
        ended = {name for name, value in asked.items() if value is None}
        _check_names(asked, Faults, "")
        changed = {name: _read(name, value) for name, value in asked.items() if name not in ended}
        self.now = Faults(**{name: v for name, v in (known | changed).items() if name not in ended})
        return self.now

    @property
    def told(self) -> dict[str, Any]:
        """The faults that are on, as they were asked for; ``count`` is how many of each are left."""
        told: dict[str, Any] = msgspec.to_builtins(self.now)
        return told

    def take_http(self) -> int:
        """The HTTP status that this send gets from a proxy; 0: none. Counts it off."""
        fault = self.now.http_5xx
        if fault is None:
            return 0
        left = msgspec.structs.replace(fault, count=fault.count - 1) if fault.count > 1 else None
        self.now = msgspec.structs.replace(self.now, http_5xx=left)
        return fault.status

    def take_error(self, *, later: bool = False) -> Refused | None:
        """The refusal that this send gets, at once or by a status; counts it off."""
        fault = self.now.error
        if fault is None or fault.later is not later:
            return None
        left = msgspec.structs.replace(fault, count=fault.count - 1) if fault.count > 1 else None
        self.now = msgspec.structs.replace(self.now, error=left)
        return Refused(fault.code, "Asked for as a fault.", http=fault.http or 0, title=fault.message)

    def drops_answer(self) -> bool:
        """Whether the answer to this send gets lost."""
        return self._happens(self.now.drop_answers)

    def duplicates(self) -> bool:
        """Whether this update is told twice."""
        return self._happens(self.now.duplicate_webhooks)

    def reorders(self) -> bool:
        """Whether this message's statuses come in the reverse order."""
        return self._happens(float(self.now.reorder_webhooks))

    def _happens(self, fraction: float) -> bool:
        return fraction > 0 and self._rng.random() < fraction


def _read(name: str, value: Any) -> Any:
    """The fault of this name. Raises SandboxError that names it, or the field of it, and what that may be."""
    fields = _OBJECTS.get(name)
    if fields is None or not isinstance(value, dict):
        return _convert(name, value, Faults)
    _check_names(value, fields, name)
    for field in msgspec.structs.fields(fields):
        if field.required and field.name not in value:
            raise SandboxError.at(f"{name}.{field.name}", "is required")
    return fields(**{field: _convert(f"{name}.{field}", v, fields) for field, v in value.items()})


def _convert(path: str, value: Any, owner: type[msgspec.Struct]) -> Any:
    types = {field.name: field.type for field in msgspec.structs.fields(owner)}
    try:
        return msgspec.convert(value, types[path.rpartition(".")[2]])
    except msgspec.ValidationError:
        raise SandboxError.at(path, f"must be {_MUST[path]}") from None


def _check_names(given: Mapping[str, Any], owner: type[msgspec.Struct], path: str) -> None:
    known = owner.__struct_fields__
    if unknown := sorted(given.keys() - set(known)):
        name = f"{path}.{unknown[0]}" if path else unknown[0]
        what = "field" if path else "fault"
        raise SandboxError.at(name[:100], f"is no {what}; these are: {', '.join(known)}")
