"""The message templates of the account that the sandbox pretends to be, one of each shape and fate.

Pure. The shapes are Meta's (CLOUD_API.md 6, CLOUD_API_2026.md 5). The sandbox takes sends of any other
template too: only the list is fixed.
"""

from __future__ import annotations

from typing import Any

from whatsapp.sandbox_rules import Refused

__all__ = ["TEMPLATES", "template_page"]

_PAGE = 25
_PAGE_LIMIT = 1000
_FIELDS = ("name", "language", "status", "category")
"""What Meta shows unless asked for more; the id always."""


def _template(name: str, language: str, category: str, *components: dict[str, Any], **more: Any) -> Any:
    return {
        "name": name,
        "language": language,
        "status": "APPROVED",
        "category": category,
        "parameter_format": "POSITIONAL",
        "components": list(components),
        **more,
    }


def _body(text: str) -> dict[str, Any]:
    return {"type": "BODY", "text": text}


def _buttons(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"type": "BUTTONS", "buttons": list(buttons)}


_ORDER = {"type": "URL", "text": "See it", "url": "https://shop.example.com/orders/{{1}}"}
_CARD = {
    "components": [
        {"type": "HEADER", "format": "IMAGE"},
        _body("Only {{1}}"),
        _buttons({"type": "QUICK_REPLY", "text": "Tell me more"}),
    ]
}
_ALL: tuple[dict[str, Any], ...] = (
    _template("hello_world", "en_US", "UTILITY", _body("Hello. This is the sandbox.")),
    _template("hello_world", "es", "UTILITY", _body("Hola. Esto es el sandbox.")),
    _template(
        "order_sent",
        "es",
        "UTILITY",
        {"type": "HEADER", "format": "TEXT", "text": "Pedido {{1}}"},
        _body("Hola {{1}}, tu pedido llega el {{2}}."),
        {"type": "FOOTER", "text": "Gracias"},
        _buttons({"type": "QUICK_REPLY", "text": "Bien"}, _ORDER),
    ),
    _template("order_ready", "es", "UTILITY", _body("Hola {{1}}, tu pedido {{2}} está listo.")),
    _template("see_you", "es", "UTILITY", _body("Hola {{1}}, nos vemos el {{2}}.")),
    _template(
        "appointment",
        "en",
        "UTILITY",
        _body("Dear {{customer}}, we see you at {{hour}}."),
        parameter_format="NAMED",
    ),
    _template(
        "catalogue",
        "en",
        "MARKETING",
        {"type": "HEADER", "format": "IMAGE"},
        _body("New this week, {{1}}"),
        _buttons({"type": "COPY_CODE", "text": "Copy", "example": ["SAVE10"]}),
    ),
    _template("gallery", "en", "MARKETING", _body("Pick one"), {"type": "CAROUSEL", "cards": [_CARD, _CARD]}),
    _template(
        "login_code",
        "en",
        "AUTHENTICATION",
        _body("*{{1}}* is your verification code."),
        _buttons({"type": "OTP", "otp_type": "COPY_CODE", "text": "Copy code"}),
    ),
    _template("summer", "en", "MARKETING", _body("Summer is here, {{1}}"), status="PAUSED"),
    _template("winter", "en", "MARKETING", _body("Buy now!!"), status="REJECTED", rejected_reason="SCAM"),
    _template("autumn", "en", "MARKETING", _body("Leaves fall"), status="PENDING"),
)
TEMPLATES: tuple[dict[str, Any], ...] = tuple(
    {**template, "id": str(700_000_000_000_001 + n)} for n, template in enumerate(_ALL)
)


def template_page(url: str, *, fields: str = "", limit: str = "", after: str = "") -> dict[str, Any]:
    """The answer to ``GET /{waba-id}/message_templates``. ``url``: the path itself, for the next page's.

    Raises Refused for a limit or a cursor that is none.
    """
    size = min(_number("limit", limit, _PAGE), _PAGE_LIMIT)
    start = _number("after", after, 0)
    if not size:
        raise Refused(100, "limit must be at least 1.")
    wanted = [field for field in fields.split(",") if field] or _FIELDS
    shown = TEMPLATES[start : start + size]
    end = start + len(shown)
    paging: dict[str, Any] = {"cursors": {"before": str(start), "after": str(end)}}
    if end < len(TEMPLATES):
        paging["next"] = f"{url}?fields={fields}&limit={size}&after={end}"
    data = [
        {name: template[name] for name in wanted if name in template} | {"id": template["id"]}
        for template in shown
    ]
    return {"data": data, "paging": paging}


def _number(name: str, text: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Refused(100, f"{name} must be a whole number, not {text[:20]!r}.")
    return int(text)
