"""What does the work of curl where there is none does it as curl does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.curl import HAS_CURL, run

PROGRAMS = [
    pytest.param(True, marks=pytest.mark.skipif(not HAS_CURL, reason="there is no curl"), id="curl"),
    pytest.param(False, id="no curl"),
]


async def _echo(request: web.Request) -> web.Response:
    told: dict[str, Any] = {
        "called": f"{request.method} {request.path_qs}",
        "type": request.headers.get("Content-Type", "").partition(";")[0],
        "key": request.headers.get("X-Key"),
    }
    if told["type"] == "multipart/form-data":
        form = await request.post()
        told["form"] = {
            name: value if isinstance(value, str) else [value.filename, value.file.read().decode()]
            for name, value in form.items()
        }
    else:
        told["body"] = await request.text()
    return web.json_response(told, status=404 if request.path == "/nothing" else 200)


@asynccontextmanager
async def _echoing() -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", _echo)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("with_curl", PROGRAMS)
async def test_a_command_is_run_as_it_stands(tmp_path: Path, with_curl: bool) -> None:
    async with _echoing() as url:

        async def told(command: str, status: int = 200) -> dict[str, Any]:
            ran = await run(command.replace("URL", url), tmp_path, with_curl=with_curl)
            assert (ran.exit, ran.status) == (0, status), ran
            answer: dict[str, Any] = json.loads(ran.output or (tmp_path / "kept").read_text())
            return answer

        asked = {"called": "GET /a?b=c&d=1+2", "type": "", "key": None, "body": ""}
        assert await told("curl -s 'URL/a?b=c&d=1+2'") == asked

        posted = await told("""ID=7; curl -s URL/b -H 'Content-Type: application/json' -H "X-Key: k $ID" \\
            -d '{"a": "'$ID'", "b": "ñ"}'""")
        body = '{"a": "7", "b": "ñ"}'
        assert posted == {"called": "POST /b", "type": "application/json", "key": "k 7", "body": body}

        plain = await told("curl -s URL/c -d a=b")
        assert (plain["type"], plain["body"]) == ("application/x-www-form-urlencoded", "a=b")

        form = await told(r"""printf 'a,b\n' > x.csv
            curl -s URL/d -F file=@x.csv -F 'text=Hello {{a}}, "b"' -F list='["a"]'""")
        assert (form["called"], form["type"]) == ("POST /d", "multipart/form-data")
        assert form["form"] == {"file": ["x.csv", "a,b\n"], "text": 'Hello {{a}}, "b"', "list": '["a"]'}

        assert (await told("curl -s URL/nothing -X DELETE", 404))["called"] == "DELETE /nothing"
        assert (await told("curl -s URL/f -o kept"))["called"] == "GET /f"


@pytest.mark.parametrize("with_curl", PROGRAMS)
async def test_a_command_that_fails_tells_it(tmp_path: Path, with_curl: bool) -> None:
    ran = await run("cat nothing-here", tmp_path, with_curl=with_curl)
    assert ran.exit != 0 and ran.status == 0 and "nothing-here" in ran.errors


@pytest.mark.parametrize(
    "options",
    ["-v", "--data x", "-d @x", "-F 'a=@x;type=b'", "-F 'a=<x'", "-d x -d y", "-d x -F a=b", "http://b/"],
)
async def test_what_only_curl_knows_is_refused_without_it(tmp_path: Path, options: str) -> None:
    with pytest.raises(AssertionError):
        await run(f"curl -s http://a/ {options}", tmp_path, with_curl=False)
