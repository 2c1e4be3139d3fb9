"""A connection whose network a test opens and shuts, and a reader of the frames that went into it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

__all__ = ["FakeTransport", "read_frames", "split_frames"]


def split_frames(data: bytes) -> list[bytes]:
    """The payloads of a run of whole, unmasked text frames (RFC 6455, section 5.2); fails on others."""
    payloads = []
    while data:
        assert data[0] == 0x81, "a final text frame"
        size, start = data[1], 2
        assert size < 128, "not masked"
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[2:start])
        assert len(data) >= start + size, "a whole frame"
        payloads.append(data[start : start + size])
        data = data[start + size :]
    return payloads


def read_frames(data: bytes) -> list[dict[str, Any]]:
    """What a run of frames says."""
    return [msgspec.json.decode(payload) for payload in split_frames(data)]


class FakeTransport:
    """Keeps the :class:`hub.subscription.Transport` protocol. Takes everything at once until it is shut."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        """What each call of send brought."""
        self.closed_with: tuple[int, str] | None = None
        self.waited = asyncio.Event()
        """Set once somebody waited for the connection to drain."""
        self._kept = 0
        self._open = asyncio.Event()
        self._open.set()

    @property
    def buffered(self) -> int:
        """As in the protocol."""
        return self._kept

    def send(self, data: bytes, bound: int) -> bool:
        """As in the protocol."""
        if self.closed_with is not None:
            return True
        if self._kept and self._kept + len(data) > bound:
            return False
        self.sent.append(data)
        if not self._open.is_set():
            self._kept += len(data)
        return True

    def close(self, code: int, reason: str) -> None:
        """As in the protocol."""
        if self.closed_with is None:
            self.closed_with = (code, reason)

    async def drained(self) -> None:
        """As in the protocol."""
        if self._kept:
            self.waited.set()
            await self._open.wait()

    def shut(self) -> None:
        """Take nothing more."""
        self._open.clear()

    def reopen(self) -> None:
        """Take all that was kept, and what comes."""
        self._kept = 0
        self._open.set()

    @property
    def frames(self) -> list[dict[str, Any]]:
        """All that was sent, decoded."""
        return read_frames(b"".join(self.sent))

    @property
    def offsets(self) -> list[int]:
        """Offsets of the events that were sent."""
        return [frame["offset"] for frame in self.frames if frame["type"] == "event"]
