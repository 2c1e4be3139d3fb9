"""One gateway with Meta, a caller and a subscriber around it, for as long as a part of the soak needs them.

Owns how they begin and end, and what holds after any load: nothing lost, nothing doubled in silence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.support.follower import Follower, following
from tests.support.killing import installed
from tests.support.load import Caller, Record
from tests.support.process import Installation, Process, SandboxProcess, running_sandbox
from tests.support.proof import Count, prove
from tests.support.settling import settled
from tests.support.waiting import GUARD_S

__all__ = ["GatewayRun", "running", "told"]


class GatewayRun(NamedTuple):
    """What is there while it runs."""

    process: Process
    meta: SandboxProcess
    caller: Caller
    session: aiohttp.ClientSession
    record: Record
    installation: Installation
    follower: Follower

    async def proven(self) -> Count:
        """What it came to, once all has come to its end. Fails where a message is lost or doubled."""
        await settled(self.installation, self.record.sends, self.follower, self.meta)
        return prove(self.follower.events, self.record, await self.meta.accepted())

    async def written_by(self, phone: str, text: str) -> None:
        """A customer writes."""
        message = {"from": phone, "text": text}
        async with self.session.post(f"{self.meta.base_url}/sandbox/inbound", json=message) as answer:
            assert answer.status == 200, await answer.text()


@asynccontextmanager
async def running(folder: Path, store: str) -> AsyncIterator[GatewayRun]:
    """With the limits that Meta has and the settings that everybody has; gone at the end."""
    with installed(folder, store, {}) as installation:
        async with (
            running_sandbox(folder, installation.port) as meta,
            following(installation.socket_url) as follower,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=GUARD_S)) as session,
        ):
            installation.send_to(meta.base_url)
            process = await installation.start()
            record = Record()
            caller = Caller(installation.url, session, record)
            try:
                yield GatewayRun(process, meta, caller, session, record, installation, follower)
            finally:
                await process.kill()
        installation.check_logs()


def told(count: Count) -> dict[str, int]:
    """What of it is kept."""
    return {"rows": count.rows, "doubles": count.doubles, "unknowns": count.unknowns}
