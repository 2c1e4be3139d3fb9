"""What the import linter is told, against what the modules say of themselves."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("handlers", "hub", "whatsapp", "store")


def linter() -> dict[str, Any]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    options: dict[str, Any] = pyproject["tool"]["importlinter"]
    return options


def modules() -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of every module of the rooms."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def test_every_module_that_calls_itself_pure_is_held_to_it() -> None:
    (contract,) = (one for one in linter()["contracts"] if one["name"].startswith("pure modules"))
    pure = {name for name, docstring in modules() if re.search(r"^Pure[.:]", docstring, re.MULTILINE)}
    assert pure
    assert pure <= set(contract["source_modules"])


def test_every_module_says_what_it_owns() -> None:
    assert [name for name, docstring in modules() if not docstring] == []


def test_every_room_is_linted() -> None:
    assert sorted(linter()["root_packages"]) == sorted(ROOMS)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == set(ROOMS)


def test_no_two_files_of_tests_have_the_same_name() -> None:
    """There are no packages: pytest would stop at the second one, and only where both are collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
