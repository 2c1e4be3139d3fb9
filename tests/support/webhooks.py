"""Builders of webhook bodies, and Meta's samples. Values are our own placeholders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from whatsapp.webhook import Update, parse

__all__ = [
    "CONTACT",
    "GROUP",
    "OUR_ID",
    "PHONE",
    "ROW",
    "SAMPLES",
    "TASK",
    "USER_ID",
    "WABA",
    "body",
    "entry",
    "message_value",
    "read",
    "read_one",
    "status",
    "system_message",
    "template_update",
    "text_message",
]

Json = dict[str, Any]

SAMPLES = Path(__file__).parent.parent / "samples" / "webhooks"
WABA = "102290129340398"
OUR_ID = "106540352242922"
PHONE = "16505551234"
USER_ID = "US.13491208655302741918"
GROUP = "Y2FwaV9ncm91cDoxODA1NTU1MDE3Mjo"
CONTACT: Json = {"profile": {"name": "Ann"}, "wa_id": PHONE, "user_id": USER_ID}
TASK = "0190163d-8694-739b-aea5-966c26f8ad91"
ROW = f"{TASK}-17"


def body(*entries: Any) -> bytes:
    """An envelope as Meta serialises it: ASCII, with escapes."""
    return json.dumps({"object": "whatsapp_business_account", "entry": list(entries)}).encode()


def entry(value: Any, field: Any = "messages", **more: Any) -> Json:
    """An entry of one change; ``more`` is put into the entry."""
    return {"id": WABA, "changes": [{"field": field, "value": value}], **more}


def message_value(**parts: Any) -> Json:
    """The value of a message field: ``messages``, ``statuses``, ``contacts``, ..."""
    metadata = {"display_phone_number": "15550783881", "phone_number_id": OUR_ID}
    return {"messaging_product": "whatsapp", "metadata": metadata, **parts}


def text_message(wamid: str = "wamid.A", text: str | None = "Hello", **fields: Any) -> Json:
    """A text from :data:`PHONE`; a field given as None is left out."""
    content = None if text is None else {"body": text}
    message = {"from": PHONE, "id": wamid, "timestamp": "1749416383", "type": "text", "text": content}
    return {name: value for name, value in {**message, **fields}.items() if value is not None}


def read(value: Any, field: Any = "messages", **entry_fields: Any) -> list[Update]:
    """The updates of a body with this value alone."""
    return parse(body(entry(value, field, **entry_fields)))


def read_one(field: str = "messages", **parts: Any) -> Update:
    """The only update in a value of these parts."""
    (update,) = read(message_value(**parts), field)
    return update


def status(name: Any = "delivered", **fields: Any) -> Json:
    """A status of ``wamid.A`` to :data:`PHONE`; a field given as None is left out."""
    item = {"id": "wamid.A", "status": name, "timestamp": "1750030073", "recipient_id": PHONE, **fields}
    return {key: value for key, value in item.items() if value is not None}


def system_message(
    kind: object, *, sender: str | None = PHONE, user: str | None = None, **fields: Any
) -> Json:
    """A note of the system's about :data:`PHONE`; ``fields`` go into its ``system``."""
    more: Json = {"from": sender, "from_user_id": user}
    return text_message(type="system", text=None, system={"body": "changed", "type": kind, **fields}, **more)


def template_update(event: str, name: str = "promo", at: int = 1_700_000_000) -> bytes:
    """A webhook about the Spanish one of the templates of this name."""
    value = {"event": event, "message_template_id": 1, "message_template_name": name}
    value |= {"message_template_language": "es", "reason": None}
    change = {"field": "message_template_status_update", "value": value}
    held = {"id": "200000000000001", "time": at, "changes": [change]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [held]}).encode()
