"""The gateway and its sandbox as processes of their own, as an operator would run them.

Everything is at its default but what a measurement calls for, which each row passes by name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.children import REPOSITORY, Child, start
from tests.support.ports import free_port

__all__ = [
    "APP_SECRET",
    "DISPLAY",
    "NUMBER",
    "TOKEN",
    "Served",
    "gateway",
    "probed_gateway",
    "sandbox",
]

NUMBER = "106540352242922"
DISPLAY = "15550783881"
TOKEN = "bench-token"
APP_SECRET = "bench-secret"


@dataclass(frozen=True, slots=True)
class Served:
    """A process and where it listens."""

    child: Child
    port: int


def gateway(
    bench: Bench, *, base_url: str = "", profile: Path | None = None, **settings: str
) -> AbstractAsyncContextManager[Served]:
    """``python server.py`` with a fresh store, on the server's core.

    ``base_url``: where Meta is played; empty: nowhere. ``profile``: where cProfile writes what it saw of the
    event loop's thread. ``settings``: variables of the environment.
    """
    return _gateway(bench, [REPOSITORY / "server.py"], base_url, profile, settings)


def probed_gateway(
    bench: Bench, *, base_url: str, profile: Path | None = None
) -> AbstractAsyncContextManager[Served]:
    """As :func:`gateway`, with a probe on its event loop (``programs/probed_gateway.py``)."""
    return _gateway(bench, ["-m", "tests.bench.programs.probed_gateway"], base_url, profile, {})


@asynccontextmanager
async def _gateway(
    bench: Bench,
    program: Sequence[str | Path],
    base_url: str,
    profile: Path | None,
    settings: Mapping[str, str],
) -> AsyncIterator[Served]:
    folder = bench.new_folder("gateway")
    environment = {
        "PORT": "0",
        "VERIFY_TOKEN": "bench-verify",
        "ACCESS_TOKEN": TOKEN,
        "PHONE_NUMBER_ID": NUMBER,
        "APP_SECRET": APP_SECRET,
        "BASE_URL": base_url or f"http://127.0.0.1:{free_port()}",
        "STORE_URL": f"sqlite:///{folder / 'gateway.db'}",
        **settings,
    }
    under = ["-m", "cProfile", "-o", str(profile)] if profile is not None else []
    async with start(
        "gateway",
        [*under, *program],
        cores=bench.cores.server,
        folder=folder,
        environment=environment,
    ) as child:
        yield Served(child, await child.port())


@asynccontextmanager
async def sandbox(bench: Bench, options: Sequence[str]) -> AsyncIterator[Served]:
    """The sandbox, without Meta's limits, on the load's core."""
    identity = ["--phone-number-id", NUMBER, "--display-phone-number", DISPLAY]
    secrets = ["--token", TOKEN, "--app-secret", APP_SECRET]
    async with start(
        "sandbox",
        ["-m", "whatsapp.sandbox", "--no-limits", *identity, *secrets, *options],
        cores=bench.cores.load,
        folder=bench.new_folder("sandbox"),
    ) as child:
        yield Served(child, await child.port())
