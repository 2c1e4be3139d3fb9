"""One round: a folder of its own, which is kept where something did not hold, and its outcome recorded."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.soak.state import State

__all__ = ["held", "reason"]


async def held(
    state: State,
    part: str,
    seed: str,
    folder: Path,
    work: Callable[[Path], Awaitable[Mapping[str, Any]]],
) -> bool:
    """Whether ``work`` came through, in a new folder within ``folder``; it answers what it found."""
    place = Path(tempfile.mkdtemp(prefix=f"{seed.replace(' ', '-')}-", dir=folder))
    began = time.monotonic()
    try:
        found = await work(place)
    except Exception:  # noqa: BLE001 - whatever it was, it is told, and the next round begins
        state.fail(part, seed, reason(traceback.format_exc()))
        print(f"{seed}: FAILED, see {place}\n{traceback.format_exc()[-2000:]}", flush=True)
        return False
    shutil.rmtree(place)
    state.add(part, seed, {**found, "seconds": round(time.monotonic() - began)})
    print(f"{seed}: held, {found}", flush=True)
    return True


def reason(trace: str) -> str:
    """The last error that a traceback names."""
    lines = (line.lstrip(" |+-") for line in trace.splitlines())
    named = [
        line for line in lines if line.partition(":")[0].isidentifier() and "rror" in line.partition(":")[0]
    ]
    return named[-1][:200] if named else trace.strip().splitlines()[-1][:200]
