"""A rule whose answer Meta would not take: the gateway does not start, and says which rule and which key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import Installation

_TOML = """
[[autoreply.rules]]
name = "menu"
keywords = ["menu"]
send = { kind = "button", body_text = "?", buttons = [{ id = "1", title = "far too long for a button" }] }
"""


@pytest.mark.parametrize("arguments", [(), ("--check",)])
async def test_it_stops_the_start_by_its_name_and_key(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.toml").write_text(_TOML)
    installation = Installation(tmp_path)
    process = await installation.spawn(*arguments)
    assert await process.ended() == 1
    assert process.errors.splitlines()[-1] == (
        "[autoreply] rules: rule 'menu': send.buttons[0].title: 25 characters, at most 20"
    )
