"""``/api/openapi.json`` and ``/docs``: the description of the API, and a page that shows it without the
internet.

The page is Swagger UI, whose files come with the package ``swagger-ui-py``. Where a key is needed, a browser
gives it as ``/docs?token=...``; the page hands it on with each call that is tried from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import msgspec

from handlers.access import KeyRequired
from handlers.base import BaseHandler, NotFound

__all__ = ["DocsAsset", "DocsPage", "Document", "OpenApi"]

_TYPES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
}
_START = b"""const token = new URLSearchParams(location.search).get("token");
SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  requestInterceptor: (request) => {
    if (token && new URL(request.url, location.href).origin === location.origin) {
      request.headers["X-API-Key"] = token;
    }
    return request;
  },
});
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>WhatsApp gateway: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css{query}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js{query}"></script>
<script src="/docs/start.js{query}"></script>
</body>
</html>
"""
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"


class Document:
    """The description, made when it is first asked for: most starts never are."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe

    @cached_property
    def encoded(self) -> bytes:
        """As it is answered."""
        return msgspec.json.format(msgspec.json.encode(self._describe()), indent=1)


class OpenApi(BaseHandler):
    """``GET /api/openapi.json``."""

    document: Document

    def get(self) -> None:
        """200 with the document."""
        self.finish(self.document.encoded)


class _Browsed(BaseHandler):
    """What a browser opens, which can send a key in the address only."""

    def prepare(self) -> None:
        """Let in who may come in."""
        try:
            self._access.check(self.request, self.get_query_argument("token", ""))
        except KeyRequired as error:
            raise KeyRequired(f"{error.message}; in a browser open /docs?token=") from None
        self.set_header("Referrer-Policy", "no-referrer")


class DocsPage(_Browsed):
    """``GET /docs``."""

    def get(self) -> None:
        """200 with the page."""
        token = self.get_query_argument("token", "")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", _POLICY)
        self.finish(_PAGE.format(query=f"?token={quote(token, safe='')}" if token else ""))


class DocsAsset(_Browsed):
    """``GET /docs/<name>``: what the page is made of."""

    async def get(self, name: str) -> None:
        """200 with the file; 404 where the page has none of this name."""
        kind = _TYPES.get(name)
        if kind is None:
            raise NotFound(f"there is nothing at {self.request.path[:200]}")
        content = _START
        if name != "start.js":
            content = await asyncio.to_thread((files("swagger_ui") / "static" / name).read_bytes)
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("Cache-Control", "private, max-age=86400")
        self.finish(content)
