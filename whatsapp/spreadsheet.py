"""A CSV file of people, and texts with places for its columns.

Pure. Takes what spreadsheets save: with commas, semicolons or tabs, in UTF-8, UTF-16 or the Western European
code page of Windows. A place is ``{{column}}``; names of columns are compared without case and outer blanks.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from store.errors import Problem

__all__ = ["BadSheet", "Row", "Sheet", "has_places", "read_sheet", "render", "unknown_places", "value_of"]

_PLACE = re.compile(r"\{\{([^{}]*)\}\}")
_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(rf"sep=([{_DELIMITERS}])\r?\n")
"""A first line that Excel writes and reads, and that is no row."""
_MAX_COLUMNS = 200
_HEADER_WITHIN = 1000
"""So many lines at the beginning may be empty."""
_LISTED = 20
_NAME_LIMIT = 100
"""So much is told of the columns."""


class BadSheet(ValueError):
    """The file cannot be read as a whole; the text is for who made it."""


class Row(NamedTuple):
    """One person."""

    number: int
    """As the spreadsheet counts, from 1: empty ones too, and a cell of several lines is in one."""
    values: Mapping[str, str]
    """By folded name of the column."""
    problem: str = ""
    """Why it has no values."""


class Sheet(NamedTuple):
    """A file that has a header."""

    columns: Sequence[str]
    """As they are spelt."""
    notes: Sequence[str]
    """What was assumed."""
    rows: Iterator[Row | None]
    """Each once, None where it is empty: there may be a million of those. Raises BadSheet where the file
    cannot be read on."""

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return _fold(column) in map(_fold, self.columns)

    def spelt(self, column: str) -> str:
        """The name of a column as the file has it."""
        return next(name for name in self.columns if _fold(name) == _fold(column))

    def listed(self) -> str:
        """The columns, for a sentence."""
        names = [name[:_NAME_LIMIT] for name in self.columns[:_LISTED] if name]
        return ", ".join(names) + (", ..." if len(self.columns) > _LISTED else "")


def read_sheet(content: bytes) -> Sheet:
    """The sheet in a file. Raises BadSheet."""
    text, notes = _decode(content)
    if said := _SEPARATOR.match(text):
        text = text[said.end() :]
    delimiter = said[1] if said else _delimiter(text)
    records = _records(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    header = next((fields for _, fields in islice(records, _HEADER_WITHIN) if fields), None)
    if header is None:
        raise BadSheet("is empty: its first line must name the columns")
    columns = [name.strip() for name in header]
    _check(columns)
    return Sheet(columns, notes, _rows(records, [_fold(name) for name in columns]))


def has_places(value: Any) -> bool:
    """Whether there is a place in a JSON value."""
    if isinstance(value, list):
        return any(map(has_places, value))
    if isinstance(value, dict):
        return any(map(has_places, value.values()))
    return isinstance(value, str) and _PLACE.search(value) is not None


def unknown_places(value: Any, sheet: Sheet, path: str) -> list[Problem]:
    """Places in a JSON value that no column fills, by path."""
    if isinstance(value, str):
        names = dict.fromkeys(name for name in _PLACE.findall(value) if not sheet.has(name))
        listed = sheet.listed() if names else ""
        return [
            (path, f"{{{{{name[:_NAME_LIMIT]}}}}} is no column of the file, which has {listed}")
            for name in names
        ]
    if isinstance(value, list):
        return [p for n, item in enumerate(value) for p in unknown_places(item, sheet, f"{path}[{n}]")]
    if isinstance(value, dict):
        return [p for name, item in value.items() for p in unknown_places(item, sheet, f"{path}.{name}")]
    return []


def render(value: Any, row: Row) -> Any:
    """A JSON value with the places in its texts filled from a row."""
    if isinstance(value, str):
        return _PLACE.sub(lambda place: row.values[_fold(place[1])], value) if "{{" in value else value
    if isinstance(value, list):
        return [render(item, row) for item in value]
    if isinstance(value, dict):
        return {name: render(item, row) for name, item in value.items()}
    return value


def value_of(row: Row, column: str) -> str:
    """What a row has in this column."""
    return row.values[_fold(column)]


def _fold(name: str) -> str:
    return name.strip().casefold()


def _decode(content: bytes) -> tuple[str, list[str]]:
    if content.startswith(b"PK\x03\x04"):
        raise BadSheet("is a workbook: save it as CSV")
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if content.startswith(mark):
            try:
                return content.decode(encoding), []
            except UnicodeDecodeError:
                raise BadSheet("begins like UTF-16 and is not: save it as CSV in UTF-8") from None
    try:
        text, notes = content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
        notes = ["file: not UTF-8, read as Windows-1252; look at letters with accents"]
    if "\0" in text:
        raise BadSheet("is no text: save the spreadsheet as CSV")
    return text, notes


def _delimiter(text: str) -> str:
    header = next(
        (line for line in islice(io.StringIO(text, newline=None), _HEADER_WITHIN) if line.strip()), ""
    )
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)


def _check(columns: Sequence[str]) -> None:
    if len(columns) > _MAX_COLUMNS:
        raise BadSheet(f"has {len(columns)} columns, at most {_MAX_COLUMNS}")
    seen: set[str] = set()
    for name in columns:
        if name and _fold(name) in seen:
            raise BadSheet(f"names the column {name[:100]} twice")
        seen.add(_fold(name))


def _records(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Each with its number; those that are empty without fields. Raises BadSheet."""
    number = 0
    try:
        for number, fields in enumerate(lines, 1):
            yield number, fields if any(field.strip() for field in fields) else []
    except csv.Error as error:
        # What follows an open quote cannot be told apart any more.
        raise BadSheet(f"cannot be read from row {number + 1} on: {error}") from None


def _rows(records: Iterator[tuple[int, list[str]]], names: Sequence[str]) -> Iterator[Row | None]:
    width = len(names)
    for number, fields in records:
        if not fields:
            yield None
            continue
        if len(fields) > width and not any(field.strip() for field in fields[width:]):
            fields = fields[:width]
        if len(fields) == width:
            yield Row(number, dict(zip(names, (field.strip() for field in fields), strict=True)))
        else:
            yield Row(number, {}, f"has {len(fields)} fields, and the header has {width}")
