"""What Meta says that a message costs (``pricing`` of a status; CLOUD_API.md 4.6, CLOUD_API_2026.md 9).

Pure. Owns which of it is kept with a row: never an amount, since Meta tells none, but what its bill goes by.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["kept_pricing"]

_FIELDS = ("billable", "pricing_model", "type", "category")
_OLD_NAME = {"type": "pricing_type"}
_LONGEST = 100


def kept_pricing(pricing: object) -> bytes:
    """``{"billable", "pricing_model", "type", "category"}`` as JSON, what Meta left out being null; empty
    where there is nothing of it."""
    if not isinstance(pricing, dict):
        return b""
    kept = {name: _plain(pricing.get(name, pricing.get(_OLD_NAME.get(name, name)))) for name in _FIELDS}
    return msgspec.json.encode(kept) if any(value is not None for value in kept.values()) else b""


def _plain(value: Any) -> str | bool | None:
    return value if isinstance(value, bool) or (isinstance(value, str) and len(value) <= _LONGEST) else None
