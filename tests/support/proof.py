"""The counting after a trial: what was acknowledged against what is in the log and what Meta took.

Pure: lists in, a :class:`Count` out; fails where a promise was broken, naming the first offenders. What holds
after any trial is :func:`prove`; the rest is for those that it applies to.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

__all__ = [
    "Acknowledged",
    "Count",
    "check_completed",
    "check_direct",
    "check_replies",
    "check_threads",
    "prove",
]

Json = dict[str, Any]


class Count(NamedTuple):
    """What a trial came to."""

    rows: int
    """Rows that Meta took at least once."""
    doubles: int
    """Rows that Meta took more than once."""
    unknowns: int
    """Attempts of which nobody knew how they had ended."""
    told: int
    """Rows of which the log says that they were doubled."""


class Acknowledged(Protocol):
    """What callers were answered with success."""

    @property
    def webhooks(self) -> Collection[str]:
        """Inbound messages, by wamid."""
        ...

    @property
    def sends(self) -> Mapping[str, Sequence[str]]:
        """Recipients, in the order of the rows, by task id."""
        ...


def prove(events: Sequence[Json], acknowledged: Acknowledged, accepted: Sequence[Json]) -> Count:
    """``events``: the log, whole; ``accepted``: what Meta took. Fails where something was lost, or doubled in
    silence."""
    _check_chain(events)
    _check_webhooks(events, acknowledged.webhooks)
    _check_statuses(events, accepted)
    _check_sends(events, acknowledged.sends, accepted)
    return _check_doubts(events, accepted)


def _check_chain(events: Sequence[Json]) -> None:
    """Each event follows the one before it, from the first of the log on: none is missing, none is twice."""
    before = 0
    for event in events:
        assert event["prev"] == before, f"{event['offset']} follows {event['prev']}, but {before} came before"
        assert event["offset"] > before, event
        before = event["offset"]


def _check_webhooks(events: Iterable[Json], acknowledged: Collection[str]) -> None:
    """Every acknowledged message is in the log once, and no message is twice."""
    found = Counter(
        event["data"]["message"]["id"] for event in events if event["event"] == "message.received"
    )
    _none([wamid for wamid in acknowledged if wamid not in found], "acknowledged and not in the log")
    _none([wamid for wamid, times in found.items() if times > 1], "more than once in the log")


def _check_statuses(events: Iterable[Json], accepted: Iterable[Json]) -> None:
    """Every status that Meta told, three for each message, is in the log once."""
    found = Counter(
        (event["data"]["status"]["id"], event["data"]["status"]["status"])
        for event in events
        if "status" in event["data"]
    )
    wanted = [(item["wamid"], name) for item in accepted for name in ("sent", "delivered", "read")]
    _none([status for status in wanted if found[status] != 1], "told, and not once in the log")
    _none(sorted(found.keys() - set(wanted)), "in the log, and not told")


def _check_sends(
    events: Iterable[Json], sends: Mapping[str, Sequence[str]], accepted: Iterable[Json]
) -> None:
    """Meta took every acknowledged send, for whom it was meant; it is told once, no attempt went twice."""
    taken: dict[str, set[str]] = defaultdict(set)
    attempts: Counter[str] = Counter()
    for item in accepted:
        taken[_row(item["callback"])].add(item["to"])
        attempts[item["callback"]] += 1
    wanted = {f"{task}-{n}": to for task, people in sends.items() for n, to in enumerate(people)}
    _none([row for row, to in wanted.items() if taken.get(row) != {to}], "not sent to whom it was meant")
    _none([attempt for attempt, times in attempts.items() if times > 1], "one attempt, two calls")
    sent = Counter(event["data"]["message_id"] for event in events if event["event"] == "message.sent")
    _none([row for row in taken if sent[row] != 1], "taken by Meta, and not told once as sent")
    _none([row for row in sent if row not in taken], "told as sent, and not taken by Meta")


def check_direct(direct: Mapping[str, str], accepted: Iterable[Json]) -> None:
    """Who waited for Meta's answer got one of those that Meta gave to this very message."""
    given = {(_row(item["callback"]), item["wamid"]) for item in accepted}
    _none([task for task, wamid in direct.items() if (f"{task}-0", wamid) not in given], "another's answer")


def check_threads(events: Iterable[Json], threads: Mapping[str, Sequence[Json]]) -> None:
    """Whatever a customer wrote, and whatever Meta took, stands in its thread, once, in the order of the
    log."""
    told: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event["event"] in ("message.received", "message.sent"):
            told[event["contact"]].append(event["offset"])
    found = {contact: [one["position"] for one in thread] for contact, thread in threads.items()}
    _none([contact for contact in told if found.get(contact) != told[contact]], "not as the log has it")
    _none(sorted(found.keys() - told.keys()), "in a thread, and not in the log")


def check_completed(events: Iterable[Json]) -> None:
    """Every task of which a message was sent is told to have come to its end, once."""
    ended = Counter(event["data"]["task_id"] for event in events if event["event"] == "task.completed")
    sent = {event["data"]["task_id"] for event in events if event["event"] == "message.sent"}
    _none([task for task in sent if ended[task] != 1], "sent, and not told once as completed")


def _check_doubts(events: Sequence[Json], accepted: Iterable[Json]) -> Count:
    """Each attempt followed by another although Meta took it had been ``unknown``, and is told as doubled."""
    attempts: dict[str, list[int]] = defaultdict(list)
    for item in accepted:
        attempts[_row(item["callback"])].append(int(item["callback"].rpartition(".")[2]))
    unknown = {_attempt(event) for event in events if event["event"] == "message.unknown"}
    doubles = {row: sorted(made) for row, made in attempts.items() if len(made) > 1}
    silent = [(row, n) for row, made in doubles.items() for n in made[:-1] if (row, n) not in unknown]
    _none(silent, "sent again without having been unknown")
    told = {event["data"]["message_id"] for event in events if event["event"] == "message.doubled"}
    _none(sorted(told ^ doubles.keys()), "doubled and not told, or told and not doubled")
    return Count(len(attempts), len(doubles), len(unknown), len(told))


def check_replies(
    events: Sequence[Json], acknowledged: Mapping[str, tuple[str, str]], keyword: str, source: str
) -> int:
    """Whoever wrote the keyword was answered once, in one cooldown; how many were."""
    replies = {
        event["data"]["task_id"]
        for event in events
        if event["event"] == "task.created" and event["data"]["source"] == source
    }
    answered = Counter(
        event["contact"]
        for event in events
        if event["event"] == "message.sent" and event["data"]["task_id"] in replies
    )
    askers = {sender for sender, text in acknowledged.values() if text == keyword}
    _none([who for who in askers if answered[who] != 1], "asked, and not answered once")
    return len(answered)


def _row(callback: str) -> str:
    return callback.rpartition(".")[0]


def _attempt(event: Json) -> tuple[str, int]:
    return event["data"]["message_id"], event["data"]["attempt"]


def _none(offenders: Sequence[object], what: str) -> None:
    assert not offenders, f"{what}: {len(offenders)}, such as {offenders[:3]}"
