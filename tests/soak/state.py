"""What has been tried so far: one JSON file, added to after each round, so that a soak can be broken off.

Owns the file's shape: for each part a list of rounds, each with its seed, when it ended, the version of the
code, and what the part found; failures stand beside them. A round is recorded whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "State", "version"]

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


class State:
    """The file. Several processes may add to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rounds(self, part: str) -> list[Json]:
        """Those that held, oldest first."""
        return self._read().get(part, {}).get("rounds", [])

    def failures(self, part: str) -> list[Json]:
        """Those in which something did not hold, oldest first."""
        return self._read().get(part, {}).get("failures", [])

    def begin(self, part: str) -> int:
        """The number of the next round: it has not been used, and will not be used again."""
        with self._changing() as state:
            entry = state.setdefault(part, {})
            number: int = entry.get("begun", 0) + 1
            entry["begun"] = number
        return number

    def add(self, part: str, seed: str, found: Json) -> None:
        """A round that held."""
        self._append(part, "rounds", seed, found)

    def fail(self, part: str, seed: str, why: str) -> None:
        """A round that did not."""
        self._append(part, "failures", seed, {"why": why})

    def _append(self, part: str, list_: str, seed: str, found: Json) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._changing() as state:
            rounds = state.setdefault(part, {}).setdefault(list_, [])
            rounds.append({"seed": seed, "at": at, "version": version(), **found})

    def _read(self) -> Json:
        try:
            state: Json = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return state

    @contextmanager
    def _changing(self) -> Iterator[Json]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self._read()
            yield state
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(state, indent=1) + "\n", "utf-8")
            new.replace(self.path)


def version() -> str:
    """The commit of the code that is tried; with ``+`` where files differ from it."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
