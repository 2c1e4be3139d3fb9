"""A real server process that speaks MongoDB's protocol, for tests: on a free port, in a directory of its own.

``STORE_TEST_URL`` in the environment names another server to use instead, where no test stops or kills it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.support.ports import free_port

__all__ = ["Mongod", "database_url", "drop_database", "shared_mongod"]

_START_S = 30.0


class Mongod:
    """One server process. It keeps its port and its data over :meth:`kill` and :meth:`start`."""

    def __init__(self, directory: Path, *options: str) -> None:
        """``options``: further ones of the server's command line."""
        self._directory = directory
        self._options = options
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address, without a database."""
        return f"mongodb://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "secantus", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--storage-path", str(self._directory / "data"), "--log-level", "ERROR"]
        command += self._options
        log = self._directory / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + _START_S
        while not _answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the test server did not start: {log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does. Nothing to do where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it stopped."""
        self._signal(signal.SIGCONT)

    def resume_or_start(self) -> None:
        """Have it run, whatever was done to it."""
        if self._process is None:
            self.start()
        else:
            self.resume()

    def refuse(self, **how: object) -> None:
        """Fail the commands of gateways, and of nobody else, from now on, as ``data`` of the server's own
        fail point says. Needs ``--enable-test-commands``."""
        data = {"appName": "whatsapp-gateway", **how}
        self._command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})

    def behave(self) -> None:
        """Take everything again."""
        self._command({"configureFailPoint": "failCommand", "mode": "off"})

    def _command(self, command: dict[str, object]) -> None:
        with MongoClient[dict[str, object]](self.url) as client:
            client.admin.command(command)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)


@contextmanager
def shared_mongod(directory: Path) -> Iterator[str]:
    """Address of a server for many tests: what ``STORE_TEST_URL`` names, else a process of our own."""
    named = os.environ.get("STORE_TEST_URL")
    if named:
        yield named
        return
    server = Mongod(directory)
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


def database_url(server_url: str, database: str) -> str:
    """A server's address with a database, its options kept."""
    return urlsplit(server_url)._replace(path=f"/{database}").geturl()


def drop_database(server_url: str, database: str) -> None:
    """Remove all that a test left."""
    with MongoClient[dict[str, object]](server_url) as client:
        client.drop_database(database)


def _answers(url: str) -> bool:
    try:
        with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=100) as client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True
