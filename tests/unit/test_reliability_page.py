"""docs/reliability.md against the code: its error table, and the tests that it names."""

from __future__ import annotations

import ast
import re

import pytest

from handlers.operations import operations
from handlers.trouble import trouble_of
from tests.support.pages import ROOT, page, section, sections, table
from tests.support.policy_page import PAGE, written
from whatsapp.error_table import TABLE

TEXT = page("docs/reliability.md")
TEST = r"`(tests/[\w/]+\.py)::(?:(\w+)::)?(\w+)`"
NAMED = sorted(set(re.findall(TEST, TEXT)))


def test_the_table_on_the_page_is_that_of_the_code() -> None:
    assert PAGE == ROOT / "docs" / "reliability.md"
    assert written(TEXT) == TEXT, "write it anew: python -m tests.support.policy_page"


def test_every_line_of_the_table_is_on_the_page() -> None:
    lines = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("| ")]
    told = {(cells[1].strip(), cells[-1].strip()) for cells in lines}
    assert [policy.name for policy in TABLE if (f"`{policy.name}`", policy.operator) not in told] == []


@pytest.mark.parametrize(("path", "group", "name"), NAMED)
def test_a_test_that_the_page_names_is_there(path: str, group: str, name: str) -> None:
    tree: ast.AST = ast.parse((ROOT / path).read_text("utf-8"))
    if group:
        (tree,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == group)
    nodes = list(ast.walk(tree))
    functions = [node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    # A state machine's test is a name that is given a value.
    names = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    assert name.lower().startswith("test")
    assert name in {*functions, *names}


def test_what_to_do_comes_first_and_has_every_trouble() -> None:
    first = sections(TEXT)[1]
    assert first.heading == "What to do"
    rows = table(first.text, "what you see")
    assert all(len(row) == 3 and all(row) for row in rows)
    held = {"name": "promo", "language": "es", "why": "why"}
    lane = {"phone_number_id": "1", "why": "why", "broadcasts_why": "why", "templates": [held]}
    hook = {"name": "crm", "last_error": "", "paused_at": 1}
    consumer = {"name": "tracker", "fault": "ValueError: no", "offset": 7}
    handover = {"name": "handover:shop", "fault": "shop: HTTP 503", "offset": 7}
    kinds = {one["what"] for one in trouble_of(False, [lane], [hook], [consumer, handover])} | {
        "account",
        "erasure",
        "retention",
        "subscriber",
    }
    told = {kind for row in rows for kind in re.findall(r"^`trouble`: `(\w+)`", row[0])}
    assert told == kinds == set(re.findall(r"\w+", _what_of_trouble()))


def _what_of_trouble() -> str:
    """Those that the page of operations has."""
    (found,) = re.findall(r"^\| `trouble\[\]` \|.*`what` \((.*?)\)", page("docs/operations.md"), re.MULTILINE)
    return found.replace(" or ", " ")


def test_what_to_do_names_calls_that_there_are() -> None:
    named = set(re.findall(r"`([A-Z]+ /api/[\w/{}-]+)`", section(TEXT, "What to do").text))
    assert len(named) >= 3
    assert named <= {f"{operation.method} {operation.path}" for operation in operations()}


@pytest.mark.parametrize("head", ["fault", "limit", "rule"])
def test_every_promise_names_a_test(head: str) -> None:
    rows = table(TEXT, head)
    assert len(rows) >= 5
    for row in rows:
        assert all(row)
        assert re.search(TEST, row[-1]), row


def test_nothing_that_looks_like_a_test_is_left_out_by_its_form() -> None:
    assert len(re.findall(r"\.py::", TEXT)) == len(re.findall(TEST, TEXT))
