"""Bodies of ``send-bulk``: to each of many people a text of their own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.bench.http import request

__all__ = ["bulk_post", "people"]


def people(count: int) -> list[dict[str, str]]:
    """So many people, and what each is told."""
    return [
        {"phone": f"521550{n:07d}", "message": f"Tu pedido {n} salió hoy y llega mañana antes de las 14:00."}
        for n in range(count)
    ]


def bulk_post(recipients: Sequence[dict[str, str]]) -> bytes:
    """The request that sends to these."""
    body = msgspec.json.encode({"recipients": recipients})
    return request("POST", "/api/send-bulk", body, [("Content-Type", "application/json")])
