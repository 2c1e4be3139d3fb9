"""The media that the sandbox holds, and what Meta would not take (CLOUD_API.md 5).

Pure: bytes and times in, values out. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from whatsapp.sandbox_rules import Refused, unknown_object

__all__ = ["Media", "MediaShelf"]

_MB = 1024 * 1024
_LIMITS: dict[str, int] = {
    "audio/aac": 16 * _MB,
    "audio/amr": 16 * _MB,
    "audio/mpeg": 16 * _MB,
    "audio/mp4": 16 * _MB,
    "audio/ogg": 16 * _MB,
    "image/jpeg": 5 * _MB,
    "image/png": 5 * _MB,
    "image/webp": 500 * 1024,
    "video/mp4": 16 * _MB,
    "video/3gpp": 16 * _MB,
    "text/plain": 100 * _MB,
}
_DOCUMENT_LIMIT = 100 * _MB
_URL_LIFE_S = 300


class Media(msgspec.Struct, frozen=True):
    """One upload."""

    id: str
    number: str
    """The phone number id that it was uploaded for."""
    mime_type: str
    content: bytes

    def info(self, base_url: str, now: float) -> dict[str, Any]:
        """The answer to ``GET /{media-id}``; its URL is good for five minutes from ``now`` (seconds)."""
        return {
            "messaging_product": "whatsapp",
            "url": f"{base_url}/media/{self.id}?ext={int(now) + _URL_LIFE_S}",
            "mime_type": self.mime_type,
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "file_size": len(self.content),
            "id": self.id,
        }


class MediaShelf:
    """Uploads by id, the oldest forgotten once together they exceed ``keep_bytes``."""

    def __init__(self, keep_bytes: int = 256 * _MB) -> None:
        self._keep_bytes = keep_bytes
        self._bytes = 0
        self._shelf: dict[str, Media] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._shelf)

    def put(self, number: str, mime_type: str, content: bytes) -> Media:
        """Keep an upload. Raises Refused for a type that Meta does not take, and for too large a file."""
        plain = mime_type.partition(";")[0].strip().lower()
        limit = _LIMITS.get(plain, _DOCUMENT_LIMIT if plain.startswith("application/") else 0)
        if not limit:
            raise Refused(100, f"type {mime_type!r} is not supported.")
        if not content or len(content) > limit:
            raise Refused(100, f"file must hold 1 to {limit} bytes for {plain}, not {len(content)}.")
        self._count += 1
        media = Media(str(900_000_000_000_000 + self._count), number, mime_type, content)
        self._shelf[media.id] = media
        self._bytes += len(content)
        while self._bytes > self._keep_bytes and len(self._shelf) > 1:
            self._bytes -= len(self._shelf.pop(next(iter(self._shelf))).content)
        return media

    def get(self, id: str, number: str = "") -> Media:
        """The upload of this id, of this number where one is given; raises Refused if there is none."""
        media = self._shelf.get(id)
        if media is None or (number and number != media.number):
            raise unknown_object(id)
        return media

    def remove(self, id: str, number: str = "") -> None:
        """Forget an upload; raises Refused if there is none."""
        media = self.get(id, number)
        del self._shelf[id]
        self._bytes -= len(media.content)
