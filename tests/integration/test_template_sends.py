"""Templates that Meta does not have, or that ask for more, are refused before anything is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import serving
from whatsapp.sandbox import SandboxSettings

PHONE = "5215550001111"
WABA = {"waba_id": SandboxSettings().waba_id}


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"template_name": "no_such_template"}, "template_name", "no_such_template"),
        ({"template_name": "hello_world", "language": "fr"}, "language", "fr"),
        ({"template_name": "hello_world", "parameters": ["x"]}, "parameters", "parameter"),
        ({"template_name": "summer", "language": "en", "parameters": ["x"]}, "template_name", "PAUSED"),
    ],
)
async def test_a_template_that_would_be_refused_is_refused_here(
    tmp_path: Path, fields: dict[str, Any], path: str, words: str
) -> None:
    async with serving(tmp_path, whatsapp=WABA) as gateway:
        one = await gateway.post("/api/send-template", {"phone": PHONE, **fields})
        many = await gateway.post("/api/send-bulk-template", {"recipients": [{"phone": PHONE, **fields}]})
        for answer, prefix in ((one, ""), (many, "recipients[0].")):
            assert answer.status == 400, answer
            (told,) = answer.body["details"]
            assert told["path"].removeprefix(prefix).startswith(path), told
            assert words in told["problem"]
        assert gateway.calls.all == [] and gateway.events.counts["task.created"] == 0


async def test_a_template_as_meta_has_it_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path, whatsapp=WABA) as gateway:
        (known,) = (await gateway.get("/api/templates?name=hello_world&language=es")).ok["templates"]
        assert known["parameters"]["body"] == 0
        answer = await gateway.post("/api/send-template", {"phone": PHONE, "template_name": "hello_world"})
        assert answer.status == 200, answer
        (call,) = gateway.calls.all
        assert call.message["template"] == {"name": "hello_world", "language": {"code": "es"}}
