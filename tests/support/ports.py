"""Ports for what a test starts."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]

_QUIET = (15_000, 32_000)
"""Below those that systems give to outgoing connections."""


def free_port() -> int:
    """One that nobody listens on, and that no outgoing connection is given while its owner is away."""
    while True:
        port = random.randrange(*_QUIET)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
