"""What a gateway knows of its customers' windows before a test begins, and webhooks that open them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from store.records import Window
from store.sqlite import SqliteStore
from tests.support.gateway import NUMBER

__all__ = ["HOUR_MS", "called", "change", "remember", "user_of", "wrote"]

HOUR_MS = 3600 * 1000
_EVER_MS = 10**12


async def remember(directory: Path, heard: Mapping[str, float], *, unbroken_h: float = 30) -> None:
    """Have the gateway's file say that each of these contacts was last heard from so many hours ago, and that
    no webhook was missed for ``unbroken_h``."""
    store = SqliteStore(directory / "gateway.db")
    await store.open()
    now = time.time_ns() // 1_000_000
    await store.note_intake(int(now - unbroken_h * HOUR_MS), _EVER_MS)
    await store.note_intake(now, _EVER_MS)
    await store.note_inbound(
        [Window(NUMBER, who, int(now - hours * HOUR_MS)) for who, hours in heard.items()]
    )
    await store.close()


def user_of(phone: str) -> str:
    """A user id for who has this phone."""
    return f"MX.{phone}"


def wrote(phone: str, wamid: str = "", *, hours_ago: float = 0, **fields: Any) -> bytes:
    """A webhook: a customer wrote."""
    message = {
        "from": phone,
        "from_user_id": user_of(phone),
        "id": wamid or f"wamid.{time.time_ns()}",
        "timestamp": str(int(time.time() - hours_ago * 3600)),
        "type": "text",
        "text": {"body": "hi"},
    }
    return change({"messages": [{**message, **fields}]})


def called(phone: str) -> bytes:
    """A webhook: a customer calls."""
    call = {
        "id": f"wacid.{time.time_ns()}",
        "from": phone,
        "from_user_id": user_of(phone),
        "event": "connect",
        "direction": "USER_INITIATED",
        "timestamp": str(int(time.time())),
    }
    return change({"calls": [call]}, "calls")


def change(parts: Mapping[str, Any], field: str = "messages") -> bytes:
    """A webhook about our number."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550000001", "phone_number_id": NUMBER},
        **parts,
    }
    entry = {"id": "1", "changes": [{"field": field, "value": value}]}
    return msgspec.json.encode({"object": "whatsapp_business_account", "entry": [entry]})
