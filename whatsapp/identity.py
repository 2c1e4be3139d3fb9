"""Addresses of people: phone numbers, user ids (BSUID), and how callers write them.

Pure. A user id is ``CC.`` and 1 to 128 letters or digits, kept as it stands (CLOUD_API_2026.md 2.1); a phone
is international digits, at most 15 of them (E.164), and goes to Meta with its ``+`` (CLOUD_API.md 1.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

__all__ = ["Address", "parse_address"]

_PHONE_DRESSING = re.compile(r"[+\s\-().\u00a0\u202a-\u202e\u2066-\u2069]")
_PHONE = re.compile(r"[1-9][0-9]{6,14}")
_USER_ID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")


class Address(msgspec.Struct, frozen=True, gc=False):
    """What is known of how to reach someone; either part may be empty, as in webhooks since 2026.

    Not a named tuple: the garbage collector walks each of those, and a request may bring a hundred thousand.
    """

    phone: str = ""
    """Digits without ``+``."""
    user_id: str = ""

    def __iter__(self) -> Iterator[str]:
        """Both parts, the phone first."""
        return iter((self.phone, self.user_id))

    def __bool__(self) -> bool:
        return bool(self.phone or self.user_id)


def parse_address(text: str | int) -> Address | None:
    """What a caller gave as recipient: a phone in any usual spelling, or a user id; None if it is neither."""
    if isinstance(text, int):
        # The sign of a number is no dash of a phone's spelling.
        text = str(text) if text >= 0 else ""
    text = text.strip()
    if _USER_ID.fullmatch(text):
        return Address(user_id=text)
    digits = _PHONE_DRESSING.sub("", text)
    if _PHONE.fullmatch(digits):
        return Address(phone=digits)
    return None
