"""How tests wait for what no signal tells, and how long for anything at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["GUARD_S", "eventually", "until"]

T = TypeVar("T")

GUARD_S = 30.0
"""What takes longer hangs. It ends such a test, and measures nothing: a busy machine is not to reach it."""
_LOOK_S = 0.01


async def eventually(look: Callable[[], Awaitable[T | None]], what: str = "", within_s: float = GUARD_S) -> T:
    """Look again and again, until there is something that is true; fails, naming ``what``, when it takes too
    long."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain for {what or look.__qualname__}"
        await asyncio.sleep(_LOOK_S)
    return found


async def until(condition: Callable[[], bool]) -> None:
    """As :func:`eventually`, where nothing has to be asked."""

    async def look() -> bool:
        return condition()

    await eventually(look, condition.__qualname__)
