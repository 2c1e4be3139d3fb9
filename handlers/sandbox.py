"""``/sandbox/...``: play the customer and Meta's moods, only while the gateway runs on its sandbox (see
contract.md, Sandbox)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from handlers.base import BaseHandler
from handlers.fields import convert
from whatsapp.failures import InvalidRequest
from whatsapp.sandbox import Sandbox, SandboxError
from whatsapp.validate import Checked

__all__ = ["SandboxFaults", "SandboxInbound", "SandboxWebhook"]


class InboundRequest(Checked, frozen=True):
    """A customer writes."""

    sender: str | int = msgspec.field(name="from", default="")
    text: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    message: dict[str, Any] | None = None
    name: str = ""


class SandboxInbound(BaseHandler):
    """``POST /sandbox/inbound``."""

    sandbox: Sandbox

    async def post(self) -> None:
        """200 with the ids of the message, which comes in by webhook like any other."""
        request, _ = convert(self.read_json(), InboundRequest, strict=True)
        try:
            told = await self.sandbox.inbound(
                str(request.sender), request.text, request.message, request.name
            )
        except SandboxError as error:
            raise InvalidRequest(error.message, error.details) from error
        self.answer({"success": True, **told})


class WebhookRequest(Checked, frozen=True):
    """Meta tells something."""

    field: Annotated[str, Meta(min_length=1, max_length=100)]
    value: dict[str, Any]


class SandboxWebhook(BaseHandler):
    """``POST /sandbox/webhook``."""

    sandbox: Sandbox

    async def post(self) -> None:
        """200; it comes in by webhook like anything of Meta's."""
        request, _ = convert(self.read_json(), WebhookRequest, strict=True)
        self.sandbox.tell(request.field, request.value)
        self.answer({"success": True})


class SandboxFaults(BaseHandler):
    """``GET`` and ``POST /sandbox/faults``."""

    sandbox: Sandbox

    def get(self) -> None:
        """200 with the faults in force."""
        self.answer({"success": True, "faults": self.sandbox.faults()})

    def post(self) -> None:
        """200 with the faults in force from now on; 400 for one that there is not, which changes nothing."""
        try:
            faults = self.sandbox.set_faults(self.read_json())
        except SandboxError as error:
            raise InvalidRequest(error.message, error.details) from error
        self.answer({"success": True, "faults": faults})
