"""Inbound files on this machine: a folder with a file for each id, and what is still to be fetched.

Owns the names and rights of the files. Beside the bytes (``<id>``) stands what is known of them
(``<id>.json``), which is written last: without it there is no file. ``<id>.want`` is one to be fetched: the
queue of ``media_keeper.py``, which so outlives the process. All work on the disk is done in threads.

Whole or not at all: everything is written under another name, synced, and renamed. Only the owner may read,
since it is what customers sent.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from whatsapp.media_rules import is_media_id

__all__ = ["Kept", "MediaFolder", "Want", "Writing"]

T = TypeVar("T")

_CHUNK = 256 * 1024
_WANT, _KEPT, _TMP = ".want", ".json", ".tmp"


class Want(msgspec.Struct, frozen=True):
    """A file to be fetched."""

    id: str
    at: int
    """When its message came."""
    mime_type: str = ""
    sha256: str = ""
    """As the webhook tells it, in hex or base64; empty: not told."""
    name: str = ""
    number: str = ""
    """Our number that its message came to, whose token Meta is asked with."""


class Kept(msgspec.Struct, frozen=True):
    """A file that is here."""

    mime_type: str
    size: int
    sha256: str
    """In hex."""
    at: int
    """When its message came."""
    name: str = ""


class MediaFolder:
    """Call :meth:`prepare` first. Ids must have passed ``is_media_id``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def prepare(self) -> list[Want]:
        """Make the folder, clear away what an earlier process left half done; what is still wanted.

        Raises OSError.
        """
        return await asyncio.to_thread(self._prepare)

    async def want(self, wants: Iterable[Want]) -> list[Want]:
        """Note these durably; those that were neither wanted nor here. Raises OSError."""
        return await asyncio.to_thread(self._want, list(wants))

    async def forget(self, media_id: str) -> None:
        """No longer want it. Raises OSError."""
        await asyncio.to_thread((self.path / f"{media_id}{_WANT}").unlink, missing_ok=True)

    async def remove(self, media_id: str) -> bool:
        """Remove a file; whether it was here. Raises OSError."""
        return await asyncio.to_thread(self._remove, media_id)

    async def find(self, media_id: str) -> Kept | None:
        """What is known of a file that is here."""
        return await asyncio.to_thread(self._find, media_id)

    async def read(self, media_id: str, size: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file that is here. Raises OSError where they are not all there."""
        file = await asyncio.to_thread(open, self.path / media_id, "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                size -= len(chunk)
                yield chunk
        finally:
            file.close()
        if size:
            raise OSError(f"the file kept as {media_id} is not as long as it was")

    async def write(self, media_id: str) -> Writing:
        """Begin a file. Raises OSError."""
        return await asyncio.to_thread(Writing, self, media_id)

    async def sweep(self, before: int, limit: int) -> int:
        """Remove at most ``limit`` files whose message came before; how many there were. Raises OSError."""
        return await asyncio.to_thread(self._sweep, before, limit)

    # -- in a thread -----------------------------------------------------------------------------------

    def _prepare(self) -> list[Want]:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._files(_TMP):
            path.unlink(missing_ok=True)
        wants = (_decode(path, Want) for path in self._files(_WANT))
        return [want for want in wants if want is not None and is_media_id(want.id)]

    def _want(self, wants: list[Want]) -> list[Want]:
        new = []
        for want in wants:
            place = self.path / f"{want.id}{_WANT}"
            if not place.exists() and not (self.path / f"{want.id}{_KEPT}").exists():
                self.put(place, msgspec.json.encode(want))
                new.append(want)
        if new:
            self.sync()
        return new

    def _remove(self, media_id: str) -> bool:
        known = self.path / f"{media_id}{_KEPT}"
        here = known.exists()
        known.unlink(missing_ok=True)
        (self.path / media_id).unlink(missing_ok=True)
        return here

    def _find(self, media_id: str) -> Kept | None:
        kept = _decode(self.path / f"{media_id}{_KEPT}", Kept)
        return kept if kept is not None and (self.path / media_id).is_file() else None

    def _sweep(self, before: int, limit: int) -> int:
        removed = 0
        for path in self._files(_KEPT):
            kept = _decode(path, Kept)
            if kept is None or kept.at < before:
                self._remove(path.stem)
                removed += 1
                if removed >= limit:
                    break
        return removed

    def _files(self, ending: str) -> Iterator[Path]:
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(ending):
                    yield Path(entry.path)

    def put(self, place: Path, content: bytes) -> None:
        """Write a small file whole. The folder is not synced yet."""
        temporary, file = self.create(place.name)
        with file:
            file.write(content)
            _sync(file)
        temporary.replace(place)

    def create(self, name: str) -> tuple[Path, IO[bytes]]:
        """A new file under another name, which nobody else may read."""
        temporary = self.path / f".{name}.{secrets.token_hex(8)}{_TMP}"
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        return temporary, os.fdopen(handle, "wb")

    def sync(self) -> None:
        """Make renames durable."""
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Writing:
    """A file that is being written. End it with :meth:`keep` or :meth:`discard`."""

    def __init__(self, folder: MediaFolder, media_id: str) -> None:
        self._folder = folder
        self._media_id = media_id
        self._temporary, self._file = folder.create(media_id)
        self._hash = sha256()
        self._size = 0

    @property
    def digest(self) -> bytes:
        """SHA-256 of what was written so far."""
        return self._hash.digest()

    async def write(self, chunk: bytes) -> None:
        """Add bytes. Raises OSError."""
        await asyncio.to_thread(self._write, chunk)

    async def keep(self, *, mime_type: str, name: str, at: int) -> None:
        """Have it in the folder, and no longer want it. Raises OSError."""
        kept = Kept(mime_type, self._size, self._hash.hexdigest(), at, name)
        await asyncio.to_thread(self._keep, kept)

    async def discard(self) -> None:
        """Let go of what was not kept. Idempotent."""
        await asyncio.to_thread(self._discard)

    def _write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self._size += len(chunk)

    def _keep(self, kept: Kept) -> None:
        with self._file:
            _sync(self._file)
        place = self._folder.path / self._media_id
        self._temporary.replace(place)
        self._folder.put(place.with_name(f"{self._media_id}{_KEPT}"), msgspec.json.encode(kept))
        place.with_name(f"{self._media_id}{_WANT}").unlink(missing_ok=True)
        self._folder.sync()

    def _discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _decode(path: Path, kind: type[T]) -> T | None:
    """None for what is not there, or cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return None
