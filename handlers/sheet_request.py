"""The form of ``/api/broadcasts`` (contract.md, Broadcasts from a spreadsheet): its fields, and what they
make of a row.

Pure. Fields of a form are texts; those of other types are read here, and then held to the same types and
limits as the fields of a JSON body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import field

from handlers.options import ManyRequest, Parameters
from handlers.requests import BulkTemplate, Recipient
from handlers.sends import MANY, ManySend
from store.errors import Problem
from whatsapp import compose
from whatsapp.spreadsheet import Row, Sheet, has_places, render, unknown_places, value_of
from whatsapp.validate import Findings

__all__ = ["SheetRequest", "SheetSend", "fields_of", "sheet_problems"]

_BOOLEANS: Mapping[str, Any] = {"true": True, "false": False}
_JSON = {"parameters": "a list", "components": "a list", "fallback_template": "an object"}
_RENDERED = ("message", "parameters", "components")
_FOR_TEMPLATES = ("language", "parameters", "components")


class SheetRequest(ManyRequest, frozen=True, kw_only=True):
    """The fields beside the file."""

    message: str = ""
    template_name: str = ""
    language: str = "es"
    parameters: Parameters = field(default_factory=list)
    components: list[Any] = field(default_factory=list)
    phone_column: str = "phone"
    dry_run: bool = False

    def rules(self) -> Iterable[Problem]:
        """Nobody waits for so many."""
        if not self.use_queue:
            yield ("use_queue", "is always true here")


def fields_of(form: Mapping[str, str], findings: Findings) -> dict[str, Any]:
    """The fields of a form as those of a JSON object; an empty text is a field left out."""
    fields: dict[str, Any] = {}
    for name, text in form.items():
        if name in ("use_queue", "dry_run", "ordered"):
            fields[name] = _BOOLEANS.get(text.strip().lower(), text.strip() or None)
        elif name in _JSON:
            try:
                fields[name] = msgspec.json.decode(text) if text.strip() else None
            except (msgspec.DecodeError, RecursionError):
                findings.fault(name, f"must be {_JSON[name]}, written as JSON")
        elif name == "message":
            # Browsers end the lines of a form's texts their own way.
            fields[name] = text.replace("\r\n", "\n")
        else:
            fields[name] = text.strip() or None
    if bool(fields.get("message")) == bool(fields.get("template_name")):
        findings.fault("message", "give message or template_name, and not both")
    elif fields.get("message"):
        findings.problems += [
            (name, "goes with template_name only") for name in _FOR_TEMPLATES if fields.get(name)
        ]
    return fields


def sheet_problems(request: SheetRequest, sheet: Sheet) -> list[Problem]:
    """Columns that are asked for and are not there."""
    problems: list[Problem] = []
    if not sheet.has(request.phone_column):
        name = request.phone_column[:100]
        problems.append(("phone_column", f"{name} is no column of the file, which has {sheet.listed()}"))
    for name in _RENDERED:
        problems += unknown_places(getattr(request, name), sheet, name)
    return problems


class SheetSend:
    """What a request sends, and to a row what of it is its own: the fields with places, so that what is at
    fault in the others is told once."""

    def __init__(self, request: SheetRequest) -> None:
        self.phone_column = request.phone_column
        self._own: dict[str, Any] = {}
        if request.template_name:
            self.send = MANY["/api/send-bulk-template"]
            # Together: one of a row's own puts both in its place.
            given = {"parameters": request.parameters, "components": request.components}
            self._own = given if has_places(list(given.values())) else {}
            self.common: ManyRequest = BulkTemplate(
                recipients=[None],
                template_name=request.template_name,
                language=request.language,
                parameters=[] if self._own else request.parameters,
                components=[] if self._own else request.components,
            )
        elif has_places(request.message):
            self.send = MANY["/api/send-bulk"]
            self._own = {"message": request.message}
            self.common = request
        else:
            self.send = ManySend(
                "text", SheetRequest, Recipient, lambda common, _: compose.text(common.message)
            )
            self.common = request

    def value(self, row: Row) -> dict[str, Any]:
        """A row as one of ``recipients``."""
        return {"phone": value_of(row, self.phone_column), **render(self._own, row)}
