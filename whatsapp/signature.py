"""The signature on Meta's webhooks: HMAC-SHA256 of the raw body, keyed with the app secret (CLOUD_API.md 4.2,
10).

Pure. The bytes must be those received: Meta signs its own escaped form, and any re-encoding changes them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

__all__ = ["HEADER", "is_signed", "sign"]

HEADER = "X-Hub-Signature-256"
_PREFIX = "sha256="


def sign(secret: str, body: bytes) -> str:
    """The value of the header for this body."""
    return _PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_signed(secrets: Sequence[str], body: bytes, header: str | None) -> bool:
    """Whether the header proves one of the secrets (two are valid while one replaces the other).

    False too for a missing header or one that is not ASCII. Takes the same time for every wrong value.
    """
    if header is None or not header.startswith(_PREFIX):
        return False
    given = header.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(sign(secret, body).encode(), given) for secret in secrets]
    return any(matches)
