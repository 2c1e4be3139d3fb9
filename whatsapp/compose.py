"""From our request fields to Meta's message objects.

Pure. Each function returns the object for ``POST /{phone-number-id}/messages`` (CLOUD_API.md 1.1, 1.3) as
JSON, without ``biz_opaque_callback_data``, which the lane adds to each attempt. Limits are checked by the
caller's types.
"""

from __future__ import annotations

from typing import Any

import msgspec

from whatsapp.identity import Address

__all__ = ["TEXT_LIMIT", "text_message"]

TEXT_LIMIT = 4096
"""Characters in a text message's body (CLOUD_API.md 1.3)."""


def text_message(to: Address, body: str, context_message_id: str = "") -> bytes:
    """A text. Links in it are previewed where Meta finds one."""
    return _message(to, "text", {"body": body, "preview_url": True}, context_message_id)


def _message(to: Address, kind: str, content: dict[str, Any], context_message_id: str) -> bytes:
    message: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **_recipient(to),
        "type": kind,
        kind: content,
    }
    if context_message_id:
        message["context"] = {"message_id": context_message_id}
    return msgspec.json.encode(message)


def _recipient(to: Address) -> dict[str, str]:
    # With "+", always: without it Meta reads the number as one of the sender's country (CLOUD_API.md 1.1).
    return {"to": f"+{to.phone}"} if to.phone else {"recipient": to.user_id}
