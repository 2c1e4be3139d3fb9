"""What the sandbox decides as Meta would: which send is refused and how, and how many are too many.

Pure: time and randomness are arguments. Owns the table of error codes that the sandbox can answer, the checks
of a send's essentials, and the rates. What goes wrong on demand is in ``sandbox_faults.py``, the shapes of
webhooks are in ``sandbox_payloads.py``; ``sandbox_account.py`` applies these rules.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import msgspec

from store.errors import GatewayError
from whatsapp.identity import parse_address

__all__ = [
    "ERRORS",
    "PairRate",
    "Refused",
    "SandboxError",
    "Send",
    "Throughput",
    "check_send",
    "retry_delay",
    "tour_refusal",
    "unknown_object",
]

ERRORS: dict[int, tuple[int, str]] = {
    0: (401, "Authentication failed"),
    2: (503, "Service is down"),
    4: (400, "Application call limit reached"),
    10: (403, "Permission is missing"),
    33: (400, "Unknown phone number id"),
    100: (400, "Invalid parameter"),
    190: (401, "Access token is not valid"),
    368: (403, "Account restricted for policy reasons"),
    80007: (400, "Account call limit reached"),
    130403: (400, "The business has blocked this user"),
    130429: (400, "Rate limit hit"),
    130472: (400, "User is part of an experiment"),
    130497: (403, "Business may not message this country"),
    131000: (500, "Something went wrong"),
    131005: (403, "Access denied"),
    131008: (400, "Required parameter is missing"),
    131009: (400, "Parameter value is not valid"),
    131016: (500, "Service temporarily unavailable"),
    131021: (400, "Recipient and sender are the same"),
    131026: (400, "Message undeliverable"),
    131031: (403, "Account is locked"),
    131042: (400, "Payment problem"),
    131045: (500, "Number registration error"),
    131047: (400, "Customer service window is closed"),
    131048: (400, "Spam rate limit hit"),
    131049: (400, "Not delivered, for the health of the ecosystem"),
    131050: (400, "User has stopped marketing messages"),
    131051: (400, "Unsupported message type"),
    131053: (400, "Media could not be used"),
    131056: (400, "Pair rate limit hit"),
    131057: (500, "Account is in maintenance"),
    131062: (400, "Recipient must be a phone number"),
    132000: (400, "Number of template parameters does not match"),
    132001: (404, "Template does not exist in this language"),
    132005: (400, "Filled template text is too long"),
    132007: (400, "Template content violates a policy"),
    132012: (400, "Template parameter has another format"),
    132015: (400, "Template is paused"),
    132016: (400, "Template is disabled"),
    133004: (503, "Server unavailable"),
    133010: (400, "Phone number is not registered"),
    137000: (400, "Identity key of the recipient differs"),
}
"""HTTP status and title of each code (CLOUD_API.md 2). The titles are ours: Meta's are not stable, and no
client may decide on them."""

_OTHER = (400, "Refused")
_HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"


class SandboxError(GatewayError):
    """The sandbox itself was asked for something it does not do; not an answer of Meta's."""

    code = "sandbox"

    @classmethod
    def at(cls, path: str, problem: str) -> SandboxError:
        """What is wrong with a field."""
        return cls(f"{path}: {problem}", [(path, problem)])


class Refused(GatewayError):
    """What Meta answers instead of doing what was asked (CLOUD_API.md 1.2, 2)."""

    code = "refused"

    def __init__(
        self,
        number: int,
        problem: str = "",
        *,
        http: int = 0,
        title: str = "",
        subcode: int = 0,
        kind: str = "OAuthException",
    ) -> None:
        status, words = ERRORS.get(number, _OTHER)
        self.number = number
        self.problem = problem
        self.http = http or status
        self.title = title or words
        self._subcode = subcode
        self._kind = kind
        super().__init__(f"(#{number}) {self.title}")

    def body(self, trace: str) -> dict[str, Any]:
        """The JSON object of an HTTP answer; ``trace`` becomes ``fbtrace_id``."""
        error: dict[str, Any] = {"message": self.message, "type": self._kind, "code": self.number}
        if self.problem:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.problem}
        if self._subcode:
            error["error_subcode"] = self._subcode
        error["fbtrace_id"] = trace
        return {"error": error}

    def in_status(self) -> dict[str, Any]:
        """The same as one of ``statuses[].errors`` (CLOUD_API.md 4.6)."""
        return {
            "code": self.number,
            "title": self.title,
            "message": self.title,
            "error_data": {"details": self.problem or self.title},
            "href": _HREF,
        }


def unknown_object(id: str) -> Refused:
    """What Graph answers for an id that it does not know or will not show."""
    problem = f"Object {id!r} does not exist, or may not be used with this token."
    return Refused(100, problem, title="Unsupported request", subcode=33, kind="GraphMethodException")


# -- sends -------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True, gc=False):
    """The essentials of a send that Meta would take.

    Exactly one of phone, user_id and group says where it goes, except that a user id may come beside a phone.
    """

    input: str
    """The recipient as the caller wrote it."""
    phone: str
    """Digits, as dialled."""
    user_id: str
    group: str
    type: str
    callback: str | None


_MEDIA = frozenset({"image", "video", "audio", "document", "sticker"})

_REQUIRED: dict[str, tuple[str, ...]] = {
    "text": ("body",),
    "image": (),
    "video": (),
    "audio": (),
    "document": (),
    "sticker": (),
    "reaction": ("message_id",),
    "location": ("latitude", "longitude"),
    "contacts": (),
    "interactive": ("type", "action"),
    "template": ("name", "language"),
    "pin": ("message_id",),
}
"""Types that can be sent, with what their object cannot do without (CLOUD_API.md 1.3)."""

_TEXT_LIMIT = 4096
_CAPTION_LIMIT = 1024
_CALLBACK_LIMIT = 512
_PAIRS_KEPT = 50_000
_TOUR_AT_ONCE = "99"
_TOUR_LATER = "77"


def check_send(body: Any, sender: str) -> Send:
    """What a decoded body of ``/messages`` asks for. ``sender``: digits of the number that sends.

    Raises Refused for the faults that the gateway must survive: nobody to send to, an unknown type, no
    content, content without its essentials, texts over their limit. It is no full copy of Meta's checks.
    """
    if not isinstance(body, dict):
        raise Refused(100, "The body must be a JSON object.")
    if body.get("messaging_product") != "whatsapp":
        raise Refused(100, "messaging_product must be 'whatsapp'.")
    type_ = body.get("type", "text")
    _check_content(type_, body)
    callback = body.get("biz_opaque_callback_data")
    if callback is not None and (not isinstance(callback, str) or len(callback) > _CALLBACK_LIMIT):
        raise Refused(100, f"biz_opaque_callback_data must be a text of at most {_CALLBACK_LIMIT}.")
    return _addressed(body, sender, type_, callback)


_WINDOW_CLOSED = 131047


def tour_refusal(phone: str, type: str = "text") -> tuple[bool, Refused] | None:
    """The refusal that a phone number asks for by its last eight digits, after whether it is told only later.

    ``77`` and a code of :data:`ERRORS` from 130000 on (``...77131026``): taken, then failed by a status with
    that code. ``99`` and a code (``...99131047``): refused at once. None for every other number,
    and of a template for a closed window.
    """
    when, digits = phone[-8:-6], phone[-6:]
    if when not in (_TOUR_AT_ONCE, _TOUR_LATER) or digits < "130000" or int(digits) not in ERRORS:
        return None
    if type == "template" and int(digits) == _WINDOW_CLOSED:
        return None
    return when == _TOUR_LATER, Refused(int(digits), "The sandbox refuses numbers that end like this one.")


def _check_content(type_: Any, body: dict[str, Any]) -> None:
    required = _REQUIRED.get(type_) if isinstance(type_, str) else None
    if required is None:
        raise Refused(131051, f"type {type_!r} cannot be sent.")
    content = body.get(type_)
    if content is None:
        raise Refused(131008, f"{type_} is missing.")
    if type_ == "contacts":
        if not isinstance(content, list) or not content:
            raise Refused(131009, "contacts must be a list of at least one contact.")
        return
    if not isinstance(content, dict):
        raise Refused(131009, f"{type_} must be an object.")
    for field in required:
        if content.get(field) in (None, ""):
            raise Refused(131008, f"{type_}.{field} is missing.")
    if type_ == "text":
        _check_length("text.body", content["body"], _TEXT_LIMIT)
    elif type_ in _MEDIA:
        if bool(content.get("id")) == bool(content.get("link")):
            raise Refused(131009, f"{type_} must have exactly one of id and link.")
        _check_length(f"{type_}.caption", content.get("caption", ""), _CAPTION_LIMIT)


def _check_length(field: str, text: Any, limit: int) -> None:
    if not isinstance(text, str):
        raise Refused(131009, f"{field} must be a text.")
    if len(text) > limit:
        raise Refused(100, f"{field} must be at most {limit} characters long.")


def _addressed(body: dict[str, Any], sender: str, type_: str, callback: str | None) -> Send:
    to, recipient = body.get("to"), body.get("recipient")
    if not to and not recipient:
        raise Refused(131008, "to or recipient is missing.")
    for field, value in (("to", to), ("recipient", recipient)):
        if value is not None and not isinstance(value, str):
            raise Refused(131009, f"{field} must be a text.")
    if body.get("recipient_type") == "group":
        return Send(input=to or "", phone="", user_id="", group=to or "", type=type_, callback=callback)
    user_id = ""
    if recipient:
        address = parse_address(recipient)
        if address is None or not address.user_id:
            raise Refused(131009, "recipient must be a user id.")
        user_id = address.user_id
    if not to:
        return Send(input=user_id, phone="", user_id=user_id, group="", type=type_, callback=callback)
    address = parse_address(to)
    if address is None or not address.phone:
        raise Refused(131009, "to must be a phone number.")
    if address.phone == sender:
        raise Refused(131021, "to is the number that sends.")
    return Send(input=to, phone=address.phone, user_id=user_id, group="", type=type_, callback=callback)


# -- limits ------------------------------------------------------------------------------------------------


class Throughput:
    """At most ``rate`` messages of one number within any second, in and out together (CLOUD_API.md 3).

    The second is 0.95 s long, so that a sender that keeps the rate exactly is not refused for the jitter on
    its way here.
    """

    SPAN_S = 0.95

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def admits(self, now: float, rate: float) -> bool:
        """Whether one more may go out at ``now`` (seconds, never falling); if so, it counts."""
        self._forget(now)
        if len(self._times) + 1 > rate:
            return False
        self._times.append(now)
        return True

    def count(self, now: float) -> None:
        """Count a message that came in; a customer is never refused."""
        self._forget(now)
        self._times.append(now)

    def _forget(self, now: float) -> None:
        horizon = now - self.SPAN_S
        while self._times and self._times[0] <= horizon:
            self._times.popleft()


class PairRate:
    """One message in ``every_s`` from a number to a user, with a burst on credit (CLOUD_API.md 3)."""

    def __init__(self, every_s: float = 6.0, burst: int = 45) -> None:
        self._every = every_s
        self._credit = (burst - 1) * every_s
        self._paid_until: dict[tuple[str, str], float] = {}
        self._prune_at = _PAIRS_KEPT

    def admits(self, number: str, user: str, now: float) -> bool:
        """Whether one more may go at ``now`` (seconds, never falling); if so, it counts."""
        paid_until = max(self._paid_until.get((number, user), now), now)
        if paid_until - now > self._credit:
            return False
        if len(self._paid_until) >= self._prune_at:
            self._paid_until = {pair: until for pair, until in self._paid_until.items() if until > now}
            self._prune_at = max(_PAIRS_KEPT, 2 * len(self._paid_until))
        self._paid_until[number, user] = paid_until + self._every
        return True


def retry_delay(tries: int, rng: random.Random) -> float:
    """Seconds until a webhook that failed ``tries`` times is repeated: 0.1 doubling to 5, less up to half."""
    return min(5.0, 0.1 * 2.0 ** min(tries - 1, 10)) * rng.uniform(0.5, 1.0)
