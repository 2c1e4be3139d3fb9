"""How long Meta tries to deliver a message, and when no word of it is to be waited for any more.

Pure. After its time to live Meta drops a message and says nothing (CLOUD_API.md 1.4, CLOUD_API_2026.md 5.2):
30 days, of authentication templates ten minutes, or what the template itself says. Owns these times, and what
must be added to be sure: nothing expires while a status may still be on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from whatsapp.template_holds import Template as Name
from whatsapp.template_holds import template_of
from whatsapp.templates import Template

__all__ = ["USUAL_MS", "life_of", "lives_of", "margin_ms", "may_expire"]

_MINUTE_MS = 60 * 1000
_DAY_MS = 24 * 60 * _MINUTE_MS
USUAL_MS = 30 * _DAY_MS
_AUTHENTICATION_MS = 10 * _MINUTE_MS
_WITHOUT_DELIVERY = frozenset({"reaction", "pin"})
"""Meta tells of these only that they were sent (CLOUD_API.md 1.3), so that silence says nothing."""


def lives_of(templates: Iterable[Template]) -> dict[Name, int]:
    """Milliseconds that the account's templates live, those of them that live shorter than is usual."""
    lives = {}
    for template in templates:
        life = template.ttl_s * 1000
        if life <= 0:
            life = _AUTHENTICATION_MS if template.category == "AUTHENTICATION" else USUAL_MS
        if template.ttl_s != -1 and life < USUAL_MS:
            lives[Name(template.name, template.language)] = life
    return lives


class _Kind(msgspec.Struct):
    type: object = None


def life_of(payload: bytes, lives: Mapping[Name, int]) -> int | None:
    """Milliseconds that a message object lives; None where Meta never tells that one was delivered."""
    try:
        if msgspec.json.decode(payload, type=_Kind).type in _WITHOUT_DELIVERY:
            return None
    except msgspec.MsgspecError:
        return USUAL_MS
    name = template_of(payload) if lives else None
    return lives.get(name, USUAL_MS) if name is not None else USUAL_MS


def margin_ms(life: int) -> int:
    """How long word is waited for once a message has lived so long: as long again, at most a day."""
    return min(max(life, 10 * _MINUTE_MS), _DAY_MS)


def may_expire(unbroken_since: int | None, now: int) -> bool:
    """Whether silence says anything: webhooks have been taken in for a day without a gap. What was refused in
    one Meta repeats at ever longer intervals (CLOUD_API_2026.md 7)."""
    return unbroken_since is not None and now - unbroken_since >= _DAY_MS
