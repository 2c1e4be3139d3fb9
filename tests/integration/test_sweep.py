"""What the store's monitor removes by age (``store/monitor.py``)."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from store import monitor
from store.monitor import KEEP_ANSWERS_MS
from tests.support.gateway import serving


async def test_answers_are_removed_when_they_were_kept_long_enough(tmp_path: Path) -> None:
    with mock.patch.object(monitor, "_SWEEP_S", 0.0):
        async with serving(tmp_path) as gateway:
            store = gateway.store.as_store()
            for key, at in (("old", 1), ("young", 2**43)):
                await store.claim_answer(key, "d", "me", at, hold_ms=1, keep_ms=KEEP_ANSWERS_MS)
            swept = gateway.store.calls["sweep_answers"]
            await gateway.store.arrived("sweep_answers", swept + 2)
            ages = {"old": 1, "young": 2**43}
            for key, at in ages.items():
                found = await store.claim_answer(key, "e", "me", at, hold_ms=1, keep_ms=KEEP_ANSWERS_MS)
                assert found.digest == ("e" if key == "old" else "d")
