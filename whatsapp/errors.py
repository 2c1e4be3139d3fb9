"""Meta's errors: reading them, and deciding what they mean for the message.

Owns :class:`GraphError` (what was said, by Meta or by something on the way to it) and :func:`classify`, the
one classifier for answers and for ``failed`` statuses alike. What each code means is in ``error_table.py``;
whether and when an attempt is repeated is decided by ``retry.py``. Nothing here raises: an answer that makes
no sense is a value too.

Decisions go by the code, never by the HTTP status, as long as there is a code (CLOUD_API.md 1.2,
CLOUD_API_2026.md 12.1). Without Meta's error object the status is all there is, and its verdicts bear
names of their own (``http_404``), with 0 for a code, so that they are never taken for Meta's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import msgspec

from whatsapp.error_policy import Action, ErrorPolicy, Scope, brake, fail, park, retry
from whatsapp.error_table import TABLE, policy_of

__all__ = [
    "ERROR_NAMES",
    "GraphError",
    "Outcome",
    "Verdict",
    "classify",
    "error_object",
    "error_of_status",
    "is_error_name",
    "meta_object",
    "parse_error",
    "parse_status_error",
    "parse_status_errors",
    "retry_after",
]

_MAX_TEXT = 1_000
_MAX_PAGE_TEXT = 200
_MAX_RETRY_AFTER_S = 86_400.0
_MAX_CODE = 2**53
_APP_LIMIT_S = 60.0

ERROR_NAMES: tuple[str, ...] = (
    *dict.fromkeys(policy.name for policy in TABLE),
    *("unlisted_transient", "unlisted_access", "unlisted_limit", "unlisted_refusal"),
    *("no_reason", "no_answer", "no_message_id"),
)
"""What a verdict may be named, beside ``http_`` and a status."""
_FOREIGN_NAME = re.compile(r"http_[0-9]{3}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_CODE_PREFIX = re.compile(r"^\(#[0-9]+\)\s*")
_TAG = re.compile(r"<[^<>]*>")


class GraphError(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or a status's reason, that says that a message did not go."""

    code: int = 0
    """Meta's code; 0 where none was given, which is a code of Meta's too: see ``from_graph``."""
    http_status: int = 0
    """0 for a status, and for a call that got no answer at all."""
    subcode: int = 0
    """0 where none was given."""
    title: str = ""
    """Short, for people."""
    message: str = ""
    """As it came; of a page that is not Meta's error, the beginning of its text."""
    details: str = ""
    """What exactly is wrong, where Meta says so."""
    fbtrace_id: str = ""
    """What Meta's support asks for."""
    is_transient: bool = False
    retry_after_s: float = 0.0
    """From the header Retry-After, at most a day; 0 where there is none."""
    regain_s: float = 0.0
    """From X-Business-Use-Case-Usage: seconds until the app may call again, at most a day; 0 where it may."""
    from_graph: bool = False
    """Whether it really is an error object of Meta's, with a code; not a proxy's page or an empty body."""
    by_webhook: bool = False
    """Whether it came in a status: then there is no doubt that the message failed."""


class Outcome(StrEnum):
    """What becomes of the message: the actions of the table, and the case in which nobody knows."""

    RETRY = "retry"
    FAIL = "fail"
    PARK = "park"
    UNKNOWN = "unknown"
    """Meta may have taken it: neither retried nor failed until a status or the grace settles it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an error means for the message and what is around it."""

    outcome: Outcome
    scope: Scope
    """What else is held up, slowed or stopped."""
    burn: bool
    """Whether the attempt counts against the limit."""
    doubt: bool
    """Whether the message may have gone out all the same."""
    delay_s: float
    """The least time until another try, by the table or by Meta's headers; 0: backoff alone decides."""
    max_tries: int
    """Attempts that may be made at most; 0: the general limit."""
    code: int
    """Meta's code; 0 as well where there was none, but then ``name`` begins with ``http_`` or ``no_``."""
    name: str
    """A stable machine word."""
    operator: str
    """One sentence to the operator: what happened, and what to do."""


def parse_error(http_status: int, body: bytes, headers: Mapping[str, str], now: int = 0) -> GraphError:
    """What an answer other than an accepted message says (CLOUD_API.md 1.2, CLOUD_API_2026.md 12.1).

    Takes ``error_data`` as object or text, numbers as text, pages of proxies, and anything missing. Names
    of headers in any case. ``now`` is the time in milliseconds since 1970, needed for a Retry-After that
    is a date; 0: such a one is not heeded.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    answer = _decode(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    fields: dict[str, Any] = _fields(error) if isinstance(error, dict) else {"message": _page_text(body)}
    if not fields.get("fbtrace_id"):
        fields["fbtrace_id"] = _text(lower.get("x-fb-trace-id"))
    if not fields.get("title"):
        fields["title"] = f"HTTP {http_status}"
    return GraphError(
        http_status=http_status,
        retry_after_s=retry_after(lower.get("retry-after", ""), now),
        regain_s=_regain(lower.get("x-business-use-case-usage", "")),
        **fields,
    )


def parse_status_error(obj: object) -> GraphError:
    """What ``errors[0]`` of a webhook's status or message says (CLOUD_API.md 4.4, 4.6).

    Takes the old form, with ``details`` beside the title, and the new. What is no object, or has no code,
    gives an error that is not ``from_graph``.
    """
    fields = _fields(obj) if isinstance(obj, dict) else {}
    return GraphError(by_webhook=True, **fields)


def parse_status_errors(errors: object) -> GraphError:
    """What the ``errors`` of a webhook's status say: the first counts. Takes whatever stands there."""
    return parse_status_error(errors[0] if isinstance(errors, list) and errors else None)


def error_of_status(errors: object) -> dict[str, Any]:
    """:func:`error_object` of a failed status, whose ``errors`` these are."""
    error = parse_status_errors(errors)
    return error_object(error, classify(error))


def meta_object(error: GraphError) -> dict[str, Any]:
    """The ``meta`` object of answers, events and stored rows (contract.md): ready to be encoded.

    ``{code, subcode, title, details, fbtrace_id}``: ``code`` is None for an error that is not Meta's,
    ``subcode`` where there is none; ``details`` falls back on the message.
    """
    return {
        "code": error.code if error.from_graph else None,
        "subcode": error.subcode or None,
        "title": error.title,
        "details": error.details or error.message,
        "fbtrace_id": error.fbtrace_id,
    }


def error_object(error: GraphError, verdict: Verdict) -> dict[str, Any]:
    """The ``error`` of events and rows (docs/events.md): :func:`meta_object`, the verdict's ``name``, and as
    ``advice`` its sentence to the operator."""
    return {**meta_object(error), "name": verdict.name, "advice": verdict.operator}


def classify(error: GraphError) -> Verdict:
    """What to do: by the table, for other codes by the default rule, without a code by the status."""
    if not error.from_graph:
        return _classify_foreign(error)
    policy = policy_of(error.code) or _default_policy(error)
    if error.is_transient and policy.action is Action.PARK:
        policy = msgspec.structs.replace(policy, action=Action.RETRY, scope=Scope.ROW, burn=True)
    return _verdict(error, policy)


def is_error_name(name: str) -> bool:
    """Whether a verdict may be named so."""
    return name in ERROR_NAMES or _FOREIGN_NAME.fullmatch(name) is not None


def _verdict(error: GraphError, policy: ErrorPolicy) -> Verdict:
    """A line of the table, applied to the answer at hand."""
    delay_s = 0.0
    doubt = False
    if policy.action is Action.RETRY:
        delay_s = max(policy.first_delay_s, error.retry_after_s)
        if policy.scope in (Scope.APP, Scope.ACCOUNT):
            delay_s = max(delay_s, error.regain_s)
        # A brake is a clear refusal; any other failure inside Meta may have come after the message was taken.
        may_have_gone = policy.doubt or (error.http_status >= 500 and policy.scope is Scope.ROW)
        doubt = may_have_gone and not error.by_webhook
    return Verdict(
        outcome=Outcome(policy.action.value),
        scope=policy.scope,
        burn=policy.burn,
        doubt=doubt,
        delay_s=delay_s,
        max_tries=policy.max_tries,
        code=error.code,
        name=policy.name,
        operator=policy.operator,
    )


def _default_policy(error: GraphError) -> ErrorPolicy:
    """The line for a code that the table does not know (CLOUD_API.md 2, default rule)."""
    code, status = error.code, error.http_status
    if status >= 500 or error.is_transient:
        text = f"Meta failed with code {code}, which looks temporary: it is tried again by itself."
        return retry(code, "unlisted_transient", text)
    if status in (401, 403):
        text = f"Meta denies access with code {code}: check the token and its permissions."
        return park(code, "unlisted_access", text)
    if status == 429:
        text = f"Meta reports too many calls with code {code}: all numbers of the app wait."
        return brake(code, "unlisted_limit", text, scope=Scope.APP, after_s=_APP_LIMIT_S)
    text = f"Meta refuses the message with code {code}: read its details and correct the message."
    return fail(code, "unlisted_refusal", text)


def _classify_foreign(error: GraphError) -> Verdict:
    """An answer without Meta's error object: a proxy's page, an empty body, or no answer at all."""
    policy = _foreign_refusal(error)
    if policy is not None:
        return _verdict(error, policy)
    name, what = _foreign_doubt(error.http_status)
    return Verdict(
        outcome=Outcome.UNKNOWN,
        scope=Scope.ROW,
        burn=True,
        doubt=True,
        delay_s=error.retry_after_s,
        max_tries=0,
        code=0,
        name=name,
        operator=f"{what}: a status of Meta's settles whether the message went out, or else the grace.",
    )


def _foreign_refusal(error: GraphError) -> ErrorPolicy | None:
    """What is to be done where it is clear that the message did not go; None where that is not clear.

    401, 403 and 407 park the number: what stands between us and Meta lets nothing through, and would go on
    to refuse the whole queue. 408 and 425 say that the request was not read in time or in full; who says so
    knows nothing of what Meta did.
    """
    status = error.http_status
    name = f"http_{status}"
    if error.by_webhook:
        text = "Meta reports that the message failed, without a reason: send it anew if it is still wanted."
        return fail(0, "no_reason", text)
    if status in (401, 403, 407):
        text = f"Something before Meta refuses access with HTTP {status}: check proxy, firewall and BASE_URL."
        return park(0, name, text)
    if status == 429:
        text = "Something before Meta reports too many calls: all numbers wait; check the proxy's limits."
        return brake(0, name, text, scope=Scope.APP, after_s=_APP_LIMIT_S)
    if 400 <= status < 500 and status not in (408, 425):
        text = f"Something before Meta refuses with HTTP {status}: check BASE_URL, VERSION and the proxy."
        return fail(0, name, text)
    return None


def _foreign_doubt(status: int) -> tuple[str, str]:
    """Name and description of an answer, or its absence, that leaves open what became of the message."""
    if status == 0:
        return "no_answer", "The call ended without an answer"
    if 200 <= status < 300:
        return "no_message_id", "Meta's answer names no message id"
    return f"http_{status}", f"HTTP {status} came without an error of Meta's"


def _fields(error: dict[Any, Any]) -> dict[str, Any]:
    """The parts of an error object that answers and webhooks share. Without a code it is not Meta's."""
    code = _integer(error.get("code"))
    message = _text(error.get("message"))
    title = _text(error.get("error_user_title")) or _text(error.get("title")) or _CODE_PREFIX.sub("", message)
    return {
        "code": code or 0,
        "from_graph": code is not None,
        "subcode": _integer(error.get("error_subcode")) or 0,
        "title": title,
        "message": message,
        "details": _details(error),
        "fbtrace_id": _text(error.get("fbtrace_id")),
        "is_transient": error.get("is_transient") in (True, "true"),
    }


def _details(error: dict[Any, Any]) -> str:
    data = error.get("error_data")
    found = data.get("details") if isinstance(data, dict) else data
    return _text(found) or _text(error.get("details")) or _text(error.get("error_user_msg"))


def _decode(body: bytes | str) -> Any:
    """The JSON in it, or None."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _integer(value: object) -> int | None:
    """A code, given as number or text; None for anything that cannot be one."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_CODE:
        return value
    return None


def _text(value: object) -> str:
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def _page_text(body: bytes) -> str:
    """The beginning of what a page says, without its tags."""
    text = _TAG.sub(" ", body[: 20 * _MAX_PAGE_TEXT].decode("utf-8", "replace"))
    return " ".join(text.split())[:_MAX_PAGE_TEXT]


def retry_after(value: str, now: int) -> float:
    """Seconds to wait by the header Retry-After, which gives seconds or a date; at most a day. ``now``:
    milliseconds since 1970; 0: not known, and a date says nothing."""
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), _MAX_RETRY_AFTER_S)
    if not value or not now:
        return 0.0
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return min(max(0.0, date.timestamp() - now / 1000), _MAX_RETRY_AFTER_S)
    except (ValueError, OverflowError):
        return 0.0


def _regain(value: str) -> float:
    """The longest ``estimated_time_to_regain_access`` of the header, which is in minutes (CLOUD_API.md 2)."""
    usage = _decode(value) if value else None
    longest = 0.0
    for entries in usage.values() if isinstance(usage, dict) else ():
        for entry in entries if isinstance(entries, list) else ():
            minutes = entry.get("estimated_time_to_regain_access") if isinstance(entry, dict) else None
            if isinstance(minutes, int | float) and not isinstance(minutes, bool):
                longest = max(longest, min(minutes, _MAX_RETRY_AFTER_S / 60.0) * 60.0)
    return longest
