"""How events get to an outside receiver: what an outlet asks of a carrier, and hears from it.

Pure. ``hooks.py`` and ``relay.py`` are carriers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hub.delivery import Failure
from store.records import Event

__all__ = ["Carried", "Carrier"]


class Carried(NamedTuple):
    """What became of events that were handed over."""

    taken: int
    """How many of them, from the first on."""
    failure: Failure | None = None
    """Why no more; None where all were taken."""


class Carrier(Protocol):
    """Only its outlet calls it, one call at a time; no method raises."""

    kind: str
    """``webhook`` or ``websocket``."""
    address: str
    """Whose it is, for the eyes of an operator: without paths, queries and passwords."""
    most: int
    """Events that it takes at once."""

    @property
    def connected(self) -> bool | None:
        """Whether there is a standing connection; None where there never is one."""
        ...

    async def look(self, after: int) -> Failure | None:
        """See to it that there is a standing connection, if there is one at all; called again and again while
        there is nothing to carry. ``after``: the cursor."""
        ...

    async def carry(self, events: Sequence[Event], after: int) -> Carried:
        """Hand over, once."""
        ...

    async def parted(self) -> None:
        """Return when a standing connection has broken."""
        ...

    async def close(self) -> None:
        """Let go of the receiver. It may be carried to again afterwards."""
        ...
