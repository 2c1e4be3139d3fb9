"""What the outbox takes: messages to people, and when and how urgently they go.

Pure.
"""

from __future__ import annotations

import msgspec

from store.records import Priority
from whatsapp.identity import Address

__all__ = ["AT_ONCE", "HIGH", "LOW", "NORMAL", "Draft", "Terms"]

HIGH: Priority = 0
NORMAL: Priority = 1
LOW: Priority = 2


class Draft(msgspec.Struct, frozen=True, gc=False):
    """One message to one recipient, composed and checked."""

    address: Address
    payload: bytes
    """Meta's message object."""


class Terms(msgspec.Struct, frozen=True, gc=False):
    """When the messages of a task may go, and what their caller wants told with them. Times are milliseconds
    since 1970; 0 where there is none."""

    due: int = 0
    """Not before."""
    expires_at: int = 0
    """Not after."""
    callback_data: str = ""


AT_ONCE = Terms()
