"""When a send may go, and until when."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.options import OneRequest, terms_of
from whatsapp.drafts import Terms
from whatsapp.validate import Findings, validate

NOW = 1_790_000_000_000  # 2026-09-21T14:13:20Z


def read(**fields: Any) -> tuple[Terms, list[tuple[str, str]]]:
    findings = Findings()
    options = validate({"phone": 1, **fields}, OneRequest, findings)
    assert options is not None, findings.problems
    return terms_of(options, NOW, findings), findings.problems


def test_without_any_it_goes_at_once_and_never_expires() -> None:
    assert read() == (Terms(), [])
    assert read(send_at=None, expires_at=None, callback_data=None) == (Terms(), [])


@pytest.mark.parametrize(
    "text",
    [
        "2026-09-21T15:13:20Z",
        "2026-09-21t15:13:20z",
        "2026-09-21 15:13:20+00:00",
        "2026-09-21T17:13:20.000+02:00",
        "2026-09-21T09:43:20.000000000-05:30",
    ],
)
def test_every_spelling_of_a_time(text: str) -> None:
    assert read(send_at=text) == (Terms(due=NOW + 3_600_000), [])
    assert read(expires_at=text) == (Terms(expires_at=NOW + 3_600_000), [])


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"send_at": "2026-09-21T14:13:20Z"}, [("send_at", "is in the past")]),
        ({"send_at": "2026-10-21T14:13:20Z"}, []),
        ({"send_at": "2026-10-21T14:13:20.001Z"}, [("send_at", "is more than 30 days away")]),
        ({"expires_at": "2026-09-21T14:13:19Z"}, [("expires_at", "is in the past")]),
        ({"expires_at": "2028-09-21T14:13:20Z"}, []),
        ({"send_at": "2026-02-30T00:00:00Z"}, [("send_at", "is no time that there is")]),
        ({"send_at": "2026-09-22T25:00:00Z"}, [("send_at", "is no time that there is")]),
        (
            {"send_at": "2026-09-22T00:00:00Z", "expires_at": "2026-09-22T00:00:00Z"},
            [("expires_at", "must be after send_at")],
        ),
        (
            {"send_at": "2020-01-01T00:00:00Z", "expires_at": "2020-01-01T00:00:00Z"},
            [("send_at", "is in the past"), ("expires_at", "is in the past")],
        ),
    ],
)
def test_a_time_that_cannot_be(fields: dict[str, str], problems: list[tuple[str, str]]) -> None:
    assert read(**fields)[1] == problems


@pytest.mark.parametrize("text", ["", "soon", "2026-09-21", "2026-09-21T15:13:20", "20260921T151320Z", "1"])
def test_what_is_no_time_is_told_what_one_looks_like(text: str) -> None:
    findings = Findings()
    assert validate({"phone": 1, "send_at": text}, OneRequest, findings) is None
    ((path, problem),) = findings.problems
    assert path == "send_at"
    assert "2026-11-24T18:30:00Z" in problem


def test_the_callers_own_data_is_kept() -> None:
    assert read(callback_data="ñ" * 512)[0] == Terms(callback_data="ñ" * 512)
