"""docs/api.md against the code: every operation with its command, every field with its type and default,
every code with its status. That the commands work is for tests/acceptance/test_api_page.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import msgspec
import pytest
from msgspec import NODEFAULT, inspect

from handlers.answers import Refusal
from handlers.base import STATUS_OF
from handlers.openapi import Operation
from handlers.operations import operations
from handlers.options import FallbackTemplate, ManyRequest, OneOptions
from handlers.sheet_request import SheetRequest
from store.errors import GatewayError
from tests.support.pages import Command, page, section, sections, table
from whatsapp.compose_interactive import Button, ListRow, ListSection
from whatsapp.payloads import KINDS, Message, ReadMark
from whatsapp.webhook import BadPayload

PAGE = page("docs/api.md")
OPERATIONS = list(operations())
NO_OPERATIONS = {"GET /api/openapi.json", "GET /docs"}
"""Of the description itself."""
Fields = Mapping[str, tuple[str, str]]
"""Type and default of each, as the page has them."""


def name_of(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def calls(command: Command, heading: str) -> bool:
    """Whether a command is of the operation that a heading names."""
    method, path = heading.split()
    pattern = re.sub(r"\\{\w+\\}", r"\$[A-Z]+", re.escape(path))
    return command.called[0] == method and re.fullmatch(pattern, command.called[1]) is not None


def test_every_operation_has_its_heading_and_no_other() -> None:
    headings = [one.heading for one in sections(PAGE) if re.match("[A-Z]+ /", one.heading)]
    assert sorted(headings) == sorted({*map(name_of, OPERATIONS)} | NO_OPERATIONS)


@pytest.mark.parametrize("heading", sorted({*map(name_of, OPERATIONS)} | NO_OPERATIONS))
def test_every_operation_has_a_command_of_its_own(heading: str) -> None:
    assert any(calls(command, heading) for command in section(PAGE, heading).commands())


# -- fields ------------------------------------------------------------------------------------------------


def kind_of(type: inspect.Type) -> str:
    """The type of a field in the page's words."""
    if isinstance(type, inspect.Metadata):
        must = str((type.extra or {}).get("must", ""))
        return "time" if must.startswith("be a time") else kind_of(type.type)
    if isinstance(type, inspect.UnionType):
        kinds = [kind_of(one) for one in type.types if not isinstance(one, inspect.NoneType)]
        return "text or number" if sorted(kinds) == ["text", "whole number"] else " or ".join(kinds)
    if isinstance(type, inspect.LiteralType):
        return ", ".join(sorted(filter(None, map(str, type.values))))
    return {
        inspect.StrType: "text",
        inspect.BoolType: "true or false",
        inspect.IntType: "whole number",
        inspect.ListType: "list",
        inspect.DictType: "object",
        inspect.StructType: "object",
    }[type.__class__]


def default_of(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not NODEFAULT or field.default in ("", None):
        return "none"
    return field.default if isinstance(field.default, str) else json.dumps(field.default)


def fields_of(kind: type, *, without: Iterable[str] = (), prefix: str = "") -> Fields:
    told = inspect.type_info(kind)
    assert isinstance(told, inspect.StructType)
    return {
        f"{prefix}{field.encode_name}": (kind_of(field.type), default_of(field))
        for field in told.fields
        if field.encode_name not in without
    }


OPTIONS = {*OneOptions.__struct_fields__, *ManyRequest.__struct_fields__}


def expected(operation: Operation) -> Fields:
    """The fields of its body, but of a send for the options of every send."""
    if operation.path == "/api/broadcasts":
        return {"file": ("file", "required"), **fields_of(SheetRequest, without=OPTIONS)}
    if operation.request is None:
        properties = (operation.schema or {}).get("properties", {})
        required = (operation.schema or {}).get("required", ())
        return {
            name: (
                "file" if schema.get("format") == "binary" else "text",
                "required" if name in required else "none",
            )
            for name, schema in properties.items()
        }
    sends = operation.tag == "messages"
    found = dict(fields_of(operation.request, without=OPTIONS if sends else ()))
    if operation.items is not None and isinstance(operation.items[1], type):
        found |= fields_of(operation.items[1], prefix=f"{operation.items[0]}[].")
    return found


def listed(rows: list[list[str]]) -> Fields:
    """The fields of a table; in a row several may stand that are alike."""
    told: dict[str, tuple[str, str]] = {}
    for row in rows:
        kind = ", ".join(sorted(row[1].split(", ")))
        for name in re.findall("`([^`]+)`", row[0]):
            assert name not in told
            told[name] = (kind, row[2])
    return told


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if one.request or (one.schema and one.path != "/api/messages")],
    ids=name_of,
)
def test_every_field_of_a_body_has_its_line_with_its_default(operation: Operation) -> None:
    rows = table(section(PAGE, name_of(operation)).text, "field")
    assert listed(rows) == expected(operation)


def test_every_option_of_a_send_has_its_line_with_its_defaults() -> None:
    to_one, to_many = fields_of(OneOptions), fields_of(ManyRequest)
    assert to_one.keys() <= to_many.keys()
    told = {}
    for name, (kind, default) in to_many.items():
        _, other = to_one.get(name, (kind, default))
        told[name] = (kind, default if default == other else f"{other} to one, {default} to many")
    assert listed(table(section(PAGE, "Options of every send").text, "field")) == told


def test_every_field_of_a_fallback_has_its_line_with_its_default() -> None:
    rows = table(section(PAGE, "Where the window is closed").text, "field")
    assert listed(rows) == fields_of(FallbackTemplate)


def test_every_field_of_buttons_and_lists_has_its_line() -> None:
    rows = table(section(PAGE, "Buttons and lists").text, "field")
    assert [row[0].strip("`") for row in rows] == [
        *fields_of(Button, prefix="buttons[]."),
        *fields_of(ListSection, prefix="sections[]."),
        *fields_of(ListRow, prefix="sections[].rows[]."),
    ]


def test_every_field_of_metas_own_form_has_its_line() -> None:
    text = section(PAGE, "POST /api/messages").text
    message, mark = text.split("The mark that")
    rows = table(message, "field")
    named = {name for row in rows for name in re.findall("`([^`]+)`", row[0])}
    assert named - set(KINDS) == set(Message.__struct_fields__) - set(KINDS)
    (kinds,) = (row[1] for row in rows if row[0] == "`type`")
    assert set(KINDS) <= set(re.findall(r"\w+", kinds))
    marks = {name for row in table(mark, "field") for name in re.findall("`([^`]+)`", row[0])}
    assert marks == {*ReadMark.__struct_fields__, "phone_number_id"} - {"messaging_product"}


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.query], ids=name_of)
def test_every_filter_of_a_query_has_its_line(operation: Operation) -> None:
    rows = table(section(PAGE, name_of(operation)).text, "query")
    assert operation.query is not None
    defaults = {name: default for name, (_, default) in fields_of(operation.query).items()}
    assert {row[0].strip("`"): row[1] for row in rows} == defaults


# -- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if not one.raw], ids=name_of)
def test_answers_are_as_the_description_has_them(operation: Operation) -> None:
    for command in section(PAGE, name_of(operation)).commands():
        if not calls(command, name_of(operation)) or command.kind != "json" or "..." in command.shown:
            continue
        kind = operation.answers[command.status][1] if command.status < 300 else Refusal
        assert command.shown.keys() <= set(kind.__struct_fields__), command
        if '"...":' not in command.answer:
            msgspec.convert(command.shown, kind)


def test_every_code_has_its_line_with_its_status() -> None:
    codes = {kind.code: status for kind, status in STATUS_OF.items() if kind is not BadPayload}
    # The others are no kinds of error: Tornado's, of bodies that are too large, of messages that never left.
    codes |= {"bad_request": 400, "method_not_allowed": 405, "too_large": 413}
    codes |= {"window_closed": 400, "not_sent": 502}
    rows = table(section(PAGE, "Refused").text, "code")
    assert {row[0].strip("`"): int(row[1]) for row in rows} == codes
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    assert all(issubclass(kind, GatewayError) and row[2] for kind in STATUS_OF for row in rows)
