"""The gateway and the sandbox as processes of their own, started, signalled and killed as an operator would.

Each process gets a folder of its own for a working directory and only the variables that it is given, so that
neither a ``.env`` nor the shell that runs the tests can reach it. Waiting has a bound everywhere: a process
that hangs fails its test.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.ports import free_port
from tests.support.waiting import GUARD_S, eventually

__all__ = [
    "NOTHING_SET",
    "NUMBER",
    "ROOT",
    "SECRET",
    "TOKEN",
    "Installation",
    "Process",
    "SandboxProcess",
    "eventually",
    "running_sandbox",
]

ROOT = Path(__file__).resolve().parents[2]
NUMBER = "106540352242922"
TOKEN = "a-token"
SECRET = "an-app-secret"
NOTHING_SET: dict[str, object] = dict.fromkeys(
    ("VERIFY_TOKEN", "ACCESS_TOKEN", "PHONE_NUMBER_ID", "APP_SECRET", "STORE_URL", "BASE_URL")
)
"""Of an :class:`Installation`: no credentials, so that it starts on its sandbox."""
_DISPLAY = "15550783881"
_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SYSTEMROOT")


def _heed_interrupts() -> None:
    """A test run that was started in the background of a shell ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Process:
    """One started program. Its standard output is read line by line; its standard error goes to a file."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    @classmethod
    async def start(
        cls, command: Sequence[str | Path], folder: Path, variables: Mapping[str, str]
    ) -> Process:
        """Start it in ``folder``, with ``variables`` and what every program needs."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT or name.startswith(("COVERAGE_", "PYTHON"))
        }
        errors = folder / f"stderr-{time.monotonic_ns()}.log"
        with errors.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=inherited | dict(variables),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                preexec_fn=_heed_interrupts,
            )
        return cls(process, errors)

    @property
    def errors(self) -> str:
        """What it has written to standard error."""
        return self._errors.read_text()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def resident_bytes(self) -> int:
        """Its memory now; where the system tells it (``/proc``)."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def line(self) -> str:
        """The next line of its standard output, without its end; empty once there is none any more."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(GUARD_S):
                return (await self._process.stdout.readline()).decode().rstrip("\n")
        except TimeoutError:
            raise AssertionError(f"nothing was printed; standard error: {self.errors[-3000:]}") from None

    async def rest(self) -> list[str]:
        """All further lines of its standard output, until it ends."""
        lines = []
        while line := await self.line():
            lines.append(line)
        return lines

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing to do where it has ended."""
        if self.runs:
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        return (await self.finished())[0]

    async def finished(self) -> tuple[int, str]:
        """Its exit status, and what it printed that nobody has read, once it has ended by itself."""
        try:
            async with asyncio.timeout(GUARD_S):
                output, _ = await self._process.communicate()
        except TimeoutError:
            raise AssertionError(f"the process did not end; standard error: {self.errors[-3000:]}") from None
        assert self._process.returncode is not None
        return self._process.returncode, output.decode()

    def limit_files(self, size: int | None) -> None:
        """Let it write no file past so many bytes, as if the disk were full; None: as before. Nothing to do
        where it has ended."""
        if not self.runs:
            return
        _, most = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        soft = most if size is None else size
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (soft, most))

    async def outlives(self, work: Coroutine[Any, Any, None]) -> None:
        """Return once ``work`` is done; fails as soon as the process ends before it."""
        working = asyncio.create_task(work)
        living = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait({working, living}, return_when=asyncio.FIRST_COMPLETED)
            assert working.done(), f"the process ended by itself; standard error: {self.errors[-3000:]}"
            await working
        finally:
            working.cancel()
            living.cancel()
            await asyncio.wait({working, living})

    async def kill(self) -> None:
        """``kill -9``, and see it gone."""
        self.signal(signal.SIGKILL)
        await self.ended()


class Installation:
    """A gateway's settings: a port that it keeps, a store, credentials, and a Meta of its own."""

    def __init__(self, folder: Path, **variables: object) -> None:
        """``variables``: settings beside, or in place of, those that make it run. None: not set."""
        self.folder = folder
        self.port = free_port()
        settings: dict[str, object] = {
            "PORT": self.port,
            "VERIFY_TOKEN": "a-verify-token",
            "ACCESS_TOKEN": TOKEN,
            "PHONE_NUMBER_ID": NUMBER,
            "APP_SECRET": SECRET,
            # Nobody is there: a test that sends names its sandbox.
            "BASE_URL": "http://127.0.0.1:9",
            "STORE_URL": f"sqlite:///{self.database}",
            **variables,
        }
        self.variables = {name: str(value) for name, value in settings.items() if value is not None}

    @property
    def database(self) -> Path:
        """The SQLite file, where it is the store."""
        return self.folder / "gateway.db"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        """Where subscribers connect."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def send_to(self, base_url: str) -> None:
        """Take what is at this address for Meta, from the next start on."""
        self.variables["BASE_URL"] = base_url

    async def spawn(self, *arguments: str, **variables: object) -> Process:
        """Start ``server.py``, and do not wait for anything. ``variables`` win for this start."""
        changed = {name: str(value) for name, value in variables.items()}
        return await Process.start(
            [sys.executable, ROOT / "server.py", *arguments], self.folder, self.variables | changed
        )

    async def start(self, **variables: object) -> Process:
        """Start it, and return when it listens."""
        process = await self.spawn(**variables)
        await self.greeted(process)
        return process

    def check_logs(self) -> None:
        """Fail where any process of this folder wrote a traceback."""
        for log in self.folder.glob("stderr-*.log"):
            assert "Traceback" not in log.read_text(), log.read_text()[-5000:]

    async def greeted(self, process: Process) -> None:
        """Return when this process says that it listens; fails where it ends instead."""
        line = await process.line()
        assert line.startswith("whatsapp-gateway"), f"no start: {line!r}; {process.errors[-3000:]}"


class SandboxProcess:
    """The sandbox as a process, and its controls."""

    def __init__(self, process: Process, base_url: str, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.base_url = base_url
        self._session = session

    async def faults(self, **faults: object) -> None:
        """Turn faults on or off; ``reset=True`` ends all."""
        async with self._session.post(f"{self.base_url}/sandbox/faults", json=faults) as answer:
            assert answer.status == 200, await answer.text()

    async def accepted(self) -> list[dict[str, Any]]:
        """Every send that it took, in order: ``n``, ``wamid``, ``to``, ``callback``, ``type``, ``at``."""
        items: list[dict[str, Any]] = []
        while page := (await self._get("accepted", after=len(items), limit=5000))["items"]:
            items += page
        return items

    async def stats(self) -> dict[str, Any]:
        """Its counts; those of its webhooks are in ``webhooks``."""
        return await self._get("stats")

    async def quiet(self) -> bool:
        """Whether it has nothing left to tell, and gave nothing up."""
        webhooks = (await self.stats())["webhooks"]
        assert webhooks["given_up"] == 0, webhooks
        return bool(webhooks["pending"] == 0)

    async def _get(self, what: str, **query: int) -> dict[str, Any]:
        async with self._session.get(f"{self.base_url}/sandbox/{what}", params=query) as answer:
            assert answer.status == 200, await answer.text()
            body: dict[str, Any] = await answer.json()
            return body


@asynccontextmanager
async def running_sandbox(
    folder: Path, gateway_port: int, *options: str, token: str = TOKEN
) -> AsyncIterator[SandboxProcess]:
    """A sandbox that tells the gateway on this port; gone at the end. ``options``: of its command line."""
    command = [sys.executable, "-m", "whatsapp.sandbox", "--token", token, "--app-secret", SECRET]
    command += ["--phone-number-id", NUMBER, "--display-phone-number", _DISPLAY, "--seed", "1"]
    command += ["--webhook", f"http://127.0.0.1:{gateway_port}/webhook", *options]
    process = await Process.start(command, folder, {"PYTHONPATH": str(ROOT)})
    try:
        line = await process.line()
        assert line.startswith("sandbox on http://"), f"no start: {line!r}; {process.errors}"
        timeout = aiohttp.ClientTimeout(total=GUARD_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield SandboxProcess(process, line.removeprefix("sandbox on "), session)
    finally:
        await process.kill()
