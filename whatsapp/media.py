"""Files of messages: asking Meta for them, giving them to Meta, and not giving the same one twice.

Owns what Meta's answers about files mean, and the reuse of ids. Bytes pass through in chunks. What is kept
on this machine is in ``media_folder.py``; types and sizes are checked by ``media_rules.py`` before this is
asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import msgspec

from store.base import Store
from store.errors import StoreError
from store.records import KnownMedia
from whatsapp.errors import GraphError, Outcome, classify, meta_object, parse_error
from whatsapp.failures import MetaFailed, MetaRefused, NoAnswer, NoSuchMedia
from whatsapp.graph import Graph
from whatsapp.media_folder import MediaFolder
from whatsapp.media_rules import FILE_LIMIT, is_media_id, plain_type, safe_name
from whatsapp.outcome import Answer

__all__ = ["Download", "Media", "MediaInfo", "Upload", "refused_by_meta"]

_log = logging.getLogger(__name__)

_DAY_MS = 86_400_000
_REUSE_MS = 29 * _DAY_MS
"""An uploaded id lives 30 days (CLOUD_API.md 5); the last is left to messages that wait in the queue."""
_UNKNOWN = frozenset({33, 100})
"""Of a call that names nothing but an id: there is nothing by it, or no file."""
_ERROR_BYTES = 16 * 1024


class MediaInfo(msgspec.Struct, frozen=True):
    """What Meta knows of a file (CLOUD_API.md 5)."""

    url: str = ""
    """Good for five minutes, and with the access token only."""
    mime_type: str = ""
    sha256: str = ""
    file_size: int | None = None
    id: str = ""


class Upload(NamedTuple):
    """A file that waits to be given to Meta."""

    type: str
    name: str
    size: int
    sha256: str
    """In hex."""
    read: Callable[[], AsyncIterator[bytes]]
    """Its bytes, from the beginning at each call."""
    number: str
    """The phone number id that it is uploaded for."""


class Download(NamedTuple):
    """A file on its way to whoever asked."""

    type: str
    name: str
    size: int | None
    chunks: AsyncIterator[bytes]
    """Raises NoAnswer, or OSError for a file kept here, where the bytes end too early."""


class Media:
    """``folder``: where inbound files are kept, if they are. ``number`` of its methods: the phone number id
    whose token Meta is asked with."""

    def __init__(
        self,
        graph: Graph,
        store: Store,
        *,
        folder: MediaFolder | None = None,
        now_ms: Callable[[], int],
    ) -> None:
        self._graph = graph
        self._store = store
        self._folder = folder
        self._now_ms = now_ms
        self._locks: dict[tuple[str, str, str], asyncio.Lock] = {}
        self._waiting: Counter[tuple[str, str, str]] = Counter()

    async def info(self, media_id: str, number: str) -> MediaInfo:
        """What Meta knows of it, with an address that is fresh.

        Raises NoSuchMedia, MetaRefused, SendError.
        """
        if not is_media_id(media_id):
            raise _unknown(media_id)
        answer = await self._graph.media(media_id, number)
        try:
            # file_size was seen as text too (CLOUD_API.md 5).
            found = msgspec.convert(msgspec.json.decode(answer.body), MediaInfo, strict=False)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            found = MediaInfo()
        if answer.status == 200 and found.url:
            return found
        error = self._error_of(answer)
        if answer.status == 200 or answer.status == 404 or (error.from_graph and error.code in _UNKNOWN):
            raise _unknown(media_id)
        raise refused_by_meta(error)

    async def delete(self, media_id: str, number: str) -> None:
        """Have Meta forget it, and this machine. Raises as :meth:`info`; NoSuchMedia where neither had it."""
        here = self._folder is not None and is_media_id(media_id) and await self._folder.remove(media_id)
        try:
            # First, since Graph deletes whatever an id is of: a flow, or a template.
            await self.info(media_id, number)
        except NoSuchMedia:
            if here:
                return
            raise
        answer = await self._graph.delete_media(media_id, number)
        if answer.status != 200:
            raise refused_by_meta(self._error_of(answer))

    async def upload(self, file: Upload) -> tuple[str, bool]:
        """Its id, and whether it is one that Meta had given for the same bytes before.

        Raises MetaRefused, SendError.
        """
        key = (file.number, file.sha256, file.type)
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._waiting[key] += 1
        try:
            async with lock:
                known = await self._known(file)
                return (known, True) if known else (await self._upload(file), False)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._locks[key]

    @asynccontextmanager
    async def open(self, media_id: str, number: str) -> AsyncIterator[Download]:
        """The file, from this machine where it is kept, else from Meta. Raises as :meth:`info`."""
        kept = await self._folder.find(media_id) if self._folder and is_media_id(media_id) else None
        if kept is not None and self._folder is not None:
            name = safe_name(kept.name, media_id, kept.mime_type)
            async with aclosing(self._folder.read(media_id, kept.size)) as chunks:
                yield Download(kept.mime_type, name, kept.size, chunks)
            return
        async with self.fetch(media_id, number) as download:
            yield download

    @asynccontextmanager
    async def fetch(self, media_id: str, number: str) -> AsyncIterator[Download]:
        """The file as Meta has it now. Raises as :meth:`info`."""
        info = await self.info(media_id, number)
        async with self._graph.download(info.url, number) as incoming:
            if incoming.status in (404, 410):
                raise _unknown(media_id)
            if incoming.status != 200:
                body = await incoming.beginning(_ERROR_BYTES)
                raise refused_by_meta(self._error_of(Answer(incoming.status, body, incoming.headers)))
            for told in (incoming.size, info.file_size):
                if told is not None and told > FILE_LIMIT:
                    raise MetaFailed(
                        f"the file has {told} bytes, more than the {FILE_LIMIT} that Meta promises"
                    )
            type = plain_type(info.mime_type) or plain_type(incoming.headers.get("Content-Type", ""))
            expected = incoming.size if info.file_size is None else info.file_size
            async with aclosing(_whole(incoming.chunks(), expected)) as chunks:
                name = safe_name("", media_id, type)
                yield Download(type or "application/octet-stream", name, incoming.size, chunks)

    async def _upload(self, file: Upload) -> str:
        answer = await self._graph.upload(file.number, file.type, file.name, file.size, file.read())
        try:
            media_id = msgspec.json.decode(answer.body, type=MediaInfo).id if answer.status == 200 else ""
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            media_id = ""
        if not is_media_id(media_id):
            raise refused_by_meta(self._error_of(answer))
        now = self._now_ms()
        known = KnownMedia(file.number, file.sha256, file.type, media_id, now + _REUSE_MS)
        try:
            await self._store.remember_media(known, now)
        except StoreError as error:
            _log.warning("an uploaded file will not be known again: %s", error.message)
        return media_id

    async def _known(self, file: Upload) -> str:
        """The id of the same bytes, if Meta still has it; else empty."""
        try:
            found = await self._store.find_media(file.number, file.sha256, file.type, self._now_ms())
        except StoreError:
            return ""
        if found is None:
            return ""
        try:
            await self.info(found, file.number)
        except NoSuchMedia:
            return ""
        return found

    def _error_of(self, answer: Answer) -> GraphError:
        return parse_error(answer.status, answer.body, answer.headers, self._now_ms())


def refused_by_meta(error: GraphError) -> MetaRefused:
    """What to raise for an answer that is none to be happy about."""
    kind = MetaRefused if error.from_graph and classify(error).outcome is Outcome.FAIL else MetaFailed
    what = error.details or error.title or error.message
    return kind(f"Meta refused: {what}", meta_object(error) if error.from_graph else None)


async def _whole(chunks: AsyncIterator[bytes], expected: int | None) -> AsyncGenerator[bytes, None]:
    """The chunks, as long as they do not exceed what was told, and then not less of them."""
    size = 0
    limit = FILE_LIMIT if expected is None else expected
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise NoAnswer(f"the file has more than the {limit} bytes that it may have")
        yield chunk
    if expected is not None and size < expected:
        raise NoAnswer(f"the file ended after {size} of {expected} bytes")


def _unknown(media_id: str) -> NoSuchMedia:
    return NoSuchMedia(f"Meta knows no file by the id {media_id[:100]}")
