"""Fetches what customers send while Meta still has it, and removes it by age.

The handler of the consumer ``media``, and the loops beside it. Meta's address of a file dies within five
minutes and its id within seven days (CLOUD_API.md 5), so it is fetched at once, and tried for again as long
as it lives. The consumer only notes what is wanted, durably, in the folder, and goes on: its cursor never
waits for Meta, and what was noted outlives the process. On a machine that takes the consumer over, what is
still wanted stays with the one before.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from store.base import Store
from store.errors import GatewayError, StoreUnavailable
from store.records import Cursor, Event, Lease
from whatsapp.events import EventType
from whatsapp.failures import MetaFailed, MetaRefused, NoAnswer, NoSuchMedia
from whatsapp.media import Media
from whatsapp.media_folder import MediaFolder, Want, Writing
from whatsapp.media_rules import is_media_id, is_sha256

__all__ = ["MediaKeeper", "wanted_of"]

_log = logging.getLogger(__name__)

_DAY_MS = 86_400_000
_LIFE_MS = 7 * _DAY_MS
"""Of an id that came by webhook (CLOUD_API.md 5)."""
_KINDS = ("image", "audio", "video", "document", "sticker")
_AT_ONCE = 4
_REFUSALS = 3
"""Tries after which Meta's no is believed: what has just come in may not be everywhere at Meta yet."""
_FETCH_S = 900.0
"""For one try: 100 MB at a megabit a second."""
_CAP_S = 3600.0
_SWEEP_EVERY_S = 3600.0
_BREATH_S = 0.1
_PORTION = 200
_NAME_LIMIT = 255


class _Body(msgspec.Struct):
    data: dict[str, Any]


def wanted_of(event: Event) -> Want | None:
    """The file that an inbound message brings; None where it brings none, or one that is not safe to name."""
    if event.type != EventType.MESSAGE_RECEIVED:
        return None
    try:
        message = msgspec.json.decode(event.body, type=_Body).data.get("message")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    kind = message.get("type") if isinstance(message, dict) else None
    media = message.get(kind) if isinstance(message, dict) and kind in _KINDS else None
    if not isinstance(media, dict):
        return None
    media_id = media.get("id")
    if not isinstance(media_id, str) or not is_media_id(media_id):
        return None
    return Want(
        media_id,
        event.at,
        _text(media, "mime_type"),
        _text(media, "sha256"),
        _text(media, "filename"),
        event.phone_number_id,
    )


class MediaKeeper:
    """``days``: how long a file is kept. ``base_s``: the wait before a second try; each further is twice as
    long, up to an hour."""

    def __init__(
        self,
        media: Media,
        folder: MediaFolder,
        *,
        store: Store,
        days: int,
        now_ms: Callable[[], int],
        base_s: float = 2.0,
    ) -> None:
        self._media = media
        self._folder = folder
        self._store = store
        self._keep_ms = days * _DAY_MS
        self._now_ms = now_ms
        self._base_s = base_s
        self._due: list[tuple[float, int, Want, int]] = []
        """(when, by the loop's clock; order of coming; what; tries made)"""
        self._count = 0
        self._busy = 0
        self._unwanted: set[str] = set()
        self._grown = asyncio.Event()
        self.fetched = 0
        self.given_up = 0
        self.fault = ""
        """Why the last try failed; empty after one that did not."""

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "wanted": len(self._due) + self._busy,
            "fetched": self.fetched,
            "given_up": self.given_up,
            "fault": self.fault or None,
        }

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """Note what a batch brings, then save the cursor. Raises StoreUnavailable, LeaseLost."""
        oldest = self._now_ms() - min(_LIFE_MS, self._keep_ms)
        wants = {want.id: want for event in batch if event.at > oldest if (want := wanted_of(event))}
        if wants:
            try:
                new = await self._folder.want(wants.values())
            except OSError as error:
                # A full disk says nothing of the event, which is not to be stepped over.
                self.fault = f"MEDIA_DIR: {error}"
                raise StoreUnavailable(self.fault) from error
            for want in new:
                self._put(want, 0, 0.0)
        await self._store.save_cursor(cursor, lease)

    async def prepare(self) -> None:
        """Make the folder and take up what is still wanted. Raises GatewayError where that cannot be done."""
        try:
            wants = await self._folder.prepare()
        except OSError as error:
            raise GatewayError(
                f"MEDIA_DIR: the folder {self._folder.path} cannot be used: {error}"
            ) from error
        for want in wants:
            self._put(want, 0, 0.0)

    async def run(self) -> None:
        """Fetch and remove until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._fetch_all(), name="media-fetch")
            group.create_task(self._sweep(), name="media-sweep")

    async def remove(self, media_id: str) -> None:
        """Remove a file, and fetch it no more. Raises OSError."""
        self._unwanted.add(media_id)
        self._due = [due for due in self._due if due[2].id != media_id]
        heapq.heapify(self._due)
        await self._folder.forget(media_id)
        await self._folder.remove(media_id)

    # -- fetching --------------------------------------------------------------------------------------

    async def _fetch_all(self) -> None:
        while True:
            want, tries = await self._next()
            self._busy += 1
            try:
                await self._try(want, tries)
            finally:
                self._busy -= 1

    async def _next(self) -> tuple[Want, int]:
        """The one that is due first, once it is."""
        loop = asyncio.get_running_loop()
        while True:
            wait_s = self._due[0][0] - loop.time() if self._due else None
            if wait_s is not None and wait_s <= 0:
                _, _, want, tries = heapq.heappop(self._due)
                return want, tries
            self._grown.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._grown.wait()
            except TimeoutError:
                pass

    async def _try(self, want: Want, tries: int) -> None:
        try:
            if self._now_ms() - want.at > min(_LIFE_MS, self._keep_ms):
                await self._give_up(want, "its time is over")
                return
            async with asyncio.timeout(_FETCH_S):
                await self._fetch(want, must_match=tries < _REFUSALS)
        except (GatewayError, OSError) as error:
            self.fault = f"{want.id}: {str(error) or type(error).__name__}"
            refused = isinstance(error, NoSuchMedia) or (
                isinstance(error, MetaRefused) and not isinstance(error, MetaFailed)
            )
            if refused and tries + 1 >= _REFUSALS:
                await self._give_up(want, str(error))
            else:
                self._put(want, tries + 1, min(_CAP_S, self._base_s * 2.0 ** min(tries, 20)))
        else:
            self.fetched += 1
            self.fault = ""

    async def _fetch(self, want: Want, *, must_match: bool) -> None:
        async with self._media.fetch(want.id, want.number) as download:
            writing = await self._folder.write(want.id)
            try:
                async for chunk in download.chunks:
                    await writing.write(chunk)
                self._check(writing, want, must_match)
                mime_type = want.mime_type or download.type
                if want.id not in self._unwanted:
                    await writing.keep(mime_type=mime_type, name=want.name, at=want.at)
            finally:
                await writing.discard()

    def _check(self, writing: Writing, want: Want, must_match: bool) -> None:
        if not want.sha256 or is_sha256(writing.digest, want.sha256):
            return
        if must_match:
            raise NoAnswer("the file is another than its message says")
        # What Meta's digest is of is not documented; a file that always comes the same is better than none.
        _log.warning("the file %s is kept, though its digest is not the one in its message", want.id)

    async def _give_up(self, want: Want, why: str) -> None:
        _log.warning("the file %s of a customer's message is given up: %s", want.id, why)
        self.given_up += 1
        try:
            await self._folder.forget(want.id)
        except OSError as error:
            _log.warning("the note of the file %s cannot be removed: %s", want.id, error)

    def _put(self, want: Want, tries: int, wait_s: float) -> None:
        self._count += 1
        when = asyncio.get_running_loop().time() + wait_s
        heapq.heappush(self._due, (when, self._count, want, tries))
        self._grown.set()

    # -- removing --------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            try:
                removed = await self._folder.sweep(self._now_ms() - self._keep_ms, _PORTION)
            except OSError as error:
                self.fault = f"old files cannot be removed: {error}"
                _log.warning("old files cannot be removed: %s", error)
                removed = 0
            # In portions, so that the disk serves others in between.
            await asyncio.sleep(_BREATH_S if removed == _PORTION else _SWEEP_EVERY_S)


def _text(media: dict[str, Any], name: str) -> str:
    value = media.get(name)
    return value[:_NAME_LIMIT] if isinstance(value, str) else ""
