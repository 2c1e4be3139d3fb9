"""Types, sizes, ids, names and addresses of media."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.media_rules import (
    FILE_LIMIT,
    content_disposition,
    is_media_id,
    is_sha256,
    media_limit,
    media_type,
    plain_type,
    safe_name,
    size_fault,
    trust_of,
    type_fault,
)

MB = 1024 * 1024
BASE = "https://graph.facebook.com"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
STILL = b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x10\x00\x00\x00" + bytes(8)
MOVING = STILL[:20] + b"\x12" + STILL[21:]


@pytest.mark.parametrize(
    ("wanted", "of_part", "name", "type"),
    [
        ("image/png", "image/jpeg", "a.pdf", "image/png"),
        ("Audio/OGG; codecs=opus", "", "", "audio/ogg"),
        ("", "image/jpeg", "a.pdf", "image/jpeg"),
        ("", "application/octet-stream", "a.PDF", "application/pdf"),
        ("", "", "photo.jpeg", "image/jpeg"),
        ("", "", "voice.opus", "audio/ogg"),
        ("", "", "letter.docx", DOCX),
        ("", "no type", "a.txt", "text/plain"),
        ("", "", "a.exe", ""),
        ("", "", "", ""),
        ("rubbish", "image/png", "a.png", ""),
    ],
)
def test_the_type_is_the_one_asked_for_or_told(wanted: str, of_part: str, name: str, type: str) -> None:
    assert media_type(wanted, of_part, name) == type


@pytest.mark.parametrize("type", ["a/b\r\nX: y", "image/", "/png", "image", "image/png/x", "imáge/png", ""])
def test_what_is_no_type_is_none(type: str) -> None:
    assert plain_type(type) == ""


@pytest.mark.parametrize(
    ("type", "limit"),
    [
        ("audio/aac", 16 * MB),
        ("audio/ogg", 16 * MB),
        ("image/jpeg", 5 * MB),
        ("image/png", 5 * MB),
        ("image/webp", 500 * 1024),
        ("video/mp4", 16 * MB),
        ("video/3gpp", 16 * MB),
        ("text/plain", 100 * MB),
        ("application/pdf", 100 * MB),
        (DOCX, 100 * MB),
        ("application/zip", 100 * MB),
    ],
)
def test_each_type_has_its_limit(type: str, limit: int) -> None:
    assert type_fault(type) is None
    assert media_limit(type) == limit <= FILE_LIMIT
    assert size_fault(type, limit) is None
    fault = size_fault(type, limit + 1)
    assert fault is not None and fault.path == "file" and str(limit) in fault.problem


@pytest.mark.parametrize(
    ("type", "names"),
    [
        ("image/gif", "image/jpeg, image/png, image/webp"),
        ("video/webm", "video/mp4, video/3gpp"),
        ("audio/wav", "audio/mpeg"),
        ("text/html", "text/plain"),
        ("application/octet-stream", "application/pdf"),
        ("font/woff", "audio/aac"),
        ("", "is required"),
    ],
)
def test_other_types_are_refused_with_those_that_are_taken(type: str, names: str) -> None:
    fault = type_fault(type)
    assert fault is not None and fault.path == "type" and names in fault.problem


@pytest.mark.parametrize(("head", "limit"), [(STILL, 100), (MOVING, 500), (b"RIFF", 100), (b"", 100)])
def test_a_sticker_that_moves_may_be_larger(head: bytes, limit: int) -> None:
    assert media_limit("image/webp", head) == limit * 1024


def test_a_digest_is_told_in_hex_or_base64() -> None:
    digest = hashlib.sha256(b"x").digest()
    told = base64.b64encode(digest).decode()
    for form in (digest.hex(), digest.hex().upper(), told, told.rstrip("=")):
        assert is_sha256(digest, form)
    for form in ("", "x", "é", hashlib.sha256(b"y").hexdigest(), told[:-2]):
        assert not is_sha256(digest, form)


@pytest.mark.parametrize(
    ("id", "is_one"),
    [
        ("900000000000001", True),
        ("a_B-9", True),
        ("", False),
        (".", False),
        ("..", False),
        ("../etc/passwd", False),
        ("a/b", False),
        ("a.want", False),
        ("1\n", False),
        ("1\0", False),
        ("\u0661", False),
        ("9" * 129, False),
    ],
)
def test_only_what_is_safe_in_a_path_is_an_id(id: str, is_one: bool) -> None:
    assert is_media_id(id) is is_one


@given(st.text(max_size=400), st.sampled_from(["image/png", "x/y", ""]))
def test_a_name_is_always_safe(name: str, type: str) -> None:
    safe = safe_name(name, "9", type)
    assert 0 < len(safe) <= 150
    assert not set(safe) & set('\r\n\0/\\"<>|:*?')
    assert not safe.startswith(".")
    header = content_disposition(safe)
    assert header.isascii() and header.isprintable()
    assert header.startswith('attachment; filename="') and header.count('"') == 2


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "9.png"),
        ("", "9.png"),
        ("a" * 200 + ".pdf", "a" * 139 + ".pdf"),
        ("evil\u202egnp.exe", "evil_gnp.exe"),
    ],
)
def test_names_are_kept_as_far_as_they_are_safe(name: str, safe: str) -> None:
    assert safe_name(name, "9", "image/png") == safe


def test_a_name_beyond_ascii_is_told_twice() -> None:
    assert content_disposition("año.pdf") == (
        "attachment; filename=\"a_o.pdf\"; filename*=UTF-8''a%C3%B1o.pdf"
    )


@pytest.mark.parametrize(
    ("url", "base", "trust"),
    [
        ("https://lookaside.fbsbx.com/x?y=1", BASE, "token"),
        ("https://graph.facebook.com/x", BASE, "token"),
        ("https://cdn.example.com/x", BASE, "bare"),
        ("https://fbsbx.com.example.com/x", BASE, "bare"),
        ("https://notfacebook.com/x", BASE, "bare"),
        ("http://lookaside.fbsbx.com/x", BASE, "no"),
        ("http://127.0.0.1:5190/media/1", "http://127.0.0.1:5190", "token"),
        ("http://127.0.0.1:5191/media/1", "http://127.0.0.1:5190", "no"),
        ("ftp://graph.facebook.com/x", BASE, "no"),
        ("file:///etc/passwd", BASE, "no"),
        ("https://user@lookaside.fbsbx.com/x", BASE, "no"),
        ("https://[bad", BASE, "no"),
        ("https://graph.facebook.com:99999/x", BASE, "no"),
        ("", BASE, "no"),
    ],
)
def test_the_token_goes_to_meta_alone(url: str, base: str, trust: str) -> None:
    assert trust_of(url, base) == trust
