"""The error table against the fact sheets: every code that they name, and what they say is to be done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.error_rows import Case, cases
from whatsapp.error_table import TABLE, policy_of
from whatsapp.errors import classify, parse_error, parse_status_error

DOCS = Path(__file__).resolve().parents[2] / "docs"
CASES = list(cases())
_SPAN = re.compile("(\\d+)\\s*[\N{EN DASH}\N{HORIZONTAL ELLIPSIS}]\\s*(\\d+)")


def codes_of(page: str, begin: str, end: str) -> Iterator[int]:
    """The codes in the first column of the tables between two headings."""
    text = (DOCS / page).read_text("utf-8")
    part = text[text.index(f"\n{begin}") : text.index(f"\n{end}")]
    for line in part.splitlines():
        column = line.split("|")[1] if line.startswith("| ") else ""
        # What a class or a heading has for a first column names no code.
        if not re.match(r"\s*\d", column):
            continue
        for first, last in _SPAN.findall(column):
            yield from range(int(first), int(last) + 1)
        yield from map(int, re.findall(r"\d+", _SPAN.sub(" ", column)))


NAMED = {
    *codes_of("CLOUD_API.md", "## 2. Error codes", "## 3."),
    *codes_of("CLOUD_API_2026.md", "### 12.2", "## 13."),
}


def test_every_code_that_the_fact_sheets_name_is_in_the_table() -> None:
    assert len(NAMED) > 250
    assert [code for code in sorted(NAMED) if policy_of(code) is None] == []


def test_the_table_knows_no_code_that_the_fact_sheets_do_not_name() -> None:
    assert {code for policy in TABLE for code in policy.codes} == NAMED


def test_every_code_has_a_case_here_and_one_only() -> None:
    assert sorted(case.code for case in CASES) == sorted(NAMED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.code))
def test_a_call_that_is_refused_with_it(case: Case) -> None:
    code, row = case
    body = msgspec.json.encode({"error": {"code": code, "message": f"(#{code}) as asked"}})
    verdict = classify(parse_error(row.http or 400, body, {}))
    assert (verdict.outcome, verdict.scope, verdict.burn) == (row.what, row.scope, row.burn)
    # A refusal within Meta's own trouble may have come after the message was taken.
    in_doubt = row.doubt or (row.what == "retry" and row.scope == "row" and row.http >= 500)
    assert verdict.doubt is in_doubt
    assert (verdict.delay_s, verdict.max_tries) == (row.after_s, row.tries)
    assert row.says in verdict.operator


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.code))
def test_a_status_that_fails_with_it(case: Case) -> None:
    code, row = case
    verdict = classify(parse_status_error({"code": code, "title": "as asked"}))
    assert (verdict.outcome, verdict.scope, verdict.burn) == (row.what, row.scope, row.burn)
    assert not verdict.doubt, "Meta says that it failed"
    assert (verdict.delay_s, verdict.max_tries) == (row.after_s, row.tries)
