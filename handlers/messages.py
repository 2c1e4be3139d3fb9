"""Sends: ``/api/send-message`` and ``/api/send-bulk`` (API.md, Messages).

Owns the request types and their answers. A send that waits for its outcome goes through the outbox like any
other (API.md, Answers): same limits, same record, at the highest priority.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from handlers.base import MAX_DETAILS, BaseHandler
from handlers.fields import convert, refusal, refuse_if, warnings_of
from store.errors import GatewayError, Problem
from store.records import Event, RowView
from store.states import ENDED, TAKEN, State
from whatsapp.compose import TEXT_LIMIT, text_message
from whatsapp.events import EventType
from whatsapp.identity import Address, parse_address
from whatsapp.outbox import HIGH, LOW, NORMAL, Draft, Outbox
from whatsapp.validate import Checked, Findings, validate

__all__ = ["SendBulk", "SendMessage"]

_PRIORITIES = {"high": HIGH, "normal": NORMAL, "low": LOW}
_NO_ADDRESS = "must be a phone in international digits, or a user id"

Phone = str | int
Text = Annotated[str, Meta(min_length=1, max_length=TEXT_LIMIT)]
PriorityName = Literal["high", "normal", "low"]
MAX_RECIPIENTS = 100_000


class TextRequest(Checked, frozen=True):
    """Body of ``/api/send-message``."""

    phone: Phone
    message: Text
    use_queue: bool = False
    context_message_id: Annotated[str, Meta(max_length=512)] = ""
    priority: PriorityName = "high"


class BulkRequest(Checked, frozen=True):
    """Body of ``/api/send-bulk``."""

    recipients: Annotated[list[Any], Meta(min_length=1, max_length=MAX_RECIPIENTS)]
    use_queue: bool = True
    priority: PriorityName = "low"
    on_invalid: Literal["refuse", "skip"] = "refuse"


class Recipient(Checked, frozen=True):
    """One of ``recipients``."""

    phone: Phone
    message: Text


class SendHandler(BaseHandler):
    """What the sending paths share. ``lane``: the number that sends."""

    outbox: Outbox
    lane: str
    direct_timeout_s: float

    async def send_one(
        self, kind: str, draft: Draft, *, queued: bool, priority: str, warnings: list[str]
    ) -> None:
        """Queue one message, or send it and wait."""
        if queued:
            task_id = await self.outbox.submit(kind, [draft], lane=self.lane, priority=_PRIORITIES[priority])
            self.accept(task_id, "the message is queued", warnings)
            return
        task_id, outcome = await self.outbox.submit_and_wait(
            kind, draft, lane=self.lane, timeout_s=self.direct_timeout_s
        )
        if isinstance(outcome, Event):
            self._answer_event(task_id, outcome, draft.address, warnings)
        else:
            self._answer_row(task_id, outcome, draft.address, warnings)

    def accept(
        self, task_id: str, message: str, warnings: list[str], status: int = 200, **more: object
    ) -> None:
        """The answer to what is queued; with ``more`` of it, to what is sent."""
        answer: dict[str, Any] = {"success": True, "message": message, **more, "task_id": task_id}
        if warnings:
            answer["warnings"] = warnings
        self.answer(answer, status)

    def _answer_event(self, task_id: str, event: Event, to: Address, warnings: list[str]) -> None:
        data = _data_of(event)
        if event.type == EventType.MESSAGE_SENT:
            self._answer_sent(task_id, to, data.get("answer"), data.get("wamid"), warnings)
        else:
            self._answer_failed(task_id, data.get("error") or {}, event.type)

    def _answer_row(self, task_id: str, row: RowView | None, to: Address, warnings: list[str]) -> None:
        """Time ran out; yet a status may have settled the row unheard, by an id or a failure of Meta's."""
        state = row.row.state if row else State.QUEUED
        if row and row.wamids and state in TAKEN:
            self._answer_sent(task_id, to, None, row.wamids[0], warnings)
        elif row and state in ENDED:
            self._answer_failed(task_id, _error_of(row.error), state)
        else:
            why = f", last refused: {_problem_of(row.error)}" if row and row.error else ""
            self.accept(task_id, f"no outcome yet, the message is {state}{why}", warnings, status=202)

    def _answer_sent(
        self, task_id: str, to: Address, answer: object, wamid: str | None, warnings: list[str]
    ) -> None:
        self.accept(task_id, "the message was sent", warnings, data=answer or _answer_like_metas(to, wamid))

    def _answer_failed(self, task_id: str, error: dict[str, Any], end: str) -> None:
        meta = {key: error.get(key) for key in ("code", "subcode", "title", "details", "fbtrace_id")}
        by_meta = meta["code"] is not None
        self._errors["meta_refused" if by_meta else "not_sent"] += 1
        answer = {
            "success": False,
            "error": error.get("details") or error.get("title") or f"the message ended as {end}",
            "code": "meta_refused" if by_meta else "not_sent",
            "task_id": task_id,
        }
        if by_meta:
            answer["meta"] = meta
        self.answer(answer, 400 if by_meta else 502)


class SendMessage(SendHandler):
    """``POST /api/send-message``: one text to one person."""

    async def post(self) -> None:
        """200 with Meta's answer or a task id; 400 for what cannot be sent or is refused; 202 where time ran
        out."""
        request, warnings = convert(self.read_json(), TextRequest)
        address = parse_address(request.phone)
        if address is None:
            raise refusal([("phone", _NO_ADDRESS)])
        draft = Draft(address, text_message(address, request.message, request.context_message_id))
        await self.send_one(
            "text", draft, queued=request.use_queue, priority=request.priority, warnings=warnings
        )


class SendBulk(SendHandler):
    """``POST /api/send-bulk``: a text of its own to each of many."""

    async def post(self) -> None:
        """200 with a task id, or with the result if it was waited for; 400 naming each recipient at fault."""
        request, warnings = convert(self.read_json(), BulkRequest)
        recipients, problems, ignored = _recipients(request.recipients)
        if request.on_invalid == "refuse" or not recipients:
            refuse_if(problems)
        warnings += ignored
        drafts = list(recipients.values())
        priority = _PRIORITIES[request.priority]
        if request.use_queue:
            task_id = await self.outbox.submit("text", drafts, lane=self.lane, priority=priority)
            warnings += [f"{path}: {problem}, skipped" for path, problem in problems[:MAX_DETAILS]]
            self.accept(task_id, f"{len(drafts)} messages are queued", warnings)
            return
        task_id, taken = await self.outbox.submit_and_complete(
            "text", drafts, lane=self.lane, priority=HIGH, timeout_s=self.direct_timeout_s
        )
        if taken is None:
            self.accept(task_id, "not all have an outcome yet, the rest stays queued", warnings, status=202)
            return
        if taken < len(drafts):
            places = list(recipients)
            failures = await self.outbox.failures(task_id, MAX_DETAILS)
            problems += [(f"recipients[{places[n]}]", _problem_of(error)) for n, error in failures]
        self._answer_result(task_id, taken, len(request.recipients), problems, warnings)

    def _answer_result(
        self, task_id: str, taken: int, total: int, problems: list[Problem], warnings: list[str]
    ) -> None:
        result = {
            "total": total,
            "successful": taken,
            "failed": total - taken,
            "errors": [f"{path}: {problem}" for path, problem in problems[:MAX_DETAILS]],
        }
        self.accept(task_id, f"{taken} of {total} messages were sent", warnings, result=result)


def _recipients(items: list[Any]) -> tuple[dict[int, Draft], list[Problem], list[str]]:
    """Drafts by their place in the list, the faults of the others, and warnings."""
    findings = Findings()
    drafts = {}
    for place, item in enumerate(items):
        recipient = validate(item, Recipient, findings, f"recipients[{place}]")
        if recipient is None:
            continue
        address = parse_address(recipient.phone)
        if address is None:
            findings.fault(f"recipients[{place}].phone", _NO_ADDRESS)
        else:
            drafts[place] = Draft(address, text_message(address, recipient.message))
    return drafts, findings.problems, warnings_of(findings)


def _problem_of(error: bytes) -> str:
    """Why a row failed, in one line."""
    kept = _error_of(error)
    what = kept.get("details") or kept.get("title") or "failed"
    return f"{what} ({kept['code']})" if kept.get("code") is not None else str(what)


def _error_of(kept: bytes) -> dict[str, Any]:
    return msgspec.json.decode(kept, type=dict[str, Any]) if kept else {}


def _data_of(event: Event) -> dict[str, Any]:
    body = msgspec.json.decode(event.body, type=dict[str, Any])
    data = body.get("data")
    if not isinstance(data, dict):
        raise GatewayError(f"event {event.offset} has no data")
    return data


def _answer_like_metas(to: Address, wamid: str | None) -> dict[str, Any]:
    """Meta's answer as it would have been, where a status was the first proof that the message was taken."""
    contact = (
        {"input": f"+{to.phone}", "wa_id": to.phone}
        if to.phone
        else {"input": to.user_id, "user_id": to.user_id}
    )
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": wamid}]}
