"""The way in: a newcomer's first minute, what stops a start and how it says so, and ``--check``."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.curl import run
from tests.support.mongod import Mongod, database_url
from tests.support.ports import free_port
from tests.support.process import (
    NOTHING_SET,
    NUMBER,
    ROOT,
    TOKEN,
    Installation,
    Process,
    running_sandbox,
)
from tests.support.waiting import eventually

_NUMBER = "100000000000001"
_PHONE = "5215550001111"


_TELLS_WHAT_IS_FROZEN = """
import cli, gc, sys, server

class Gateway(server.Gateway):
    async def wait(self):
        print("frozen:", gc.get_freeze_count(), flush=True)
        await super().wait()

sys.exit(cli.main(server.PROGRAM._replace(make_gateway=Gateway), []))
"""


async def _first_lines(process: Process) -> dict[str, str]:
    """What the gateway prints when it starts on its sandbox: the commands, by what they are for."""
    assert (await process.line()).startswith("whatsapp-gateway")
    assert (await process.line()).startswith("SANDBOX")
    commands = {}
    for _ in range(3):
        printed = re.fullmatch(r"  ([a-z ]+): +(.+)", await process.line())
        assert printed is not None
        commands[printed[1]] = printed[2]
    return commands


async def _run(command: str, folder: Path) -> dict[str, Any]:
    """Run a printed curl command; the JSON that it prints."""
    ran = await run(command, folder)
    assert (ran.exit, ran.status) == (0, 200), ran
    answer: dict[str, Any] = json.loads(ran.output)
    return answer


async def _frames_until(process: Process, type: str) -> list[dict[str, Any]]:
    """The frames that ``--watch`` prints, up to the first event of a type."""
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1].get("event") != type:
        frames.append(json.loads(await process.line()))
    return frames


async def test_without_credentials_the_first_lines_work_as_they_are_printed(tmp_path: Path) -> None:
    # As it is after a checkout and `make run`, whose commands are relative.
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    (tmp_path / "server.py").symlink_to(ROOT / "server.py")
    port = {"PORT": str(free_port())}
    gateway = await Process.start([".venv/bin/python", "server.py"], tmp_path, port)
    watching: Process | None = None
    try:
        commands = await _first_lines(gateway)
        watching = await Process.start(["sh", "-c", f"exec env {commands['watch everything']}"], tmp_path, {})
        hello = json.loads(await watching.line())
        assert hello["type"] == "hello" and hello["recovered"]

        told = await _run(commands["a customer writes"], tmp_path)
        assert told["success"] and told["message_id"], told
        frames = await _frames_until(watching, "message.read")
        received = next(frame for frame in frames if frame["event"] == "message.received")
        assert received["data"]["text"] == "hola"
        assert received["data"]["message"]["id"] == told["message_id"]
        reply = next(frame for frame in frames if frame["event"] == "task.created")
        assert reply["data"]["source"] == "autoreply:greeting"

        answer = await _run(commands["send a message"], tmp_path)
        assert answer["success"] and answer["data"]["contacts"][0]["input"] == f"+{_PHONE}", answer
        (wamid,) = (message["id"] for message in answer["data"]["messages"])
        frames += await _frames_until(watching, "message.read")
        sent = [frame["data"]["wamid"] for frame in frames if frame["event"] == "message.sent"]
        assert len(sent) == 2 and wamid == sent[1]
        assert [frame["prev"] for frame in frames[1:]] == [frame["offset"] for frame in frames[:-1]]

        watching.signal(signal.SIGINT)
        assert await watching.ended() == 130
        gateway.signal(signal.SIGINT)
        assert await gateway.ended() == 0
        assert watching.errors == ""
        assert [line.partition(" INFO ")[2] for line in gateway.errors.splitlines()] == [
            f"whatsapp.lanes: this process sends for the number {_NUMBER}",
            "gateway: stopping",
        ]
    finally:
        await gateway.kill()
        if watching is not None:
            await watching.kill()


async def test_what_the_start_has_built_is_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    variables = Installation(tmp_path).variables | {"PYTHONPATH": str(ROOT)}
    gateway = await Process.start([sys.executable, "-c", _TELLS_WHAT_IS_FROZEN], tmp_path, variables)
    try:
        while not (line := await gateway.line()).startswith("frozen:"):
            assert line, gateway.errors
        assert int(line.split()[1]) > 10_000
    finally:
        await gateway.kill()


@pytest.mark.parametrize("missing", ["VERIFY_TOKEN", "ACCESS_TOKEN", "PHONE_NUMBER_ID"])
async def test_credentials_in_part_stop_the_start_and_name_what_is_missing(
    tmp_path: Path, missing: str
) -> None:
    installation = Installation(tmp_path, **{missing: None})
    process = await installation.spawn()
    assert await process.ended() == 1
    (line,) = process.errors.splitlines()
    assert line.startswith(f"{missing}: is missing")
    assert not installation.database.exists()


async def test_a_port_in_use_stops_the_start_with_one_line(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with socket.create_server(("127.0.0.1", installation.port)):
        process = await installation.spawn()
        assert await process.ended() == 1
    (line,) = process.errors.splitlines()
    assert line.startswith(f"cannot start: PORT: 127.0.0.1:{installation.port} is in use")
    assert not installation.database.exists()


async def test_a_second_start_is_told_of_the_port_and_does_not_wait_for_the_store(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    first = await installation.start()
    try:
        second = await installation.spawn()
        assert await second.ended() == 1
        (line,) = second.errors.splitlines()
        assert line.startswith("cannot start: PORT: ") and "waiting" not in line
        assert first.runs
    finally:
        await first.kill()


async def test_an_address_of_another_machine_is_told_as_the_fault_of_host(tmp_path: Path) -> None:
    process = await Installation(tmp_path, HOST="192.0.2.1", API_KEY="a-key").spawn()
    assert await process.ended() == 1
    (line,) = process.errors.splitlines()
    assert line.startswith("cannot start: HOST: 192.0.2.1:")


async def test_a_start_for_real_says_what_is_set_and_what_to_enter_at_meta(tmp_path: Path) -> None:
    installation = Installation(tmp_path, APP_SECRET=None, API_KEY="a-key-of-ours")
    process = await installation.spawn()
    try:
        told = [await process.line() for _ in range(6)]
        assert told[0].endswith(installation.url)
        lines = dict(line.strip().split(":", 1) for line in told[1:])
        assert lines.keys() == {"number", "webhook", "signatures", "API key", "store"}
        assert NUMBER in lines["number"] and "/webhook" in lines["webhook"]
        assert "VERIFY_TOKEN" in lines["webhook"]
        assert "NOT CHECKED" in lines["signatures"] and "APP_SECRET" in lines["signatures"]
        assert str(installation.database) in lines["store"]
        assert "APP_SECRET is not set" in process.errors
        assert not any(secret in str(told) for secret in ("a-key-of-ours", "a-verify-token", TOKEN))
        process.signal(signal.SIGTERM)
        assert await process.rest() == []
        assert await process.ended() == 0, process.errors
    finally:
        await process.kill()


async def test_a_misspelt_credential_is_named_beside_the_one_that_is_missing(tmp_path: Path) -> None:
    installation = Installation(tmp_path, ACCESS_TOKEN=None)
    (tmp_path / ".env").write_text("ACCESSTOKEN=a-secret-token\n")
    process = await installation.spawn()
    assert await process.ended() == 1
    notice, fault = process.errors.splitlines()
    assert notice == ".env: ACCESSTOKEN is not a setting; did you mean ACCESS_TOKEN?"
    assert fault.startswith("ACCESS_TOKEN: is missing")


@pytest.mark.parametrize("arguments", [["--since", "0"], ["--since", ""], ["--check", "--watch"]])
async def test_options_that_do_not_go_together_start_nothing(tmp_path: Path, arguments: list[str]) -> None:
    process = await Installation(tmp_path).spawn(*arguments)
    assert await process.ended() == 2
    assert process.errors.splitlines()[-1].startswith("server.py: error: ")


async def _check(installation: Installation) -> tuple[int, dict[str, str]]:
    """Exit status of ``--check``, and its lines by what they are about."""
    process = await installation.spawn("--check")
    lines = await process.rest()
    status = await process.ended()
    assert process.errors == ""
    return status, dict(line.split(": ", 1) for line in lines)


async def test_check_tells_that_all_is_well(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    async with running_sandbox(tmp_path, installation.port) as meta:
        installation.send_to(meta.base_url)
        status, lines = await _check(installation)
    assert status == 0
    assert lines.keys() == {"configuration", "store", "graph"}
    assert all(line.startswith("ok") for line in lines.values()), lines
    assert NUMBER in lines["graph"] and TOKEN not in str(lines)


async def test_check_tells_of_a_token_that_meta_refuses(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    async with running_sandbox(tmp_path, installation.port, token="another-token") as meta:
        installation.send_to(meta.base_url)
        status, lines = await _check(installation)
    assert status == 1
    assert lines["store"] == "ok" and "HTTP 401" in lines["graph"] and "190" in lines["graph"]


async def test_check_asks_for_each_number(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[[whatsapp.numbers]]\nphone_number_id = "77"\n')
    installation = Installation(tmp_path)
    async with running_sandbox(tmp_path, installation.port) as meta:
        installation.send_to(meta.base_url)
        process = await installation.spawn("--check")
        told = [line.partition(": {")[0] for line in await process.rest() if line.startswith("graph")]
        assert await process.ended() == 1
    assert told == [f"graph: ok, number {NUMBER}", "graph: HTTP 400, number 77"]


async def test_check_tells_of_a_store_that_cannot_be_reached(tmp_path: Path) -> None:
    installation = Installation(tmp_path, STORE_URL=f"mongodb://127.0.0.1:{free_port()}/nowhere")
    async with running_sandbox(tmp_path, installation.port) as meta:
        installation.send_to(meta.base_url)
        status, lines = await _check(installation)
    assert status == 1
    assert lines["configuration"].startswith("ok") and lines["graph"].startswith("ok")
    assert not lines["store"].startswith("ok") and "Traceback" not in lines["store"]


async def test_check_tells_of_a_meta_that_cannot_be_reached(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    status, lines = await _check(installation)
    assert status == 1
    assert lines["store"] == "ok" and "cannot be reached" in lines["graph"]


async def test_check_tells_of_a_variable_that_is_misspelt(tmp_path: Path) -> None:
    status, lines = await _check(Installation(tmp_path, **NOTHING_SET, APISECRET=1, ACCESS_TOKENS="x"))
    assert status == 0
    assert lines["note"] == "ACCESS_TOKENS is not a setting; did you mean ACCESS_TOKEN?"


async def test_check_without_credentials_says_that_the_sandbox_would_be_used(tmp_path: Path) -> None:
    status, lines = await _check(Installation(tmp_path, **NOTHING_SET))
    assert status == 0
    assert lines.keys() == {"configuration", "store", "graph"}
    assert "sandbox" in lines["configuration"]
    assert lines["graph"] == "not asked, the sandbox would be used"


async def test_a_start_waits_for_a_database_that_comes_up_later(tmp_path: Path) -> None:
    server = Mongod(tmp_path / "mongo")
    installation = Installation(tmp_path, STORE_URL=database_url(server.url, "late"))
    process = await installation.spawn()

    async def waits() -> bool:
        return "waiting for the store" in process.errors

    try:
        await eventually(waits, "a word about the store")
        assert process.runs
        await asyncio.to_thread(server.start)
        await installation.greeted(process)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    finally:
        await process.kill()
        server.kill()


async def test_a_start_does_not_wait_for_ever_for_a_database(tmp_path: Path) -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/never"
    process = await Installation(tmp_path, STORE_URL=url, STORE_WAIT_S=0).spawn()
    assert await process.ended() == 1
    assert "cannot start: the database is away" in process.errors
