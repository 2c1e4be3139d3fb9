"""A form with a file, taken apart as it comes in: never more than a piece of it is in memory.

Owns the way of an upload's bytes to a temporary file on disk, its bounds, and the reading of them back. They
wait there until all of them are in, so that type, size and digest are known before Meta sees the first: a
file that Meta would refuse costs no upload, and one that Meta has already costs none either.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from typing import TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from handlers.base import BadForm, Busy, UnsupportedMedia
from handlers.fields import refusal
from handlers.options import number_fault
from store.errors import Problem
from whatsapp.media import Upload
from whatsapp.media_rules import (
    SNIFF,
    Fault,
    media_type,
    plain_type,
    safe_name,
    size_fault,
    type_fault,
)

__all__ = ["UPLOADS_AT_ONCE", "UploadDesk", "UploadForm"]

T = TypeVar("T")

UPLOADS_AT_ONCE = 16
"""Each may take 100 MB of the disk for temporary files."""
_MEMORY = 1024 * 1024
"""A file up to so many bytes does not go to the disk."""
_PIECE = 256 * 1024
_FIELDS = ("type", "phone_number_id", "messaging_product")
_FIELD_LIMIT = 1024
_PARTS = 16


class UploadDesk:
    """Counts the uploads that come in, and the memory that they take. ``numbers``: those that a file may be
    for, the default first."""

    def __init__(self, numbers: Sequence[str]) -> None:
        self.numbers = numbers
        self.under_way = 0
        self.most_buffered = 0
        """The most bytes of one upload that were in memory at once, since the start."""

    def open(self, content_type: str) -> UploadForm:
        """Begin one; it must be closed. Raises Busy, UnsupportedMedia, BadForm."""
        if self.under_way >= UPLOADS_AT_ONCE:
            raise Busy(f"{UPLOADS_AT_ONCE} uploads are under way, send it again in a moment")
        return UploadForm(self, content_type)


class UploadForm:
    """One form: give it all chunks of the body, then ask for the file."""

    def __init__(self, desk: UploadDesk, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise UnsupportedMedia("send the file as a form: Content-Type: multipart/form-data, field file")
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise BadForm("the Content-Type of the form names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise BadForm(f"the form cannot be read: {error}") from error
        self._desk = desk
        self._fields: dict[str, str] = {}
        self._parts = 0
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field = ""
        self._value = bytearray()
        self._files = 0
        self._name = ""
        self._part_type = ""
        self._type = ""
        self._head = b""
        self._size = 0
        self._hash = sha256()
        self._ended = False
        self._piece = bytearray()
        self._spool = tempfile.SpooledTemporaryFile(_MEMORY)
        self._working = False
        self._closed = False
        desk.under_way += 1

    async def feed(self, chunk: bytes) -> None:
        """Take what came in. Raises InvalidRequest for what Meta would not take, BadForm, OSError."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadForm(f"the form cannot be read: {error}") from error
        in_spool = self._size - len(self._piece)
        self._desk.most_buffered = max(
            self._desk.most_buffered,
            len(chunk) + len(self._piece) + (in_spool if in_spool <= _MEMORY else 0),
        )
        if len(self._piece) >= _PIECE:
            await self._write_piece()

    async def end(self) -> Upload:
        """The file, once all is in. Raises InvalidRequest, BadForm, OSError."""
        if not self._ended:
            raise BadForm("the form ends too early")
        if not self._files:
            raise refusal([("file", "is required: the file itself, as a part of the form with a file name")])
        type = self._known_type()
        _refuse(type_fault(type) or size_fault(type, self._size, self._head))
        if not self._size:
            _refuse(Fault("file", "must not be empty"))
        await self._write_piece()
        digest = self._hash.hexdigest()
        number = self._fields.get("phone_number_id") or self._desk.numbers[0]
        return Upload(type, safe_name(self._name, "file", type), self._size, digest, self._read, number)

    def close(self) -> None:
        """Let go of the bytes. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._desk.under_way -= 1
        self._close_spool()

    # -- the temporary file ----------------------------------------------------------------------------

    async def _write_piece(self) -> None:
        piece, self._piece = self._piece, bytearray()
        if piece:
            await self._in_thread(lambda: self._write(piece))

    def _write(self, piece: bytearray) -> None:
        self._hash.update(piece)
        self._spool.write(piece)

    async def _read(self) -> AsyncIterator[bytes]:
        await self._in_thread(lambda: self._spool.seek(0))
        while piece := await self._in_thread(lambda: self._spool.read(_PIECE)):
            yield piece

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """A disk may be slow. Whoever closes meanwhile leaves the closing to the end of it."""
        if self._closed:
            raise OSError("the upload was broken off")
        self._working = True
        try:
            return await asyncio.to_thread(work)
        finally:
            self._working = False
            self._close_spool()

    def _close_spool(self) -> None:
        if self._closed and not self._working:
            self._spool.close()

    # -- what the parser finds -------------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS:
            raise BadForm(f"the form has more than {_PARTS} parts")
        self._headers = {}
        self._value.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = _decoded(options.get(b"name", b""))
        if self._field == "file":
            self._files += 1
            if self._files > 1:
                _refuse(Fault("file", "must be one file"))
            self._name = _decoded(options.get(b"filename", b""))
            self._part_type = _decoded(self._headers.get(b"content-type", b""))
            self._type = self._known_type()
            if self._type:
                _refuse(type_fault(self._type))
        elif self._field not in _FIELDS:
            what = "is no field of this form, which takes file and " + ", ".join(_FIELDS)
            _refuse(Fault(self._field[:100] or "form", what))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == "file":
            self._size += end - start
            if len(self._head) < SNIFF:
                self._head += data[start : min(end, start + SNIFF - len(self._head))]
            # Of a type that is told after the file nothing is known yet but the largest size of all.
            _refuse(size_fault(self._type, self._size))
            self._piece += memoryview(data)[start:end]
        elif self._field in _FIELDS:
            self._value += data[start:end]
            if len(self._value) > _FIELD_LIMIT:
                _refuse(Fault(self._field, f"must have at most {_FIELD_LIMIT} bytes"))

    def _on_part_end(self) -> None:
        if self._field in _FIELDS:
            self._fields[self._field] = _decoded(bytes(self._value)).strip()
            if self._field == "type" and self._fields["type"]:
                given = self._fields["type"]
                plain = plain_type(given)
                no_type = Fault("type", f"{given[:100]} is no mime type, such as application/pdf")
                _refuse(type_fault(plain) if plain else no_type)
            if self._field == "phone_number_id":
                _refuse(number_fault(self._fields["phone_number_id"], self._desk.numbers))

    def _on_end(self) -> None:
        self._ended = True

    def _known_type(self) -> str:
        return media_type(self._fields.get("type", ""), self._part_type, self._name)


def _refuse(fault: Problem | None) -> None:
    if fault is not None:
        raise refusal([fault])


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "replace")
