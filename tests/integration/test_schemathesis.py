"""schemathesis against the gateway's own description: no server error, and no answer that is not described.

What it does is in ``tests/support/schemathesis.toml``. It runs as a process of its own, on a gateway that is
one too: neither stops the other, and what it prints says how to ask for each fault again.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from handlers.operations import operations
from tests.support.process import ROOT, Installation
from tests.support.schemathesis_hooks import CUSTOMER, ERASURE, NAMES, NOBODY, WAMID

_CONFIG = ROOT / "tests" / "support" / "schemathesis.toml"
_WITHIN_S = 240.0


@pytest.mark.timeout(300)
async def test_every_answer_is_as_described(tmp_path: Path) -> None:
    gateway = Installation(
        tmp_path,
        # On its sandbox.
        ACCESS_TOKEN=None,
        PHONE_NUMBER_ID=None,
        BASE_URL=None,
        STORE_URL=None,
        # Nearly all goes to one person, to whom one message in 6 s may go after the first 45. So long does a
        # direct send wait for its turn until it is answered 202, and there are hundreds of them.
        DIRECT_TIMEOUT_S=0.05,
        # A receiver to be asked about; nobody listens there.
        HOOKS_ENDPOINTS=json.dumps([{"name": "crm", "url": "http://127.0.0.1:9/"}]),
    )
    process = await gateway.start()
    try:
        await _let_one_fail(gateway.url)
        await _make_names(gateway.socket_url)
        wamid = await _let_one_write(gateway.url)
        told_it = {WAMID: wamid, ERASURE: await _erase_somebody(gateway.url)}
        told, report = await _schemathesis(f"{gateway.url}/api/openapi.json", tmp_path, told_it)
        if report["exit_code"] != 0:
            pytest.fail(f"{told}\nThe gateway's log ends with:\n{process.errors[-3000:]}", pytrace=False)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0, process.errors[-3000:]
    finally:
        await process.kill()
    gateway.check_logs()
    # Were most requests refused for the same reason, nothing else would be looked at.
    accepted = {
        operation: sum(phase["accepted"] for phase in phases.values())
        for operation, phases in report["valid_rates"].items()
    }
    assert sorted(accepted) == _all_operations()
    assert [operation for operation, count in accepted.items() if not count] == []


async def _let_one_fail(url: str) -> None:
    """Send what the sandbox refuses whenever it is sent, so that there is a dead letter to be found."""
    async with aiohttp.ClientSession(url) as session:
        message = {"phone": "5215599131026", "message": "hello", "use_queue": True}
        async with session.post("/api/send-message", json=message) as answer:
            assert answer.status == 200


async def _let_one_write(url: str) -> str:
    """Have a customer to be asked about; Meta's id of what they wrote."""
    async with aiohttp.ClientSession(url) as session:
        message = {"from": CUSTOMER, "text": "hello"}
        async with session.post("/sandbox/inbound", json=message) as answer:
            assert answer.status == 200
            wamid: str = (await answer.json())["message_id"]
            return wamid


async def _erase_somebody(url: str) -> str:
    """Have a request to be asked about; its id."""
    async with aiohttp.ClientSession(url) as session, session.delete(f"/api/contacts/{NOBODY}") as answer:
        assert answer.status == 202
        erasure: str = (await answer.json())["erasure"]
        return erasure


async def _make_names(url: str) -> None:
    """Have subscribers that can be removed."""
    for name in NAMES:
        async with websockets.connect(f"{url}?subscriber={name}", proxy=None) as socket:
            await socket.recv()


def _all_operations() -> list[str]:
    """But for the one that does not end."""
    told = (f"{operation.method} {operation.path}" for operation in operations())
    return sorted(one for one in told if not one.endswith("/stream"))


async def _schemathesis(url: str, folder: Path, told_it: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """What it printed, and its report."""
    printed, report = folder / "schemathesis.txt", folder / "report.json"
    # What coverage is measured of is the gateway, and this would take twice as long.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with printed.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", _CONFIG, "run", url, "--no-color"),
            cwd=folder,
            env=inherited | {"PYTHONPATH": str(ROOT)} | told_it,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        async with asyncio.timeout(_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    told = printed.read_text()
    if not report.exists():
        pytest.fail(f"no report, exit status {process.returncode}:\n{told}", pytrace=False)
    found: dict[str, Any] = json.loads(report.read_text())
    return told, found
