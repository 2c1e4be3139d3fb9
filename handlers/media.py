"""Files of messages: ``/api/media`` and below (contract.md, Messages).

Owns how files come in and go out over HTTP, always in chunks. What Meta is asked and given is the business of
``whatsapp/media.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from handlers.base import BaseHandler
from handlers.fields import refusal, refuse_if
from handlers.idempotency import check_key
from handlers.options import number_fault
from handlers.pages import query_of
from handlers.parameters import KEY_HEADER, MediaQuery
from handlers.upload_form import UploadDesk, UploadForm
from store.errors import GatewayError
from whatsapp.media import Media, Upload
from whatsapp.media_rules import content_disposition

__all__ = ["MediaDownload", "MediaResource", "MediaUpload"]

_log = logging.getLogger(__name__)

_DISCARD = 8 * 1024 * 1024
"""So much of a body is thrown away to its end for a caller that is refused for its headers."""


class _OfOneNumber(BaseHandler):
    """What is about a file that Meta has for one of our numbers. ``numbers``: ours, the default first."""

    media: Media
    numbers: Sequence[str]

    def _number(self) -> str:
        """The number of the query, or the default. Raises InvalidRequest."""
        asked = query_of(self, MediaQuery, []).phone_number_id
        if fault := number_fault(asked, self.numbers):
            raise refusal([fault])
        return asked or self.numbers[0]


class MediaResource(_OfOneNumber):
    """``GET`` and ``DELETE /api/media/<id>``."""

    async def get(self, media_id: str) -> None:
        """200 with its address, good for five minutes; 404 where Meta does not know it."""
        info = await self.media.info(media_id, self._number())
        self.answer(
            {
                "success": True,
                "media_url": info.url,
                "mime_type": info.mime_type or None,
                "sha256": info.sha256 or None,
                "file_size": info.file_size,
            }
        )

    async def delete(self, media_id: str) -> None:
        """200 once Meta has forgotten it; 404 where it never knew it."""
        await self.media.delete(media_id, self._number())
        self.answer({"success": True})


class MediaDownload(_OfOneNumber):
    """``GET /api/media/<id>/download``."""

    _passing: asyncio.Task[None] | None = None
    _begun = False
    _gone = False

    async def get(self, media_id: str) -> None:
        """200 with the bytes as they come. Where they break off, so does the connection: never a short body
        that looks whole."""
        # A task of its own, so that a client that goes away ends it, and with it the call to Meta.
        self._passing = asyncio.Task(self._pass_on(media_id), name="media-download")
        await asyncio.wait({self._passing})
        error = None if self._passing.cancelled() else self._passing.exception()
        if self._gone or self._passing.cancelled() or isinstance(error, StreamClosedError):
            self._cut()
        elif error is not None:
            if not self._begun:
                raise error
            self._errors["download_broken"] += 1
            _log.warning("the download of %s broke off: %s", media_id, error)
            self._cut()

    def on_connection_close(self) -> None:
        """The client is gone."""
        self._gone = True
        if self._passing is not None:
            self._passing.cancel()

    async def _pass_on(self, media_id: str) -> None:
        async with self.media.open(media_id, self._number()) as download:
            self.set_header("Content-Type", download.type)
            # What customers send is saved, and never taken for a page of ours.
            self.set_header("Content-Disposition", content_disposition(download.name))
            self.set_header("X-Content-Type-Options", "nosniff")
            if download.size is not None:
                self.set_header("Content-Length", str(download.size))
            async for chunk in download.chunks:
                self._begun = True
                self.write(chunk)
                await self.flush()
        self._begun = True
        await self.finish()

    def _cut(self) -> None:
        self.detach().close()


@stream_request_body
class MediaUpload(BaseHandler):
    """``POST /api/media``."""

    media: Media
    desk: UploadDesk
    _form: UploadForm | None = None
    _file: Upload | None = None
    _fault: Exception | None = None
    _receiving = True

    def prepare(self) -> None:
        """Let in who may come in, before the first byte of the file."""
        try:
            self._check()
            if self.request.method == "POST":
                self._form = self.desk.open(self.request.headers.get("Content-Type", ""))
        except GatewayError as error:
            declared = self.request.headers.get("Content-Length", "")
            if not declared.isdecimal() or int(declared[:20]) > _DISCARD:
                # Tornado closes the connection after an answer that comes before the end of the body.
                raise
            self._fault = error

    def _check(self) -> None:
        self.admit()
        if self.request.method != "POST":
            return
        misplaced = "is no parameter of this path: what goes with the file is a field of the form"
        refuse_if([(name[:100], misplaced) for name in self.request.query_arguments])
        if (key := self.request.headers.get(KEY_HEADER)) is not None:
            # The rest of it follows once the file is in, which it is about.
            check_key(key)

    def sameness(self) -> bytes:
        """The file, and what was said of it: whoever repeats a form puts another boundary around it."""
        file = self._file
        assert file is not None
        return msgspec.json.encode([file.number, file.type, file.name, file.sha256])

    async def data_received(self, chunk: bytes) -> None:
        """What comes after a fault is thrown away, so that the caller gets to read the answer."""
        if self._form is None or self._fault is not None:
            return
        try:
            await self._form.feed(chunk)
        except (GatewayError, OSError) as error:
            self._fault = error
            self._let_go()

    async def post(self) -> None:
        """200 with the id, and whether Meta had the same bytes already; 400 for what Meta would not take."""
        self._receiving = False
        if self._fault is not None:
            raise self._fault
        assert self._form is not None
        self._file = await self._form.end()
        if (beginning := self.begin_once()) is not None:
            await beginning
            if self._finished:
                return
        media_id, reused = await self.media.upload(self._file)
        self.answer({"success": True, "media_id": media_id, "reused": reused})

    def on_connection_close(self) -> None:
        """The client is gone. What is on its way to Meta already goes on: it will be known by its digest."""
        super().on_connection_close()
        if self._receiving:
            self._let_go()

    def on_finish(self) -> None:
        """However it ended."""
        self._let_go()

    def log_exception(self, *exc_info: Any) -> None:
        """A full disk has no trace worth reading."""
        if isinstance(exc_info[1], OSError):
            _log.error("an upload could not be kept on disk: %s", exc_info[1])
        else:
            super().log_exception(*exc_info)

    def _let_go(self) -> None:
        form, self._form = self._form, None
        if form is not None:
            form.close()
