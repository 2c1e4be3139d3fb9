"""Every path that sends to many recipients (contract.md, Messages)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from handlers.base import MAX_DETAILS
from handlers.drafting import Read, read_request
from handlers.fields import refuse_if
from handlers.messages import SendHandler, counted, problem_of, why_refused
from handlers.options import MAX_RECIPIENTS, PRIORITIES, ManyRequest, lane_of, terms_of
from handlers.recipients import Drafts, Recipients
from handlers.sends import ManySend
from store.errors import Problem
from whatsapp.drafts import HIGH, Terms
from whatsapp.failures import OptedOut
from whatsapp.opt_out import promotes
from whatsapp.validate import Findings

__all__ = ["ManyHandler", "SendMany", "items_of"]


class ManyHandler(SendHandler):
    """What the paths share that send to many."""

    async def send_each(
        self,
        kind: str,
        request: ManyRequest,
        recipients: Drafts,
        items: Sequence[msgspec.Raw],
        findings: Findings,
        terms: Terms,
        lane: str,
    ) -> None:
        """Take in the recipients, and queue or send what they get. Raises InvalidRequest for what refuses the
        whole; ``findings`` have what was found so far."""
        refuses = request.on_invalid == "refuse"
        await recipients.read(items, to_the_end=not refuses, keep=MAX_DETAILS)
        # Faults of the fields for all refuse the whole, whatever is to become of single recipients.
        if refuses or recipients.fault_for_all or not recipients.drafts:
            refuse_if(findings.problems)
        warnings = [*recipients.warnings, *(f"{path}: {why}" for path, why in recipients.dropped)]
        refused = await self.leave_out(kind, request, recipients)
        if request.use_queue or terms.due:
            told = [*findings.problems[:MAX_DETAILS], *refused]
            warnings += [f"{path}: {problem}, skipped" for path, problem in told]
            await self.queue_each(kind, request, recipients, warnings, terms, lane)
        else:
            problems = [*findings.problems, *refused]
            await self._send_and_wait(kind, recipients, problems, warnings, terms, lane)

    async def leave_out(
        self, kind: str, request: ManyRequest, recipients: Drafts, *, dry_run: bool = False
    ) -> list[Problem]:
        """Take from the recipients whoever has opted out; the first of them, and why. Raises OptedOut where
        nobody is left to send to."""
        heeds: Callable[[bytes], bool] = _all_heed
        if request.opted_out == "send":
            heeds = partial(promotes, marketing=await self.marketing(kind))
        sifted = await self.outbox.sift(recipients.drafts, recipients.places, heeds, dry_run=dry_run)
        recipients.take_sifted(sifted)
        refused = [(recipients.path_at(n), why_refused(why)) for n, why in sifted.refused[:MAX_DETAILS]]
        if refused and not recipients.drafts and not dry_run:
            raise OptedOut("nobody is left to send to: the recipients have opted out", refused)
        return refused

    async def queue_each(
        self,
        kind: str,
        request: ManyRequest,
        recipients: Drafts,
        warnings: list[str],
        terms: Terms,
        lane: str,
        **more: Any,
    ) -> None:
        """Store a task for those who have a draft, and answer with it; ``more`` stands in the answer."""
        drafts = recipients.drafts
        if skipped := recipients.total - len(drafts):
            more["skipped"] = skipped
        if recipients.suppressed:
            more["suppressed"] = recipients.suppressed
        task_id = await self.outbox.submit(
            kind,
            drafts,
            places=recipients.places,
            lane=lane,
            priority=PRIORITIES[request.priority],
            terms=terms,
            task_id=self.task_id,
            skipped=skipped,
        )
        self.accept(task_id, f"{counted(len(drafts))} queued", warnings, **more)

    async def _send_and_wait(
        self,
        kind: str,
        recipients: Drafts,
        problems: list[Problem],
        warnings: list[str],
        terms: Terms,
        lane: str,
    ) -> None:
        total = recipients.total
        task_id, taken = await self.outbox.submit_and_complete(
            kind,
            recipients.drafts,
            places=recipients.places,
            lane=lane,
            priority=HIGH,
            timeout_s=self.direct_timeout_s,
            terms=terms,
            task_id=self.task_id,
            skipped=total - len(recipients.drafts),
        )
        if taken is None:
            self.accept(task_id, "not all have an outcome yet, the rest stays queued", warnings, status=202)
            return
        if taken < len(recipients.drafts):
            failures = await self.outbox.failures(task_id, MAX_DETAILS)
            problems += [(recipients.path_at(place), problem_of(error)) for place, error in failures]
        result = {
            "total": total,
            "successful": taken,
            "failed": total - taken,
            "errors": [f"{path}: {problem}" for path, problem in problems[:MAX_DETAILS]],
        }
        self.accept(task_id, f"{taken} of {total} messages were sent", warnings, result=result)


class SendMany(ManyHandler):
    """``POST`` of a message to each of many; ``send`` says which."""

    send: ManySend

    async def post(self) -> None:
        """200 with a task id, or with the result if it was waited for; 400 naming each recipient at fault;
        202 where time ran out."""
        findings = Findings()
        read, items = await self._read(findings)
        request: ManyRequest = read.fields
        terms = terms_of(request, self.now_ms(), findings)
        lane = lane_of(request, self.numbers, findings)
        is_template = self.send.kind == "template"
        recipients = Recipients(
            self.send,
            read,
            findings,
            drop_repeated=request.duplicates == "drop",
            fallback=await self.fallback_of(request, findings, template=is_template),
            templates=await self.templates.known() if is_template else None,
        )
        await self.send_each(self.send.kind, request, recipients, items, findings, terms, lane)

    async def _read(self, findings: Findings) -> tuple[Read, list[msgspec.Raw]]:
        """The request, and its recipients undecoded."""
        body: dict[str, Any] = {}
        items: list[msgspec.Raw] = []
        name = "phones" if self.send.recipient is None else "recipients"
        for field, raw in self.read_raw().items():
            if field == name and (given := await items_of(raw)) is not None:
                fits = len(given) <= MAX_RECIPIENTS
                items = given if fits else []
                # The first stands for all, where their number is right.
                body[field] = given[:1] if fits else given
            else:
                body[field] = self.decode(raw)
        return read_request(body, self.send.request, findings), items


def _all_heed(message: bytes) -> bool:
    """That everybody who has opted out is left out."""
    return True


async def items_of(raw: msgspec.Raw) -> list[msgspec.Raw] | None:
    """The items of a list; None where it is none."""
    # It may be nearly all of the largest body, which was walked just now to find it.
    await asyncio.sleep(0)
    try:
        return msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return None
