"""What the outbox takes: messages to people, and when and how urgently they go.

Pure.
"""

from __future__ import annotations

import msgspec

from store.records import Priority
from whatsapp.identity import Address

__all__ = ["AT_ONCE", "GROUP_KEY", "HIGH", "LOW", "NORMAL", "Draft", "Prepared", "Terms"]

HIGH: Priority = 0
NORMAL: Priority = 1
LOW: Priority = 2

GROUP_KEY = "group:"
"""Before the id of a group, where a contact's key stands else: a group is nobody with an address."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """One message to one recipient, composed and checked."""

    address: Address
    payload: bytes
    """Meta's message object."""
    contact: str = ""
    """The key of whom it goes to, where that is no address: of a group."""
    fallback: bytes = b""
    """Meta's message object to be sent in its place once Meta refuses it for want of an open window."""
    heeds_opt_out: bool = False
    """Whether it is not sent to whom is suppressed at the moment of sending."""


class Terms(msgspec.Struct, frozen=True, gc=False):
    """When and how the messages of a task may go, and what their caller wants told with them. Times are
    milliseconds since 1970; 0 where there is none."""

    due: int = 0
    """Not before."""
    expires_at: int = 0
    """Not after."""
    callback_data: str = ""
    ordered: bool = False
    """Later messages to the same recipient, of the same priority, wait until each was delivered."""
    on_unknown: str = ""
    """``resend`` or ``fail``: what becomes of a message of which nobody knows whether Meta has it; empty: as
    the gateway is set."""


AT_ONCE = Terms()


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A message with all that is said of its sending."""

    kind: str
    """The task's."""
    draft: Draft
    priority: Priority
    terms: Terms = AT_ONCE
