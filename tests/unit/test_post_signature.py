"""The signature on what is posted to other programs."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from whatsapp.post_signature import SIGNATURE, TIMESTAMP, signed_headers

NOW = 1_795_524_415_999


def test_time_and_body_are_signed_together() -> None:
    expected = hmac.new(b"secret", b'1795524415.{"a":1}', hashlib.sha256).hexdigest()
    assert signed_headers("secret", b'{"a":1}', NOW) == {
        TIMESTAMP: "1795524415",
        SIGNATURE: f"sha256={expected}",
    }


def test_without_a_secret_nothing_is_signed() -> None:
    assert signed_headers("", b"{}", NOW) == {}


@given(st.binary(), st.binary(), st.integers(0, 2**45), st.integers(0, 2**45))
def test_another_body_or_second_has_another_signature(
    body: bytes, other: bytes, now: int, later: int
) -> None:
    signature = signed_headers("secret", body, now)[SIGNATURE]
    assert (signed_headers("secret", other, now)[SIGNATURE] == signature) == (body == other)
    assert (signed_headers("secret", body, later)[SIGNATURE] == signature) == (now // 1000 == later // 1000)
    assert signed_headers("another", body, now)[SIGNATURE] != signature
