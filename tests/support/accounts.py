"""What Meta says of business accounts, as events of the log."""

from __future__ import annotations

from typing import Any

import msgspec

from store.records import Event
from tests.support.webhooks import WABA

__all__ = ["AT", "AT_MS", "BIZ", "WABA", "ban", "event", "restriction"]

AT = 1_700_000_000
AT_MS = AT * 1000 + 999
BIZ = {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING"}


def event(value: Any, at: int = AT, **data: Any) -> Event:
    """An ``account.update`` with this value; ``data`` replaces what stands around it."""
    fields = {"field": "account_update", "value": value, "entry_id": WABA, "time": at} | data
    return Event(1, 1, "up:1", "account.update", AT_MS, msgspec.json.encode({"data": fields}))


def restriction(*info: dict[str, Any], at: int = AT) -> Event:
    """The account is restricted in these ways."""
    return event({"event": "ACCOUNT_RESTRICTION", "restriction_info": list(info)}, at)


def ban(state: str, at: int = AT) -> Event:
    """The account is disabled, is going to be, or is so no more."""
    info = {"waba_ban_state": state, "waba_ban_date": "April 17, 2026"}
    return event({"event": "DISABLED_UPDATE", "ban_info": info}, at)
