"""``GET /api/templates`` over real sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_graph import faking
from tests.support.gateway import Harness, serving, serving_on_its_sandbox
from tests.support.sandboxes import WABA, playing
from whatsapp.sandbox_templates import TEMPLATES

NAMED = {"whatsapp": {"waba_id": WABA}}
PAUSED = {
    "object": "whatsapp_business_account",
    "entry": [
        {
            "id": WABA,
            "time": 1_800_000_000,
            "changes": [
                {
                    "field": "message_template_status_update",
                    "value": {
                        "event": "PAUSED",
                        "message_template_id": 1,
                        "message_template_name": "a",
                        "message_template_language": "en",
                        "reason": "NONE",
                    },
                }
            ],
        }
    ],
}


def template(name: str, status: str = "APPROVED") -> dict[str, Any]:
    return {"name": name, "language": "en", "status": status, "category": "UTILITY", "components": []}


async def listed(gateway: Harness, query: str = "") -> list[tuple[str, str, str]]:
    found = (await gateway.get(f"/api/templates{query}")).ok["templates"]
    return [(one["name"], one["language"], one["status"]) for one in found]


async def test_all_templates_are_listed_with_what_they_ask_for(tmp_path: Path) -> None:
    async with serving(tmp_path, **NAMED) as gateway:
        answer = (await gateway.get("/api/templates")).ok
        assert answer["success"] is True and answer["fetched_at"].endswith("Z")
        assert [one["name"] for one in answer["templates"]] == [one["name"] for one in TEMPLATES]
        shown = {(one["name"], one["language"]): one for one in answer["templates"]}
        assert shown["order_sent", "es"] == {
            "name": "order_sent",
            "language": "es",
            "status": "APPROVED",
            "category": "UTILITY",
            "parameter_format": "POSITIONAL",
            "parameters": {
                "header": {"type": "text", "parameters": 1},
                "body": 2,
                "buttons": [{"index": 1, "sub_type": "url", "parameters": 1}],
            },
        }
        named = shown["appointment", "en"]
        assert named["parameter_format"] == "NAMED"
        assert named["parameters"] == {"header": None, "body": ["customer", "hour"], "buttons": []}
        card = {"header": {"type": "image", "parameters": 1}, "body": 1, "buttons": []}
        assert shown["gallery", "en"]["parameters"]["cards"] == [card, card]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?name=hello_world", [("hello_world", "en_US", "APPROVED"), ("hello_world", "es", "APPROVED")]),
        ("?name=hello_world&language=es", [("hello_world", "es", "APPROVED")]),
        ("?status=paused", [("summer", "en", "PAUSED")]),
        ("?name=zzz", []),
    ],
)
async def test_the_list_is_filtered(tmp_path: Path, query: str, found: list[tuple[str, str, str]]) -> None:
    async with serving(tmp_path, **NAMED) as gateway:
        assert await listed(gateway, query) == found


async def test_another_filter_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, **NAMED) as gateway:
        answer = await gateway.get("/api/templates?category=UTILITY")
        assert answer.status == 400 and "category: is no filter; these are: name" in answer.body["error"]


async def test_without_an_account_the_key_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.get("/api/templates")
        assert answer.status == 400 and answer.body["error"].startswith("WABA_ID is not set")


async def test_the_sandbox_shows_its_own(tmp_path: Path) -> None:
    async with serving_on_its_sandbox(tmp_path) as client:
        assert len((await client.get("/api/templates")).ok["templates"]) == len(TEMPLATES)


async def test_a_change_that_meta_tells_is_seen_at_once(tmp_path: Path) -> None:
    async with faking() as graph:
        whatsapp = {"waba_id": WABA, "base_url": graph.url}
        async with serving(tmp_path, whatsapp=whatsapp) as gateway:
            graph.templates = [template("a"), template("b"), template("c")]
            assert [name for name, _, _ in await listed(gateway)] == ["a", "b", "c"]
            graph.templates = [template("a", "PAUSED")]
            assert len(await listed(gateway)) == 3
            assert (await gateway.webhook(json.dumps(PAUSED).encode())).status == 200
            await gateway.events.wait("template.status")
            assert await listed(gateway) == [("a", "en", "PAUSED")]


async def test_a_graph_that_fails_is_told_and_what_is_known_is_shown(tmp_path: Path) -> None:
    async with faking() as graph:
        whatsapp = {"waba_id": WABA, "base_url": graph.url}
        async with serving(tmp_path, whatsapp=whatsapp) as gateway:
            graph.template_status = 500
            answer = await gateway.get("/api/templates")
            assert (answer.status, answer.body["code"]) == (502, "meta_failed")
            assert "HTTP 500" in answer.body["error"]
            graph.template_status, graph.templates = 200, [template("a")]
            gateway.gateway._templates._tried_at = float("-inf")
            assert len(await listed(gateway)) == 1
            graph.template_status = 500
            gateway.gateway._templates._stale = True
            assert len(await listed(gateway)) == 1


async def test_the_sandbox_plays_the_list_of_metas() -> None:
    async with playing() as meta:
        path = f"{WABA}/message_templates?fields=name,components&limit=4"
        status, page = await meta.graph("GET", path)
        assert (status, len(page["data"])) == (200, 4)
        assert set(page["data"][0]) == {"id", "name", "components"}
        after = page["paging"]["cursors"]["after"]
        assert page["paging"]["next"].endswith(f"limit=4&after={after}")
        async with meta.client.get(page["paging"]["next"]) as answer:
            assert len((await answer.json())["data"]) == 4
        status, error = await meta.graph("GET", "1/message_templates")
        assert (status, error["error"]["code"]) == (400, 100)
