"""What Meta takes of media, and what is safe of what others name: types, sizes, ids, names, addresses.

Pure. The table is that of CLOUD_API.md 5. Which of them a message may carry is the business of
``payloads_basic.py``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import quote, urlsplit

__all__ = [
    "FILE_LIMIT",
    "SNIFF",
    "Fault",
    "content_disposition",
    "is_media_id",
    "is_sha256",
    "media_limit",
    "media_type",
    "plain_type",
    "safe_name",
    "size_fault",
    "trust_of",
    "type_fault",
]

_KB = 1024
_MB = 1024 * _KB
FILE_LIMIT = 100 * _MB
"""Of a document, the largest file that there is, in and out."""
SNIFF = 32
"""So many bytes from the beginning tell whether a sticker moves."""

_OFFICE = "application/vnd.openxmlformats-officedocument"
_EXTENSIONS: Mapping[str, str] = {
    "audio/aac": "aac",
    "audio/amr": "amr",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/ogg": "ogg",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/3gpp": "3gp",
    "text/plain": "txt",
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    f"{_OFFICE}.wordprocessingml.document": "docx",
    f"{_OFFICE}.spreadsheetml.sheet": "xlsx",
    f"{_OFFICE}.presentationml.presentation": "pptx",
}
_BY_EXTENSION: Mapping[str, str] = {
    **{extension: type for type, extension in _EXTENSIONS.items()},
    "jpeg": "image/jpeg",
    "opus": "audio/ogg",
}
_LIMITS: Mapping[str, int] = {"audio": 16 * _MB, "image": 5 * _MB, "video": 16 * _MB}
_STICKER, _MOVING_STICKER = 100 * _KB, 500 * _KB
_NO_TYPE = "application/octet-stream"
"""What programs say that do not know the type."""

_MEDIA_ID = re.compile(r"[0-9A-Za-z_-]{1,128}", re.ASCII)
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}", re.ASCII)
_NOT_IN_A_NAME = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|\u202a-\u202e\u2066-\u2069]")
_NAME_LIMIT = 150
_META = ("facebook.com", "fbsbx.com")


class Fault(NamedTuple):
    """What is wrong with a file, and the field of the form that it concerns."""

    path: str
    problem: str


# -- types and sizes ---------------------------------------------------------------------------------------


def plain_type(value: str) -> str:
    """A mime type without its parameters, in lower case; empty for what is none."""
    plain = value.partition(";")[0].strip().lower()
    return plain if _TYPE.fullmatch(plain) else ""


def media_type(wanted: str, of_part: str, name: str) -> str:
    """The type of an upload: the one asked for, else that of the form's part, else that of the file's name.

    Empty where nothing tells. Parameters (``codecs=opus``) are left away.
    """
    if wanted:
        return plain_type(wanted)
    told = plain_type(of_part)
    if told and told != _NO_TYPE:
        return told
    return _BY_EXTENSION.get(name.rpartition(".")[2].lower(), "")


def type_fault(type: str) -> Fault | None:
    """Why Meta would not take this type; None where it would.

    Beyond the table any ``application/`` type is passed on as a document: Meta's word decides of those.
    """
    if not type:
        return Fault(
            "type", "is required: neither the part's Content-Type nor the file's name tells the type"
        )
    if type in _EXTENSIONS or (type.startswith("application/") and type != _NO_TYPE):
        return None
    kind = type.partition("/")[0]
    same = [known for known in _EXTENSIONS if known.startswith(f"{kind}/")]
    return Fault("type", f"{type} is not taken by Meta, only {', '.join(same or _EXTENSIONS)}")


def media_limit(type: str, head: bytes | None = None) -> int:
    """Bytes that a file of this type may have. ``head``: its first :data:`SNIFF` bytes, where they are known:
    a sticker that does not move may have less."""
    if type == "image/webp":
        return _MOVING_STICKER if head is None or _moves(head) else _STICKER
    return _LIMITS.get(type.partition("/")[0], FILE_LIMIT)


def size_fault(type: str, size: int, head: bytes | None = None) -> Fault | None:
    """Why Meta would not take a file of this size; ``size`` may be a part of it so far."""
    limit = media_limit(type, head)
    if size > limit:
        what = "a sticker that does not move" if limit == _STICKER else type
        return Fault("file", f"must have at most {limit} bytes as {what}")
    return None


def _moves(head: bytes) -> bool:
    """Whether a WebP file is an animation: a flag in its extended header (RFC 9649, 2.7)."""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 0x02)


def is_sha256(digest: bytes, told: str) -> bool:
    """Whether a digest is the one that Meta tells, in hex or base64 (CLOUD_API.md 5)."""
    if told.lower() == digest.hex():
        return True
    try:
        return base64.b64decode(told + "=" * (-len(told) % 4), validate=True) == digest
    except (binascii.Error, ValueError):
        return False


# -- ids, names, addresses ---------------------------------------------------------------------------------


def is_media_id(text: str) -> bool:
    """Whether this may be an id of Meta's: then it is also safe as a file's name and in a path."""
    return _MEDIA_ID.fullmatch(text) is not None


def safe_name(name: str, media_id: str, type: str) -> str:
    """A file's name to offer whoever saves it: without folders, controls and tricks of direction.

    Where there is none it is the id, with the usual ending of its type.
    """
    kept = _NOT_IN_A_NAME.sub("_", name).strip(" .")
    if len(kept) > _NAME_LIMIT:
        stem, dot, ending = kept.rpartition(".")
        kept = f"{stem[: _NAME_LIMIT - 11]}.{ending}" if dot and len(ending) <= 10 else kept[:_NAME_LIMIT]
    if kept:
        return kept
    ending = _EXTENSIONS.get(plain_type(type), "")
    return f"{media_id}.{ending}" if ending else media_id


def content_disposition(name: str) -> str:
    """The header that has a browser save, never show, what a customer sent (RFC 6266)."""
    plain = re.sub(r"[^ -~]|[\"\\%]", "_", name)
    header = f'attachment; filename="{plain}"'
    if plain == name:
        return header
    return f"{header}; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"


def trust_of(url: str, base_url: str) -> Literal["token", "bare", "no"]:
    """How a file's address may be called: with the access token, without, or not at all.

    The token goes to Meta's hosts (CLOUD_API.md 5) and to ``base_url``'s own. Anything but https is called
    only there, which is how the sandbox has it.
    """
    try:
        there, ours = urlsplit(url), urlsplit(base_url)
        same = (there.scheme, there.hostname, there.port) == (ours.scheme, ours.hostname, ours.port)
    except ValueError:
        return "no"
    host = there.hostname or ""
    if there.scheme not in ("https", "http") or not host or there.username is not None:
        return "no"
    if same:
        return "token"
    if there.scheme != "https":
        return "no"
    return "token" if any(host == known or host.endswith(f".{known}") for known in _META) else "bare"
