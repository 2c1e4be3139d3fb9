"""What the gateway says when it is ready."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from handlers.greeting import greet, greet_on_sandbox


def lines_of(
    *,
    numbers: Sequence[str] = ("123",),
    checks_signatures: bool = True,
    needs_key: bool = True,
    trusted: Sequence[str] = (),
) -> list[str]:
    text = greet(
        "gateway 1",
        "http://127.0.0.1:5000",
        numbers=numbers,
        graph_url="https://graph.facebook.com/v26.0",
        store="SQLite, data/gateway.db",
        checks_signatures=checks_signatures,
        needs_key=needs_key,
        trusted=trusted,
    )
    return text.splitlines()


def test_it_says_in_six_lines_what_it_works_with() -> None:
    first, number, webhook, signatures, key, store = lines_of()
    assert first == "gateway 1 on http://127.0.0.1:5000"
    assert "123" in number and "https://graph.facebook.com/v26.0" in number
    assert "/webhook" in webhook and "VERIFY_TOKEN" in webhook
    assert "checked with APP_SECRET" in signatures
    assert "API_KEY must come with every call" in key
    assert store.endswith("SQLite, data/gateway.db")


def test_all_numbers_are_named_and_of_many_how_many_more_there_are() -> None:
    assert "numbers:     1, 2, through" in lines_of(numbers=("1", "2"))[1]
    assert "1, 2, 3, 4, 5, through" in lines_of(numbers=list("12345"))[1]
    assert "1, 2, 3, 4, 5 and 2 more, through" in lines_of(numbers=list("1234567"))[1]


def test_what_is_open_is_said() -> None:
    _, _, _, signatures, key, _ = lines_of(checks_signatures=False, needs_key=False)
    assert "NOT CHECKED" in signatures and "set APP_SECRET" in signatures
    assert "only this machine may call" in key


def test_networks_that_need_no_key_are_named() -> None:
    networks = ("10.0.0.0/8", "fd00::/8")
    assert lines_of(trusted=networks)[4].endswith("unless from 10.0.0.0/8 and fd00::/8")
    assert (
        "only this machine and 10.0.0.0/8 and fd00::/8 may call"
        in lines_of(needs_key=False, trusted=networks)[4]
    )


@pytest.mark.parametrize("needs_key", [True, False])
@pytest.mark.parametrize("environment", ["", "PORT=5001"])
def test_on_the_sandbox_it_says_what_to_try(needs_key: bool, environment: str) -> None:
    url = "http://127.0.0.1:5001"
    text = greet_on_sandbox("gateway 1", url, needs_key=needs_key, environment=environment)
    first, warning, watch, inbound, send = text.splitlines()
    assert first == f"gateway 1 on {url}"
    assert warning.startswith("SANDBOX")
    assert watch.split(":", 1)[1].strip() == f"{environment} .venv/bin/python server.py --watch".strip()
    for line, path in ((inbound, "/sandbox/inbound"), (send, "/api/send-message")):
        assert f"{url}{path}" in line
        assert ("X-API-Key: $API_KEY" in line) is needs_key
