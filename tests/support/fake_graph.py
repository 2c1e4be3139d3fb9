"""A Graph API that does with files what no sandbox should: breaks them off, drips them, sends too many bytes.

What a file does is said by its id. It keeps nothing of what is uploaded but its size and digest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

__all__ = ["WHOLE", "FakeGraph", "faking"]

WHOLE = b"0123456789abcdef" * 4096
_CHUNK = 16 * 1024


class FakeGraph:
    """Listens on :attr:`url` within :func:`faking`."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        """"METHOD /path" of every call."""
        self.tokens: dict[str, str | None] = {}
        """The header Authorization of the last call of each path."""
        self.uploads: list[tuple[int, str]] = []
        """(bytes of the whole form, its digest)"""
        self.gone = asyncio.Event()
        """Set when a client let go of a file that drips."""
        self.dripping = asyncio.Event()
        self.fail_first = 0
        """So many calls for files are answered with 503."""
        self.templates: list[dict[str, Any]] = []
        self.template_status = 200

    async def node(self, request: web.Request) -> web.Response:
        """``GET`` and ``DELETE /v26.0/{id}``."""
        self._note(request)
        id = request.match_info["id"]
        if id == "unknown":
            error = {"message": "(#100) no such object", "code": 100, "error_subcode": 33}
            return web.json_response({"error": error}, status=400)
        if id == "denied":
            error = {"message": "(#190) expired", "code": 190, "fbtrace_id": "T"}
            return web.json_response({"error": error}, status=401)
        if id == "page":
            return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")
        if request.method == "DELETE":
            return web.json_response({"success": True})
        url = {"plain": "http://192.0.2.1/file", "nourl": ""}.get(id, f"{self.url}/file/{id}")
        size: object = {"huge": 200 * 1024 * 1024, "less": len(WHOLE) + 1}.get(id, len(WHOLE))
        info = {"url": url, "mime_type": "image/png", "file_size": str(size), "id": id}
        return web.json_response(info | {"sha256": hashlib.sha256(WHOLE).hexdigest()})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """``GET /file/{id}``."""
        self._note(request)
        id = request.match_info["id"]
        if self.fail_first > 0:
            self.fail_first -= 1
            return web.Response(status=503)
        if id == "gone":
            return web.Response(status=404)
        if id in ("moved", "astray", "round"):
            target = {"moved": "/file/whole", "astray": "http://192.0.2.1/", "round": "/file/round"}[id]
            return web.Response(status=302, headers={"Location": target})
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        if id != "chunked" and id != "less":
            response.content_length = len(WHOLE)
        await response.prepare(request)
        if id == "drip":
            return await self._drip(response)
        end = len(WHOLE) // 2 if id == "short" else len(WHOLE)
        for start in range(0, end, _CHUNK):
            await response.write(WHOLE[start : min(end, start + _CHUNK)])
        if id == "short" or id == "less":
            assert request.transport is not None
            if id == "short":
                request.transport.close()
        return response

    async def upload(self, request: web.Request) -> web.Response:
        """``POST /v26.0/{number}/media``."""
        self._note(request)
        size, digest = 0, hashlib.sha256()
        async for chunk in request.content.iter_chunked(_CHUNK):
            size += len(chunk)
            digest.update(chunk)
        self.uploads.append((size, digest.hexdigest()))
        return web.json_response({"id": f"5{len(self.uploads):03}"})

    async def template_list(self, request: web.Request) -> web.Response:
        """``GET /v26.0/{waba}/message_templates``, two to a page."""
        self._note(request)
        if self.template_status != 200:
            return web.Response(status=self.template_status)
        start = int(request.query.get("after", "0"))
        paging: dict[str, Any] = {"cursors": {"after": str(start + 2)}}
        if start + 2 < len(self.templates):
            paging["next"] = "there is more"
        return web.json_response({"data": self.templates[start : start + 2], "paging": paging})

    async def _drip(self, response: web.StreamResponse) -> web.StreamResponse:
        try:
            await response.write(b"x")
            self.dripping.set()
            await asyncio.Event().wait()
        finally:
            self.gone.set()
        return response

    def _note(self, request: web.Request) -> None:
        if "throughput" in request.query.get("fields", ""):
            # A lane that starts asks for its number's level, whatever the test is about.
            return
        self.asked.append(f"{request.method} {request.path}")
        self.tokens[request.path] = request.headers.get("Authorization")


@asynccontextmanager
async def faking() -> AsyncIterator[FakeGraph]:
    """One that listens on a free port."""
    graph = FakeGraph()
    app = web.Application(client_max_size=0)
    app.router.add_get("/v26.0/{waba}/message_templates", graph.template_list)
    app.router.add_post("/v26.0/{number}/media", graph.upload)
    app.router.add_route("GET", "/v26.0/{id}", graph.node)
    app.router.add_route("DELETE", "/v26.0/{id}", graph.node)
    app.router.add_get("/file/{id}", graph.file)
    # So that a client that goes away is noticed.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    graph.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield graph
    finally:
        await runner.cleanup()
