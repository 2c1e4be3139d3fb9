"""A customer without a phone is reached, found and filtered by user id wherever a phone is taken."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from handlers.openapi import describe
from handlers.operations import EXAMPLES, operations
from handlers.sends import MANY, ONE
from tests.support.gateway import Harness, serving
from whatsapp.conversations import CONVERSATIONS
from whatsapp.sandbox import SandboxSettings

Json = dict[str, Any]

PHONE = "5215550001111"
USER = "MX.64f821e25ce229f761b0"
PERSONS = {"phone", "phones", "to", "recipient", "contact", "contacts"}
"""Names of fields, and of parts of a path, that take a person."""
DOCUMENT = describe(operations(), "1")


def fields_of(schema: Json, path: str = "") -> Iterator[str]:
    """The paths of the fields that a schema names."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for kind in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(kind, ()):
            yield from fields_of(one, path)
    for name, one in schema.get("properties", {}).items():
        yield f"{path}{name}"
        if path.count(".") < 3:
            yield from fields_of(one, f"{path}{name}.")
    if isinstance(schema.get("items"), dict) and path.count(".") < 3:
        yield from fields_of(schema["items"], path)


def places() -> Iterator[tuple[str, str, str]]:
    """Method, path and place of all that takes a person."""
    for path, methods in DOCUMENT["paths"].items():
        for method, told in methods.items():
            for parameter in told["parameters"]:
                if parameter["name"] in PERSONS:
                    yield method, path, f"{parameter['in']} {parameter['name']}"
            for content in told.get("requestBody", {}).get("content", {}).values():
                for field in fields_of(content["schema"]):
                    if field.rpartition(".")[2] in PERSONS:
                        yield method, path, f"body {field}"


def put(value: Any, who: str) -> Any:
    """A body with this person in every place of one."""
    if isinstance(value, list):
        return [put(item, who) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: ([who] if isinstance(item, list) else who) if name in PERSONS else put(item, who)
        for name, item in value.items()
    }


PLACES = list(dict.fromkeys(places()))
SENDS = [*ONE, *MANY]
OWN = {"type": "text", "text": {"body": "hello"}, "use_queue": True}
BODIES: dict[tuple[str, str], Json] = {
    **{("/api/messages", f"body {field}"): {field: "", **OWN} for field in ("to", "recipient")},
    ("/api/dead-letters/retry", "body filter.contact"): {"filter": {"contact": ""}},
    ("/api/suppressions", "body contacts"): {"contacts": ["x"]},
}
"""What is posted to paths that are no sends of one kind."""


def test_every_send_takes_a_person() -> None:
    assert set(SENDS) <= {path for _, path, _ in PLACES}


@pytest.mark.parametrize(("method", "path", "place"), PLACES, ids=map(" ".join, PLACES))
async def test_a_user_id_is_taken_where_a_phone_is(
    tmp_path: Path, method: str, path: str, place: str
) -> None:
    async with written_to(tmp_path) as gateway:
        # Meta's own field for user ids takes no phone.
        of_phone = "body to" if place == "body recipient" else place
        by_phone = await ask(gateway, method, path, of_phone, PHONE)
        by_user_id = await ask(gateway, method, path, place, USER)
        assert by_phone == by_user_id
        assert by_user_id == 200 if method == "post" else by_user_id != 400
        if path in (*SENDS, "/api/messages"):
            await reached(gateway)


async def test_a_user_id_is_taken_in_a_sheet(tmp_path: Path) -> None:
    async with written_to(tmp_path) as gateway:
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("message", "hello {{name}}")
        sheet = f"phone,name\n{PHONE},Ann\n{USER},Bob\n"
        form.add_field("file", io.BytesIO(sheet.encode()), filename="people.csv", content_type="text/csv")
        answer = await gateway.request("POST", "/api/broadcasts", data=form)
        assert answer.ok["total"] == 2
        await reached(gateway)


@pytest.mark.parametrize("content", [{"message": "hello"}, {"type": "text", "text": {"body": "hello"}}])
async def test_a_user_id_is_taken_by_the_socket(tmp_path: Path, content: Json) -> None:
    field = "phone" if "message" in content else "to"
    async with written_to(tmp_path) as gateway, gateway.http.ws_connect(f"{gateway.url}/ws") as socket:
        assert (await socket.receive_json())["type"] == "hello"
        for who in (PHONE, USER):
            await socket.send_json({"op": "send", "id": who, field: who, "use_queue": True, **content})
        await reached(gateway)


async def test_a_subscriber_may_ask_for_a_contact_by_user_id(tmp_path: Path) -> None:
    async with written_to(tmp_path) as gateway:
        async with gateway.http.ws_connect(f"{gateway.url}/ws?since=0&contact={USER}") as socket:
            assert (await socket.receive_json())["type"] == "hello"
            frame = await socket.receive_json()
            assert (frame["event"], frame["contact"]) == ("message.received", USER)
            assert "from" not in frame["data"]["message"]


@asynccontextmanager
async def written_to(directory: Path) -> AsyncIterator[Harness]:
    """A gateway that two customers have written to, one with a phone and one without."""
    whatsapp = {"waba_id": SandboxSettings().waba_id}
    async with serving(directory, whatsapp=whatsapp) as gateway:
        for who in (PHONE, USER):
            await gateway.sandbox.inbound(who, "hello")
        await gateway.events.wait("message.received", 2)
        await gateway.consumed(CONVERSATIONS)
        yield gateway


async def reached(gateway: Harness) -> None:
    """Both got something, each as Meta asks for it."""
    await gateway.calls.wait(2)
    calls = {call.to: call.message for call in gateway.calls.all}
    assert calls.keys() == {f"+{PHONE}", USER}
    assert calls[USER]["recipient"] == USER and "to" not in calls[USER]


async def ask(gateway: Harness, method: str, path: str, place: str, who: str) -> int:
    """Name somebody in this place; the status of the answer."""
    where, name = place.split(" ")
    query, sent = "", None
    if where == "path":
        path = path.replace(f"{{{name}}}", who)
        sent = {} if method in ("put", "post") else None
    elif where == "query":
        query = f"?{name}={who}"
    else:
        sent = put({**EXAMPLES[path], "use_queue": True} if path in SENDS else BODIES[path, place], who)
    url = f"{gateway.url}{re.sub(r'{[a-z_]+}', 'x', path)}{query}"
    async with gateway.http.request(method.upper(), url, json=sent) as answer:
        return answer.status
