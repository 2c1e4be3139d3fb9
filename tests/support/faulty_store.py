"""A store that fails on demand: the real one, with one named call refused, broken or held back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, cast

from store.base import Store
from store.errors import StoreUnavailable
from tests.support.waiting import GUARD_S

__all__ = ["FaultyStore"]

_FREE = frozenset({"open", "close"})
"""Never refused, so that a test can always be ended."""


class FaultyStore:
    """Passes every call on to ``real``, except those that a test has named."""

    def __init__(self, real: Store) -> None:
        self._real = real
        self._refusals: dict[str, Exception] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._called = asyncio.Event()
        self._everything: Exception | None = None
        self.calls: Counter[str] = Counter()
        """Of each name; naming one for a fault begins its count anew."""

    @property
    def real(self) -> Store:
        """Without faults."""
        return self._real

    def as_store(self) -> Store:
        """Itself, with the type of what it stands for."""
        return cast(Store, self)

    def fail(self, name: str, error: Exception | None = None) -> None:
        """Refuse this call from now on; by default as a store that is away does."""
        self.calls[name] = 0
        self._refusals[name] = error or StoreUnavailable("the store is away, says the test")

    def fail_all(self) -> None:
        """Refuse everything: the store is away."""
        self.calls.clear()
        self._everything = StoreUnavailable("the store is away, says the test")

    def hold(self, name: str) -> None:
        """Keep this call waiting, before it has any effect."""
        self.calls[name] = 0
        self._gates[name] = asyncio.Event()

    def heal(self) -> None:
        """Let everything through again, also what waits."""
        self._refusals.clear()
        self._everything = None
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()

    async def arrived(self, name: str, count: int = 1) -> None:
        """Return once so many calls of this name have come in since it was named for a fault."""
        async with asyncio.timeout(GUARD_S):
            while self.calls[name] < count:
                self._called.clear()
                await self._called.wait()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._real, name)
        if not asyncio.iscoroutinefunction(member) or name in _FREE:
            return member
        return self._guarded(name, member)

    def _guarded(
        self, name: str, call: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            self._called.set()
            if (gate := self._gates.get(name)) is not None:
                await gate.wait()
            if (error := self._everything or self._refusals.get(name)) is not None:
                raise error
            return await call(*args, **kwargs)

        return guarded
