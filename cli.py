"""The command line of ``python server.py``: its options, what each does, and every line that is printed.

Owns the reading of the settings, the signals and the event loop. Builds no part: ``server.py`` says how, in a
:class:`Program`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import config
import reloading
from handlers.greeting import greet, greet_on_sandbox
from hub.watch import WatchRefused, watch
from store.base import Store
from store.errors import GatewayError, StoreBusy
from whatsapp.failures import SendError
from whatsapp.graph import Graph

__all__ = ["Program", "main"]

_log = logging.getLogger("gateway")

_DOTENV, _TOML = Path(".env"), Path("config.toml")


class _Gateway(Protocol):
    """What is there to run."""

    port: int

    async def start(self) -> None: ...
    async def wait(self) -> None: ...
    async def stop(self) -> None: ...
    def follow(self, reloader: reloading.Reloader) -> None: ...
    def renew(self, settings: config.Settings) -> str: ...


class _MakeStore(Protocol):
    def __call__(self, settings: config.Settings, *, lock_timeout_s: float | None = None) -> Store: ...


class Program(NamedTuple):
    """What the command line runs, and asks."""

    version: str
    make_gateway: Callable[[config.Settings], _Gateway]
    make_store: _MakeStore
    make_graph: Callable[[config.Settings], Graph]


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run the gateway, check what it would run with, or watch one that runs; the exit status."""
    options = _options(arguments)
    try:
        settings = _read_settings()
    except config.ConfigError as error:
        print(*error.notices, error.message, sep="\n", file=sys.stderr)
        return 1
    logging.basicConfig(
        level=logging.DEBUG if settings.server.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if options.check:
        work = _check(program, settings)
    elif options.watch:
        work = _watch(settings, options.since or "")
    else:
        work = _serve(program, settings)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        return 130


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="WhatsApp Business Cloud API gateway")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check", action="store_true", help="check configuration, store and Graph API, then end"
    )
    instead.add_argument(
        "--watch", action="store_true", help="print what a running gateway broadcasts on /ws"
    )
    parser.add_argument(
        "--since",
        metavar="POSITION",
        help="with --watch: a position to begin after, 0 for the beginning (default: only what is new)",
    )
    options = parser.parse_args(arguments)
    if options.since is not None and not options.watch:
        parser.error("--since goes with --watch only")
    return options


def _read_settings() -> config.Settings:
    return config.load(os.environ, dotenv=_DOTENV, toml=_TOML)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


# -- to run ----------------------------------------------------------------------------------------------


def _allow_files() -> None:
    """Open as many files as the system allows: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name a limit that they do not take.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(program: Program, settings: config.Settings) -> int:
    for notice in settings.notices:
        _log.warning("%s", notice)
    _allow_files()
    gateway = program.make_gateway(settings)
    reloader = reloading.Reloader(
        settings,
        read=_read_settings,
        files=lambda: config.files_of(os.environ, dotenv=_DOTENV, toml=_TOML),
        take=gateway.renew,
    )
    # Also while it starts: a signal that nobody heeds would end the process.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)
    try:
        await gateway.start()
    except (GatewayError, OSError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    gateway.follow(reloader)
    # What there is by now lives to the end: a full collection holds the loop, and need not walk it each time.
    gc.collect()
    gc.freeze()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    # Only now: who has read it may send a signal at once, and is to see a drain.
    print(_greeting(program.version, settings, gateway.port), flush=True)
    status = await _until_stopped(gateway, stopping)
    await gateway.stop()
    return status


async def _until_stopped(gateway: _Gateway, stopping: asyncio.Event) -> int:
    """Return when it is to stop: 0 where that was asked for, 1 where a part of it failed."""
    failed = asyncio.Task(gateway.wait(), name="failure")
    stopped = asyncio.Task(stopping.wait(), name="signal")
    await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
    status = 0
    if failed.done():
        _log.critical("a part of the gateway failed, stopping", exc_info=failed.exception())
        status = 1
    failed.cancel()
    stopped.cancel()
    return status


def _greeting(version: str, settings: config.Settings, port: int) -> str:
    name, base_url = f"whatsapp-gateway {version}", f"http://{_host_in_url(settings)}:{port}"
    needs_key = bool(settings.server.api_key)
    if settings.sandbox_mode:
        environment = "" if port == config.Settings().server.port else f"PORT={port}"
        return greet_on_sandbox(name, base_url, needs_key=needs_key, environment=environment)
    whatsapp = settings.whatsapp
    return greet(
        name,
        base_url,
        numbers=[number.phone_number_id for number in settings.numbers],
        graph_url=f"{whatsapp.base_url}/{whatsapp.version}",
        store=config.shown_store(settings.store_url),
        checks_signatures=bool(settings.app_secrets),
        needs_key=needs_key,
        trusted=settings.security.trusted_networks,
    )


def _host_in_url(settings: config.Settings) -> str:
    host = settings.server.host
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


# -- to watch --------------------------------------------------------------------------------------------


async def _watch(settings: config.Settings, since: str) -> int:
    url = f"ws://{_host_in_url(settings)}:{settings.server.port}/ws"
    try:
        await watch(
            url,
            str(settings.server.api_key),
            since,
            show=lambda frame: print(frame, flush=True),
            tell=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except WatchRefused as error:
        print(error.message, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the frames has had enough; what is buffered must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


# -- to check --------------------------------------------------------------------------------------------


async def _check(program: Program, settings: config.Settings) -> int:
    """Print a line for configuration, store, and Graph API; 0 if all is well, else 1."""
    for notice in settings.notices:
        print(f"note: {notice}")
    print(
        "configuration: ok"
        + (" (no credentials: the sandbox would be used)" if settings.sandbox_mode else "")
    )
    store_ok = await _check_store(program, settings)
    graph_ok = await _check_graph(program, settings)
    return 0 if store_ok and graph_ok else 1


async def _check_store(program: Program, settings: config.Settings) -> bool:
    try:
        store = program.make_store(settings, lock_timeout_s=0.0)
        await store.open()
        try:
            await store.ping()
        finally:
            await store.close()
    except StoreBusy:
        print("store: in use by a running gateway, which is not disturbed")
        return True
    except (GatewayError, OSError) as error:
        print(f"store: {error}")
        return False
    print("store: ok")
    return True


async def _check_graph(program: Program, settings: config.Settings) -> bool:
    if settings.sandbox_mode:
        print("graph: not asked, the sandbox would be used")
        return True
    graph = program.make_graph(settings)
    await graph.open()
    try:
        found = [await _check_number(graph, number.phone_number_id) for number in settings.numbers]
    finally:
        await graph.close()
    return all(found)


async def _check_number(graph: Graph, number: str) -> bool:
    try:
        answer = await graph.number(number)
    except SendError as error:
        print(f"graph: number {number}: {error.message}")
        return False
    text = answer.body[:500].decode("utf-8", "replace")
    print(f"graph: {'ok' if answer.status == 200 else f'HTTP {answer.status}'}, number {number}: {text}")
    return answer.status == 200
