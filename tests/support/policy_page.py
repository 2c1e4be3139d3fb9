"""``python -m tests.support.policy_page``: writes the error table of docs/reliability.md from the code.

Owns the part of the page between its two marks. Lines of the table that differ in nothing but their code are
one line of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from whatsapp.error_policy import Action, ErrorPolicy, Scope
from whatsapp.error_table import TABLE
from whatsapp.error_table_management import MANAGEMENT

__all__ = ["BEGIN", "END", "PAGE", "rendered", "written"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- written by python -m tests.support.policy_page -->\n"
END = "<!-- end of what is written -->\n"

_WHAT = {Action.RETRY: "again", Action.FAIL: "fails", Action.PARK: "waits"}
_WAITS = {
    Scope.ROW: "it alone",
    Scope.PAIR: "recipient",
    Scope.TEMPLATE: "template",
    Scope.LANE: "pace of the number",
    Scope.NUMBER: "number",
    Scope.ACCOUNT: "account",
    Scope.APP: "app",
    Scope.BROADCAST: "broadcasts",
}
_HEAD = (
    "| code | name | message | what waits | burnt | after | attempts | doubt | what the operator reads |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def rendered() -> str:
    """What stands between the marks."""
    sends = [policy for policy in TABLE if policy not in MANAGEMENT]
    return (
        "Codes that a send meets:\n\n"
        f"{_table(sends)}\n"
        "Codes of other calls, should a send meet one:\n\n"
        f"{_table(MANAGEMENT)}"
    )


def written(text: str) -> str:
    """A page with its part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError("the page has lost its marks")
    return f"{before}{BEGIN}{rendered()}{END}{after}"


def _table(policies: Sequence[ErrorPolicy]) -> str:
    return _HEAD + "".join(_line(*group) for group in _grouped(policies))


def _grouped(policies: Sequence[ErrorPolicy]) -> Iterator[tuple[str, ErrorPolicy]]:
    """Lines that say the same, under all of their codes."""
    found: dict[ErrorPolicy, list[str]] = {}
    for policy in policies:
        first, last = policy.codes[0], policy.codes[-1]
        same = msgspec.structs.replace(policy, codes=range(0))
        found.setdefault(same, []).append(str(first) if first == last else f"{first} to {last}")
    for policy, codes in found.items():
        yield ", ".join(codes), policy


def _line(codes: str, policy: ErrorPolicy) -> str:
    cells = (
        codes,
        f"`{policy.name}`",
        _WHAT[policy.action],
        "all of the number" if policy.action is Action.PARK else _WAITS[policy.scope],
        "yes" if policy.burn else "no",
        _time(policy.first_delay_s),
        str(policy.max_tries or ""),
        "yes" if policy.doubt else "",
        policy.operator,
    )
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |").replace("|  |", "| |")


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return ""


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
