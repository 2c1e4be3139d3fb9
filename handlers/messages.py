"""What all sending paths share: one message through the outbox, and its answers.

A send that waits for its outcome goes through the outbox like any other (contract.md, Answers): same limits,
same record, at the highest priority.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from handlers.base import BaseHandler
from handlers.drafting import checked_content
from handlers.options import PRIORITIES, Options
from store.errors import GatewayError
from store.records import Event, RowView, Suppression
from store.states import ENDED, TAKEN, State
from whatsapp.compose import translate
from whatsapp.compose_template import template as compose_template
from whatsapp.drafts import GROUP_KEY, Draft, Terms
from whatsapp.events import EventType, rfc3339
from whatsapp.failures import NoAnswer, OptedOut
from whatsapp.opt_out import BLOCKED, marketing_names, promotes
from whatsapp.outbox import Outbox
from whatsapp.outcome import NO_WORD, WINDOW_CLOSED
from whatsapp.template_holds import Template
from whatsapp.template_list import Templates
from whatsapp.validate import Findings, join

__all__ = ["SendHandler", "counted", "problem_of", "why_refused"]

_ENDS = {
    State.EXPIRED: "expires_at: the time passed before the message could be sent",
    EventType.MESSAGE_EXPIRED: "expires_at: the time passed before the message could be sent",
    State.CANCELLED: "the message was cancelled before it left",
    EventType.MESSAGE_CANCELLED: "the message was cancelled before it left",
}
_CODES = {WINDOW_CLOSED: "window_closed", NO_WORD: NoAnswer.code}
"""Of an answer, by the name of the error with which its message ended."""


class SendHandler(BaseHandler):
    """What the sending paths share. ``numbers``: those that send, the default first."""

    outbox: Outbox
    templates: Templates
    numbers: Sequence[str]
    direct_timeout_s: float
    now_ms: Callable[[], int]

    async def send_one(
        self,
        kind: str,
        draft: Draft,
        *,
        lane: str,
        queued: bool,
        priority: str,
        warnings: list[str],
        terms: Terms,
    ) -> None:
        """Queue one message, or send it and wait. What is due later is queued in any case. Raises OptedOut
        where it is marketing, and its recipient does not want it."""
        if promotes(draft.payload, await self.marketing(kind)):
            sifted = await self.outbox.sift([draft], [0], lambda message: True)
            if sifted.refused:
                raise OptedOut(f"the recipient {why_refused(sifted.refused[0][1])}")
            (draft,) = sifted.drafts
        if queued or terms.due:
            task_id = await self.outbox.submit(
                kind, [draft], lane=lane, priority=PRIORITIES[priority], terms=terms, task_id=self.task_id
            )
            self.accept(task_id, "the message is queued", warnings)
            return
        task_id, outcome = await self.outbox.submit_and_wait(
            kind, draft, lane=lane, timeout_s=self.direct_timeout_s, terms=terms, task_id=self.task_id
        )
        if isinstance(outcome, Event):
            self._answer_event(task_id, outcome, draft, warnings)
        else:
            self._answer_row(task_id, outcome, draft, warnings)

    async def fallback_of(self, options: Options, findings: Findings, *, template: bool) -> bytes:
        """The content that the request names to fall back to; empty where it names none, or one at fault.
        ``template``: whether what is sent is one already."""
        asked = options.fallback_template
        if asked is None:
            return b""
        name = "fallback_template"
        if template:
            findings.fault(name, "does not go with a template, which needs no open window")
            return b""
        composed = compose_template(
            template_name=asked.template_name,
            language=asked.language,
            parameters=asked.parameters,
            components=asked.components,
        )
        content = checked_content(composed, findings, name)
        if content is not None:
            for path, problem in await self.templates.check(composed.content):
                findings.fault(join(name, translate(path, composed.names)), problem)
        return content or b""

    async def marketing(self, kind: str) -> frozenset[Template]:
        """The templates that are known to be marketing, where messages of this kind may be one."""
        return marketing_names(await self.templates.known()) if kind == "template" else frozenset()

    def accept(
        self, task_id: str, message: str, warnings: list[str], status: int = 200, **more: object
    ) -> None:
        """The answer to what is queued; with ``more`` of it, to what is sent."""
        answer: dict[str, Any] = {"success": True, "message": message, **more, "task_id": task_id}
        if warnings:
            answer["warnings"] = warnings
        self.answer(answer, status)

    def _answer_event(self, task_id: str, event: Event, draft: Draft, warnings: list[str]) -> None:
        data = _data_of(event)
        if event.type == EventType.MESSAGE_SENT:
            fell_back = bool(data.get("fallback"))
            self._answer_sent(task_id, draft, data.get("answer"), data.get("wamid"), warnings, fell_back)
        else:
            self._answer_failed(task_id, data.get("error") or {}, event.type)

    def _answer_row(self, task_id: str, row: RowView | None, draft: Draft, warnings: list[str]) -> None:
        """Time ran out; yet a status may have settled the row unheard, by an id or a failure of Meta's."""
        state = row.row.state if row else State.QUEUED
        if row and row.wamids and state in TAKEN:
            self._answer_sent(task_id, draft, None, row.wamids[-1], warnings, row.row.fell_back)
        elif row and state in ENDED:
            self._answer_failed(task_id, _error_of(row.error), state)
        else:
            why = f", last refused: {problem_of(row.error)}" if row and row.error else ""
            self.accept(task_id, f"no outcome yet, the message is {state}{why}", warnings, status=202)

    def _answer_sent(
        self,
        task_id: str,
        draft: Draft,
        answer: object,
        wamid: str | None,
        warnings: list[str],
        fell_back: bool,
    ) -> None:
        more: dict[str, Any] = {"fallback": True} if fell_back else {}
        data = answer or _answer_like_metas(draft, wamid)
        self.accept(task_id, "the message was sent", warnings, data=data, **more)

    def _answer_failed(self, task_id: str, error: dict[str, Any], end: str) -> None:
        meta = {key: error.get(key) for key in ("code", "subcode", "title", "details", "fbtrace_id")}
        by_meta = meta["code"] is not None
        shut = error.get("name") == WINDOW_CLOSED
        code = _CODES.get(error.get("name", ""), "meta_refused" if by_meta else "not_sent")
        self._errors[code] += 1
        answer = {
            "success": False,
            "error": error.get("details")
            or error.get("title")
            or _ENDS.get(end, f"the message ended: {end}"),
            "code": code,
            "task_id": task_id,
        }
        if by_meta:
            answer["meta"] = meta
        if advice := error.get("advice"):
            answer["advice"] = advice
        self.answer(answer, 400 if by_meta or shut else 502)


def counted(messages: int) -> str:
    """So many messages, as the beginning of a sentence that goes on in the passive."""
    return "1 message is" if messages == 1 else f"{messages} messages are"


def why_refused(suppression: Suppression) -> str:
    """Why somebody is not written to, to follow on their name."""
    what = "was blocked" if suppression.reason == BLOCKED else "has opted out"
    return f"{what} (since {rfc3339(suppression.since)})"


def problem_of(error: bytes) -> str:
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


def _answer_like_metas(draft: Draft, wamid: str | None) -> dict[str, Any]:
    """Meta's answer as it would have been, where a status was the first proof that the message was taken."""
    to = draft.address
    if draft.contact.startswith(GROUP_KEY):
        contact = {"input": draft.contact.removeprefix(GROUP_KEY)}
    elif to.phone:
        contact = {"input": f"+{to.phone}", "wa_id": to.phone}
    else:
        contact = {"input": to.user_id, "user_id": to.user_id}
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": wamid}]}
