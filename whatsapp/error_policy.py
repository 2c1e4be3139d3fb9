"""What one error code of Meta's means for a send: the shape of a line of the error table.

Owns the words of the table (:class:`Action`, :class:`Scope`, :class:`ErrorPolicy`) and the four kinds of
lines that it is made of. The lines are in ``error_table.py`` and ``error_table_management.py``; ``errors.py``
applies them.

Three rules turn the classes of CLOUD_API.md 2 and CLOUD_API_2026.md 12.2 into lines about a send:

- "Stop the lane, human" parks the number only where every message of the number would be refused. Where
  one feature is at fault (a group, calls, payments, the marketing API), the message fails, and the
  operator's sentence asks for a person: parking would hold back all the other messages.
- "Later" is a retry up to about an hour. A message that could only go a day later fails, because the later
  messages to its recipient would wait behind it that long. (Where the whole broadcast waits anyway, it may be
  hours.)
- A brake on more than the message itself (a rate of the number, of the app) does not count against the
  message's limit.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Action", "ErrorPolicy", "Scope", "brake", "fail", "park", "retry"]


class Action(StrEnum):
    """What becomes of the message."""

    RETRY = "retry"
    """Try again with backoff."""
    FAIL = "fail"
    """Never again unchanged: dead letter."""
    PARK = "park"
    """Stop the lane until a person or a probe says otherwise; the message goes back into the queue."""


class Scope(StrEnum):
    """What is held up beside or instead of the message."""

    ROW = "row"
    """The message alone."""
    PAIR = "pair"
    """All messages of the number to this recipient."""
    TEMPLATE = "template"
    """All messages of the number with this template in this language."""
    LANE = "lane"
    """The number's pace: it goes on, slower."""
    NUMBER = "number"
    """All messages of the number."""
    ACCOUNT = "account"
    """All numbers of the same business account."""
    APP = "app"
    """All numbers that send through the same app."""
    BROADCAST = "broadcast"
    """The number's messages of normal and low priority: Meta brakes for quality."""


class ErrorPolicy(msgspec.Struct, frozen=True):
    """One line of the table."""

    codes: range
    """The codes that it is about, mostly one."""
    name: str
    """What the code means, as one machine word."""
    action: Action
    scope: Scope
    burn: bool
    """Whether the attempt counts against the message's limit."""
    doubt: bool
    """Whether the message may have gone out all the same."""
    first_delay_s: float
    """Seconds before which another try is useless; 0: backoff alone decides."""
    max_tries: int
    """Attempts after which a retry ends in a dead letter; 0: the general limit."""
    operator: str
    """One sentence to the operator: what happened, and what to do."""


def fail(code: int, name: str, operator: str, *, to: int = 0, scope: Scope = Scope.ROW) -> ErrorPolicy:
    """A refusal for good; with ``scope`` TEMPLATE the other messages of that template would fare no better.

    ``to`` is the last code of a range that begins with ``code``, here and in the other three.
    """
    return ErrorPolicy(_codes(code, to), name, Action.FAIL, scope, True, False, 0.0, 0, operator)


def retry(
    code: int,
    name: str,
    operator: str,
    *,
    to: int = 0,
    scope: Scope = Scope.ROW,
    doubt: bool = False,
    after_s: float = 0.0,
    tries: int = 0,
) -> ErrorPolicy:
    """A failure that may pass; each attempt counts."""
    return ErrorPolicy(_codes(code, to), name, Action.RETRY, scope, True, doubt, after_s, tries, operator)


def brake(
    code: int, name: str, operator: str, *, to: int = 0, scope: Scope, after_s: float = 0.0
) -> ErrorPolicy:
    """A limit of something larger than the message; the message waits for it and loses no attempt."""
    return ErrorPolicy(_codes(code, to), name, Action.RETRY, scope, False, False, after_s, 0, operator)


def park(code: int, name: str, operator: str, *, to: int = 0) -> ErrorPolicy:
    """The number cannot send at all until something is put right; no attempt counts."""
    return ErrorPolicy(_codes(code, to), name, Action.PARK, Scope.NUMBER, False, False, 0.0, 0, operator)


def _codes(first: int, last: int) -> range:
    return range(first, (last or first) + 1)
