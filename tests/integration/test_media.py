"""``/api/media`` over real sockets: the sandbox, and a Graph API that breaks things off."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from settings import NumberSettings, Secret
from store.errors import StoreUnavailable
from tests.support.fake_graph import WHOLE, FakeGraph, faking
from tests.support.gateway import NUMBER, Answer, Client, Harness, serving
from tests.support.waiting import GUARD_S, eventually
from whatsapp.graph import Graph
from whatsapp.sandbox import SandboxSettings

TOKEN = f"Bearer {SandboxSettings().access_token}"
PNG = b"\x89PNG" + bytes(range(256)) * 64
BIG = 30 * 1024 * 1024
HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
TAIL = b"\r\n--B--\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=B"}


def on(graph: FakeGraph) -> dict[str, Any]:
    return {"whatsapp": {"base_url": graph.url}}


async def upload(
    client: Client, content: bytes = PNG, *, headers: dict[str, str] | None = None, **fields: str
) -> Answer:
    form = aiohttp.FormData()
    for name, value in fields.items():
        if name not in ("filename", "of_part"):
            form.add_field(name, value)
    form.add_field(
        "file",
        io.BytesIO(content),
        filename=fields.get("filename", "a.png"),
        content_type=fields.get("of_part", "application/octet-stream"),
    )
    return await client.request("POST", "/api/media", data=form, headers=headers)


async def download(client: Client, media_id: str) -> tuple[int, bytes, dict[str, str]]:
    async with client.http.get(f"{client.url}/api/media/{media_id}/download") as answer:
        return answer.status, await answer.read(), dict(answer.headers)


def refused(answer: Answer, status: int, code: str) -> str:
    assert (answer.status, answer.body["success"], answer.body["code"]) == (status, False, code), answer
    error: str = answer.body["error"]
    return error


async def nothing_under_way(gateway: Harness) -> None:
    async def ask() -> bool | None:
        return (await gateway.status())["media"]["uploads"] == 0 or None

    await eventually(ask)


# -- up, down, away ----------------------------------------------------------------------------------------


async def test_a_file_goes_up_is_told_comes_down_and_is_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = (await upload(gateway)).ok
        media_id = answer["media_id"]
        assert answer == {"success": True, "media_id": media_id, "reused": False}
        told = (await gateway.get(f"/api/media/{media_id}")).ok
        assert told["media_url"].startswith(f"{gateway.sandbox.base_url}/media/{media_id}")
        assert (told["success"], told["mime_type"], told["file_size"]) == (True, "image/png", len(PNG))
        assert told["sha256"] == hashlib.sha256(PNG).hexdigest()
        status, content, headers = await download(gateway, media_id)
        assert (status, content) == (200, PNG)
        assert headers["Content-Type"] == "image/png"
        assert headers["Content-Length"] == str(len(PNG))
        assert headers["Content-Disposition"] == f'attachment; filename="{media_id}.png"'
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert (await gateway.request("DELETE", f"/api/media/{media_id}")).ok == {"success": True}
        for method, path in (("GET", ""), ("GET", "/download"), ("DELETE", "")):
            answer = await gateway.request(method, f"/api/media/{media_id}{path}")
            assert media_id in refused(answer, 404, "not_found")


@pytest.mark.parametrize(
    "media_id", ["0", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "a.b", "1%0d%0a", "100000000000001"]
)
async def test_what_is_no_file_is_not_found(tmp_path: Path, media_id: str) -> None:
    """The last is a number's id: Graph knows it, and would delete what it names."""
    async with serving(tmp_path) as gateway:
        for method, path in (("GET", ""), ("GET", "/download"), ("DELETE", "")):
            answer = await gateway.request(method, f"/api/media/{media_id}{path}")
            refused(answer, 404, "not_found")


async def test_the_same_bytes_are_uploaded_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first = (await upload(gateway)).ok["media_id"]
        again = (await upload(gateway, filename="another.png")).ok
        assert again == {"success": True, "media_id": first, "reused": True}
        assert gateway.sandbox.stats()["media"] == 1
        # Another type is another file to Meta.
        other = (await upload(gateway, type="application/pdf")).ok
        assert other["media_id"] != first and not other["reused"]
        await gateway.restart()
        assert (await upload(gateway)).ok["media_id"] == first
        # It is gone at Meta: the known id is of no use.
        await gateway.request("DELETE", f"/api/media/{first}")
        anew = (await upload(gateway)).ok
        assert anew["media_id"] != first and not anew["reused"]
        assert (await upload(gateway)).ok == {**anew, "reused": True}


async def test_an_upload_with_a_key_is_answered_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        key = {"Idempotency-Key": "k-1"}
        answers = await asyncio.gather(*(upload(gateway, headers=key) for _ in range(5)))
        assert all(answer.ok == {**answers[0].ok, "reused": False} for answer in answers)
        assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
        # Without one the same bytes are known by themselves.
        assert (await upload(gateway)).ok["reused"] is True
        for other in ({"content": b"%PDF", "type": "application/pdf"}, {"filename": "b.png"}):
            assert refused(await upload(gateway, headers=key, **other), 422, "idempotency_mismatch")
        bad = await upload(gateway, headers={"Idempotency-Key": "a b"})
        assert refused(bad, 400, "invalid_request").startswith("Idempotency-Key: ")
        assert gateway.sandbox.stats()["media"] == 1


async def test_a_file_is_for_the_number_that_the_caller_names(tmp_path: Path) -> None:
    second = NumberSettings(phone_number_id="200", access_token=Secret("other"))
    async with (
        faking() as graph,
        serving(tmp_path, whatsapp={**on(graph)["whatsapp"], "numbers": (second,)}) as gateway,
    ):
        assert (await upload(gateway)).ok["reused"] is False
        assert (await upload(gateway, phone_number_id="200")).ok["reused"] is False
        assert (await upload(gateway, phone_number_id="200")).ok["reused"] is True
        for way in ("", "/download"):
            await gateway.request("GET", f"/api/media/whole{way}?phone_number_id=200")
        await gateway.request("DELETE", "/api/media/9?phone_number_id=200")
        await gateway.get("/api/media/8")
        assert {path.removeprefix("/v26.0"): token for path, token in graph.tokens.items()} == {
            f"/{NUMBER}/media": TOKEN,
            "/200/media": "Bearer other",
            "/5002": "Bearer other",
            "/whole": "Bearer other",
            "/file/whole": "Bearer other",
            "/9": "Bearer other",
            "/8": TOKEN,
        }
        for refusal in (
            await upload(gateway, phone_number_id="300"),
            await gateway.get("/api/media/8?phone_number_id=300"),
            await gateway.get("/api/media/8/download?phone_number_id=300"),
            await gateway.request("DELETE", "/api/media/8?phone_number_id=300"),
        ):
            assert refused(refusal, 400, "invalid_request").startswith(
                "phone_number_id: is none of the numbers"
            )


async def test_the_same_bytes_at_once_are_uploaded_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answers = [answer.ok for answer in await asyncio.gather(*(upload(gateway) for _ in range(5)))]
        assert len({answer["media_id"] for answer in answers}) == 1
        assert sorted(answer["reused"] for answer in answers) == [False, True, True, True, True]
        assert gateway.sandbox.stats()["media"] == 1


async def test_an_upload_does_not_need_the_store(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for name in ("find_media", "remember_media"):
            gateway.store.fail(name, StoreUnavailable("away"))
        assert not (await upload(gateway)).ok["reused"]
        gateway.store.heal()
        assert not (await upload(gateway)).ok["reused"]


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fields", "path", "problem"),
    [
        (b"GIF89a", {"filename": "a.gif", "of_part": "image/gif"}, "type", "only image/jpeg"),
        (b"x", {"filename": "a"}, "type", "is required"),
        (b"", {}, "file", "must not be empty"),
        (b"x" * (5 * 1024 * 1024 + 1), {}, "file", "at most 5242880 bytes"),
        (b"x" * (16 * 1024 * 1024 + 1), {"type": "audio/mpeg"}, "file", "at most 16777216 bytes"),
    ],
)
async def test_what_meta_would_not_take_is_refused_before_it_sees_a_byte(
    tmp_path: Path, content: bytes, fields: dict[str, str], path: str, problem: str
) -> None:
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        answer = await upload(gateway, content, **fields)
        assert problem in refused(answer, 400, "invalid_request")
        assert [detail["path"] for detail in answer.body["details"]] == [path]
        assert graph.asked == []
        await nothing_under_way(gateway)


async def test_other_bodies_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        refused(await gateway.post("/api/media", {"file": "x"}), 415, "unsupported_media_type")
        refused(await gateway.request("POST", "/api/media"), 415, "unsupported_media_type")
        broken = await gateway.request("POST", "/api/media", data=HEAD + b"x", headers=FORM)
        refused(broken, 400, "bad_form")
        answer = await gateway.get("/api/media")
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        form = HEAD + b"x" + TAIL
        misplaced = await gateway.request("POST", "/api/media?phone_number_id=9", data=form, headers=FORM)
        assert "phone_number_id: " in refused(misplaced, 400, "invalid_request")
        assert "phone_numbr: " in refused(
            await gateway.get("/api/media/9?phone_numbr=9"), 400, "invalid_request"
        )
        elsewhere = {**FORM, "Origin": "https://evil.example.com"}
        answer = await gateway.request("POST", "/api/media", data=HEAD + b"x" + TAIL, headers=elsewhere)
        refused(answer, 403, "forbidden")
        here = {**FORM, "Origin": gateway.url}
        assert (await gateway.request("POST", "/api/media", data=HEAD + b"x" + TAIL, headers=here)).ok
        await nothing_under_way(gateway)


async def test_an_upload_needs_the_key(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": "secret"}) as gateway:
        body = HEAD + b"x" + TAIL
        refused(await gateway.request("POST", "/api/media", data=body, headers=FORM), 401, "unauthorized")
        assert (
            await gateway.request("POST", "/api/media", data=body, headers={**FORM, "X-API-Key": "secret"})
        ).ok


async def zeros(size: int) -> AsyncIterator[bytes]:
    """A form with a document of so many bytes, one chunk of which is in memory."""
    yield HEAD
    chunk = bytes(64 * 1024)
    for _ in range(size // len(chunk)):
        yield chunk
    yield TAIL


async def test_a_large_document_passes_through_without_being_in_memory(tmp_path: Path) -> None:
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        answer = await gateway.request("POST", "/api/media", data=zeros(BIG), headers=FORM)
        assert answer.ok["media_id"] == "5001"
        ((size, _),) = graph.uploads
        assert BIG < size < BIG + 1024
        told = (await gateway.status())["media"]
        assert told["uploads"] == 0
        assert 64 * 1024 < told["most_buffered"] < 2 * 1024 * 1024


async def test_a_body_beyond_all_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.front.UPLOAD_LIMIT", 1024 * 1024)
    async with serving(tmp_path) as gateway:
        # Its length is not told, so that it is known only when it has come.
        late = await gateway.request("POST", "/api/media", data=zeros(1024 * 1024 + 65536), headers=FORM)
        refused(late, 413, "too_large")
        told = await gateway.request(
            "POST", "/api/media", data=HEAD + bytes(1024 * 1024) + TAIL, headers=FORM
        )
        refused(told, 413, "too_large")
        await nothing_under_way(gateway)


async def test_an_upload_that_breaks_off_reaches_nobody(tmp_path: Path) -> None:
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = "POST /api/media HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n"
        writer.write(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + HEAD + bytes(400_000))
        await writer.drain()

        async def begun() -> bool | None:
            return (await gateway.status())["media"]["uploads"] == 1 or None

        await eventually(begun)
        writer.close()
        await nothing_under_way(gateway)
        assert graph.asked == []


# -- a Graph that does not do what it should ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_id", "status", "code", "meta"),
    [
        ("unknown", 404, "not_found", None),
        ("nourl", 404, "not_found", None),
        ("denied", 502, "meta_failed", 190),
        ("page", 502, "meta_failed", None),
    ],
)
async def test_metas_errors_are_told(
    tmp_path: Path, media_id: str, status: int, code: str, meta: int | None
) -> None:
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        for method, path in (("GET", ""), ("GET", "/download"), ("DELETE", "")):
            answer = await gateway.request(method, f"/api/media/{media_id}{path}")
            refused(answer, status, code)
            assert answer.body.get("meta", {}).get("code") == meta
        assert not any(call.startswith("DELETE") for call in graph.asked)


async def test_a_graph_that_is_away_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.sandbox.stop()
        for answer in (await gateway.get("/api/media/1"), await upload(gateway)):
            assert "cannot be reached" in refused(answer, 503, "graph_unreachable")
            assert answer.headers["Retry-After"]


@pytest.mark.parametrize("media_id", ["whole", "chunked", "moved"])
async def test_a_file_comes_whole(tmp_path: Path, media_id: str) -> None:
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        status, content, headers = await download(gateway, media_id)
        assert (status, content, headers["Content-Type"]) == (200, WHOLE, "image/png")
        assert ("Content-Length" in headers) is (media_id != "chunked")
        assert graph.tokens[f"/file/{media_id}"] == TOKEN


@pytest.mark.parametrize(
    ("media_id", "status", "code"),
    [
        ("gone", 404, "not_found"),
        ("plain", 503, "graph_unreachable"),
        ("astray", 503, "graph_unreachable"),
        ("round", 502, "graph_no_answer"),
        ("huge", 502, "meta_failed"),
    ],
)
async def test_a_file_that_cannot_be_had_is_told(
    tmp_path: Path, media_id: str, status: int, code: str
) -> None:
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        refused(await gateway.get(f"/api/media/{media_id}/download"), status, code)


@pytest.mark.parametrize("media_id", ["short", "less"])
async def test_a_file_that_breaks_off_never_looks_whole(tmp_path: Path, media_id: str) -> None:
    """``less`` ends as if it were whole, and has a byte less than Meta said."""
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        with pytest.raises(aiohttp.ClientPayloadError):
            await download(gateway, media_id)
        assert (await gateway.status())["refused"] == {"download_broken": 1}


async def test_a_client_that_goes_away_ends_the_download(tmp_path: Path) -> None:
    async with faking() as graph, serving(tmp_path, **on(graph)) as gateway:
        answer = await gateway.http.get(f"{gateway.url}/api/media/drip/download")
        assert await answer.content.readexactly(1) == b"x"
        answer.close()
        async with asyncio.timeout(GUARD_S):
            await graph.gone.wait()
        assert "download_broken" not in (await gateway.status())["refused"]


async def test_a_stop_does_not_wait_for_a_file(tmp_path: Path) -> None:
    async with faking() as graph:
        async with serving(tmp_path, **on(graph)) as gateway:
            answer = await gateway.http.get(f"{gateway.url}/api/media/drip/download")
            await graph.dripping.wait()
        async with asyncio.timeout(GUARD_S):
            await graph.gone.wait()
        answer.close()


async def test_a_form_says_what_the_file_is(tmp_path: Path) -> None:
    """As Meta takes it apart, which the sandbox does with another parser than ours."""
    async with serving(tmp_path) as gateway:
        media_id = (await upload(gateway, filename='a"ñ\\.pdf', type="application/pdf")).ok["media_id"]
        media = gateway.sandbox._account.media.get(media_id)
        assert (media.mime_type, media.content, media.number) == (
            "application/pdf",
            PNG,
            gateway.sandbox.number,
        )


async def test_a_source_that_breaks_off_is_told() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("the disk is gone")

    async with faking() as graph:
        client = Graph(graph.url, "v26.0", "T")
        await client.open()
        try:
            with pytest.raises(OSError, match="disk is gone"):
                await client.upload("1", "image/png", "a.png", 10, broken())
            assert graph.uploads == []
        finally:
            await client.close()


async def test_a_large_body_without_a_key_is_not_read(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": "secret"}) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = "POST /api/media HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50000000\r\n"
        writer.write(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode())
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 401") and b"unauthorized" in answer
        writer.close()
