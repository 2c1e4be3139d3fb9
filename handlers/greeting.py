"""What the gateway says when it is ready: where it is, what it works with, and what to try or to enter next.

Pure: lines of text from plain values. Never names a secret.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["greet", "greet_on_sandbox"]

_NAMED = 5
"""Numbers that are named; of more it is said how many."""


def greet(
    name: str,
    base_url: str,
    *,
    numbers: Sequence[str],
    graph_url: str,
    store: str,
    checks_signatures: bool,
    needs_key: bool,
    trusted: Sequence[str] = (),
) -> str:
    """For a gateway that works with Meta. ``numbers``: their ids at Meta, the default first; ``store``:
    without its password; ``trusted``: networks that need no key."""
    signatures = (
        "checked with APP_SECRET"
        if checks_signatures
        else "NOT CHECKED, so anybody may pass for Meta: set APP_SECRET"
    )
    callers = " and ".join(trusted)
    if needs_key:
        key = "API_KEY must come with every call but /webhook and /api/health"
        key += callers and f", unless from {callers}"
    else:
        callers = f"this machine and {callers}" if callers else "this machine"
        key = f"none is set: only {callers} may call, and nothing through a proxy but /webhook, /api/health"
    return "\n".join(
        (
            f"{name} on {base_url}",
            f"  {'number: ' if len(numbers) == 1 else 'numbers:'}     {_named(numbers)}, through {graph_url}",
            "  webhook:     https://YOUR.HOST/webhook, to enter in Meta's dashboard with your VERIFY_TOKEN",
            f"  signatures:  {signatures}",
            f"  API key:     {key}",
            f"  store:       {store}",
        )
    )


def _named(numbers: Sequence[str]) -> str:
    more = len(numbers) - _NAMED
    return ", ".join(numbers[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def greet_on_sandbox(name: str, base_url: str, *, needs_key: bool, environment: str) -> str:
    """For a gateway without credentials. ``environment``: what the watch needs before it, such as
    ``PORT=5001``; empty where nothing."""
    key = ' -H "X-API-Key: $API_KEY"' if needs_key else ""
    post = "-H 'Content-Type: application/json'"
    before = environment and f"{environment} "
    return "\n".join(
        (
            f"{name} on {base_url}",
            "SANDBOX: without ACCESS_TOKEN and PHONE_NUMBER_ID nothing reaches WhatsApp. Try elsewhere:",
            f"  watch everything:   {before}.venv/bin/python server.py --watch",
            f"  a customer writes:  curl -s{key} {base_url}/sandbox/inbound {post}"
            """ -d '{"from": "5215550001111", "text": "hola"}'""",
            f"  send a message:     curl -s{key} {base_url}/api/send-message {post}"
            """ -d '{"phone": "5215550001111", "message": "hello from the gateway"}'""",
        )
    )
