"""The rules of automations: which of them a customer's message meets.

Pure. The conditions of a rule must all hold, and none of its ``unless``; of a condition that lists several
values one must. Patterns are RE2's, whose time is linear in the text, whoever wrote the text or the pattern.
The first rule that is met acts, and those after it too if it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import re2

from whatsapp.opening_hours import Span, is_within
from whatsapp.plain_words import plain_words

__all__ = ["Conditions", "Incoming", "Matched", "Pattern", "Rule", "compile_pattern", "match", "phrase"]

_LONGEST = 8192
"""Characters of a text that are looked at; Meta's are 4,096 at most (CLOUD_API.md 1.3)."""


class Pattern:
    """A regular expression. Case counts only where it says ``(?-i)``."""

    __slots__ = ("_compiled", "groups", "source")

    def __init__(self, source: str) -> None:
        """Raises ValueError that says what is wrong."""
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = 1 << 20
        try:
            self._compiled = re2.compile(source, options)
        except re2.error as error:
            why = error.args[0] if error.args else error
            raise ValueError(why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)) from None
        self.groups: int = self._compiled.groups
        self.source = source

    def find(self, text: str) -> tuple[str, ...] | None:
        """What it matches first in a text, and its groups; None where nothing."""
        found = self._compiled.search(text)
        return None if found is None else (found[0], *(group or "" for group in found.groups()))


def compile_pattern(source: str) -> Pattern:
    """As :class:`Pattern`."""
    return Pattern(source)


class Incoming(msgspec.Struct, frozen=True):
    """A customer's message, as far as rules look at it."""

    text: str
    type: str = "text"
    """Meta's name of its kind."""
    button: str = ""
    """The id of the button or row that was chosen, or the payload of a template's."""
    phone_number_id: str = ""
    """Ours."""
    at: int = 0
    """When it came in."""
    silent_ms: int | None = None
    """How long the contact had not written before; None: never. Looked at by ``first_within`` only."""


class Conditions(msgspec.Struct, frozen=True):
    """What must hold of a message; what is empty asks nothing."""

    phrases: tuple[tuple[str, str], ...] = ()
    """Of each keyword its words, with a space around (:func:`phrase`), and as it was written."""
    texts: frozenset[str] = frozenset()
    """Whole messages, as plain words."""
    patterns: tuple[Pattern, ...] = ()
    types: frozenset[str] = frozenset()
    buttons: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    hours: tuple[Span, ...] = ()
    zone: ZoneInfo | None = None
    first_within_ms: int | None = None
    """The contact has written nothing for so long before; 0: never."""

    def find(self, message: Incoming, words: str) -> tuple[str, ...] | None:
        """What of the text was matched, and the groups of a pattern; None where one of them does not hold.
        ``words``: those of the text, plain."""
        if (
            (self.types and message.type not in self.types)
            or (self.buttons and message.button not in self.buttons)
            or (self.numbers and message.phone_number_id not in self.numbers)
            or (self.hours and not is_within(self.hours, _local(message.at, self.zone)))
            or not self._is_first(message)
        ):
            return None
        return self._find_text(message.text[:_LONGEST], words)

    def _is_first(self, message: Incoming) -> bool:
        if self.first_within_ms is None or message.silent_ms is None:
            return True
        return 0 < self.first_within_ms <= message.silent_ms

    def _find_text(self, text: str, words: str) -> tuple[str, ...] | None:
        found: tuple[str, ...] = (text,)
        if self.texts and words not in self.texts:
            return None
        if self.phrases:
            spaced = f" {words} "
            said = next((written for phrase, written in self.phrases if phrase in spaced), None)
            if said is None:
                return None
            found = (said,)
        if self.patterns:
            matched = (pattern.find(text) for pattern in self.patterns)
            first = next((one for one in matched if one is not None), None)
            if first is None:
                return None
            found = first
        return found


class Rule(msgspec.Struct, frozen=True):
    """When it acts. What it does is the business of who asks."""

    name: str
    when: Conditions
    unless: Conditions | None = None
    stop: bool = True
    """Whether those after it are not looked at where it acts."""
    cooldown_ms: int = 0
    """It acts for the same contact at most once in this time."""


class Matched(msgspec.Struct, frozen=True):
    """A rule that is to act."""

    rule: Rule
    found: tuple[str, ...]
    """The matched text, and the groups of its pattern."""

    def values(self, name: str) -> dict[str, str]:
        """What is to be put into places."""
        groups = {str(n): group for n, group in enumerate(self.found)}
        return {"name": name, "match": self.found[0], **groups}


def match(rules: Sequence[Rule], message: Incoming) -> list[Matched]:
    """Those that are to act, in order."""
    acting = []
    words = plain_words(message.text[:_LONGEST])
    for rule in rules:
        found = rule.when.find(message, words)
        if found is None or (rule.unless is not None and rule.unless.find(message, words) is not None):
            continue
        acting.append(Matched(rule, found))
        if rule.stop:
            break
    return acting


def phrase(keyword: str) -> tuple[str, str]:
    """A keyword for :attr:`Conditions.phrases`; one without letters and digits is found nowhere."""
    words = plain_words(keyword)
    return (f" {words} " if words else "\n"), keyword


def _local(at: int, zone: ZoneInfo | None) -> datetime:
    return datetime.fromtimestamp(at / 1000, zone or UTC)
