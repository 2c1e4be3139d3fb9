"""What every send may say beside its message: when, until when, how urgent, and what to do with recipients
that cannot be sent to (contract.md, Part 2).

Pure. Owns the fields that the request types share, and what they mean to the outbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from store.errors import Problem
from store.records import Priority
from whatsapp.drafts import HIGH, LOW, NORMAL, Terms
from whatsapp.validate import Checked, Findings

__all__ = [
    "MAX_RECIPIENTS",
    "PRIORITIES",
    "FallbackTemplate",
    "ManyRequest",
    "OneOptions",
    "OneRequest",
    "Options",
    "Parameters",
    "Phone",
    "Time",
    "lane_of",
    "number_fault",
    "terms_of",
]

MAX_RECIPIENTS = 100_000
PRIORITIES: Mapping[str, Priority] = {"high": HIGH, "normal": NORMAL, "low": LOW}

Phone = str | int
Parameters = list[str | int | float]
"""Texts; a number is written as it stands."""
PriorityName = Literal["high", "normal", "low"]
Time = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$",
        extra_json_schema={"format": "date-time"},
        extra={"must": "be a time with its offset such as 2026-11-24T18:30:00Z (RFC 3339)"},
    ),
]
Items = Annotated[list[Any], Meta(min_length=1, max_length=MAX_RECIPIENTS)]

_MAX_AHEAD_MS = 30 * 24 * 3600 * 1000
"""How far off ``send_at`` may be."""


class FallbackTemplate(Checked, frozen=True, kw_only=True):
    """What is sent in place of a message that Meta refuses because the 24-hour window is closed."""

    template_name: str
    language: str = "es"
    parameters: Parameters = field(default_factory=list)
    components: list[Any] = field(default_factory=list)


class Options(Checked, frozen=True, kw_only=True):
    """Fields of every send."""

    send_at: Time | None = None
    expires_at: Time | None = None
    callback_data: Annotated[str, Meta(max_length=512)] = ""
    phone_number_id: str | int = ""
    """Which of our numbers sends; the default one unless it is named."""
    ordered: bool = False
    on_unknown: Literal["resend", "fail"] | None = None
    fallback_template: FallbackTemplate | None = None


class OneOptions(Options, frozen=True, kw_only=True):
    """Fields of every send to one recipient, but for that one."""

    use_queue: bool = False
    priority: PriorityName = "high"


class OneRequest(OneOptions, frozen=True, kw_only=True):
    """Fields of every send to one recipient."""

    phone: Phone


class ManyRequest(Options, frozen=True, kw_only=True):
    """Fields of every send to many."""

    use_queue: bool = True
    priority: PriorityName = "low"
    on_invalid: Literal["refuse", "skip"] = "refuse"
    duplicates: Literal["keep", "drop"] = "keep"
    opted_out: Literal["skip", "send"] = "skip"
    """Whether people who have opted out are left out; of marketing templates they are in any case."""


def terms_of(options: Options, now_ms: int, findings: Findings) -> Terms:
    """What the options say of time and of the caller's own data; ``findings`` tell what does not hold now."""
    due = _time(options.send_at, "send_at", now_ms, findings)
    if due - now_ms > _MAX_AHEAD_MS:
        findings.fault("send_at", "is more than 30 days away")
    expires = _time(options.expires_at, "expires_at", now_ms, findings)
    if due and expires and expires <= due:
        findings.fault("expires_at", "must be after send_at")
    return Terms(due, expires, options.callback_data, options.ordered, options.on_unknown or "")


def lane_of(options: Options, numbers: Sequence[str], findings: Findings) -> str:
    """The number that sends. ``numbers``: ours, the default first."""
    asked = str(options.phone_number_id)
    if fault := number_fault(asked, numbers):
        findings.fault(*fault)
    return asked or numbers[0]


def number_fault(asked: str, numbers: Sequence[str]) -> Problem | None:
    """What is wrong with a number that a caller names, who may name none."""
    if not asked or asked in numbers:
        return None
    return ("phone_number_id", f"is none of the numbers here: {', '.join(numbers)}")


def _time(text: str | None, name: str, now_ms: int, findings: Findings) -> int:
    """Milliseconds since 1970; 0 where there is none, or it cannot be."""
    if text is None:
        return 0
    try:
        time = int(datetime.fromisoformat(text.upper()).timestamp() * 1000)
    except ValueError:
        findings.fault(name, "is no time that there is")
        return 0
    if time <= now_ms:
        findings.fault(name, "is in the past")
        return 0
    return time
