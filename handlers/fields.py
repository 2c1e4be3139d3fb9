"""From a JSON object to the typed request of a path, with every fault named at once.

Pure. What is right and what is not is found in ``whatsapp/validate.py``; here it becomes what a caller hears.
What callers of the earlier service send is taken as it is (contract.md, Part 1): fields we do not know are
ignored and named in warnings, with the field that was probably meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from store.errors import Problem
from whatsapp.failures import InvalidRequest
from whatsapp.validate import MAX_PROBLEMS, Checked, Findings, validate

__all__ = ["convert", "refusal", "refuse_if", "warnings_of"]

T = TypeVar("T", bound=Checked)


def convert(body: Mapping[str, Any], kind: type[T], *, strict: bool = False) -> tuple[T, list[str]]:
    """The request and its warnings. Raises InvalidRequest that names every field at fault.

    ``strict``: fields we do not know are at fault too, but for those of Meta's own objects (contract.md,
    Part 2).
    """
    findings = Findings()
    request = validate(body, kind, findings)
    if strict:
        takes = f"; it takes {', '.join(field.encode_name for field in msgspec.structs.fields(kind))}"
        findings.problems += [
            (path, f"is no field of this request{hint or ('' if '.' in path else takes)}")
            for path, hint in findings.unknown
        ]
    refuse_if(findings.problems)
    assert request is not None
    return request, warnings_of(findings)


def warnings_of(findings: Findings) -> list[str]:
    """What we do not know: fields that are ignored, then what goes to Meta as it came."""
    ignored = [f"{path}: unknown field, ignored{hint}" for path, hint in findings.unknown]
    return ignored + [f"{path}: {what}" for path, what in findings.passed]


def refuse_if(problems: Sequence[Problem]) -> None:
    """Raise InvalidRequest where there are any."""
    if problems:
        raise refusal(problems)


def refusal(problems: Sequence[Problem]) -> InvalidRequest:
    """What to raise for these faults, of which there is one at least; the sentence names the first."""
    path, problem = problems[0]
    least = "at least " if len(problems) >= MAX_PROBLEMS else ""
    more = f" (and {least}{len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"{path}: {problem}{more}", problems)
