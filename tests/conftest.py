"""What all tests share: hypothesis profiles, and no error may be logged that the test did not ask for."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator

import hypothesis
import pytest

# No test depends on how quick the machine is. In CI the same examples run every time.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# Processes that share out the tests must come to the same list of them, also where one is made of a set.
os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))


@pytest.fixture(autouse=True)
def no_unexpected_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which an ERROR was logged. One that provokes it checks ``caplog`` and then clears it."""
    yield
    records = caplog.get_records("setup") + caplog.get_records("call")
    errors = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    assert not errors, f"unexpected errors in the log: {errors}"
