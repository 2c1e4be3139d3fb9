"""Times of the week, as a shop writes them on its door: ``mon-fri 09:00-18:00``.

Pure. Times are those of the wall clock in a time zone: an hour that summer time leaves out never comes, and
one that comes twice counts twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

__all__ = ["Span", "is_within", "parse_span"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(r"(?:([a-z, -]+) )?(\d\d):(\d\d) ?- ?(\d\d):(\d\d)")
_DAY = 24 * 60
_WRONG = "must be hours such as mon-fri 09:00-18:00, sat,sun 10:00-14:00 or 22:00-06:00"


class Span(NamedTuple):
    """Hours of some days of the week, the end not among them; to the next day's where the end comes first."""

    days: frozenset[int]
    """0 is Monday."""
    start: int
    """Minutes since midnight."""
    end: int


def parse_span(text: str) -> Span:
    """What a text means. Raises ValueError that says what it should be."""
    found = _FORM.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise ValueError(_WRONG)
    hours = [int(part) for part in found.groups()[1:]]
    start, end = 60 * hours[0] + hours[1], 60 * hours[2] + hours[3]
    if hours[1] > 59 or hours[3] > 59 or start >= _DAY or end > _DAY or start == end:
        raise ValueError(_WRONG)
    return Span(_days(found[1]), start, end)


def is_within(spans: Iterable[Span], local: datetime) -> bool:
    """Whether a time of the wall clock lies in one of these."""
    day, minute = local.weekday(), 60 * local.hour + local.minute
    return any(_covers(span, day, minute) for span in spans)


def _covers(span: Span, day: int, minute: int) -> bool:
    if span.start < span.end:
        return day in span.days and span.start <= minute < span.end
    after_midnight = (day - 1) % 7 in span.days and minute < span.end
    return after_midnight or (day in span.days and minute >= span.start)


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if first not in _DAYS or last not in _DAYS:
            raise ValueError(_WRONG)
        begin, end = _DAYS.index(first), _DAYS.index(last)
        days |= {day % 7 for day in range(begin, end + 1 if begin <= end else end + 8)}
    return frozenset(days)
