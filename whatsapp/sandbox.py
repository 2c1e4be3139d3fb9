"""A server that plays Meta's Graph API, for tests, benchmarks and the first minute of a newcomer.

It takes what we send with Meta's checks, limits and error codes, tells statuses by signed webhook, lets
customers write, and goes wrong on demand. On loopback only, in and out: nothing given to it can reach real
people.

Started in the gateway's process (:class:`Sandbox`), or as one of its own::

    python -m whatsapp.sandbox --port 0 --webhook http://127.0.0.1:5000/webhook --port-file sandbox.port

Graph, with any version: ``POST /v26.0/{phone-number-id}/messages``, ``.../marketing_messages`` and
``.../media``, ``GET /v26.0/{phone-number-id}``, ``GET /v26.0/{waba-id}/phone_numbers`` and
``.../message_templates``, ``GET`` and ``DELETE /v26.0/{media-id}``.
For who runs it, without a token:

- ``POST /sandbox/inbound`` ``{"from", "text" | "message", "name"?, "phone_number_id"?}``: a customer writes.
- ``POST /sandbox/webhook`` ``{"field", "value"}``: Meta tells something else, in its own words.
- ``GET`` and ``POST /sandbox/faults``: see ``sandbox_faults.Faults``; ``{"reset": true}`` ends them.
- ``GET /sandbox/accepted?after=N&limit=M``: the sends that were taken. ``GET /sandbox/stats``: counts.

Recipients that are refused, by their last eight digits: ``77`` and an error code (``...77131026``) are taken,
and fail later by a status; ``99`` and a code (``...99131047``) are refused at once.

``sandbox_rules`` and ``sandbox_faults`` decide, ``sandbox_payloads`` has the shapes, ``sandbox_media`` keeps
uploads, ``sandbox_templates`` has the templates, ``sandbox_account`` is what they make up together,
``sandbox_http`` and ``sandbox_webhooks`` are its two ends. This file starts and stops them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from whatsapp.sandbox_account import Account
from whatsapp.sandbox_http import Desk, GraphServer
from whatsapp.sandbox_payloads import Update, encode_post
from whatsapp.sandbox_rules import SandboxError
from whatsapp.sandbox_settings import SandboxSettings
from whatsapp.sandbox_webhooks import Courier

__all__ = ["Sandbox", "SandboxError", "SandboxSettings", "main"]

_BODY_LIMIT = 110 * 1024 * 1024
"""A document of 100 MB and its form (CLOUD_API.md 5)."""


class Sandbox:
    """One pretended Meta. Start it, use it, stop it; it cannot be started twice."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        rng = random.Random(settings.seed)
        self._courier = Courier(
            self._encode,
            settings.app_secret,
            settings.webhook_url,
            retry_s=settings.webhook_retry_s,
            rng=rng,
        )
        self._account = Account(settings, self._courier, rng, os.urandom(8))
        self._metadata = self._account.metadata
        desk = Desk(self._account, lambda: self.base_url, self._courier.stats)
        self._server = HTTPServer(GraphServer(desk), max_body_size=_BODY_LIMIT, max_buffer_size=_BODY_LIMIT)
        self._port = 0
        self._ended = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    @property
    def number(self) -> str:
        """The phone number id of its first number."""
        return self.settings.phone_numbers[0][0]

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT``, once started."""
        host = self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def webhook_url(self) -> str | None:
        """Where updates go; None: nowhere. Setting it raises SandboxError for anything but loopback."""
        return self._courier.url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self._courier.url = url

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError where it is taken."""
        sockets = bind_sockets(self.settings.port, self.settings.host)
        self._port = sockets[0].getsockname()[1]
        self._server.add_sockets(sockets)
        self._telling = asyncio.get_running_loop().create_task(self._courier.run(), name="sandbox-webhooks")
        self._telling.add_done_callback(lambda _: self._ended.set())
        return self._port

    async def stop(self) -> None:
        """Let go of everything; updates that were not told are forgotten. Idempotent.

        Raises what the telling of webhooks died of, if it did.
        """
        self._ended.set()
        self._server.stop()
        await self._server.close_all_connections()
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.cancel()
            await asyncio.wait([telling])
            if not telling.cancelled():
                telling.result()

    def end(self) -> None:
        """Make :meth:`wait` return; to be called from a signal handler."""
        self._ended.set()

    async def wait(self) -> None:
        """Return once it was told to end; raises what the telling of webhooks died of, as soon as it does."""
        await self._ended.wait()
        if self._telling is not None and self._telling.done():
            self._telling.result()

    async def inbound(
        self,
        sender: str,
        text: str | None = None,
        message: Mapping[str, Any] | None = None,
        name: str = "",
        phone_number_id: str = "",
    ) -> dict[str, str]:
        """A customer writes ``text``, or a message object of Meta's; the webhook learns of it at once.

        ``sender`` is a phone, or a user id of somebody whose phone is hidden. Returns ``message_id``,
        ``wa_id`` and ``user_id``. Raises SandboxError for what makes no message, or without a webhook_url.
        """
        now = asyncio.get_running_loop().time()
        return self._account.inbound(
            sender, text, message, name=name, number=phone_number_id, now=now, at=time.time()
        )

    def tell(self, field: str, value: Mapping[str, Any]) -> None:
        """Meta tells ``value`` under this field of webhooks. Raises SandboxError without a webhook_url."""
        self._account.tell(field, value, time.time())

    def faults(self) -> dict[str, Any]:
        """The faults in force; empty where nothing goes wrong."""
        return self._account.faults.told

    def set_faults(self, faults: Mapping[str, Any]) -> dict[str, Any]:
        """Turn faults on or off (:class:`~whatsapp.sandbox_faults.Faults`); those in force then.

        Raises SandboxError, and changes nothing, for an unknown one or a value that cannot be used.
        """
        self._account.faults.change(faults)
        return self.faults()

    def accepted(self, after: int = 0, limit: int = 1000) -> dict[str, Any]:
        """What ``GET /sandbox/accepted`` answers."""
        return self._account.accepted(after, limit)

    def stats(self) -> dict[str, Any]:
        """What ``GET /sandbox/stats`` answers."""
        return {**self._account.stats(), "webhooks": self._courier.stats()}

    async def settled(self) -> None:
        """Return once every update is told or given up."""
        await self._courier.settled()

    def _encode(self, updates: Sequence[Update]) -> bytes:
        return encode_post(self.settings.waba_id, self._metadata, updates)


# -- a process of its own ----------------------------------------------------------------------------------


_EXAMPLE = """\
example: the sandbox in one terminal, and a gateway that takes it for Meta in another

  .venv/bin/python -m whatsapp.sandbox --port 5190 --token T --app-secret S \\
      --phone-number-id 111 --display-phone-number 15550000001 --webhook http://127.0.0.1:5000/webhook

  BASE_URL=http://127.0.0.1:5190 ACCESS_TOKEN=T PHONE_NUMBER_ID=111 VERIFY_TOKEN=v APP_SECRET=S \\
      .venv/bin/python server.py
"""


def _parser() -> argparse.ArgumentParser:
    defaults = SandboxSettings()
    parser = argparse.ArgumentParser(
        "python -m whatsapp.sandbox",
        description="Plays Meta's Graph API on loopback: takes sends, and tells statuses by webhook.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    ((number, display),) = defaults.phone_numbers
    add("--host", default=defaults.host, help="loopback address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="port to listen on; 0, the default, takes any free one")
    add(
        "--token",
        default=defaults.access_token,
        help="access token that every Graph call must send as Bearer (default: %(default)s)",
    )
    add(
        "--phone-number-id",
        action="append",
        metavar="ID",
        help=f"id of a number that sends; repeat it for more numbers (default: {number})",
    )
    add(
        "--display-phone-number",
        action="append",
        metavar="N",
        help=f"phone number of each id, in digits and in the same order (default: {display})",
    )
    add("--waba-id", default=defaults.waba_id, help="id of the business account (default: %(default)s)")
    add(
        "--app-secret",
        default=defaults.app_secret,
        help="secret that signs the webhooks (default: %(default)s)",
    )
    add(
        "--webhook",
        metavar="URL",
        help="where updates are posted, on loopback (default: none are, and nobody can write in)",
    )
    add("--no-limits", action="store_true", help="take sends without Meta's limits (default: limits hold)")
    add(
        "--rate",
        type=int,
        default=defaults.rate_per_number,
        help="limit of each number, in messages a second (default: %(default)s)",
    )
    add(
        "--status-delays",
        default="0.05,0.15,0.4",
        metavar="S,S,S",
        help="seconds from a send to its sent, delivered and read; or none (default: %(default)s)",
    )
    add(
        "--webhook-retry",
        type=float,
        default=defaults.webhook_retry_s,
        metavar="SECONDS",
        help="how long a webhook is posted again before it is given up (default: %(default)g)",
    )
    add(
        "--seed",
        type=int,
        help="whole number that fixes the randomness of faults and retries (default: another in each run)",
    )
    add(
        "--port-file",
        type=Path,
        metavar="PATH",
        help="file that the port is written to once it listens (default: none)",
    )
    return parser


def _settings(options: argparse.Namespace) -> SandboxSettings:
    ids: list[str] = options.phone_number_id or []
    displays: list[str] = options.display_phone_number or []
    if len(ids) != len(displays):
        raise SandboxError("--phone-number-id and --display-phone-number must come in pairs.")
    defaults = SandboxSettings()
    return SandboxSettings(
        host=options.host,
        port=options.port,
        access_token=options.token,
        phone_numbers=tuple(zip(ids, displays, strict=True)) or defaults.phone_numbers,
        waba_id=options.waba_id,
        app_secret=options.app_secret,
        webhook_url=options.webhook,
        enforce_limits=not options.no_limits,
        rate_per_number=options.rate,
        status_delays=_delays(options.status_delays),
        webhook_retry_s=options.webhook_retry,
        seed=options.seed,
    )


def _delays(text: str) -> tuple[float, float, float] | None:
    if text == "none":
        return None
    try:
        sent, delivered, read = map(float, text.split(","))
    except ValueError:
        raise SandboxError("--status-delays must be three numbers with commas between, or none.") from None
    return sent, delivered, read


async def _serve(settings: SandboxSettings, port_file: Path | None) -> None:
    sandbox = Sandbox(settings)
    port = await sandbox.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sandbox.end)
    try:
        if port_file is not None:
            _write_whole(port_file, str(port))
        sys.stdout.write(f"sandbox on {sandbox.base_url}\n")
        sys.stdout.flush()
        await sandbox.wait()
    finally:
        await sandbox.stop()


def _write_whole(path: Path, text: str) -> None:
    """So that a reader never sees half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main(arguments: Sequence[str] | None = None) -> int:
    """The process entry; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options)
        with asyncio.Runner(loop_factory=_new_loop()) as runner:
            runner.run(_serve(settings, options.port_file))
    except (SandboxError, OSError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
