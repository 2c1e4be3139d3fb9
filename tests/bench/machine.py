"""The machine under the benchmarks: its cores, its disk, the versions of what runs on it.

Owns the pinning: one core for what is measured, another for the load. Where the system cannot pin (only Linux
can), nothing is pinned and the page says so.
"""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.bench.measure import BenchError

__all__ = ["Cores", "allow_many_files", "facts", "fsync_ms", "pinned_to", "take_cores"]

_LIBRARIES = ("tornado", "aiohttp", "msgspec", "uvloop")
_FILES = 8192
_FSYNCS = 200
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core does what; empty sets where the system cannot pin."""

    server: frozenset[int]
    load: frozenset[int]
    present: int


def take_cores() -> Cores:
    """The first two cores that this process may use. Raises BenchError where there is only one."""
    present = os.cpu_count() or 1
    if not hasattr(os, "sched_setaffinity"):
        return Cores(frozenset(), frozenset(), present)
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchError("two cores are needed, one for the server and one for the load; there is one")
    return Cores(frozenset(usable[:1]), frozenset(usable[1:2]), present)


@contextmanager
def pinned_to(cores: frozenset[int]) -> Iterator[None]:
    """Run on these cores meanwhile; processes started meanwhile stay there. No cores: no effect."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_files() -> None:
    """Raise the soft limit of open files, which is often 1,024, for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def fsync_ms(folder: Path) -> float:
    """Median milliseconds that a page appended to a file in this folder takes until it is on the disk."""
    page = bytes(_PAGE)
    path = folder / "fsync"
    times = []
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(_FSYNCS):
            start = time.perf_counter()
            os.write(file, page)
            os.fsync(file)
            times.append(time.perf_counter() - start)
    finally:
        os.close(file)
        path.unlink()
    return 1000 * median(times)


def facts(cores: Cores) -> list[str]:
    """What one must know to read the figures, a line each."""
    pinned = "the server pinned to one of them, the load to another" if cores.server else "nothing pinned"
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [
        f"{python} on {sys.platform} ({platform.machine()})",
        f"{cores.present} cores, {pinned}",
        f"{libraries}, SQLite {sqlite3.sqlite_version}",
    ]
