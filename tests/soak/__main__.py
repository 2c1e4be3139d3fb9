"""``python -m tests.soak``: reliability, counted (docs/GOALS.md). What it finds is kept in docs/soak.json.

Each part may be broken off at any time and called again: rounds are independent of each other, and one that
was not finished is forgotten. ``report`` writes docs/soak.md from what is kept, and the counts in
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.soak.catch_up import SOCKET, Behind, catch_up
from tests.soak.flat import Steady, stay_flat
from tests.soak.kills import GOAL, soak_kills
from tests.soak.limits import Broadcasts, broadcast_within_limits
from tests.soak.pushed import KINDS
from tests.soak.report import page, with_counts
from tests.soak.rounds import held
from tests.soak.state import ROOT, State
from tests.soak.unknown import Wanted, lose_answers
from tests.support.killing import STORES

__all__ = ["main"]

_BUILD = ROOT / "build"
_PAGE = ROOT / "docs" / "soak.md"
_RELIABILITY = ROOT / "docs" / "reliability.md"
_STATE = ROOT / "docs" / "soak.json"
"""Kept with the code, so that the counting goes on wherever the code is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The process entry; the exit status: 0 where all held, 1 where something did not, 130 broken off."""
    options = _parser().parse_args(arguments)
    options.state.parent.mkdir(parents=True, exist_ok=True)
    folder = _BUILD / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return 0 if asyncio.run(_ended_by_sigterm(options.work(options, folder))) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.soak", description="Counts what survives.")
    parser.add_argument("--state", type=Path, default=_STATE, help="default: docs/soak.json")
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    kills = parts.add_parser("kills", help="kill -9 at random moments under load")
    kills.add_argument("--store", choices=STORES, action="append", help="default: each of them")
    kills.add_argument("--kills", type=int, help=f"so many more; default: until there are {GOAL:,} in all")
    kills.set_defaults(work=_kills)
    unknown = parts.add_parser("unknown", help="many sends, of which Meta loses answers, and kills")
    unknown.add_argument("--store", choices=STORES, default=STORES[0], help="default: %(default)s")
    unknown.add_argument("--sends", type=int, default=20_000, help="default: %(default)s")
    unknown.add_argument("--kills", type=int, default=40, help="default: %(default)s")
    unknown.set_defaults(work=_unknown)
    flat = parts.add_parser("flat", help="memory over minutes at half the limits of one number")
    flat.add_argument("--store", choices=STORES, default=STORES[0], help="default: %(default)s")
    flat.add_argument("--minutes", type=float, default=20.0, help="default: %(default)g")
    flat.set_defaults(work=_flat)
    limits = parts.add_parser("limits", help="broadcasts to a Meta that holds its limits, then lowers them")
    limits.add_argument("--store", choices=STORES, default=STORES[0], help="default: %(default)s")
    limits.add_argument("--first", type=int, default=10_000, help="sends within the limits (%(default)s)")
    limits.add_argument(
        "--inbound", type=float, default=5.0, help="customers' messages a second (%(default)s)"
    )
    limits.add_argument("--second", type=int, default=8_000, help="sends under a lowered one (%(default)s)")
    limits.set_defaults(work=_limits)
    behind = parts.add_parser("catch-up", help="subscribers that are a long log behind, beside live ones")
    behind.add_argument("--store", choices=STORES, default=STORES[0], help="default: %(default)s")
    behind.add_argument("--events", type=int, default=1_000_000, help="default: %(default)s")
    behind.add_argument("--readers", type=int, default=1, help="default: %(default)s")
    behind.add_argument("--by", choices=(SOCKET, *KINDS), default=SOCKET, help="default: %(default)s")
    behind.set_defaults(work=_catch_up)
    report = parts.add_parser("report", help="write docs/soak.md, and the counts of docs/reliability.md")
    report.set_defaults(work=_report)
    return parser


async def _kills(options: argparse.Namespace, folder: Path) -> bool:
    state = State(options.state)
    each = [await soak_kills(state, store, options.kills, folder) for store in options.store or STORES]
    return all(each)


async def _unknown(options: argparse.Namespace, folder: Path) -> bool:
    state = State(options.state)
    seed = f"unknown {state.begin('unknown')}"
    wanted = Wanted(options.store, options.sends, options.kills)
    return await held(state, "unknown", seed, folder, partial(lose_answers, wanted=wanted, seed=seed))


async def _limits(options: argparse.Namespace, folder: Path) -> bool:
    state = State(options.state)
    seed = f"limits {state.begin('limits')}"
    wanted = Broadcasts(options.store, options.first, options.inbound, options.second)
    return await held(
        state, "limits", seed, folder, partial(broadcast_within_limits, wanted=wanted, seed=seed)
    )


async def _flat(options: argparse.Namespace, folder: Path) -> bool:
    state = State(options.state)
    seed = f"flat {state.begin('flat')}"
    wanted = Steady(options.store, options.minutes)
    return await held(state, "flat", seed, folder, partial(stay_flat, wanted=wanted, seed=seed))


async def _catch_up(options: argparse.Namespace, folder: Path) -> bool:
    state = State(options.state)
    seed = f"catch-up {state.begin('catch-up')}"
    wanted = Behind(options.store, options.events, options.readers, options.by)
    return await held(state, "catch-up", seed, folder, partial(catch_up, wanted=wanted))


async def _report(options: argparse.Namespace, folder: Path) -> bool:
    state = State(options.state)
    text = page(state)
    _PAGE.write_text(text, "utf-8")
    _RELIABILITY.write_text(with_counts(_RELIABILITY.read_text("utf-8"), state), "utf-8")
    print(text)
    return True


async def _ended_by_sigterm(work: Coroutine[Any, Any, bool]) -> bool:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


if __name__ == "__main__":
    sys.exit(main())
