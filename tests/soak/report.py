"""Writes docs/soak.md from what the soak has found: counts, dates, versions, and what did not hold; and the
counts that docs/reliability.md shows.

Pure: the state's rounds in, the page out. What a part must show is said in docs/GOALS.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.soak.kills import GOAL, part
from tests.soak.limits import LIMIT, LOWERED, SETTLED_S
from tests.soak.state import State
from tests.support.killing import STORES

__all__ = ["page", "with_counts"]

Json = dict[str, Any]

_FAST = 0.9
"""Part of a limit that must have been used for a run to say something of it."""

_BEGIN = "<!-- written by python -m tests.soak report -->\n"
_END = "<!-- end of what was counted -->\n"

_HEAD = """\
# Soak

Written by `python -m tests.soak report` from what its parts have found; every number was counted in a run
on the version and the day beside it. `make soak` makes the kills; `python -m tests.soak --help` names the
other parts. A round is counted only if all of it held; those that did not are listed with their reason.
"""

_KILLS = """\
## Killed

The real process under load of every kind, killed with `kill -9` at random moments (while it starts, as soon
as it listens, amid answers, while it recovers) and started again at once, on the sandbox, which loses
answers, repeats and reorders webhooks. After each round all is counted: each webhook and send that was
answered with success is in the log and at Meta's, once, or its double is told; the log has no gap, and a
subscriber that stayed through all kills saw the same log as one that comes anew. Goal: 1,000 kills for each
store, nothing lost, no double that was not told.
"""

_UNKNOWN = """\
## Lost answers

Sends of which Meta loses 5% of the answers and answers some with 131000, with kills at random moments. At
the end every row is settled, every recipient has each message, and each message that Meta took twice is
told (`message.doubled`) of a row that was `unknown` before.
"""

_LIMITS = f"""\
## Limits

Two broadcasts to a sandbox that holds Meta's limits. Goal of the first, to mixed recipients, some of them
60 times in a row, while customers write: no 130429 and no 131056. In the second the limit is lowered from
80 to {LOWERED} a second after 20 s, without a word; goal: within {SETTLED_S} s it sends at that, with few
refusals from then on. Nothing is lost in either. A machine that is too busy to send as fast as it may shows
in what left a second: the goal of the second is then not met.
"""

_FLAT = """\
## Memory

A steady load of half the limits, half of it each way. The first quarter of the time, in which memory fills
up with what is kept for a while, is left out. Goal: 20 minutes with flat memory.
"""


_CATCH_UP = """\
## Far behind

Subscribers that read the log from its beginning by `/ws`, or receivers that have it pushed to them (hooks,
100 events in a POST, or the relay), while webhooks come at 100 a second and reach another that is live. Goal:
what the live one gets is not noticeably later for it, and memory is bounded. All of it runs on one machine,
readers too, so that their work shows in the delays.
"""


def page(state: State) -> str:
    """The whole page; a part that was never run says so."""
    parts = [
        (_KILLS, [_kills(state, store) for store in STORES], [part(store) for store in STORES]),
        (_UNKNOWN, [_unknown(found) for found in state.rounds("unknown")], ["unknown"]),
        (_LIMITS, [row for found in state.rounds("limits") for row in _limits(found)], ["limits"]),
        (_CATCH_UP, [_catch_up(found) for found in state.rounds("catch-up")], ["catch-up"]),
        (_FLAT, [_flat(found) for found in state.rounds("flat")], ["flat"]),
    ]
    sections = [_HEAD]
    for head, rows, names in parts:
        sections += [head, _table(rows) if rows else "Not run yet.\n", *_failures(state, names)]
    return "\n".join(section for section in sections if section)


def with_counts(text: str, state: State) -> str:
    """docs/reliability.md with the counts between its marks: all kills, and the last run of the rest."""
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    unknown, limits = state.rounds("unknown")[-1:], state.rounds("limits")[-1:]
    tables = [
        _table([_kills(state, store) for store in STORES]),
        _table([_unknown(found) for found in unknown]),
        _table([row for found in limits for row in _limits(found)]),
    ]
    return before + _BEGIN + "\n".join(tables) + _END + after


def _kills(state: State, store: str) -> Json:
    rounds = state.rounds(part(store))
    counts = [found["count"] for found in rounds]
    kills = sum(found["kills"] for found in rounds)
    return {
        "store": store,
        "kills": f"{kills:,} of {GOAL:,}",
        "rounds": len(rounds),
        "webhooks acknowledged": _sum(rounds, "webhooks"),
        "sends acknowledged (messages)": f"{_sum(rounds, 'sends')} ({_sum(rounds, 'messages')})",
        "lost": 0 if rounds else "",
        "attempts unknown": _sum(counts, "unknowns"),
        "doubles (told)": f"{_sum(counts, 'doubles')} ({_sum(counts, 'told')})",
        "when, version": _when(rounds),
    }


def _unknown(found: Json) -> Json:
    return {
        "store": found["store"],
        "sends": f"{found['sends']:,}",
        "kills": found["kills"],
        "answers lost": found["dropped"],
        "attempts unknown": f"{found['unknowns']:,}",
        "131000": found["maybe_sent"],
        "rows at the end": ", ".join(f"{number:,} {name}" for name, number in found["states"].items()),
        "doubles (told)": f"{found['doubles']} ({found['told']})",
        "when, version": _when([found]),
    }


def _limits(found: Json) -> list[Json]:
    within, lowered = found["within"], found["lowered"]
    return [
        {
            "store": found["store"],
            "broadcast": f"{within['sends']:,}, and {within['inbound']:,} inbound",
            "a second": within["per_s"],
            "130429": within["refused_rate"],
            "131056": within["refused_pair"],
            "met": _within(within),
            "when, version": _when([found]),
        },
        {
            "store": found["store"],
            "broadcast": f"{lowered['sends']:,}, lowered to {lowered['limit']}",
            "a second": f"{lowered['per_s']} after {SETTLED_S} s"
            f" (in tens of seconds {lowered['least_per_s']} to {lowered['most_per_s']})",
            "130429": f"{lowered['refused_first_minute']}, then {lowered['refused_after']}"
            f" in {lowered['minutes_after']} minutes",
            "131056": lowered["refused_pair"],
            "met": _yes(lowered["per_s"] >= _FAST * lowered["limit"]),
            "when, version": _when([found]),
        },
    ]


def _catch_up(found: Json) -> Json:
    return {
        "store": found["store"],
        "by": found.get("by", "ws"),
        "events": f"{found['events']:,}",
        "readers": found["readers"],
        "seconds": found["seconds_to_catch_up"],
        "events a second": f"{found['per_s']:,}",
        "MB before, at most": f"{found['mb_before']}, {found['mb_most']}",
        "ms to the live one: alone": _ms(found["alone_ms"]),
        "beside": _ms(found["beside_ms"]),
        "when, version": _when([found]),
    }


def _ms(found: Json) -> str:
    return f"p50 {found['p50']}, p99 {found['p99']}"


def _flat(found: Json) -> Json:
    return {
        "store": found["store"],
        "minutes": f"{found['minutes']:g}",
        "sends, inbound": f"{found['sends']:,}, {found['inbound']:,}",
        "MB at first": found["mb_at_start"],
        "MB filled up": found["mb_then"],
        "MB at the end": found["mb_at_end"],
        "MB an hour": found["mb_per_hour"],
        "when, version": _when([found]),
    }


def _failures(state: State, names: Sequence[str]) -> list[str]:
    """What did not hold, each reason once."""
    failures = [failure for name in names for failure in state.failures(name)]
    if not failures:
        return []
    reasons = Counter(failure["why"] for failure in failures)
    lines = [f"- {times}x {reason}" for reason, times in reasons.most_common()]
    return ["\n".join(["Rounds that did not hold, and count nothing above:\n", *lines, ""])]


def _when(rounds: Sequence[Json]) -> str:
    if not rounds:
        return ""
    days = sorted({found["at"][:10] for found in rounds})
    versions = dict.fromkeys(found["version"] for found in rounds)
    return f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, {', '.join(versions)}"


def _sum(rounds: Sequence[Json], name: str) -> str:
    return f"{sum(found[name] for found in rounds):,}"


def _within(found: Json) -> str:
    """No refusal proves little where the machine was too busy to send as fast as the limit lets it."""
    if found["refused_rate"] or found["refused_pair"]:
        return "no"
    both_ways = found["per_s"] + found["inbound"] / found["seconds"]
    return "yes" if both_ways >= _FAST * LIMIT else "not at that rate"


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def _table(rows: Sequence[Json]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
