"""The form of ``/api/broadcasts``: what its texts mean, and what of a row is its own."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.sheet_request import SheetRequest, SheetSend, fields_of, sheet_problems
from whatsapp.spreadsheet import read_sheet
from whatsapp.validate import Findings, validate

CONTENT = b"phone,Name\n521,Ana\n"


def request_of(**form: str) -> tuple[SheetRequest | None, dict[str, str]]:
    """The request of a form, and its faults by path."""
    findings = Findings()
    request = validate(fields_of(form, findings), SheetRequest, findings)
    return request, dict(findings.problems)


def test_empty_fields_are_left_out_and_texts_become_what_they_mean() -> None:
    request, problems = request_of(
        message="a\r\nb", dry_run=" TRUE ", use_queue="true", parameters="", send_at=" ", phone_column=""
    )
    assert problems == {}
    assert request == SheetRequest(message="a\nb", dry_run=True)
    request, problems = request_of(template_name=" t ", parameters='["x", 7]', components="[{}]")
    assert (request, problems) == (
        SheetRequest(template_name="t", parameters=["x", 7], components=[{}]),
        {},
    )


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ({"dry_run": "yes"}, "dry_run"),
        ({"use_queue": "False"}, "use_queue"),
        ({"language": "en"}, "language"),
        ({"components": "[1]"}, "components"),
        ({"parameters": "[" * 100_000}, "parameters"),
        ({"template_name": "t"}, "message"),
    ],
)
def test_each_fault_is_named(form: dict[str, str], path: str) -> None:
    assert list(request_of(**{"message": "x", **form})[1]) == [path]


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ({"message": "Hola"}, {}),
        ({"message": "Hola {{NAME}}"}, {"message": "Hola Ana"}),
        ({"template_name": "t", "parameters": ["x"]}, {}),
        ({"template_name": "t", "parameters": ["{{name}}", 7]}, {"parameters": ["Ana", 7], "components": []}),
        (
            {"template_name": "t", "parameters": ["x"], "components": [{"a": "{{phone}}"}]},
            {"parameters": ["x"], "components": [{"a": "521"}]},
        ),
    ],
)
def test_only_what_has_places_is_a_rows_own(fields: dict[str, Any], own: dict[str, Any]) -> None:
    sheet = read_sheet(CONTENT)
    request = SheetRequest(**fields)
    assert sheet_problems(request, sheet) == []
    (row,) = sheet.rows
    assert row is not None
    assert SheetSend(request).value(row) == {"phone": "521", **own}


def test_columns_that_are_not_there_are_told_by_field() -> None:
    request = SheetRequest(
        phone_column="tel", template_name="t", parameters=["{{name}}", "{{x}}"], components=[{"a": "{{y}}"}]
    )
    found = [path for path, _ in sheet_problems(request, read_sheet(CONTENT))]
    assert found == ["phone_column", "parameters[1]", "components[0].a"]
