"""What is wrong now, each with what to do about it (contract.md, Status).

Pure: from what the status page tells of the store and the lanes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["trouble_of"]

_STORE = (
    "The store does not answer: what comes is refused with 503, nothing is sent, and all goes on by itself."
)
_TEMPLATE = "Where it is right again before Meta says so, POST /api/templates/resume tries it at once."
_CONSUMER = "Look in the log for the error, and report it."
_HANDOVER = "handover:"
_BROADCASTS = "POST /api/numbers/resume ends the pause sooner."


def trouble_of(
    store_up: bool,
    lanes: Iterable[Mapping[str, Any]],
    hooks: Iterable[Mapping[str, Any]] = (),
    consumers: Iterable[Mapping[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """``{what, why, ...}`` for each: ``what`` is store, number, broadcasts, template, hook, handover or
    consumer; those of lanes with ``phone_number_id``, a template with ``name`` and ``language`` too, the last
    three with ``name``.

    ``hooks``: those that have been behind for long, or were paused by no person.
    """
    if not store_up:
        yield {"what": "store", "why": _STORE}
    for lane in lanes:
        number = {"phone_number_id": lane["phone_number_id"]}
        if why := lane.get("why"):
            yield {"what": "number", "why": why, **number}
        if why := lane.get("broadcasts_why"):
            yield {"what": "broadcasts", "why": f"{why} {_BROADCASTS}", **number}
        for held in lane.get("templates", ()):
            named = {"name": held["name"], "language": held["language"]}
            yield {"what": "template", "why": f"{held['why']} {_TEMPLATE}", **number, **named}
    for hook in hooks:
        yield {"what": "hook", "why": _hook(hook), "name": hook["name"]}
    for consumer in consumers:
        if consumer["fault"]:
            yield _consumer(consumer)


def _consumer(consumer: Mapping[str, Any]) -> dict[str, Any]:
    name, fault = consumer["name"], consumer["fault"]
    if name.startswith(_HANDOVER):
        # What fails there is the operator's program; faults of the gateway's own are in the log alone.
        program = name.removeprefix(_HANDOVER)
        why = (
            f"It has not taken what was handed over last ({fault}): mend the program, or its url in "
            "[[autoreply.handovers]]. Messages are tried until they are autoreply.max_age_s old."
        )
        return {"what": "handover", "why": why, "name": program}
    why = f"It fails at an event after offset {consumer['offset']} ({fault}), and tries again. {_CONSUMER}"
    return {"what": "consumer", "why": why, "name": name}


def _hook(hook: Mapping[str, Any]) -> str:
    error = f" ({hook['last_error']})" if hook["last_error"] else ""
    if hook["paused_at"]:
        return f"It is paused{error}, and gets nothing: mend it, then POST /api/hooks/{hook['name']}/resume."
    since = hook["behind_since"] or hook["failing_since"]
    return f"It has not had all events since {since}{error}, and is tried on and on."
