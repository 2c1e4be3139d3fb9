"""What the pages say of the running gateway: the sandbox's faults, what is not there yet, the status page."""

from __future__ import annotations

import re
from pathlib import Path

from settings import HookSettings, Secret
from tests.support.gateway import serving, serving_on_its_sandbox
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PHONE = "5215550001111"
FAULTS = "/sandbox/faults"


async def test_faults_in_force_are_told_when_set_and_when_asked(tmp_path: Path) -> None:
    async with serving_on_its_sandbox(tmp_path) as gateway:
        assert (await gateway.get(FAULTS)).ok == {"success": True, "faults": {}}
        error = {"code": 131026, "http": None, "count": 2, "message": "", "later": False}
        told = (await gateway.post(FAULTS, {"error": {"code": 131026, "count": 2}, "delay_ms": 1})).ok
        assert told == {"success": True, "faults": {"delay_ms": 1, "error": error}}
        assert (await gateway.get(FAULTS)).ok == told

        refused = await gateway.post("/api/send-message", {"phone": PHONE, "message": "x"})
        assert refused.body["meta"]["code"] == 131026
        left = (await gateway.get(FAULTS)).ok["faults"]
        assert left == {"delay_ms": 1, "error": {**error, "count": 1}}

        wrong = await gateway.post(FAULTS, {"drop_answers": "all"})
        problem = "must be a number from 0 to 1"
        assert wrong.status == 400 and wrong.body["error"] == f"drop_answers: {problem}"
        assert wrong.body["details"] == [{"path": "drop_answers", "problem": problem}]
        assert (await gateway.get(FAULTS)).ok["faults"] == left
        assert (await gateway.post(FAULTS, {"reset": True})).ok == {"success": True, "faults": {}}


def not_there_yet() -> list[tuple[list[str], str]]:
    """What the README's list names, in backticks, and what it says happens today."""
    section = (ROOT / "README.md").read_text("utf-8").split("### Not there yet\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    return [(re.findall(r"`([^`]+)`", promised), today.strip()) for promised, today in rows]


async def test_what_the_readme_says_is_not_there_is_not_there(tmp_path: Path) -> None:
    missing = [name for names, today in not_there_yet() if today == "404" for name in names]
    paths = [f"/api/send{name}" if name.startswith("-") else name.split()[-1] for name in missing]
    async with serving(tmp_path) as gateway:
        for path in paths:
            for method in ("GET", "POST"):
                answer = await gateway.request(method, path.replace("<media_id>", "1"))
                assert answer.status == 404, path


async def test_every_field_of_the_status_page_is_explained(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.+?) \|", text.split("`GET /api/status`:")[1], re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    media = {"days": 1, "dir": str(tmp_path / "media")}
    hooks = {"endpoints": (HookSettings(name="crm", url=Secret(f"http://127.0.0.1:{free_port()}/")),)}
    async with serving(tmp_path, media=media, hooks=hooks) as gateway:
        await gateway.lane_when(lambda lane: lane["state"] == "running")
        status = await gateway.status()
    fields = set()
    for name, value in status.items():
        within = (value or [None])[0] if isinstance(value, list) else value
        if isinstance(value, list):
            fields.add(f"{name}[]")
        if isinstance(within, dict) and name not in ("services", "depth", "refused"):
            place = f"{name}[]" if isinstance(value, list) else name
            for key, inner in within.items():
                leaves = [f"{key}.{leaf}" for leaf in inner] if isinstance(inner, dict) else []
                fields |= {f"{place}.{leaf}" for leaf in (key, *leaves)}
        elif not isinstance(value, list):
            fields.add(name)
    assert fields == explained
    assert all(f"`{service}`" in text for service in status["services"])
