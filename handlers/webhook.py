"""``/webhook``: Meta's check of the address, and its updates (contract.md, Webhook; CLOUD_API.md 4.1, 4.2).

Owns what Meta is answered. A 200 means that every update of the body is durable; any other answer makes Meta
send it again for days, which is right for a store that is away and harmless for the rest.
"""

from __future__ import annotations

import hmac
import logging
from collections import Counter
from collections.abc import Sequence

import msgspec
from tornado.httputil import HTTPHeaders

from handlers.access import AccessDenied
from handlers.base import RETRY_AFTER_S, BaseHandler, error_answer, status_of
from handlers.front import Reply
from store.errors import GatewayError
from whatsapp.failures import Draining
from whatsapp.intake import Intake
from whatsapp.signature import HEADER, is_signed

__all__ = ["BadSignature", "BadVerifyToken", "WebhookCheck", "WebhookReceiver"]

_log = logging.getLogger(__name__)

_TAKEN = Reply(200, b'{"success":true}')


class BadSignature(GatewayError):
    """The webhook is not signed with the app secret."""

    code = "bad_signature"


class BadVerifyToken(AccessDenied):
    """Who asks for the address does not know our word for it."""

    code = "bad_verify_token"


class WebhookReceiver:
    """Answers ``POST /webhook``. Without secrets every body is believed."""

    def __init__(self, intake: Intake, secrets: Sequence[str], errors: Counter[str]) -> None:
        self._intake = intake
        self._secrets = tuple(secrets)
        self._errors = errors
        self._draining = False

    def drain(self) -> None:
        """Take nothing more: Meta will send it again to the next process."""
        self._draining = True

    async def respond(self, headers: HTTPHeaders, body: bytes) -> Reply:
        """The answer to one webhook; never raises."""
        if self._secrets and not is_signed(self._secrets, body, headers.get(HEADER)):
            return self._refuse(BadSignature(f"the header {HEADER} does not match the body"), 401)
        if self._draining:
            return self._refuse(Draining("the gateway is stopping, send it again"), 503)
        try:
            await self._intake.take(body)
        except GatewayError as error:
            return self._refuse(error, status_of(error))
        except Exception:  # noqa: BLE001 - Meta must get an answer whatever it sent
            _log.exception("a webhook failed")
            return self._refuse(GatewayError("the gateway failed at this, its log says why"), 500)
        return _TAKEN

    def _refuse(self, error: GatewayError, status: int) -> Reply:
        self._errors[f"webhook.{error.code}"] += 1
        headers = (("Retry-After", RETRY_AFTER_S),) if status == 503 else ()
        body = msgspec.json.encode(error_answer(error.code, error.message, error.details))
        return Reply(status, body, headers)


class WebhookCheck(BaseHandler):
    """``GET /webhook``: Meta asks whether this is the right place."""

    public = True
    taken_before = ("POST",)
    verify_token: str

    def get(self) -> None:
        """The challenge, if the token is ours."""
        token = self.get_query_argument("hub.verify_token", "", strip=False)
        challenge = self.get_query_argument("hub.challenge", "", strip=False)
        ours = hmac.compare_digest(token.encode("utf-8", "replace"), self.verify_token.encode())
        if not (ours and self.verify_token):
            raise BadVerifyToken("hub.verify_token is not the one in VERIFY_TOKEN")
        if self.get_query_argument("hub.mode", "") != "subscribe" or not challenge:
            raise BadVerifyToken("hub.mode must be subscribe, and hub.challenge must not be empty")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        # Whatever it holds, no browser is to take it for a page.
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(challenge)
