"""The business account that the sandbox pretends to be: its numbers, what they sent, what came in.

Pure: bytes, times and a place for updates in, answers out. Applies ``sandbox_rules.py`` and
``sandbox_faults.py``, and keeps the account's memory. ``sandbox_http.py`` asks it, ``sandbox_webhooks.py``
takes its updates.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple, Protocol

import msgspec

from whatsapp.identity import parse_address
from whatsapp.sandbox_faults import FaultBook
from whatsapp.sandbox_media import MediaShelf
from whatsapp.sandbox_payloads import (
    Update,
    Wamids,
    any_update,
    ascii_json,
    inbound_update,
    status_updates,
    user_id_of,
    wa_id_of,
)
from whatsapp.sandbox_rules import (
    PairRate,
    Refused,
    SandboxError,
    Send,
    Throughput,
    check_send,
    tour_refusal,
    unknown_object,
)
from whatsapp.sandbox_settings import SandboxSettings

__all__ = ["Account", "Answer", "Outlet"]

_CUSTOMER = "Sandbox customer"
_NAMES_KEPT = 10_000
_HIGH_FROM = 1000
"""Messages a second; Meta knows nothing between its two levels (CLOUD_API.md 3)."""
_DUPLICATE_WITHIN_S = 0.05


class Answer(NamedTuple):
    """What goes back to the caller of ``/messages``."""

    http: int
    body: bytes
    html: bool = False
    dropped: bool = False
    """Close the connection instead."""


class Outlet(Protocol):
    """Where updates leave for the webhook."""

    @property
    def is_open(self) -> bool:
        """Whether anybody is to be told."""
        ...

    def put(self, update: Update, delay: float) -> None:
        """Have this told after so many seconds."""
        ...


class _Accepted(NamedTuple):
    n: int
    wamid: str
    to: str
    callback: str | None
    type: str
    at: int


class Account:
    """One per sandbox. ``salt`` (8 bytes) makes the message ids of this run its own."""

    def __init__(self, settings: SandboxSettings, outlet: Outlet, rng: random.Random, salt: bytes) -> None:
        self._settings = settings
        self._outlet = outlet
        self._rng = rng
        self._bearer = f"Bearer {settings.access_token}"
        self._senders = {id: "".join(filter(str.isdigit, display)) for id, display in settings.phone_numbers}
        self._displays = dict(settings.phone_numbers)
        self._wamids = Wamids(salt)
        self._throughput = {id: Throughput() for id in self._senders}
        self._pairs = PairRate()
        self._accepted: deque[_Accepted] = deque(maxlen=settings.record_limit)
        self._total = 0
        self._counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self.faults = FaultBook(rng)
        self.media = MediaShelf()

    @property
    def metadata(self) -> dict[str, bytes]:
        """``metadata`` of webhooks, encoded, by phone number id."""
        return {
            id: ascii_json({"display_phone_number": digits, "phone_number_id": id})
            for id, digits in self._senders.items()
        }

    # -- what Graph answers ------------------------------------------------------------------------------

    def check_token(self, authorization: str | None) -> None:
        """Raises Refused (190) unless the header carries the access token."""
        if authorization != self._bearer or self.faults.now.bad_token:
            raise Refused(190, "The access token could not be verified.")

    def messages(
        self,
        number: str,
        authorization: str | None,
        body: bytes,
        now: float,
        at: float,
        *,
        marketing: bool = False,
    ) -> Answer:
        """``POST /{phone-number-id}/messages``, or ``.../marketing_messages``. ``now``: monotonic seconds;
        ``at``: seconds since 1970."""
        try:
            self.check_token(authorization)
            return self._messages(number, body, now, at, marketing)
        except Refused as refusal:
            return Answer(refusal.http, self.refuse(refusal))

    def refuse(self, refusal: Refused) -> bytes:
        """The body of a refusal, counted."""
        self._counts[f"error_{refusal.number}"] += 1
        return msgspec.json.encode(refusal.body(f"A{self._rng.getrandbits(96):024x}"))

    def number_info(self, number: str, fields: str = "") -> dict[str, Any]:
        """``GET /{phone-number-id}``, all fields or those named between commas; raises Refused if unknown."""
        self.require_number(number)
        usual = "HIGH" if self._settings.rate_per_number >= _HIGH_FROM else "STANDARD"
        info = {
            "verified_name": "Sandbox",
            "display_phone_number": self._displays[number],
            "quality_rating": "GREEN",
            "code_verification_status": "VERIFIED",
            "name_status": "APPROVED",
            "status": "CONNECTED",
            "platform_type": "CLOUD_API",
            "throughput": {"level": self.faults.now.level or usual},
            "is_on_biz_app": self.faults.now.coexistence,
            "account_mode": "SANDBOX",
            "whatsapp_business_manager_messaging_limit": "TIER_UNLIMITED",
        }
        wanted = [field for field in fields.split(",") if field] or list(info)
        return {field: info[field] for field in wanted if field in info} | {"id": number}

    def numbers(self, waba_id: str, fields: str = "") -> dict[str, Any]:
        """``GET /{waba-id}/phone_numbers``, one page; raises Refused for another account."""
        self.require_account(waba_id)
        data = [self.number_info(number, fields) for number in self._senders]
        return {"data": data, "paging": {"cursors": {"before": "first", "after": "last"}}}

    def require_account(self, waba_id: str) -> None:
        """Raises Refused unless this is the id of the account."""
        if waba_id != self._settings.waba_id:
            raise unknown_object(waba_id)

    def owns(self, number: str) -> bool:
        """Whether this is the id of one of the numbers."""
        return number in self._senders

    def require_number(self, number: str) -> None:
        """Raises Refused (33) unless this is the id of one of the numbers."""
        if number not in self._senders:
            raise Refused(33, f"Phone number id {number!r} does not exist, or this token may not use it.")

    def _messages(self, number: str, body: bytes, now: float, at: float, marketing: bool) -> Answer:
        self.require_number(number)
        try:
            decoded = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refused(100, "The body is not JSON.") from None
        if isinstance(decoded, dict) and "status" in decoded and not marketing:
            return self._mark_read(decoded)
        if status := self.faults.take_http():
            self._counts["http_5xx"] += 1
            return Answer(status, b"<html><body><h1>Service unavailable</h1></body></html>", html=True)
        if (refusal := self.faults.take_error()) is not None:
            raise refusal
        self._check_throughput(number, now)
        send = check_send(decoded, self._senders[number])
        if marketing and send.type != "template":
            raise Refused(100, "Only templates are marketing messages.")
        later = self._check_recipient(number, send, now) or self.faults.take_error(later=True)
        return self._accept(number, send, at, later)

    def _mark_read(self, body: dict[str, Any]) -> Answer:
        if body.get("messaging_product") != "whatsapp" or body["status"] != "read":
            raise Refused(100, "status must be 'read', and messaging_product 'whatsapp'.")
        if not body.get("message_id") or not isinstance(body["message_id"], str):
            raise Refused(131008, "message_id is missing.")
        self._counts["typing" if "typing_indicator" in body else "marked_read"] += 1
        return Answer(200, b'{"success":true}')

    def _check_throughput(self, number: str, now: float) -> None:
        rate = self.faults.now.rate_limit
        if rate is None:
            if not self._settings.enforce_limits:
                return
            rate = self._settings.rate_per_number
        if not self._throughput[number].admits(now, rate):
            raise Refused(130429, f"The number sends or receives more than {rate:g} messages a second.")

    def _check_recipient(self, number: str, send: Send, now: float) -> Refused | None:
        """The refusal that is to be told later; raises one that is due now."""
        planned = tour_refusal(send.phone, send.type) if send.phone else None
        if planned is not None and not planned[0]:
            raise planned[1]
        if self._settings.enforce_limits and not send.group:
            user = user_id_of(wa_id_of(send.phone)) if send.phone else send.user_id
            if not self._pairs.admits(number, user, now):
                raise Refused(131056, "Too many messages from this number to this user in a short time.")
        return planned[1] if planned is not None else None

    def _accept(self, number: str, send: Send, at: float, failure: Refused | None) -> Answer:
        wamid = self._wamids.next()
        self._total += 1
        if self._settings.record:
            to = send.phone or send.user_id or send.group
            self._accepted.append(_Accepted(self._total, wamid, to, send.callback, send.type, int(at * 1000)))
        if self._settings.status_delays is not None and self._outlet.is_open and self.faults.now.statuses:
            self._plan_statuses(number, send, wamid, at, self._settings.status_delays, failure)
        if self.faults.drops_answer():
            self._counts["dropped_answers"] += 1
            return Answer(0, b"", dropped=True)
        return Answer(200, _accepted_body(send, wamid))

    def _plan_statuses(
        self,
        number: str,
        send: Send,
        wamid: str,
        at: float,
        delays: tuple[float, float, float],
        failure: Refused | None,
    ) -> None:
        name = self._names.get(wa_id_of(send.phone) or send.user_id, "")
        reverse = self.faults.reorders()
        for delay, update in status_updates(
            send, wamid, number, at, delays, name=name, failure=failure, reverse=reverse
        ):
            self._tell(update, delay)

    def _tell(self, update: Update, delay: float) -> None:
        self._outlet.put(update, delay)
        if self.faults.duplicates():
            self._counts["duplicated_updates"] += 1
            self._outlet.put(update, delay + self._rng.uniform(0, _DUPLICATE_WITHIN_S))

    # -- what customers do -------------------------------------------------------------------------------

    def inbound(
        self,
        sender: str,
        text: str | None,
        message: Mapping[str, Any] | None,
        *,
        name: str,
        number: str,
        now: float,
        at: float,
    ) -> dict[str, str]:
        """A customer writes, and the update is on its way.

        ``sender`` may be empty where ``message`` names it. Returns ``message_id``, ``wa_id`` (empty for
        somebody known by user id only) and ``user_id``. Raises SandboxError for input that makes no message.
        """
        if not self._outlet.is_open:
            raise SandboxError("There is no webhook_url to tell of an inbound message.")
        number = number or next(iter(self._senders))
        if number not in self._senders:
            raise SandboxError.at("phone_number_id", f"is none of the sandbox: {', '.join(self._senders)}")
        content = _inbound_content(text, message)
        wa_id, user_id = _customer(sender or content.get("from") or content.get("from_user_id"))
        wamid = content.get("id") or self._wamids.next()
        if not isinstance(wamid, str):
            raise SandboxError.at("message.id", "must be text")
        name = name or self._names.get(wa_id or user_id, _CUSTOMER)
        self._remember(wa_id or user_id, name)
        self._throughput[number].count(now)
        self._counts["inbound"] += 1
        update = inbound_update(content, number, wamid=wamid, at=at, wa_id=wa_id, user_id=user_id, name=name)
        self._tell(update, 0.0)
        return {"message_id": wamid, "wa_id": wa_id, "user_id": user_id}

    def tell(self, field: str, value: Mapping[str, Any], at: float) -> None:
        """Meta tells something else. Raises SandboxError where nobody listens."""
        if not self._outlet.is_open:
            raise SandboxError("There is no webhook_url to tell of it.")
        self._tell(any_update(self._settings.waba_id, field, value, at), 0.0)

    def _remember(self, who: str, name: str) -> None:
        self._names.pop(who, None)
        self._names[who] = name
        if len(self._names) > _NAMES_KEPT:
            del self._names[next(iter(self._names))]

    # -- what tests ask ----------------------------------------------------------------------------------

    def accepted(self, after: int, limit: int) -> dict[str, Any]:
        """Sends that were taken: the oldest past ``after``, at most ``limit``, and how many there were."""
        first = self._accepted[0].n if self._accepted else 1
        start = max(0, after - first + 1)
        return {
            "total": self._total,
            "items": [item._asdict() for item in islice(self._accepted, start, start + limit)],
        }

    def stats(self) -> dict[str, int]:
        """Counts since the start."""
        return {"accepted": self._total, "media": len(self.media), **self._counts}


def _accepted_body(send: Send, wamid: str) -> bytes:
    contact = {"input": send.input}
    if send.phone:
        contact["wa_id"] = wa_id_of(send.phone)
    if send.user_id:
        contact["user_id"] = send.user_id
    message = {"id": wamid}
    if send.type == "template":
        message["message_status"] = "accepted"
    if send.group:
        message["group_id"] = send.group
    return msgspec.json.encode(
        {"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]}
    )


def _customer(sender: Any) -> tuple[str, str]:
    """(wa_id, user id) of who writes; the first is empty for somebody known by user id only."""
    address = parse_address(sender) if isinstance(sender, str | int) else None
    if address is None:
        raise SandboxError.at("from", "must be a phone in international digits, or a user id")
    wa_id = wa_id_of(address.phone)
    return wa_id, address.user_id or user_id_of(wa_id)


def _inbound_content(text: str | None, message: Mapping[str, Any] | None) -> dict[str, Any]:
    if (text is None) == (message is None):
        raise SandboxError.at("text", "give text or message, and not both")
    if message is None:
        return {"type": "text", "text": {"body": text}}
    if not isinstance(message.get("type"), str):
        raise SandboxError.at("message.type", "must be text")
    return dict(message)
