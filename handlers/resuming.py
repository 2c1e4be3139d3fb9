"""A person's word that what is held may go on (contract.md, Operations)."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.base import BaseHandler
from handlers.fields import convert, refuse_if
from handlers.options import number_fault
from handlers.requests import ResumeNumbers, ResumeTemplate
from whatsapp.resuming import Resuming
from whatsapp.template_holds import named

__all__ = ["NumbersResumption", "TemplateResumption"]


class TemplateResumption(BaseHandler):
    """``POST /api/templates/resume``."""

    resuming: Resuming

    async def post(self) -> None:
        """200 with the numbers here that hold it, which may be none."""
        asked, _ = convert(self.read_json(), ResumeTemplate, strict=True)
        holding = await self.resuming.template(named(asked.template_name, asked.language), self.task_id)
        message = "one of its messages is tried now" if holding else "no number that is worked here holds it"
        self.answer({"success": True, "message": message, "phone_number_ids": holding})


class NumbersResumption(BaseHandler):
    """``POST /api/numbers/resume``. ``numbers``: those that send."""

    resuming: Resuming
    numbers: Sequence[str]

    async def post(self) -> None:
        """200 with the numbers that go on; 400 for one that is none of ours."""
        body = self.read_json() if self.request.body else {}
        asked = str(convert(body, ResumeNumbers, strict=True)[0].phone_number_id)
        fault = number_fault(asked, self.numbers)
        refuse_if([fault] if fault else [])
        numbers = [asked] if asked else list(self.numbers)
        await self.resuming.numbers(numbers, self.task_id)
        message = "pauses are ended, and what is parked is probed now"
        self.answer({"success": True, "message": message, "phone_number_ids": numbers})
