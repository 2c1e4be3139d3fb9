"""``POST /api/broadcasts``: a message to everybody in a CSV file (contract.md, Broadcasts from a
spreadsheet).

What the form's fields mean is in ``sheet_request.py``, what a CSV file is in ``whatsapp/spreadsheet.py``;
each row then goes the way of a recipient of any send to many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from handlers.base import MAX_DETAILS, BadForm, UnsupportedMedia
from handlers.drafting import Read, read_request
from handlers.fields import refuse_if
from handlers.options import MAX_RECIPIENTS, lane_of, terms_of
from handlers.recipients import Recipients
from handlers.requests import STAND_INS
from handlers.sends_many import ManyHandler
from handlers.sheet_request import SheetRequest, SheetSend, fields_of, sheet_problems
from store.errors import Problem
from whatsapp.drafts import Draft
from whatsapp.spreadsheet import BadSheet, Row, Sheet, read_sheet
from whatsapp.validate import Findings

__all__ = ["Broadcasts"]

_FIELD_LIMIT = 64 * 1024
"""Bytes of one field: it is filled anew for each row."""
_PREVIEW = 5
_ENVELOPE = ("messaging_product", "recipient_type", "to", "recipient")


class Broadcasts(ManyHandler):
    """``POST`` of a form with a file."""

    def sameness(self) -> bytes:
        """The fields and the file: whoever repeats a form puts another boundary between them."""
        request = self.request
        if not request.files:
            return request.body
        files = [(name, one.body) for name, files in sorted(request.files.items()) for one in files]
        told = [(name, len(body)) for name, body in files]
        fields = [
            [name, *(value.hex() for value in values)]
            for name, values in sorted(request.body_arguments.items())
        ]
        return b"".join([msgspec.json.encode([told, fields]), *(body for _, body in files)])

    async def post(self) -> None:
        """200 with a task id, or of a dry run with what would be sent; 400 naming each row at fault."""
        findings = Findings()
        request, sheet = self._read(findings)
        terms = terms_of(request, self.now_ms(), findings)
        lane = lane_of(request, self.numbers, findings)
        fallback = await self.fallback_of(request, findings, template=bool(request.template_name))
        refuse_if(findings.problems)
        assert sheet is not None
        send = SheetSend(request)
        rows = _Rows(
            send,
            sheet,
            findings,
            drop_repeated=request.duplicates == "drop",
            fallback=fallback,
            templates=await self.templates.known() if request.template_name else None,
        )
        refuses = request.on_invalid == "refuse" and not request.dry_run
        await rows.read(rows.bounded(sheet.rows), to_the_end=not refuses, keep=MAX_DETAILS)
        if not rows.total and not findings.problems:
            findings.fault("file", "has no row below its header")
        if refuses or rows.fault_for_all or not (rows.drafts or request.dry_run):
            refuse_if(findings.problems)
        notes = [*sheet.notes, *rows.warnings, *_told(rows.dropped)]
        refused = await self.leave_out(rows.kind, request, rows, dry_run=request.dry_run)
        notes += _told((path, f"{problem}, skipped") for path, problem in refused)
        if request.dry_run:
            self._preview(rows, findings.problems, notes)
        else:
            notes += _told((path, f"{problem}, skipped") for path, problem in findings.problems)
            await self.queue_each(rows.kind, request, rows, notes, terms, lane, total=rows.total)

    def _read(self, findings: Findings) -> tuple[SheetRequest, Sheet | None]:
        """The form. Raises InvalidRequest, BadForm, UnsupportedMedia."""
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            raise UnsupportedMedia("send a form: Content-Type: multipart/form-data, with the field file")
        read = read_request(fields_of(self._texts(findings), findings), SheetRequest, findings)
        findings.problems += [(path, f"is no field of this form{hint}") for path, hint in findings.unknown]
        findings.unknown.clear()
        request: SheetRequest = read.fields
        try:
            sheet = self._sheet(findings)
        except BadSheet as error:
            findings.fault("file", str(error))
            return request, None
        if sheet is not None:
            wrong = sheet_problems(request, sheet)
            findings.problems += [(path, why) for path, why in wrong if path not in read.faulty]
        return request, sheet

    def _texts(self, findings: Findings) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name, values in self.request.body_arguments.items():
            if name == "file":
                continue
            if len(values) > 1 or len(values[0]) > _FIELD_LIMIT:
                findings.fault(name[:100], f"must be given once, with at most {_FIELD_LIMIT} bytes")
                # Given, if wrongly: a text is not asked for once more.
                texts[name] = STAND_INS[name] if name in ("message", "template_name") else ""
                continue
            try:
                texts[name] = values[0].decode()
            except UnicodeDecodeError:
                raise BadForm(f"the field {name[:100]} is not UTF-8") from None
        return texts

    def _sheet(self, findings: Findings) -> Sheet | None:
        files = self.request.files.get("file", [])
        others = [name[:100] for name in self.request.files if name != "file"]
        findings.problems += [(name, "is no file of this form") for name in others]
        if len(files) == 1:
            return read_sheet(files[0].body)
        why = "must be one file" if files else "is required: a CSV file, as a part with a file name"
        findings.fault("file", why)
        return None

    def _preview(self, rows: _Rows, problems: list[Problem], notes: list[str]) -> None:
        shown = islice(zip(rows.places, rows.drafts, strict=True), _PREVIEW)
        self.answer(
            {
                "success": True,
                "dry_run": True,
                "total": rows.total,
                "valid": len(rows.drafts),
                "invalid": rows.total - len(rows.drafts) - rows.repeated - rows.suppressed,
                "repeated": rows.repeated,
                "suppressed": rows.suppressed,
                "problems": [{"path": path, "problem": why} for path, why in problems[:MAX_DETAILS]],
                "preview": [_shown(number, draft) for number, draft in shown],
                "warnings": notes,
            }
        )


class _Rows(Recipients):
    """The rows of a sheet as recipients."""

    list_name = "rows"

    def __init__(self, send: SheetSend, sheet: Sheet, findings: Findings, **options: Any) -> None:
        super().__init__(send.send, Read(send.common), findings, **options)
        self.kind = send.send.kind
        self.phone_name = sheet.spelt(send.phone_column)[:100]
        self._make = send.value
        self._told_to = findings

    def bounded(self, rows: Iterator[Row | None]) -> Iterator[Row | None]:
        """Those that can be read; the others, and one too many, are told."""
        try:
            for row in rows:
                if self.total == MAX_RECIPIENTS and row is not None:
                    self._told_to.fault("file", f"has more than {MAX_RECIPIENTS} rows")
                    return
                yield row
        except BadSheet as error:
            self._told_to.fault("file", str(error))

    def _where(self, path: str) -> str | None:
        # Of a list as a whole: how many there are is the same in every row.
        return path if path in ("parameters", "components") else super()._where(path)

    def _number(self, index: int, item: Row) -> int:
        return item.number

    def _value(self, item: Row) -> Any:
        return self._make(item)

    def _take(self, place: int, item: Row, keep: int) -> None:
        if item.problem:
            self.total += 1
            self._told_to.fault(f"{self.list_name}[{place}]", item.problem)
        else:
            super()._take(place, item, keep)


def _told(problems: Iterable[Problem]) -> list[str]:
    return [f"{path}: {why}" for path, why in islice(problems, MAX_DETAILS)]


def _shown(number: int, draft: Draft) -> dict[str, Any]:
    message = msgspec.json.decode(draft.payload, type=dict[str, Any])
    content = {name: value for name, value in message.items() if name not in _ENVELOPE}
    return {"row": number, "to": draft.address.phone or draft.address.user_id, "message": content}
