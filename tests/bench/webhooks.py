"""Bodies of Meta's webhooks, signed, as whole requests: made before the clock starts.

A body is what Meta sends for one text message since 2026: phone and user id of the sender side by side,
in ``contacts`` and in the message (CLOUD_API_2026.md 8), non-ASCII escaped (CLOUD_API.md 4.2). No text
holds a keyword of the automatic replies, so that every event that a run makes is a message that came in.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from tests.bench.gateway import APP_SECRET, DISPLAY, NUMBER
from tests.bench.http import request
from whatsapp.signature import HEADER, sign

__all__ = ["text_posts"]

_WABA = "102290129340398"
_FIRST_AT = 1_790_000_000
_TEXTS = (
    "Buenas tardes, ¿todavía tienen la chamarra azul en talla mediana?",
    "Gracias 🙌 ya llegó el paquete, todo en orden.",
    "Can I still change the delivery address of order 48213?",
    "¿A qué hora abren mañana? Paso por mi pedido después del trabajo.",
    "The second one please, and could you wrap it as a present?",
)


def text_posts(first: int, count: int, senders: int) -> list[bytes]:
    """POSTs of one text message each, numbered from ``first``, from so many people in turn."""
    return [_post(_text_body(n, n % senders)) for n in range(first, first + count)]


def _post(body: bytes) -> bytes:
    headers = [
        ("User-Agent", "facebookexternalua"),
        ("Accept", "*/*"),
        ("Content-Type", "application/json"),
        (HEADER, sign(APP_SECRET, body)),
    ]
    return request("POST", "/webhook", body, headers)


def _text_body(n: int, sender: int) -> bytes:
    phone = f"521555{sender:07d}"
    user_id = f"MX.{10**19 + sender}"
    message = {
        "from": phone,
        "from_user_id": user_id,
        "id": _wamid(n),
        "timestamp": str(_FIRST_AT + n // 1000),
        "text": {"body": _TEXTS[n % len(_TEXTS)]},
        "type": "text",
    }
    contact = {"profile": {"name": f"Customer {sender}"}, "wa_id": phone, "user_id": user_id}
    value: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": DISPLAY, "phone_number_id": NUMBER},
        "contacts": [contact],
        "messages": [message],
    }
    entry = {"id": _WABA, "changes": [{"value": value, "field": "messages"}]}
    whole = {"object": "whatsapp_business_account", "entry": [entry]}
    return json.dumps(whole, separators=(",", ":")).encode()


def _wamid(n: int) -> str:
    digest = hashlib.sha256(str(n).encode()).hexdigest()[:20].upper()
    return "wamid." + base64.b64encode(b"\x1d\x18\r" + digest.encode() + n.to_bytes(8)).decode()
