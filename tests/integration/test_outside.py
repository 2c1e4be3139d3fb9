"""Posting to programs of the operator's, over real sockets: what they answer, and what they do wrong."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.receiver import Delivery, endless, receiving
from whatsapp.outside import Poster, Unanswered
from whatsapp.post_signature import SIGNATURE, TIMESTAMP, signed_headers


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def poster(url: str, **options: object) -> Poster:
    return Poster(url, now_ms=now_ms, **options)  # type: ignore[arg-type]


async def test_what_is_posted_is_json_and_signed() -> None:
    async with receiving() as receiver:
        sender = poster(receiver.url, secret="s", headers={"X-Mine": "yes"})
        answer = await sender.post(b'{"a":1}', {"X-One": "1"})
        await sender.close()
        (post,) = receiver.posts
    assert (answer.status, answer.is_whole) == (200, True)
    assert post.body == b'{"a":1}'
    at = int(post.headers[TIMESTAMP]) * 1000
    assert post.headers[SIGNATURE] == signed_headers("s", post.body, at)[SIGNATURE]
    assert (post.headers["X-Mine"], post.headers["X-One"]) == ("yes", "1")
    assert post.headers["Content-Type"] == "application/json"


async def test_a_new_secret_signs_what_follows() -> None:
    async with receiving() as receiver:
        sender = poster(receiver.url, secret="old")
        sender.set_secret("new")
        await sender.post(b"{}", {})
        await sender.close()
        (post,) = receiver.posts
    at = int(post.headers[TIMESTAMP]) * 1000
    assert post.headers[SIGNATURE] == signed_headers("new", b"{}", at)[SIGNATURE]


async def test_a_large_body_arrives_whole() -> None:
    body = b'"%s"' % (b"x" * 5_000_000)
    async with receiving() as receiver:
        sender = poster(receiver.url)
        assert (await sender.post(body, {})).status == 200
        await sender.close()
        assert receiver.posts[0].body == body


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with receiving() as receiver, receiving() as other:
        receiver.answers(307, headers={"Location": other.url})
        sender = poster(receiver.url)
        assert (await sender.post(b"{}", {})).status == 307
        await sender.close()
        assert other.posts == []


async def test_of_an_endless_answer_only_as_much_as_asked_for_is_read() -> None:
    async with receiving() as receiver:
        receiver.answer = endless
        sender = poster(receiver.url, most_bytes=1000)
        answer = await sender.post(b"{}", {})
        await sender.close()
    assert (answer.status, len(answer.body), answer.is_whole) == (200, 1000, False)


async def test_a_status_counts_though_its_body_breaks_off() -> None:
    async def broken(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with receiving() as receiver:
        receiver.answer = broken
        sender = poster(receiver.url)
        answer = await sender.post(b"{}", {})
        await sender.close()
    assert (answer.status, answer.is_whole) == (200, False)


async def test_who_hangs_up_after_reading_or_never_answers_or_is_away_has_not_answered() -> None:
    async def hang_up(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def never(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        await receiver.held.wait()
        return web.Response()

    async with receiving() as receiver:
        sender = poster(receiver.url, answer_timeout_s=0.2)
        for answer in (hang_up, never):
            receiver.answer = answer
            with pytest.raises(Unanswered):
                await sender.post(b"{}", {})
        await receiver.stop()
        with pytest.raises(Unanswered):
            await sender.post(b"{}", {})
        await sender.close()
        await sender.close()


async def test_a_name_that_is_none_is_told_as_such() -> None:
    sender = poster("http://no-such-host.invalid/")
    with pytest.raises(Unanswered, match=r"no-such-host\.invalid"):
        await sender.post(b"{}", {})
    await sender.close()


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    """Of a server that nobody vouches for."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl here to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    making += ["-nodes", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(making, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused(own_certificate: ssl.SSLContext) -> None:
    async with receiving(own_certificate) as receiver:
        sender = poster(receiver.url)
        with pytest.raises(Unanswered, match="CERTIFICATE_VERIFY_FAILED"):
            await sender.post(b"{}", {})
        await sender.close()
        assert receiver.posts == []
