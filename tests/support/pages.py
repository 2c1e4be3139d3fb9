"""The pages as a reader has them: sections, tables, commands, and the answers that they show.

A command is a block of ``sh``; its answer is the block of another kind that follows it before the next
heading. Where its HTTP status is not 200, what stands before the command ends with it and a colon. In an
answer ``...`` stands for what is left out: as a text, or a part of one, for any; as the last of a list, or
the name of a field, for more of them. All else is to be as it is shown, but for times.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["ROOT", "Command", "Section", "differences", "lines_of", "page", "section", "sections", "table"]

ROOT = Path(__file__).resolve().parents[2]
MORE = "..."
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"\b([1-5]\d\d):\s*\Z")


class Command(NamedTuple):
    """A command, and what the page says that it prints."""

    text: str
    kind: str = ""
    """Of the answer: json, jsonl, csv, or another of which the lines count. Empty: it prints nothing."""
    answer: str = ""
    status: int = 200

    @property
    def shown(self) -> Any:
        """The answer, to be compared with what :meth:`read` makes of the output."""
        return self.read(self.answer)

    def read(self, output: str) -> Any:
        """An output as values. Raises ValueError where it is of another kind."""
        lines = output.splitlines()
        if self.kind == "json":
            return json.loads(output)
        if self.kind == "jsonl":
            return [json.loads(line) for line in lines if line]
        return list(csv.reader(lines)) if self.kind == "csv" else lines

    @property
    def called(self) -> tuple[str, str]:
        """Method and path of its call; both empty where it calls nothing."""
        found = re.search(r"http://127\.0\.0\.1:5000(/[^\s'\"?]*)", self.text)
        if "curl" not in self.text or found is None:
            return "", ""
        method = re.search(r" -X (\w+)", self.text)
        return method[1] if method else "POST" if re.search(
            r" (-[dF]|--form-string) ", self.text
        ) else "GET", found[1]


class Section(NamedTuple):
    """A heading and what stands below it, up to the next heading of any level."""

    heading: str
    text: str

    def commands(self) -> Iterator[Command]:
        """Its commands, in their order."""
        command, status, after = "", 200, 0
        for block in _BLOCK.finditer(self.text):
            kind, content = block.groups()
            if kind == "sh":
                if command:
                    yield Command(command)
                told = _STATUS.search(self.text[after : block.start()])
                command, status = content, int(told[1]) if told else 200
            elif command:
                yield Command(command, kind, content, status)
                command = ""
            after = block.end()
        if command:
            yield Command(command)


def page(name: str) -> str:
    """A page of the project, by its path."""
    return (ROOT / name).read_text("utf-8")


def sections(text: str) -> list[Section]:
    """The sections of a page, in their order."""
    # In a block "# ..." is a comment of the shell.
    hidden = _BLOCK.sub(lambda block: re.sub("^#", "~", block[0], flags=re.MULTILINE), text)
    heads = list(re.finditer(r"^#+ (.+)\n", hidden, re.MULTILINE))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [Section(head[1], text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]


def section(text: str, heading: str) -> Section:
    """The section of this heading."""
    (found,) = (one for one in sections(text) if one.heading == heading)
    return found


def table(text: str, head: str) -> list[list[str]]:
    """The cells of the rows of the one table of a text that begins with this column."""
    (rows,) = re.findall(rf"^\| {head} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in rows.splitlines()]


def lines_of(text: str) -> list[str]:
    """The commands of the indented blocks of a text, each in one line, without comments."""
    joined = text.replace("\\\n", " ")
    indented = [line.strip() for line in joined.splitlines() if line.startswith("    ")]
    return [line for line in indented if line and not line.startswith("#")]


def differences(shown: Any, told: Any, path: str = "answer") -> Iterator[str]:
    """Where an answer is not as it is shown."""
    if isinstance(shown, dict) and isinstance(told, dict):
        for name in shown.keys() - {MORE} - told.keys():
            yield f"{path}.{name} is on the page only"
        for name in told.keys() - shown.keys() if MORE not in shown else ():
            yield f"{path}.{name} is not on the page"
        for name in shown.keys() & told.keys():
            yield from differences(shown[name], told[name], f"{path}.{name}")
    elif isinstance(shown, list) and isinstance(told, list):
        more = bool(shown) and shown[-1] in (MORE, [MORE])
        shown = shown[:-1] if more else shown
        if len(told) < len(shown) or (len(told) > len(shown) and not more):
            yield f"{path} has {len(told)} items, and {len(shown)} on the page"
        for n, (one, other) in enumerate(zip(shown, told, strict=False)):
            yield from differences(one, other, f"{path}[{n}]")
    elif isinstance(shown, str) and isinstance(told, str):
        if not (MORE in shown and told) and not (_TIME.fullmatch(shown) and _TIME.fullmatch(told)):
            if shown != told:
                yield f"{path} is {told!r}, and {shown!r} on the page"
    elif type(shown) is not type(told) or shown != told:
        yield f"{path} is {told!r}, and {shown!r} on the page"
