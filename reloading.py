"""The settings, read again while the gateway runs: on SIGHUP, or when a file that they come from has changed.

Owns when they are read, and what of them is taken over: access tokens and nothing else, since everything else
is built at the start. Settings that cannot be used are refused with their faults, and the old ones stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from config import ConfigError, changed_keys
from settings import Settings

__all__ = ["Reloader", "Tokens", "tokens_after", "tokens_of"]

_log = logging.getLogger(__name__)

_LOOK_S = 0.5


class Tokens(NamedTuple):
    """Access tokens. Not to be shown."""

    default: str
    """For what concerns no number."""
    of_number: Mapping[str, str]
    """By phone number id, for every number that sends."""


def tokens_of(settings: Settings) -> Tokens:
    """Those that the settings give."""
    return Tokens(
        str(settings.whatsapp.access_token),
        {number.phone_number_id: str(number.access_token) for number in settings.numbers},
    )


def tokens_after(before: Tokens, settings: Settings) -> Tokens:
    """Those that hold once these settings were read: numbers that they do not name keep theirs, numbers that
    are new to us wait for the next start."""
    found = tokens_of(settings)
    kept = {number: found.of_number.get(number, token) for number, token in before.of_number.items()}
    return Tokens(found.default, kept)


_Stamp = tuple[int, int, int] | None


class Reloader:
    """``read`` reads the settings as at the start, and raises ConfigError; ``files`` are those that it reads.

    ``take`` is given settings that can be used and says what it took over, for the log. ``running``: the
    settings that the gateway was started with.
    """

    def __init__(
        self,
        running: Settings,
        *,
        read: Callable[[], Settings],
        files: Callable[[], Sequence[Path]],
        take: Callable[[Settings], str],
    ) -> None:
        self._running = running
        self._read = read
        self._files = files
        self._take = take
        self._asked = asyncio.Event()
        self._paths = tuple(files())
        self._seen = self._stamps()

    def ask(self) -> None:
        """Have them read at once, whether or not a file has changed."""
        self._asked.set()

    async def run(self) -> None:
        """Read them when that is due, until cancelled."""
        before = self._seen
        while True:
            asked = await self._beat()
            now = self._stamps()
            # A file that is being written is read once it has stood still from one look to the next.
            if asked or (now != self._seen and now == before):
                self._paths = tuple(self._files())
                now = self._seen = self._stamps()
                self.reload()
            before = now

    def reload(self) -> None:
        """Read them now. What cannot be used is told, and changes nothing."""
        try:
            settings = self._read()
            if settings.sandbox_mode is not self._running.sandbox_mode:
                raise ConfigError([("ACCESS_TOKEN", _turned(settings))])
        except ConfigError as error:
            _tell(error.notices)
            _log.error(
                "the settings were read again and refused, the old ones stay: %s",
                "; ".join(error.message.splitlines()),
            )
            return
        _tell(settings.notices)
        _log.warning("the settings were read again: %s", self._take(settings))
        if waiting := changed_keys(self._running, settings):
            _log.warning("what else has changed holds from the next start on: %s", ", ".join(waiting))

    async def _beat(self) -> bool:
        """Wait a moment, or until asked; whether it was asked."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def _stamps(self) -> dict[Path, _Stamp]:
        return {path: _stamp(path) for path in self._paths}


def _tell(notices: Iterable[str]) -> None:
    """As at the start: a key that is not read may be the one that was meant to change something."""
    for notice in notices:
        _log.warning("%s", notice)


def _turned(settings: Settings) -> str:
    if settings.sandbox_mode:
        return "is not set any more, nor is PHONE_NUMBER_ID"
    return "is set now, and the gateway runs on its sandbox: start it anew"


def _stamp(path: Path) -> _Stamp:
    """What tells that a file has changed; also where a link, or a renaming, has put another in its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
