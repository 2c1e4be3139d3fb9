"""``python -m tests.support.event_page``: writes the examples of docs/events.md from the code.

Owns the block of ``json`` in the section of each event; all else on the page is written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from store.records import NewEvent
from tests.support.event_examples import examples

__all__ = ["PAGE", "SECTION", "shown", "written"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "events.md"
SECTION = re.compile(r"^### `([a-z]+\.[a-z]+)`\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
"""The section of an event: its name, and what stands in it."""

_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WIDTH = 110


def written(text: str) -> str:
    """The page with its examples made anew."""
    made = examples()

    def renew(section: re.Match[str]) -> str:
        event = made.get(section[1])
        block = "" if event is None else f"```json\n{shown(event)}\n```"
        return _BLOCK.sub(lambda _: block, section[0], count=1) if block else section[0]

    return SECTION.sub(renew, text)


def shown(event: NewEvent) -> str:
    """An event as the page shows it: without what its place in the log puts before it."""
    return _folded(msgspec.json.decode(event.body))


def _folded(value: Any, indent: int = 0, used: int = 0) -> str:
    """JSON with each object and list in one line where it fits into one, else its items one below another."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or indent + used + len(line) < _WIDTH:
        return line
    inner = indent + 2
    if isinstance(value, dict):
        heads = [f"{json.dumps(name)}: " for name in value]
        items = [head + _folded(value[json.loads(head[:-2])], inner, len(head)) for head in heads]
    else:
        items = [_folded(item, inner) for item in value]
    first, last = ("{", "}") if isinstance(value, dict) else ("[", "]")
    lines = ",\n".join(" " * inner + item for item in items)
    return f"{first}\n{lines}\n{' ' * indent}{last}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
