"""The sandbox over real sockets: sends, media, what it accepted, and as a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.sandboxes import NUMBER, PERSON, TEXT, WABA, playing, settled
from tests.support.waiting import GUARD_S
from tests.support.webhook_sink import WebhookSink
from whatsapp import sandbox as program
from whatsapp.sandbox import Sandbox, SandboxSettings, main
from whatsapp.signature import is_signed

ROOT = Path(__file__).resolve().parents[2]


# -- sends -------------------------------------------------------------------------------------------------


async def test_a_text_by_phone_is_taken_and_its_statuses_are_told() -> None:
    async with playing() as meta:
        http, answer = await meta.send(biz_opaque_callback_data="row.1")
        assert http == 200
        assert answer["messaging_product"] == "whatsapp"
        assert answer["contacts"] == [{"input": "+16505551234", "wa_id": "16505551234"}]
        wamid = answer["messages"][0]["id"]
        statuses = await meta.sink.wait_for("statuses", 3)
        assert sorted(status["status"] for status in statuses) == ["delivered", "read", "sent"]
        for status in statuses:
            assert status["id"] == wamid
            assert status["recipient_id"] == "16505551234"
            assert status["recipient_user_id"] == PERSON
            assert status["biz_opaque_callback_data"] == "row.1"
            assert isinstance(status["timestamp"], str)
            assert "conversation" not in status
        values = [value for post in meta.sink.posts for value in post.values()]
        for value in values:
            assert value["metadata"] == {"display_phone_number": "15550000001", "phone_number_id": NUMBER}
            assert value["contacts"] == [{"wa_id": "16505551234", "user_id": PERSON}]


async def test_a_text_by_user_id_shows_no_phone() -> None:
    async with playing() as meta:
        body = {key: value for key, value in TEXT.items() if key != "to"} | {"recipient": "US.abcDEF"}
        http, answer = await meta.graph("POST", f"{NUMBER}/messages", json=body)
        assert (http, answer["contacts"]) == (200, [{"input": "US.abcDEF", "user_id": "US.abcDEF"}])
        for status in await meta.sink.wait_for("statuses", 3):
            assert "recipient_id" not in status
            assert status["recipient_user_id"] == "US.abcDEF"


async def test_a_template_is_told_to_be_accepted() -> None:
    async with playing() as meta:
        template = {"name": "t", "language": {"code": "es"}}
        _, answer = await meta.send(type="template", template=template, text=None)
        assert answer["messages"][0]["message_status"] == "accepted"


async def test_any_version_and_a_query_are_taken() -> None:
    async with (
        playing() as meta,
        meta.client.post(f"{meta.sandbox.base_url}/v21.0/{NUMBER}/messages?x=1", json=TEXT) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("extra", [{}, {"typing_indicator": {"type": "text"}}])
async def test_marking_as_read_succeeds(extra: dict[str, Any]) -> None:
    async with playing() as meta:
        read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A", **extra}
        assert await meta.graph("POST", f"{NUMBER}/messages", json=read) == (200, {"success": True})


@pytest.mark.parametrize(
    ("path", "body", "http", "code"),
    [
        (f"{NUMBER}/messages", {**TEXT, "messaging_product": "sms"}, 400, 100),
        (f"{NUMBER}/messages", {**TEXT, "to": None}, 400, 131008),
        (f"{NUMBER}/messages", {**TEXT, "to": "nobody"}, 400, 131009),
        (f"{NUMBER}/messages", {**TEXT, "to": "+15550000001"}, 400, 131021),
        (f"{NUMBER}/messages", {**TEXT, "type": "fax"}, 400, 131051),
        (f"{NUMBER}/messages", {**TEXT, "to": "+16599131026"}, 400, 131026),
        ("7/messages", TEXT, 400, 33),
    ],
)
async def test_a_refusal_has_metas_shape(path: str, body: Any, http: int, code: int) -> None:
    async with playing() as meta:
        got, answer = await meta.graph("POST", path, json=body)
        error = answer["error"]
        assert (got, error["code"], error["type"]) == (http, code, "OAuthException")
        assert error["message"].startswith(f"(#{code}) ")
        assert error["error_data"]["messaging_product"] == "whatsapp"
        assert error["error_data"]["details"]
        assert error["fbtrace_id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{NUMBER}/messages"), ("GET", NUMBER), ("POST", f"{NUMBER}/media"), ("DELETE", "1")],
)
async def test_another_token_is_refused_everywhere(method: str, path: str) -> None:
    async with playing() as meta:
        wrong = {"Authorization": "Bearer other"}
        http, answer = await meta.graph(method, path, headers=wrong)
        assert (http, answer["error"]["code"]) == (401, 190)


@pytest.mark.parametrize(
    ("method", "path", "http", "code"),
    [
        ("GET", f"{NUMBER}/nonsense", 404, 100),
        ("GET", f"{NUMBER}/messages", 404, 100),
        ("POST", NUMBER, 405, 100),
        ("GET", "12345", 400, 100),
        ("DELETE", "12345", 400, 100),
        ("GET", "12345/phone_numbers", 400, 100),
    ],
)
async def test_an_unknown_path_or_object_is_refused_in_metas_shape(
    method: str, path: str, http: int, code: int
) -> None:
    async with playing() as meta:
        got, answer = await meta.graph(method, path)
        assert (got, answer["error"]["code"]) == (http, code)
        assert ("error_subcode" in answer["error"]) == (http == 400)


async def test_the_rate_of_a_number_is_kept() -> None:
    async with playing(rate_per_number=5, status_delays=None) as meta:
        answers = await asyncio.gather(*(meta.send(to=f"+1650555{n:04}") for n in range(40)))
        refused = [answer for http, answer in answers if http != 200]
        assert 0 < len(refused) <= 35
        assert {answer["error"]["code"] for answer in refused} == {130429}


async def test_the_rate_of_a_pair_is_kept() -> None:
    async with playing(rate_per_number=1000, status_delays=None) as meta:
        answers = await asyncio.gather(*(meta.send() for _ in range(60)))
        refused = [answer for http, answer in answers if http != 200]
        assert 0 < len(refused) <= 15
        assert {answer["error"]["code"] for answer in refused} == {131056}


async def test_a_number_tells_of_itself() -> None:
    async with playing() as meta:
        _, info = await meta.graph("GET", NUMBER)
        assert info["display_phone_number"] == "15550000001"
        assert info["verified_name"] and info["quality_rating"] == "GREEN"
        assert info["throughput"] == {"level": "STANDARD"}
        _, some = await meta.graph("GET", f"{NUMBER}?fields=throughput")
        assert some == {"throughput": {"level": "STANDARD"}, "id": NUMBER}
        _, page = await meta.graph("GET", f"{WABA}/phone_numbers")
        assert [number["id"] for number in page["data"]] == [NUMBER]


# -- media -------------------------------------------------------------------------------------------------


def form(content: bytes, mime_type: str = "image/png", product: str = "whatsapp") -> aiohttp.FormData:
    data = aiohttp.FormData({"messaging_product": product, "type": mime_type})
    data.add_field("file", content, filename="a.png", content_type=mime_type)
    return data


async def test_media_go_up_come_down_and_go_away() -> None:
    content = bytes(range(256)) * 4
    async with playing() as meta:
        http, answer = await meta.graph("POST", f"{NUMBER}/media", data=form(content))
        assert (http, list(answer)) == (200, ["id"])
        _, info = await meta.graph("GET", f"{answer['id']}?phone_number_id={NUMBER}")
        assert info["mime_type"] == "image/png"
        assert info["sha256"] == hashlib.sha256(content).hexdigest()
        assert info["file_size"] == len(content)
        async with meta.client.get(info["url"]) as download:
            assert (download.status, download.content_type) == (200, "image/png")
            assert await download.read() == content
        async with aiohttp.request("GET", info["url"]) as download:
            assert download.status == 401
        async with meta.client.get(info["url"].partition("?")[0] + "?ext=1000") as download:
            assert download.status == 404
        assert await meta.graph("DELETE", answer["id"]) == (200, {"success": True})
        http, gone = await meta.graph("GET", answer["id"])
        assert (http, gone["error"]["code"], gone["error"]["error_subcode"]) == (400, 100, 33)


async def test_media_that_cannot_be_used_are_refused() -> None:
    async with playing() as meta:
        for data in (form(b"x", "image/gif"), form(b"x", product="sms"), {"messaging_product": "whatsapp"}):
            http, answer = await meta.graph("POST", f"{NUMBER}/media", data=data)
            assert (http, answer["error"]["code"]) == (400, 100)
        http, answer = await meta.graph("POST", "7/media", data=form(b"x"))
        assert (http, answer["error"]["code"]) == (400, 33)


# -- what tests ask ----------------------------------------------------------------------------------------


async def test_accepted_sends_can_be_counted() -> None:
    async with playing(enforce_limits=False) as meta:
        for n in range(5):
            await meta.send(biz_opaque_callback_data=f"row.{n}")
        _, page = await meta.control("GET", "accepted?after=1&limit=2")
        assert page["total"] == 5
        assert [item["callback"] for item in page["items"]] == ["row.1", "row.2"]
        assert page["items"][0].keys() == {"n", "wamid", "to", "callback", "type", "at"}
        assert meta.sandbox.accepted(after=4)["items"][0]["callback"] == "row.4"
        http, answer = await meta.control("GET", "accepted?after=-1")
        assert (http, answer["success"]) == (400, False)
        await settled(meta)
        _, stats = await meta.control("GET", "stats")
        assert (stats["accepted"], stats["webhooks"]["updates"]) == (5, 15)


# -- start and stop ----------------------------------------------------------------------------------------


async def test_it_stops_while_webhooks_wait_and_may_be_stopped_twice() -> None:
    async with playing(sink_up=False) as meta:
        await meta.send()
        await meta.sandbox.stop()
        async with asyncio.timeout(GUARD_S):
            await meta.sandbox.wait()
        with pytest.raises(aiohttp.ClientConnectionError):
            await meta.send()


async def test_the_death_of_the_telling_is_noticed() -> None:
    sandbox = Sandbox(SandboxSettings(webhook_url="http://127.0.0.1:9/webhook"))
    await sandbox.start()
    sandbox._metadata.clear()  # so that a webhook cannot be made
    await sandbox.inbound("16505551234", "Hi")
    with pytest.raises(ExceptionGroup) as waited:
        async with asyncio.timeout(GUARD_S):
            await sandbox.wait()
    assert waited.group_contains(KeyError)
    with pytest.raises(ExceptionGroup):
        await sandbox.stop()


async def test_it_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    sink = WebhookSink()
    await sink.start()
    port_file = tmp_path / "sandbox.port"
    options = {
        "--port": "0",
        "--token": "T",
        "--phone-number-id": "11",
        "--display-phone-number": "15550000011",
        "--waba-id": "22",
        "--app-secret": "geheim",
        "--webhook": sink.url,
        "--rate": "1000",
        "--status-delays": "0,0,0.01",
        "--port-file": str(port_file),
    }
    arguments = [word for option in options.items() for word in option]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "whatsapp.sandbox",
        "--no-limits",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(GUARD_S):
            line = (await process.stdout.readline()).decode()
        port = port_file.read_text()
        assert line == f"sandbox on http://127.0.0.1:{port}\n"
        url = f"http://127.0.0.1:{port}/v26.0/11/messages"
        token = {"Authorization": "Bearer T"}
        async with aiohttp.request("POST", url, json=TEXT, headers=token) as answer:
            assert answer.status == 200
        await sink.wait_for("statuses", 3)
        assert all(is_signed(["geheim"], post.body, post.signature) for post in sink.posts)
        assert json.loads(sink.posts[0].body)["entry"][0]["id"] == "22"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(GUARD_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await sink.stop()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--webhook", "https://example.com/webhook"], "webhook_url"),
        (["--host", "0.0.0.0"], "host"),
        (["--phone-number-id", "1"], "--display-phone-number"),
        (["--status-delays", "1,2"], "--status-delays"),
        (["--status-delays", "soon"], "--status-delays"),
    ],
)
def test_an_option_that_cannot_be_used_ends_the_start(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert named in capsys.readouterr().err


def test_help_says_of_each_option_what_it_is_unless_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    described, example = capsys.readouterr().out.split("\nexample: ")
    options = re.split(r"\n  (?=--)", described.split("\noptions:\n")[1])[1:]
    assert len(options) == 14
    for option in options:
        assert "default" in option and len(option.split()) > 5, option

    # The command as it is printed can be started.
    (command,) = re.findall(r"-m whatsapp\.sandbox ((?:.*\\\n)*.*)", example)
    given = program._parser().parse_args(shlex.split(command.replace("\\\n", " ")))
    settings = program._settings(given)
    assert settings.webhook_url == "http://127.0.0.1:5000/webhook"
    environment = dict(pair.split("=", 1) for pair in example.split() if "=" in pair)
    assert environment["BASE_URL"] == f"http://127.0.0.1:{settings.port}"
    assert environment["ACCESS_TOKEN"] == settings.access_token
    assert environment["PHONE_NUMBER_ID"] == settings.phone_numbers[0][0]
    assert environment["APP_SECRET"] == settings.app_secret
