"""The processes of a benchmark: started pinned, spoken to by lines, ended by their pid.

Each writes a line to its standard output once it is ready, and what it logs to a file that is shown when
it ends too early. Only processes started here are ever ended here.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.machine import pinned_to
from tests.bench.measure import BenchError

__all__ = ["REPOSITORY", "Child", "Memory", "start"]

REPOSITORY = Path(__file__).resolve().parents[2]

_READY_S = 30.0
_STOP_S = 30.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
_SIZES = re.compile(r"^(VmRSS|VmHWM):\s*(\d+) kB$", re.MULTILINE)
_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Memory(NamedTuple):
    """What a process has in memory (RSS), in MB."""

    now: float
    peak: float
    """The most so far."""


class Child:
    """A process that runs."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, orders: int, log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._orders = orders
        self._log = log

    async def line(self, timeout_s: float = _READY_S) -> str:
        """The next line that it writes. Raises BenchError if it ends or says nothing in time."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchError(f"{self.name} said nothing for {timeout_s:g} seconds{self._tail()}") from None
        if not line:
            raise BenchError(f"{self.name} ended too early{self._tail()}")
        return line.decode().rstrip("\n")

    async def port(self) -> int:
        """The port in the line that it greets with."""
        line = await self.line()
        found = _URL.search(line)
        if found is None:
            raise BenchError(f"{self.name} greets with no address: {line}")
        return int(found[1])

    def go(self) -> None:
        """Tell it to begin; it has been told when this returns."""
        os.write(self._orders, b"go\n")

    def cpu_seconds(self) -> list[float]:
        """Processor time of each of its threads, the first one first; empty where the system is silent."""
        folder = Path(f"/proc/{self.pid}/task")
        if not folder.exists():
            return []
        ticks = os.sysconf("SC_CLK_TCK")
        stats = [(folder / thread / "stat").read_text() for thread in sorted(os.listdir(folder), key=int)]
        # The name in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return [(int(field[11]) + int(field[12])) / ticks for field in fields]

    def memory(self) -> Memory | None:
        """Its memory; None where the system is silent."""
        status = Path(f"/proc/{self.pid}/status")
        if not status.exists():
            return None
        sizes = {name: int(kb) * 1024 / 1e6 for name, kb in _SIZES.findall(status.read_text())}
        return Memory(sizes["VmRSS"], sizes["VmHWM"])

    async def stop(self) -> None:
        """End it: politely, and after half a minute not so."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.wait()

    def _tail(self) -> str:
        text = self._log.read_text(errors="replace").strip() if self._log.exists() else ""
        return f":\n{text[-2000:]}" if text else ""


@asynccontextmanager
async def start(
    name: str,
    arguments: Sequence[str | Path],
    *,
    cores: frozenset[int],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run this interpreter with ``arguments`` in ``folder``, on ``cores``, until the block ends.

    Of this process's environment it gets only what programs need to run at all.
    """
    inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    log = folder / f"{name}.log"
    read_end, write_end = os.pipe()
    with log.open("ab") as errors, pinned_to(cores):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *map(str, arguments),
            stdin=read_end,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env={**inherited, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
        )
    os.close(read_end)
    child = Child(name, process, write_end, log)
    try:
        if cores and os.sched_getaffinity(process.pid) != cores:
            raise BenchError(f"{name} could not be pinned to its core")
        yield child
    finally:
        os.close(write_end)
        await child.stop()
