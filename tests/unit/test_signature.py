"""The signature on webhooks, by the vectors of CLOUD_API.md 10."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.signature import HEADER, is_signed, sign

SECRET = "test_app_secret"
EMPTY = b'{"object":"whatsapp_business_account","entry":[]}'
ESCAPED = rb'{"text":{"body":"caf\u00e9 \ud83d\ude00"}}'
ENCODED_ANEW = '{"text":{"body":"café 😀"}}'.encode()
VECTORS = [
    (EMPTY, "sha256=dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756"),
    (ESCAPED, "sha256=b107fcf3b01875386e42f831c79d8aba81d4b0ebc4422fae7226bfdfe3b7726b"),
    (ENCODED_ANEW, "sha256=faeca3e8bb4c5f3fe50af29aa8fefcf6ce1e19cfdbed36f9e38a6a99f9b9c195"),
]
SIGNED = VECTORS[0][1]


@pytest.mark.parametrize(("body", "header"), VECTORS)
def test_vectors(body: bytes, header: str) -> None:
    assert sign(SECRET, body) == header
    assert is_signed([SECRET], body, header)


def test_the_header_is_the_one_of_sha256() -> None:
    assert HEADER == "X-Hub-Signature-256"


def test_a_body_encoded_anew_is_not_the_one_that_was_signed() -> None:
    assert not is_signed([SECRET], ENCODED_ANEW, sign(SECRET, ESCAPED))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param("sha256=", id="nothing but its prefix"),
        pytest.param(SIGNED.removeprefix("sha256="), id="without prefix"),
        pytest.param(SIGNED.replace("sha256", "sha1"), id="another hash"),
        pytest.param(SIGNED.upper(), id="capitals"),
        pytest.param(f"{SIGNED} ", id="a space behind it"),
        pytest.param(f" {SIGNED}", id="a space before it"),
        pytest.param(f"{SIGNED}0", id="longer"),
        pytest.param(SIGNED[:-1], id="shorter"),
        pytest.param(f"{SIGNED[:-1]}{'0' if SIGNED[-1] != '0' else '1'}", id="one digit off"),
        pytest.param(f"{SIGNED}, {SIGNED}", id="twice"),
        pytest.param("sha256=é", id="not ASCII"),
        pytest.param("sha256=\udce9", id="bytes that are not UTF-8"),
    ],
)
def test_any_other_header_proves_nothing(header: str | None) -> None:
    assert not is_signed([SECRET], EMPTY, header)


def test_while_one_secret_replaces_the_other_both_count() -> None:
    for secret in ("new", "old"):
        assert is_signed(["new", "old"], EMPTY, sign(secret, EMPTY))
    assert not is_signed(["new", "old"], EMPTY, sign("older", EMPTY))


def test_without_a_secret_nothing_is_signed() -> None:
    assert not is_signed([], EMPTY, SIGNED)


@given(st.text(min_size=1), st.binary())
def test_what_is_signed_is_recognised(secret: str, body: bytes) -> None:
    assert is_signed([secret], body, sign(secret, body))


@given(st.binary(), st.binary())
def test_no_other_body_is(body: bytes, other: bytes) -> None:
    assert is_signed([SECRET], other, sign(SECRET, body)) == (body == other)


@given(st.text() | st.text().map("sha256={}".format))
def test_no_header_raises(header: str) -> None:
    assert is_signed([SECRET], EMPTY, header) == (header == SIGNED)
