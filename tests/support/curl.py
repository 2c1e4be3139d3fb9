"""A page's command, run as whoever copies it runs it: by a shell, in a folder, with curl.

Where there is no curl the shell takes the command apart all the same, and what curl would do is done here,
for the few options that the pages use; others are refused. Either way the HTTP status is told beside the
output.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.support.process import Process
from tests.support.waiting import GUARD_S

__all__ = ["HAS_CURL", "Ran", "run"]

HAS_CURL = shutil.which("curl") is not None

_CURL = """curl() { command curl -q -w '%{stderr}<%{http_code}>' "$@"; }"""
_NO_CURL = """curl() { printf '%s\\0' curl "$@"; }"""
_FORM = "application/x-www-form-urlencoded"


class Ran(NamedTuple):
    """How a command ended."""

    exit: int
    output: str
    status: int
    """Of the HTTP answer; 0 where there was none."""
    errors: str


async def run(command: str, folder: Path, *, with_curl: bool = HAS_CURL) -> Ran:
    """Run a command, or several of which one at most is curl."""
    process = await Process.start(["sh", "-c", f"{_CURL if with_curl else _NO_CURL}\n{command}"], folder, {})
    exit, output = await process.finished()
    if with_curl:
        told = re.search(r"<(\d{3})>$", process.errors)
        return Ran(exit, output, int(told[1]) if told else 0, process.errors)
    program, *arguments = output.removesuffix("\0").split("\0")
    if program != "curl" or exit != 0:
        return Ran(exit, output, 0, process.errors)
    return await _ask(_taken_apart(arguments), folder)


def _taken_apart(arguments: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The values of each option, and the address by no name. Fails for what is not done here."""
    found: dict[str, list[str]] = defaultdict(list)
    left = iter(arguments)
    for argument in left:
        option = argument if argument.startswith("-") else ""
        assert option in ("", "-s", "-sN", "-m", "-X", "-H", "-d", "-F", "-o", "--form-string"), (
            f"only curl itself knows {option}"
        )
        if option not in ("-s", "-sN"):
            found[option].append(next(left) if option else argument)
    assert all(len(found[once]) <= 1 for once in ("", "-X", "-d", "-o", "-m")) and found[""], arguments
    assert not (found["-d"] and (found["-F"] or found["--form-string"])), arguments
    return found


async def _ask(asked: Mapping[str, Sequence[str]], folder: Path) -> Ran:
    headers = {name: value.strip() for name, _, value in (given.partition(":") for given in asked["-H"])}
    data: str | aiohttp.FormData | None = None
    if asked["-d"]:
        (data,) = asked["-d"]
        assert not data.startswith("@"), "only curl itself takes a body from a file"
        headers.setdefault("Content-Type", _FORM)
    elif asked["-F"] or asked["--form-string"]:
        data = _form(asked["-F"], folder)
        for field in asked["--form-string"]:
            name, _, value = field.partition("=")
            data.add_field(name, value)
    method = "GET" if data is None else "POST"
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(
            *(asked["-X"] or [method]), *asked[""], headers=headers, data=data, allow_redirects=False
        ) as answer,
    ):
        content = await _read(answer, *map(float, asked["-m"]))
    if asked["-o"]:
        (folder / asked["-o"][0]).write_bytes(content)
        content = b""
    return Ran(0, content.decode(), answer.status, "")


async def _read(answer: aiohttp.ClientResponse, most_s: float = GUARD_S) -> bytes:
    """The body, as far as it has come in this time."""
    content = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            async for piece in answer.content.iter_any():
                content += piece
    return content


def _form(fields: Sequence[str], folder: Path) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for field in fields:
        name, _, value = field.partition("=")
        assert ";" not in value and not value.startswith("<"), f"only curl itself knows what {value} means"
        if value.startswith("@"):
            form.add_field(name, (folder / value[1:]).read_bytes(), filename=Path(value[1:]).name)
        else:
            form.add_field(name, value)
    return form
