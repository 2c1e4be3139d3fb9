"""Forms with a file, taken apart whatever the pieces that they come in."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.base import BadForm, Busy, UnsupportedMedia
from handlers.upload_form import UPLOADS_AT_ONCE, UploadDesk, UploadForm
from store.errors import GatewayError
from whatsapp.failures import InvalidRequest
from whatsapp.media import Upload

TYPE = "multipart/form-data; boundary=B"
PNG = b"\x89PNG" + bytes(range(256)) * 16


def part(name: str, content: bytes, *, filename: str = "", type: str = "") -> bytes:
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"'
    head += f'; filename="{filename}"' if filename else ""
    head += f"\r\nContent-Type: {type}" if type else ""
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def a_file(content: bytes = PNG, *, filename: str = "a.png", type: str = "") -> bytes:
    return part("file", content, filename=filename, type=type)


async def taken(body: bytes, size: int = 1 << 16, desk: UploadDesk | None = None) -> tuple[Upload, bytes]:
    """The upload, and its bytes as they are read back twice."""
    upload_form = (desk or UploadDesk(["1"])).open(TYPE)
    try:
        for start in range(0, len(body), size):
            await upload_form.feed(body[start : start + size])
        upload = await upload_form.end()
        first = b"".join([chunk async for chunk in upload.read()])
        assert b"".join([chunk async for chunk in upload.read()]) == first
        return upload, first
    finally:
        upload_form.close()


async def refused(body: bytes, kind: type[GatewayError] = InvalidRequest) -> GatewayError:
    with pytest.raises(kind) as caught:
        await taken(body)
    return caught.value


async def test_a_file_comes_through_whole() -> None:
    upload, content = await taken(form(part("messaging_product", b"whatsapp"), a_file()))
    assert content == PNG
    assert upload[:4] == ("image/png", "a.png", len(PNG), hashlib.sha256(PNG).hexdigest())


@given(content=st.binary(min_size=1, max_size=300), size=st.integers(1, 80))
def test_it_does_not_matter_where_the_pieces_end(content: bytes, size: int) -> None:
    body = form(part("type", b"text/plain"), a_file(content), part("messaging_product", b"x" * 50))
    upload, found = asyncio.run(taken(body, size))
    assert (upload.type, found) == ("text/plain", content)


@pytest.mark.parametrize(
    ("parts", "type"),
    [
        ([part("type", b" audio/ogg; codecs=opus "), a_file(type="image/png")], "audio/ogg"),
        ([a_file(type="image/png"), part("type", b"image/jpeg")], "image/jpeg"),
        (
            [a_file(filename="a.bin", type="application/octet-stream"), part("type", b"video/mp4")],
            "video/mp4",
        ),
        ([a_file(filename="a.pdf", type="application/octet-stream")], "application/pdf"),
        ([part("type", b""), a_file()], "image/png"),
    ],
)
async def test_the_type_may_stand_before_or_after_the_file(parts: list[bytes], type: str) -> None:
    upload, _ = await taken(form(*parts))
    assert upload.type == type


@pytest.mark.parametrize(
    ("body", "path", "problem"),
    [
        (form(part("type", b"image/png")), "file", "is required"),
        (form(), "file", "is required"),
        (form(a_file(b"")), "file", "must not be empty"),
        (form(a_file(), a_file()), "file", "must be one file"),
        (form(a_file(filename="a.gif", type="image/gif")), "type", "only image/jpeg"),
        (form(part("type", b"image/gif"), a_file()), "type", "only image/jpeg"),
        (form(a_file(), part("type", b"nonsense")), "type", "nonsense is no mime type"),
        (form(part("tipo", b"image/png"), a_file()), "tipo", "is no field of this form"),
        (form(a_file(), part("phone_number_id", b"2")), "phone_number_id", "none of the numbers here: 1"),
        (form(a_file(filename="a.exe")), "type", "is required"),
        (form(part("type", b"x" * 1025), a_file()), "type", "at most 1024 bytes"),
        (form(a_file(b"x" * (5 * 1024 * 1024 + 1))), "file", "at most 5242880 bytes as image/png"),
        (
            form(a_file(b"RIFF" + bytes(102_400), filename="s.webp")),
            "file",
            "at most 102400 bytes as a sticker that does not move",
        ),
    ],
)
async def test_what_meta_would_not_take_is_refused(body: bytes, path: str, problem: str) -> None:
    error = await refused(body)
    assert [where for where, _ in error.details] == [path]
    assert problem in error.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        form(a_file())[:-10],
        form(a_file())[: len(PNG) // 2],
        form(*(part("type", b"image/png") for _ in range(17))),
        b"--B\r\n" + b"X: y\r\n" * 9 + b"\r\n\r\n--B--\r\n",
        b"--B\r\nX: " + b"y" * 9000,
    ],
)
async def test_what_is_no_whole_form_is_refused(body: bytes) -> None:
    await refused(body, BadForm)


async def test_too_large_a_file_is_refused_before_its_end() -> None:
    upload_form = UploadDesk(["1"]).open(TYPE)
    body = a_file(b"x" * (6 * 1024 * 1024))
    fed = 0
    with pytest.raises(InvalidRequest):
        for start in range(0, len(body), 1 << 16):
            await upload_form.feed(body[start : start + (1 << 16)])
            fed = start
    assert fed < 5 * 1024 * 1024 + (1 << 16)
    upload_form.close()


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("", UnsupportedMedia),
        ("application/json", UnsupportedMedia),
        ("multipart/form-data", BadForm),
        ("multipart/form-data; boundary=" + "x" * 300, BadForm),
    ],
)
def test_other_bodies_are_not_begun(content_type: str, kind: type[GatewayError]) -> None:
    desk = UploadDesk(["1"])
    with pytest.raises(kind):
        desk.open(content_type)
    assert desk.under_way == 0


def test_only_so_many_at_once() -> None:
    desk = UploadDesk(["1"])
    forms = [desk.open(TYPE) for _ in range(UPLOADS_AT_ONCE)]
    with pytest.raises(Busy):
        desk.open(TYPE)
    for one in forms:
        one.close()
        one.close()
    assert desk.under_way == 0
    desk.open(TYPE).close()


async def test_little_of_a_large_file_is_in_memory() -> None:
    desk = UploadDesk(["1"])
    upload, content = await taken(form(a_file(b"x" * (8 * 1024 * 1024), filename="a.pdf")), desk=desk)
    assert upload.size == len(content) == 8 * 1024 * 1024
    assert desk.most_buffered < 2 * 1024 * 1024


async def test_one_that_is_closed_is_read_no_further() -> None:
    upload_form: UploadForm = UploadDesk(["1"]).open(TYPE)
    await upload_form.feed(form(a_file()))
    upload = await upload_form.end()
    upload_form.close()
    with pytest.raises(OSError, match="broken off"):
        [chunk async for chunk in upload.read()]
