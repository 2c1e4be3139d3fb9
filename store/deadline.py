"""How long a caller waits for the store, however many calls of it one request takes.

Each call of a store ends within two seconds by itself (``base.py``); a request that needs three of them is
to be answered within two seconds all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from store.errors import StoreUnavailable

__all__ = ["CALL_S", "answered_in_time"]

CALL_S = 1.8
"""For one call of a store."""
_REQUEST_S = 1.9


@asynccontextmanager
async def answered_in_time() -> AsyncIterator[None]:
    """Raise StoreUnavailable where what is inside takes longer; a write of it may be applied all the same."""
    try:
        async with asyncio.timeout(_REQUEST_S):
            yield
    except TimeoutError:
        raise StoreUnavailable("the store did not answer in time") from None
