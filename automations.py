"""From the settings to automations: rules with their conditions and answers, and the programs that messages
are handed over to.

Owns how a rule is written, and that one that could not be met or whose answer could not be sent is found
before anything starts, by the checks that a request of the REST API goes through. Read by ``config.py`` and
``server.py`` only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from handlers.drafting import read_fields
from handlers.handed_messages import reader_of
from handlers.options import OneOptions
from handlers.sends import ONE, OneSend
from receivers import Surroundings, headers_of
from settings import AutoReplyRule, AutoReplySettings, Fault, Key, RuleConditions, Settings
from store.errors import Problem
from whatsapp.autoreply import Automation
from whatsapp.compose import Composed, reword, text, translate
from whatsapp.handover import HandOver
from whatsapp.opening_hours import parse_span
from whatsapp.outbox import Outbox
from whatsapp.outside import Poster
from whatsapp.places import MESSAGE_ID, NAME, places_of, settled
from whatsapp.plain_words import plain_words
from whatsapp.rules import Conditions, Pattern, Rule, compile_pattern, phrase
from whatsapp.validate import Findings, join

__all__ = ["automations_of", "faults_of", "make_handovers", "renew_secrets"]

_SENDS: Mapping[str, OneSend] = {
    path.removeprefix("/api/send-").replace("-", "_"): send for path, send in ONE.items()
}
"""By the names of their paths: ``message``, ``button``, ``location_request``, ..."""
_MATCH = "match"
_ENVELOPE = ("messaging_product", "recipient_type", "to", "recipient", "biz_opaque_callback_data")
_DAY_MS = 24 * 3600 * 1000
_RULES: Key = ("autoreply", "rules")
_TIMEZONE: Key = ("autoreply", "timezone")
_CONDITIONS = tuple(RuleConditions.__struct_fields__)


def automations_of(settings: AutoReplySettings) -> list[Automation]:
    """Those that the settings name, which :func:`faults_of` has found to be right."""
    return [_automation(rule, settings, []) for rule in settings.rules]


def faults_of(settings: AutoReplySettings, numbers: Collection[str] = ()) -> Iterator[Fault]:
    """What is wrong with the rules, each by its name and key. ``numbers``: those that send, as far as that is
    known here."""
    if _zone(settings.timezone) is None:
        yield (_TIMEZONE,), f"is none that there is: {settings.timezone!r}"
    programs = [program.name for program in settings.handovers]
    for rule in settings.rules:
        problems: list[Problem] = []
        _automation(rule, settings, problems)
        if rule.hand_over and rule.hand_over not in programs:
            known = ", ".join(programs) or "none is there"
            problems.append(("hand_over", f"names none of [[autoreply.handovers]]: {known}"))
        problems += _unknown_numbers(rule, numbers)
        yield from (((_RULES,), f"rule {rule.name!r}: {path}: {why}") for path, why in problems)


def _automation(rule: AutoReplyRule, settings: AutoReplySettings, problems: list[Problem]) -> Automation:
    when = _conditions(rule, settings.timezone, "", problems)
    unless = None
    if rule.unless is not None:
        unless = _conditions(rule.unless, rule.timezone or settings.timezone, "unless", problems)
        if not _says_something(rule.unless):
            problems.append(("unless", "must have a condition"))
    if rule.always == _says_something(rule):
        why = "goes with no other condition" if rule.always else "must be true where there is no condition"
        problems.append(("always", why))
    cooldown_s = rule.cooldown_s
    if cooldown_s is None:
        # What a program is told of it decides itself whether to answer again.
        cooldown_s = 0.0 if rule.hand_over else settings.cooldown_s
    kind, content = _answer(rule, when, problems)
    return Automation(
        Rule(rule.name, when, unless, rule.stop, int(cooldown_s * 1000)), kind, content, rule.hand_over
    )


def make_handovers(settings: AutoReplySettings, around: Surroundings, outbox: Outbox) -> list[HandOver]:
    """The way to each program that the settings name."""
    clock = around.clock
    return [
        HandOver(
            program.name,
            Poster(
                str(program.url),
                secret=str(program.secret),
                headers=headers_of(program.headers),
                answer_timeout_s=settings.handover_timeout_s,
                now_ms=clock.now_ms,
            ),
            reader_of(clock.now_ms),
            store=around.store,
            log=around.log,
            outbox=outbox,
            owner=around.owner,
            lease_ttl_ms=around.lease_ttl_ms,
            max_age_s=settings.max_age_s,
            now_ms=clock.now_ms,
            random=around.random,
        )
        for program in settings.handovers
    ]


def renew_secrets(handovers: Iterable[HandOver], settings: Settings) -> list[str]:
    """Take over the secrets of programs from settings that were read again; names of those that changed."""
    secrets = {program.name: str(program.secret) for program in settings.autoreply.handovers}
    return [
        handover.target
        for handover in handovers
        if handover.target in secrets and handover.set_secret(secrets[handover.target])
    ]


# -- conditions --------------------------------------------------------------------------------------------


def _says_something(conditions: RuleConditions) -> bool:
    names = [name for name in _CONDITIONS if name != "timezone"]
    return any(getattr(conditions, name) not in ((), None, False) for name in names)


def _conditions(given: RuleConditions, otherwise: str, path: str, problems: list[Problem]) -> Conditions:
    def tell(name: str, why: str) -> None:
        problems.append((join(path, name), why))

    patterns: list[Pattern] = []
    for n, source in enumerate(given.patterns):
        try:
            patterns.append(compile_pattern(source))
        except ValueError as error:
            tell(f"patterns[{n}]", f"is no pattern of RE2's: {error}")
    spans = []
    for n, hours in enumerate(given.hours):
        try:
            spans.append(parse_span(hours))
        except ValueError as error:
            tell(f"hours[{n}]", str(error))
    zone = _zone(given.timezone or otherwise)
    if given.timezone and zone is None:
        tell("timezone", f"is none that there is: {given.timezone!r}")
    if given.timezone and not given.hours:
        tell("timezone", "goes with hours")
    for n, whole in enumerate(given.texts):
        if not plain_words(whole):
            tell(f"texts[{n}]", "has neither a letter nor a digit")
    if given.first_contact and given.first_within_days:
        tell("first_within_days", "does not go with first_contact")
    first_ms = 0 if given.first_contact else None
    if given.first_within_days:
        first_ms = int(given.first_within_days * _DAY_MS)
    return Conditions(
        phrases=tuple(map(phrase, given.keywords)),
        texts=frozenset(map(plain_words, given.texts)),
        patterns=tuple(patterns),
        types=frozenset(given.types),
        buttons=frozenset(given.buttons),
        numbers=frozenset(given.numbers),
        hours=tuple(spans),
        zone=zone,
        first_within_ms=first_ms,
    )


def _unknown_numbers(rule: AutoReplyRule, numbers: Collection[str]) -> Iterator[Problem]:
    for path, conditions in (("numbers", rule), ("unless.numbers", rule.unless)):
        given = conditions.numbers if conditions is not None else ()
        if unknown := [number for number in given if numbers and number not in numbers]:
            yield path, f"{unknown[0]!r} is none of the numbers here: {', '.join(numbers)}"


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


# -- answers -----------------------------------------------------------------------------------------------


def _answer(rule: AutoReplyRule, when: Conditions, problems: list[Problem]) -> tuple[str, dict[str, Any]]:
    """Kind and content; nothing of a rule that hands over, or is at fault."""
    ways = [name for name in ("text", "message", "send", "hand_over") if getattr(rule, name)]
    if len(ways) != 1:
        problems.append(("text", "give one of text, message, send and hand_over"))
        return "", {}
    if rule.hand_over:
        return "", {}
    composed, kind = _composed(rule, ways[0], problems)
    if composed is None:
        return "", {}
    prefix = "" if ways[0] == "text" else ways[0]
    problems += [(join(prefix, path), why) for path, why in composed.problems]
    _check_places(composed.content, when, prefix or "text", problems)
    # Nothing is longer than one character then: what does not fit here never does.
    named = dict.fromkeys(places_of(composed.content), "x")
    _, findings = settled(composed.content, named)
    for path, why in findings.problems:
        problems.append((join(prefix, translate(path, composed.names)), reword(why, composed.names)))
    return kind, composed.content


def _composed(rule: AutoReplyRule, way: str, problems: list[Problem]) -> tuple[Composed | None, str]:
    if way == "text":
        return text(rule.text, name="text"), "text"
    if way == "message":
        given = rule.message or {}
        faults = [(f"message.{name}", "is filled in by the gateway") for name in _ENVELOPE if name in given]
        problems += faults
        content = {name: value for name, value in given.items() if name not in _ENVELOPE}
        content.setdefault("type", "text")
        return Composed(content, ()), str(content["type"])
    return _sent(rule.send or {}, problems)


def _sent(given: dict[str, Any], problems: list[Problem]) -> tuple[Composed | None, str]:
    """As the paths of the REST API compose it."""
    name = str(given.get("kind", "")).replace("-", "_")
    send = _SENDS.get(name)
    if send is None:
        problems.append(("send.kind", f"must be one of {', '.join(_SENDS)}"))
        return None, ""
    findings = Findings()
    fields = {key: value for key, value in given.items() if key != "kind"}
    read = read_fields({**fields, "phone": "10000000000"}, send.request, findings, "send")
    findings.problems += [(path, f"is no field of it{hint}") for path, hint in findings.unknown]
    not_here = OneOptions.__struct_fields__
    findings.problems += [(f"send.{key}", "is no field of an answer") for key in fields if key in not_here]
    if "phone" in fields:
        findings.problems.append(("send.phone", "is whoever wrote"))
    problems += findings.problems
    if read is None or findings.problems:
        return None, ""
    return send.compose(read.fields), send.kind


def _check_places(content: Mapping[str, Any], when: Conditions, path: str, problems: list[Problem]) -> None:
    groups = min((pattern.groups for pattern in when.patterns), default=0)
    known = {NAME, _MATCH, MESSAGE_ID, *(str(n) for n in range(groups + 1))}
    there = ", ".join(sorted(known))
    for name in sorted(set(places_of(content)) - known):
        problems.append((path, f"has a place {{{name}}} that nothing fills: there are {there}"))
