"""The description of the API, and the page that shows it."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import msgspec
import pytest

from handlers import answers
from handlers.operations import EXAMPLES, operations
from handlers.parameters import MessagesQuery
from handlers.sends import MANY, ONE
from settings import Secret
from store.states import State
from tests.support.gateway import serving
from whatsapp.sandbox import SandboxSettings

NOT_REST = ("/webhook", "/ws", "/docs", "/sandbox", r"/api/openapi")
ROOT = Path(__file__).resolve().parents[2]


async def test_every_path_is_described_and_no_other(tmp_path: Path) -> None:
    source = (ROOT / "handlers" / "routes.py").read_text("utf-8")
    patterns = {*re.findall(r'\(r"(/[^"]+)"', source), *ONE, *MANY}
    served = {pattern.replace("([^/]+)", "x") for pattern in patterns if not pattern.startswith(NOT_REST)}
    async with serving(tmp_path) as gateway:
        document = (await gateway.get("/api/openapi.json")).ok
        assert document["openapi"] == "3.1.0"
        described = {_filled(path): methods for path, methods in document["paths"].items()}
        assert described.keys() == served
        for path, methods in described.items():
            answer = await gateway.request("PATCH", path)
            assert answer.status == 405, path
            assert set(answer.headers["Allow"].split(", ")) == {method.upper() for method in methods}, path


def _filled(path: str) -> str:
    """With something for each parameter."""
    return re.sub(r"{\w+}", "x", path)


async def test_what_no_operation_can_read_is_described_of_all(tmp_path: Path) -> None:
    """schemathesis does not look at the answers to these."""
    async with serving(tmp_path) as gateway:
        document = (await gateway.get("/api/openapi.json")).ok
        for path, methods in document["paths"].items():
            for method, told in methods.items():
                form = {"Content-Type": "multipart/form-data"}
                answer = await gateway.request(method.upper(), _filled(path), headers=form)
                assert str(answer.status) in told["responses"], (path, method, answer)
                msgspec.convert(answer.body, answers.Refusal)


async def test_a_key_is_described_where_it_counts(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        document = (await gateway.get("/api/openapi.json")).ok
        for path, methods in document["paths"].items():
            for method, told in methods.items():
                if path.endswith("/stream"):
                    continue
                described = any(parameter["name"] == "Idempotency-Key" for parameter in told["parameters"])
                assert described == (method == "post"), path
                assert described == ("422" in told["responses"]), path
                no_key = {"Idempotency-Key": " "}
                answer = await gateway.request(method.upper(), _filled(path), headers=no_key)
                assert described == ("Idempotency-Key" in str(answer.body)), (path, method, answer)


async def test_a_query_is_described_by_the_type_that_checks_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        paths = (await gateway.get("/api/openapi.json")).ok["paths"]
    parameters = paths["/api/tasks/{task_id}/messages"]["get"]["parameters"]
    queries = {told["name"]: told for told in parameters if told["in"] == "query"}
    assert queries.keys() == set(MessagesQuery.__struct_fields__)
    assert queries["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 500}
    assert set(queries["state"]["schema"]["enum"]) == set(State)
    assert all(told["description"] for told in queries.values())
    (start,) = (
        one for one in paths["/api/hooks/{name}/replay"]["post"]["parameters"] if one["name"] == "from"
    )
    assert start["required"] and not any("required" in told for told in queries.values())


@pytest.mark.parametrize("path", [*ONE, *MANY])
async def test_each_example_is_taken_and_answered_as_described(tmp_path: Path, path: str) -> None:
    whatsapp = {"waba_id": SandboxSettings().waba_id}
    async with serving(tmp_path, whatsapp=whatsapp) as gateway:
        for use_queue, kind in ((True, answers.Queued), (False, _direct(path))):
            answer = await gateway.post(path, {**EXAMPLES[path], "use_queue": use_queue})
            assert answer.status == 200, answer
            msgspec.convert(answer.body, kind, strict=True)


def _direct(path: str) -> type:
    return answers.SentMany if path in MANY else answers.SentOne


async def test_answers_have_the_shapes_that_are_described(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        sent = await gateway.send("5215550001111")
        task = sent.body["task_id"]
        for path, kind in (
            (f"/api/task-status/{task}", answers.TaskState),
            ("/api/tasks", answers.TaskPage),
            (f"/api/tasks/{task}/messages", answers.MessagePage),
            ("/api/health", answers.Alive),
            ("/api/ready", answers.Alive),
            ("/api/status", answers.Status),
            ("/api/events", answers.EventPage),
            ("/api/subscribers", answers.SubscriberPage),
        ):
            msgspec.convert((await gateway.get(path)).ok, kind)
        for action, kind in (("cancel", answers.Cancelled), ("retry", answers.Retried)):
            msgspec.convert((await gateway.post(f"/api/tasks/{task}/{action}", {})).ok, kind)
        refused = await gateway.post("/api/send-message", {})
        msgspec.convert(refused.body, answers.Refusal)


async def test_a_dry_run_answers_nothing_that_is_not_described(tmp_path: Path) -> None:
    form = aiohttp.FormData({"message": "Hello", "dry_run": "true"})
    form.add_field("file", "phone\n5215550001111\n12\n", filename="people.csv")
    async with serving(tmp_path) as gateway:
        told = (await gateway.request("POST", "/api/broadcasts", data=form)).ok
    assert told.keys() <= set(answers.Broadcast.__struct_fields__)
    msgspec.convert(told, answers.Broadcast)


def test_operations_have_names_of_their_own() -> None:
    told = [(operation.method, operation.path) for operation in operations()]
    assert len(told) == len(set(told))


async def test_the_page_works_without_the_internet_and_with_a_key(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": Secret("k&<")}) as gateway:
        refused = await gateway.get("/docs")
        assert refused.status == 401 and "/docs?token=" in refused.body["error"]
        page = await gateway.get("/docs?token=k%26%3C")
        assert page.status == 200
        links = re.findall(r'(?:href|src)="(/[^"]+)"', page.body)
        assert len(links) == 3
        for link in links:
            assert link.startswith("/docs/") and link.endswith("?token=k%26%3C")
            assert (await gateway.get(link)).status == 200
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert (await gateway.get("/docs/nothing.js?token=k%26%3C")).status == 404
        assert (await gateway.get("/docs/..%2Fserver.py?token=k%26%3C")).status == 404
        assert (await gateway.get("/api/openapi.json", X_API_Key="k&<")).status == 200
