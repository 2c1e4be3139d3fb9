"""Templates that Meta has stopped: their messages wait, those of all else go on.

Pure: times are arguments, ``now`` in monotonic seconds, ``wall`` in milliseconds since 1970. Owns which
templates of a number are held, why, and until when. One is held by a refusal (scope TEMPLATE in the error
table) or by Meta's word (``message_template_status_update``, CLOUD_API.md 4.7); it is let go by Meta's word
or list, or by a message that is tried after a while, or once a person says so, and that Meta takes. Where
that one is refused too, the next is tried after twice as long.

What order means then: a message of a held template steps aside, and what its recipient has waiting behind it
goes on. Once the template is let go, its messages leave in the order in which they were due, ahead of what
came in after them, but behind what of the same recipient went past them and is not over yet. Those that have
waited too long are given up. What is held is known to the lane alone: a new one learns it by the next
refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from math import inf
from typing import Any, NamedTuple

import msgspec

from store.records import Event, Row
from whatsapp.errors import GraphError, Outcome, Verdict, classify
from whatsapp.templates import Template as Listed

__all__ = [
    "News",
    "Pass",
    "Template",
    "TemplateHolds",
    "named",
    "news_of",
    "resumed",
    "template_of",
    "usable_of",
]

_HOUR = 3600.0
_FIRST_S = {132001: 60.0, 132015: 3 * _HOUR}
"""After how long the first message is tried, by code: a first pause is 3 hours (CLOUD_API.md 3), a template
that is not there may be there in a minute."""
_USUAL_S = _HOUR
_MOST_S = 6 * _HOUR
_RELAPSE_S = 600.0
"""Held again within this time, it was not well in between."""
_TRIAL_S = 60.0
"""Within this time the message that is tried must have been answered, or another is."""
_FORGOTTEN_S = _HOUR
"""So long after the first could have been tried, where nobody has asked since and none is known to wait."""
_CANDIDATES = 8
_REMEMBERED = 1000

_STOPS = {"PAUSED": 132015, "DISABLED": 132016, "ARCHIVED": 132001}
_BY_STATUS = frozenset({132015, 132016})
"""Codes that a template's status explains: where the list says that it is approved, they are over."""
_LETS_GO = frozenset({"APPROVED", "REINSTATED", "UNARCHIVED"})
_UNPAUSED = "UNPAUSE"


class Template(NamedTuple):
    """A template in a language, as Meta tells them apart."""

    name: str
    language: str


class News(NamedTuple):
    """What Meta says of a template."""

    template: Template
    stops: Verdict | None
    """Why its messages are to wait; None: they may go."""
    at: int
    """When Meta says that it was so, in seconds since 1970."""


class Pass(Enum):
    """What is to be done with a row that could leave."""

    GO = "go"
    ASIDE = "aside"
    """It waits in the store, and holds nobody back."""
    GIVE_UP = "give up"
    """It has waited too long."""


class _Hold:
    """What is known of a template that is held."""

    __slots__ = (
        "asked_at",
        "candidates",
        "oldest_due",
        "since",
        "trial",
        "trial_at",
        "trial_until",
        "verdict",
        "wait_s",
    )

    def __init__(self, verdict: Verdict, wait_s: float, now: float) -> None:
        self.candidates: dict[str, tuple[int, int]] = {}  # rows that wait -> (due, seq), the first of them
        self.oldest_due = 0  # of all that wait; 0: none does
        self.since = now
        self.asked_at = now  # when a row of it was last seen
        self.wait(verdict, wait_s, now)

    def wait(self, verdict: Verdict, wait_s: float, now: float) -> None:
        self.verdict = verdict
        self.wait_s = wait_s
        self.trial_at = now + wait_s
        self.trial = ""
        self.trial_until = -inf


class TemplateHolds:
    """Those of one number. ``most_s``: seconds that a message waits at most."""

    def __init__(self, most_s: float) -> None:
        self._most_ms = int(1000 * most_s)
        self._holds: dict[Template, _Hold] = {}
        self._let_go: dict[Template, tuple[float, float]] = {}  # -> (when, its last wait)
        self._news_at: dict[Template, int] = {}
        self._released: int | None = None

    def __bool__(self) -> bool:
        return bool(self._holds)

    # -- holding and letting go ------------------------------------------------------------------------

    def refused(self, row: Row, verdict: Verdict, now: float) -> Template | None:
        """Meta refuses a row for its template: the template, where that is news."""
        template = template_of(row.payload)
        if template is None:
            return None
        hold = self._holds.get(template)
        if hold is None:
            self._holds[template] = _Hold(verdict, self._first_wait_s(template, verdict, now), now)
            return template
        if row.id == hold.trial:
            hold.candidates.pop(row.id, None)
            hold.wait(verdict, max(_own_wait_s(verdict), min(_MOST_S, 2 * hold.wait_s)), now)
        return None

    def accepted(self, row: Row, now: float) -> Template | None:
        """Meta took a row: the template that this lets go."""
        template = template_of(row.payload) if self._holds else None
        hold = self._holds.get(template) if template else None
        # Others Meta may have taken before it stopped the template.
        if template is None or hold is None or hold.trial != row.id:
            return None
        self._release(template, now)
        return template

    def heard(self, news: News, now: float) -> bool:
        """Meta says something of a template; whether that changes anything. Older news than those known do
        not."""
        if news.at < self._news_at.get(news.template, 0):
            return False
        _remember(self._news_at, news.template, news.at)
        hold = self._holds.get(news.template)
        if news.stops is None:
            if hold is not None:
                self._release(news.template, now)
            return hold is not None
        if hold is None:
            # The news may be of another account's template of that name: a message that is tried settles it.
            wait_s = self._first_wait_s(news.template, news.stops, now)
            self._holds[news.template] = _Hold(news.stops, wait_s, now)
            return True
        # When one is tried stays as it was; what is to be done about it does not.
        is_news = hold.verdict.code != news.stops.code
        hold.verdict, hold.since = news.stops, now
        return is_news

    def listed(self, usable: Collection[Template], asked_at: float, now: float) -> list[Template]:
        """Meta's list, asked for at ``asked_at``, has these as approved: the templates that this lets go.

        One that was let go within hours, and refused again, is not: the list may be another account's.
        """
        free = [
            template
            for template, hold in self._holds.items()
            if template in usable
            and hold.verdict.code in _BY_STATUS
            and hold.since < asked_at
            and now >= self._let_go.get(template, (-inf, 0.0))[0] + _MOST_S
        ]
        for template in free:
            self._release(template, now)
        return free

    def resume(self, template: Template, now: float) -> bool:
        """A person says that it is well again: its next message is tried at once, and where none waits it is
        let go. Whether it was held."""
        hold = self._holds.get(template)
        if hold is None:
            return False
        hold.trial_at = min(hold.trial_at, now)
        if not hold.oldest_due:
            self._release(template, now)
        return True

    def released(self) -> int | None:
        """Since when rows wait (ms) whose template has been let go; told once, None where there are none."""
        since, self._released = self._released, None
        return since

    def _release(self, template: Template, now: float) -> None:
        hold = self._holds.pop(template)
        _remember(self._let_go, template, (now, hold.wait_s))
        if hold.oldest_due:
            self._released = min(hold.oldest_due, self._released or hold.oldest_due)

    def _first_wait_s(self, template: Template, verdict: Verdict, now: float) -> float:
        wait_s = _own_wait_s(verdict)
        let_go_at, last_s = self._let_go.get(template, (-inf, 0.0))
        return max(wait_s, min(_MOST_S, 2 * last_s)) if now < let_go_at + _RELAPSE_S else wait_s

    # -- rows ------------------------------------------------------------------------------------------

    def judge(self, row: Row, now: float, wall: int) -> Pass:
        """Whether a row that leaves now may; where one is to be tried, it is this. One that expires is let
        through, to end."""
        passes = self._judge(row, now, wall)
        hold = self._hold_of(row)
        if passes is Pass.GO and hold is not None and row.id != hold.trial and not _expires(row, wall):
            hold.trial, hold.trial_until = row.id, now + _TRIAL_S
        return passes

    def waits(self, row: Row, now: float, wall: int) -> bool:
        """Whether a row that is read is to stay in the store. It is not tried by this: it may not be able to
        leave for long."""
        return self._judge(row, now, wall) is Pass.ASIDE

    def _judge(self, row: Row, now: float, wall: int) -> Pass:
        hold = self._hold_of(row)
        if hold is None:
            return Pass.GO
        hold.asked_at = now
        if row.id == hold.trial or _expires(row, wall):
            return Pass.GO
        if wall >= max(row.due, row.created_at) + self._most_ms:
            return Pass.GIVE_UP
        if now >= hold.trial_at and now >= hold.trial_until:
            return Pass.GO
        hold.oldest_due = min(row.due, hold.oldest_due or row.due)
        _keep_first(hold.candidates, row)
        return Pass.ASIDE

    def _hold_of(self, row: Row) -> _Hold | None:
        template = template_of(row.payload) if self._holds else None
        return self._holds.get(template) if template else None

    def why(self, row: Row) -> Verdict | None:
        """Why the rows of this row's template are held; None where they are not."""
        hold = self._hold_of(row)
        return hold.verdict if hold else None

    def trials(self, now: float) -> tuple[list[str], int]:
        """Rows of which the first that is there may be tried now; and since when rows wait (ms) of a template
        that has none of its rows to name, 0 where there is no such. Forgets templates that nobody sends."""
        self._forget(now)
        ids: list[str] = []
        since = 0
        for hold in self._holds.values():
            if not hold.oldest_due or now < max(hold.trial_at, hold.trial_until):
                continue
            if hold.candidates:
                # One that is not there any more is not named again.
                first = min(hold.candidates, key=hold.candidates.__getitem__)
                del hold.candidates[first]
                ids.append(first)
            else:
                since = min(hold.oldest_due, since or hold.oldest_due)
                hold.oldest_due = 0
        return ids, since

    def _forget(self, now: float) -> None:
        idle = [
            template
            for template, hold in self._holds.items()
            if not hold.oldest_due
            and now >= max(hold.trial_at, hold.trial_until, hold.asked_at) + _FORGOTTEN_S
        ]
        for template in idle:
            del self._holds[template]

    def status(self, now: float) -> list[dict[str, Any]]:
        """For status pages."""
        return [
            {
                "name": template.name,
                "language": template.language,
                "why": hold.verdict.operator,
                "trial_in_s": round(max(0.0, hold.trial_at - now), 1),
            }
            for template, hold in self._holds.items()
        ]


def _expires(row: Row, wall: int) -> bool:
    return bool(row.expires_at) and row.expires_at <= wall


def _own_wait_s(verdict: Verdict) -> float:
    return verdict.delay_s if verdict.outcome is Outcome.RETRY else _FIRST_S.get(verdict.code, _USUAL_S)


def _keep_first(candidates: dict[str, tuple[int, int]], row: Row) -> None:
    candidates[row.id] = (row.due, row.seq)
    if len(candidates) > _CANDIDATES:
        del candidates[max(candidates, key=candidates.__getitem__)]


def _remember(known: dict[Template, Any], template: Template, value: Any) -> None:
    known.pop(template, None)
    if len(known) >= _REMEMBERED:
        del known[next(iter(known))]
    known[template] = value


# -- reading -------------------------------------------------------------------------------------------------


class _Language(msgspec.Struct):
    code: str = ""


class _Sent(msgspec.Struct):
    name: str = ""
    language: _Language = msgspec.field(default_factory=_Language)


class _Message(msgspec.Struct):
    template: _Sent | None = None


def template_of(payload: bytes) -> Template | None:
    """The template that a message object sends (CLOUD_API.md 1.3); None where it sends something else."""
    if b'"template"' not in payload:
        return None
    try:
        sent = msgspec.json.decode(payload, type=_Message).template
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return named(sent.name, sent.language.code) if sent else None


def named(name: str, language: str) -> Template:
    """The template that is meant, however its language is spelt."""
    return Template(name, language.replace("-", "_").lower())


class _Info(msgspec.Struct):
    title: str = ""


class _Value(msgspec.Struct):
    event: str = ""
    message_template_name: str = ""
    message_template_language: str = ""
    other_info: _Info | None = None


class _Update(msgspec.Struct):
    field: str
    value: _Value
    time: int | None = None


class _Body(msgspec.Struct):
    data: _Update


def usable_of(listed: Iterable[Listed]) -> frozenset[Template]:
    """Those of Meta's list that may be sent."""
    return frozenset(named(one.name, one.language) for one in listed if one.usable)


def news_of(event: Event) -> News | None:
    """What a ``template.status`` event says; None where it changes nothing for messages."""
    try:
        update = msgspec.json.decode(event.body, type=_Body).data
    except msgspec.MsgspecError:
        return None
    value = update.value
    if update.field != "message_template_status_update" or not value.message_template_name:
        return None
    template = named(value.message_template_name, value.message_template_language)
    unpaused = value.other_info is not None and value.other_info.title == _UNPAUSED
    at = update.time or 0
    if unpaused or value.event in _LETS_GO:
        return News(template, None, at)
    code = _STOPS.get(value.event)
    if code is None:
        return None
    return News(template, classify(GraphError(code=code, from_graph=True, by_webhook=True)), at)


class _Resumed(msgspec.Struct):
    data: dict[str, str]


def resumed(event: Event) -> Template:
    """The template of a ``template.resumed`` event."""
    return Template(**msgspec.json.decode(event.body, type=_Resumed).data)
