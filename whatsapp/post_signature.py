"""The signature on what the gateway posts to other programs: HMAC-SHA256 of a time and the raw body.

Pure. What is signed is ``<timestamp>.<body>``, so that neither can be changed, and a receiver that looks at
the time takes nothing that somebody has kept and sends again.
"""

from __future__ import annotations

from whatsapp.signature import sign

__all__ = ["SIGNATURE", "TIMESTAMP", "signed_headers"]

TIMESTAMP = "X-Gateway-Timestamp"
SIGNATURE = "X-Gateway-Signature"


def signed_headers(secret: str, body: bytes, now: int) -> dict[str, str]:
    """The two headers for this body. ``now``: milliseconds since 1970; it is told in seconds.

    None without a secret.
    """
    if not secret:
        return {}
    timestamp = str(now // 1000)
    return {TIMESTAMP: timestamp, SIGNATURE: sign(secret, b"%s.%s" % (timestamp.encode(), body))}
