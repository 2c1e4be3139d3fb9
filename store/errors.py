"""The base of every error of the gateway, and the store's own kinds.

::

    GatewayError
    ├── StoreError
    │   ├── StoreUnavailable   the database did not answer in time, or refused the write
    │   ├── StoreBusy          another process holds the store
    │   └── LeaseLost          the lease that guarded a write has another owner by now
    └── (each room above adds its own kinds: whatsapp/failures.py)

An error carries data: a stable machine word (``code``), one sentence for a person (``message``) and, for
input with several faults, ``details`` as (path, problem) pairs. The mapping to HTTP statuses is one table in
``handlers/base.py``; nothing here knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = ["GatewayError", "LeaseLost", "Problem", "StoreBusy", "StoreError", "StoreUnavailable"]

Problem = tuple[str, str]


class GatewayError(Exception):
    """Something the gateway can explain to whoever asked."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, details: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)


class StoreError(GatewayError):
    """The store could not do what was asked; nothing of that request was kept."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The database is away, slow, full or locked. Asking again later is right.

    A write that ended like this may have been applied all the same: every write of the contract can be
    repeated with the same keys without doubling anything.
    """

    code = "store_unavailable"


class StoreBusy(StoreError):
    """Another process works on this store, and this kind of store takes one process only."""

    code = "store_busy"


class LeaseLost(StoreError):
    """The lease that was to guard this write is held by another owner, or under a newer term."""

    code = "lease_lost"
