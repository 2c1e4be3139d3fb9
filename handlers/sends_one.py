"""Every path that sends to one recipient (contract.md, Messages)."""

from __future__ import annotations

from handlers.drafting import ContentCheck, address_of, read_request, with_fallback, within
from handlers.fields import refuse_if
from handlers.messages import SendHandler
from handlers.options import lane_of, terms_of
from handlers.sends import OneSend
from whatsapp.compose import addressed, translate
from whatsapp.drafts import Draft
from whatsapp.validate import Findings

__all__ = ["SendOne"]


class SendOne(SendHandler):
    """``POST`` of one message to one recipient; ``send`` says which."""

    send: OneSend

    async def post(self) -> None:
        """200 with Meta's answer or a task id; 400 for what cannot be sent or is refused; 202 where time ran
        out."""
        findings = Findings()
        request, faulty = read_request(self.read_json(), self.send.request, findings)
        address = None if "phone" in faulty else address_of(request.phone, findings, "phone")
        terms = terms_of(request, self.now_ms(), findings)
        lane = lane_of(request, self.numbers, findings)
        check = ContentCheck(findings)
        composed = self.send.compose(request)
        content = check.content(composed, lambda path: within(path, faulty))
        fallback = await self.fallback_of(request, findings, template=self.send.kind == "template")
        refuse_if(findings.problems)
        problems = await self.templates.check(composed.content)
        refuse_if([(translate(path, composed.names), problem) for path, problem in problems])
        assert address is not None and content is not None
        await self.send_one(
            self.send.kind,
            with_fallback(Draft(address, addressed(address, content)), fallback),
            lane=lane,
            queued=request.use_queue,
            priority=request.priority,
            warnings=check.warnings,
            terms=terms,
        )
