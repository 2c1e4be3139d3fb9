"""Many recipients to drafts: where each fault stands, and that the loop is let go."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from handlers.base import NotJson
from handlers.drafting import read_fields
from handlers.recipients import Recipients
from handlers.sends import MANY
from handlers.sends_many import items_of
from whatsapp.validate import Findings

BULK = "/api/send-bulk"
LIST = "/api/send-bulk-list"
TEMPLATES = "/api/send-bulk-template"
BROADCAST = "/api/send-broadcast-template"
COMMON: dict[str, dict[str, Any]] = {
    BULK: {},
    LIST: {"button_text": "Menu", "sections": [{"rows": [{"id": "1", "title": "Rice"}]}]},
    TEMPLATES: {},
    BROADCAST: {"template_name": "news"},
}


def phone(n: int) -> str:
    return str(5215560000000 + n)


async def read(
    path: str, items: Sequence[Any], *, drop: bool = False, skip: bool = False, keep: int = 100, **common: Any
) -> tuple[Recipients, Findings]:
    """The recipients of a request with these common fields."""
    send, findings = MANY[path], Findings()
    name = "recipients" if send.recipient else "phones"
    fields = read_fields({**COMMON[path], **common, name: [None]}, send.request, findings)
    assert fields is not None
    recipients = Recipients(send, fields, findings, drop_repeated=drop, fallback=b"")
    raw = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in items]
    await recipients.read([msgspec.Raw(item) for item in raw], to_the_end=skip, keep=keep)
    return recipients, findings


def texts(count: int) -> list[dict[str, Any]]:
    return [{"phone": phone(n), "message": str(n)} for n in range(count)]


async def test_each_has_a_draft_at_its_place() -> None:
    recipients, findings = await read(BULK, texts(120))
    assert [draft.address.phone for draft in recipients.drafts] == [phone(n) for n in range(120)]
    assert json.loads(recipients.drafts[7].payload)["text"]["body"] == "7"
    assert (list(recipients.places), findings.problems) == (list(range(120)), [])
    assert recipients.path_at(7) == "recipients[7]"


async def test_the_loop_is_let_go_again_and_again() -> None:
    turns, done = 0, asyncio.Event()

    async def others() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(others())
        await read(BULK, texts(5000))
        done.set()
    assert turns >= 100


@pytest.mark.parametrize(
    ("raw", "items"), [(b"[1, [2]]", [b"1", b"[2]"]), (b"[]", []), (b"{}", None), (b"null", None)]
)
async def test_the_loop_is_let_go_before_a_list_is_taken_apart(raw: bytes, items: list[bytes] | None) -> None:
    happened: list[str] = []
    asyncio.get_running_loop().call_soon(happened.append, "others")
    found = await items_of(msgspec.Raw(raw))
    assert happened == ["others"]
    assert (found if found is None else [bytes(item) for item in found]) == items


async def test_what_is_kept_of_them_is_nothing_to_the_garbage_collector() -> None:
    # Or a full collection, amid a hundred thousand of them, would hold the loop for tens of milliseconds.
    await read(BULK, texts(1), drop=True)
    gc.collect()
    before = len(gc.get_objects())
    recipients, _ = await read(BULK, texts(2000), drop=True)
    gc.collect()
    assert len(recipients.drafts) == 2000
    assert len(gc.get_objects()) - before < 200


async def test_those_at_fault_have_none_and_are_named_by_their_place() -> None:
    items: list[Any] = [*texts(3), 5, {"phone": "12", "message": ""}, *texts(1)]
    recipients, findings = await read(BULK, items, skip=True)
    assert list(recipients.places) == [0, 1, 2, 5]
    assert recipients.path_at(5) == "recipients[5]"
    assert [path for path, _ in findings.problems] == [
        "recipients[3]",
        "recipients[4].phone",
        "recipients[4].message",
    ]
    assert not recipients.fault_for_all


async def test_phones_are_named_without_a_field() -> None:
    items: list[Any] = [phone(0), 5215560000001, "12", None, True, {"phone": phone(1)}, "US.1"]
    recipients, findings = await read(BROADCAST, items)
    assert list(recipients.places) == [0, 1, 6]
    assert findings.problems == [
        ("phones[2]", "must be a phone in international digits, or a user id"),
        ("phones[3]", "is required"),
        ("phones[4]", "must be text or a number"),
        ("phones[5]", "must be text or a number"),
    ]
    assert recipients.path_at(6) == "phones[6]"


async def test_a_field_is_named_where_it_was_given() -> None:
    own = {"phone": phone(0), "template_name": "x" * 513}
    _, findings = await read(TEMPLATES, [own, {"phone": phone(1)}], parameters=[""], template_name="y" * 514)
    assert {path for path, _ in findings.problems} == {
        "recipients[0].template_name",
        "template_name",
        "parameters[0]",
    }
    _, findings = await read(TEMPLATES, [{"phone": phone(1)}])
    assert [path for path, _ in findings.problems] == ["template_name"]


async def test_a_fault_for_all_is_told_once_beside_those_of_single_recipients() -> None:
    items = [{"phone": phone(n) if n < 1500 else "12", "body_text": "x"} for n in range(2000)]
    for skip in (True, False):
        recipients, findings = await read(LIST, items, skip=skip, button_text="y" * 21)
        assert findings.problems[0] == ("button_text", "21 characters, at most 20")
        assert [path for path, _ in findings.problems[1:]] == [
            f"recipients[{n}].phone" for n in range(1500, 2000)
        ]
        assert recipients.fault_for_all and not recipients.drafts


async def test_after_a_thousand_faults_no_more_are_looked_for_where_one_refuses_all() -> None:
    wrong: list[dict[str, object]] = [{"phone": "12", "message": "x"}]
    recipients, findings = await read(BULK, [*wrong, *texts(2000), *wrong])
    assert [path for path, _ in findings.problems] == ["recipients[0].phone", "recipients[2001].phone"]
    recipients, findings = await read(BULK, wrong * 3000)
    assert (len(findings.problems), recipients.total) == (1000, 1000)
    recipients, _ = await read(BULK, [*wrong * 1500, *texts(500)], skip=True)
    assert (recipients.total, len(recipients.drafts)) == (2000, 500)


async def test_those_named_before_are_dropped_where_that_is_wanted() -> None:
    items = [
        *texts(3),
        {"phone": f"+{phone(1)}", "message": "again"},
        *texts(2),
        {"phone": "12", "message": ""},
    ]
    recipients, findings = await read(BULK, items)
    assert len(recipients.drafts) == 6
    recipients, findings = await read(BULK, items, drop=True, skip=True)
    assert list(recipients.places) == [0, 1, 2]
    assert recipients.dropped == [
        ("recipients[3]", "the same recipient as recipients[1], skipped"),
        ("recipients[4]", "the same recipient as recipients[0], skipped"),
        ("recipients[5]", "the same recipient as recipients[1], skipped"),
    ]
    assert {path for path, _ in findings.problems} == {"recipients[6].phone", "recipients[6].message"}
    recipients, _ = await read(BULK, items, drop=True, skip=True, keep=2)
    assert len(recipients.dropped) == 2


@pytest.mark.parametrize("item", [b'{"phone": "\\ud83d"}', b'{"phone": "\xff"}', b'{"a":' * 5000])
async def test_one_that_cannot_be_decoded_is_named(item: bytes) -> None:
    with pytest.raises(NotJson) as caught:
        await read(BULK, [*texts(60), item])
    assert "recipients[60]" in caught.value.message
