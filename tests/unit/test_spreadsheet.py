"""CSV files as people save them, and the places that their columns fill."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.spreadsheet import BadSheet, Row, has_places, read_sheet, render, unknown_places, value_of


def rows_of(content: bytes) -> list[Row]:
    return [row for row in read_sheet(content).rows if row is not None]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"phone,Name\n521,Ana\n522,Jos\xc3\xa9\n", id="utf-8"),
        pytest.param(b"\xef\xbb\xbfphone,Name\r\n521,Ana\r\n522,Jos\xc3\xa9\r\n", id="utf-8 with a mark"),
        pytest.param("phone\tName\n521\tAna\n522\tJosé\n".encode("utf-16"), id="utf-16 with tabs"),
        pytest.param(
            "phone;Name\r521;Ana\r522;José".encode("cp1252"), id="windows, semicolons, old line ends"
        ),
        pytest.param("\n\nphone , Name\n\n521, Ana\n , \n522,José,,\n".encode(), id="blanks and empty lines"),
        pytest.param("sep=;\r\nphone;Name\r\n521;Ana\r\n522;José\r\n".encode(), id="Excel's own first line"),
        pytest.param('"phone","Name"\n"521","Ana"\n"522","José"\n'.encode(), id="quoted"),
    ],
)
def test_what_spreadsheets_save_is_read(content: bytes) -> None:
    sheet = read_sheet(content)
    assert sheet.columns == ["phone", "Name"]
    assert sheet.has(" NAME ") and not sheet.has("surname")
    rows = [row for row in sheet.rows if row is not None]
    assert [(value_of(row, "Phone"), value_of(row, "name"), row.problem) for row in rows] == [
        ("521", "Ana", ""),
        ("522", "José", ""),
    ]


def test_what_was_assumed_is_told() -> None:
    assert read_sheet(b"phone\n521\n").notes == []
    assert "Windows-1252" in read_sheet("phone\nJosé".encode("cp1252")).notes[0]


def test_rows_are_counted_as_the_spreadsheet_does() -> None:
    content = b'phone,text\n521,"two\nlines"\n\n522\n523,x,y\n524,ok\n'
    told = [(row.number, row.problem) for row in rows_of(content)]
    assert told == [
        (2, ""),
        (4, "has 1 fields, and the header has 2"),
        (5, "has 3 fields, and the header has 2"),
        (6, ""),
    ]


def test_after_a_quote_that_is_not_closed_nothing_is_guessed() -> None:
    rows = read_sheet(b'phone,text\n521,a\n522,"open\n523,b\n').rows
    first = next(rows)
    assert first is not None and first.number == 2
    with pytest.raises(BadSheet, match="cannot be read from row 3 on"):
        next(rows)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n \n,,\n", "is empty"),
        (b"\n" * 1000 + b"phone\n521\n", "is empty"),
        (b"phone,Phone\n1,2\n", "names the column Phone twice"),
        (b"PK\x03\x04\0\0", "is a workbook"),
        (b"a\0b", "is no text"),
        (b"\xff\xfea", "begins like UTF-16"),
        (b",".join(b"c%d" % n for n in range(201)), "has 201 columns, at most 200"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(content: bytes, why: str) -> None:
    with pytest.raises(BadSheet, match=why):
        read_sheet(content)


def test_places_are_filled_wherever_they_stand() -> None:
    (row,) = rows_of(b"phone,First Name,total\n521,Ana,7 {{phone}}\n")
    value = {"a": ["Hola {{first name}}", "{{ TOTAL }}/{{total}}"], "b": 7, "c": None, "d": "{ {x} }"}
    assert render(value, row) == {
        "a": ["Hola Ana", "7 {{phone}}/7 {{phone}}"],
        "b": 7,
        "c": None,
        "d": "{ {x} }",
    }
    assert has_places(value) and not has_places({"b": 7, "c": [None, "{ {x} }"]})


def test_places_without_a_column_are_told_by_path() -> None:
    sheet = read_sheet(b"phone,name\n521,Ana\n")
    value = {"text": "{{name}} {{nmae}}", "parameters": ["{{x}}", {"y": "{{}}"}]}
    found = unknown_places(value, sheet, "m")
    assert [path for path, _ in found] == ["m.text", "m.parameters[0]", "m.parameters[1].y"]
    assert found[0][1] == "{{nmae}} is no column of the file, which has phone, name"


@given(st.binary(max_size=200) | st.text(alphabet='ab",;\n\r\t{} ').map(str.encode))
def test_any_file_is_rows_or_a_refusal(content: bytes) -> None:
    try:
        rows = rows_of(content)
    except BadSheet:
        return
    assert all(row.problem or row.values for row in rows)
    assert [row.number for row in rows] == sorted({row.number for row in rows})
