"""``POST /api/broadcasts`` over real sockets: CSV files as people save them, and what becomes of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from handlers import broadcasts
from tests.support.gateway import Answer, Harness, serving
from whatsapp.sandbox import SandboxSettings

PATH = "/api/broadcasts"
WABA = {"waba_id": SandboxSettings().waba_id}
TEMPLATE = {"template_name": "order_update", "language": "en"}


def phone(n: int) -> str:
    return str(5215560000000 + n)


def sheet(count: int) -> str:
    return "phone,name\n" + "".join(f"{phone(n)},Ana {n}\n" for n in range(count))


async def broadcast(
    gateway: Harness, content: str | bytes | None, headers: dict[str, str] | None = None, **fields: str
) -> Answer:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        form.add_field(name, value)
    if content is not None:
        raw = content.encode() if isinstance(content, str) else content
        form.add_field("file", io.BytesIO(raw), filename="people.csv", content_type="text/csv")
    return await gateway.request("POST", PATH, data=form, headers=headers)


def details(answer: Answer) -> dict[str, str]:
    assert (answer.status, answer.body["code"]) == (400, "invalid_request"), answer
    return {one["path"]: one["problem"] for one in answer.body["details"]}


def nothing_stored(gateway: Harness) -> bool:
    return gateway.calls.all == [] and gateway.events.counts["task.created"] == 0


# -- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "warned"),
    [
        pytest.param(f"phone,name\n{phone(1)},José\n".encode(), 0, id="utf-8"),
        pytest.param(f"phone;name\r\n+{phone(1)};José\r\n;\r\n;\r\n".encode("cp1252"), 1, id="Excel, cp1252"),
        pytest.param(f"\ufeffPhone;Name\r\n{phone(1)};José\r\n".encode(), 0, id="Excel, a mark"),
        pytest.param(f"phone\tname\n{phone(1)}\tJosé\n".encode("utf-16"), 0, id="Excel, Unicode text"),
    ],
)
async def test_a_file_as_it_is_saved_is_sent(tmp_path: Path, content: bytes, warned: int) -> None:
    async with serving(tmp_path) as gateway:
        answer = (await broadcast(gateway, content, message="Hola {{ name }},\r\nadiós {{NAME}}")).ok
        assert (answer["success"], answer["total"]) == (True, 1)
        assert answer["message"] == "1 message is queued"
        warnings = answer.get("warnings", [])
        assert len(warnings) == warned and all("Windows-1252" in warning for warning in warnings)
        (call,) = await gateway.calls.wait(1)
        assert (call.to, call.text) == (f"+{phone(1)}", "Hola José,\nadiós José")
        (created,) = await gateway.events.wait("task.created")
        assert created["task_id"] == answer["task_id"]


async def test_two_thousand_rows_are_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = (await broadcast(gateway, sheet(2000), message="Hola {{name}}", callback_data="c")).ok
        assert answer["total"] == 2000 and "warnings" not in answer
        await gateway.events.wait("message.sent", 2000)
        texts = {call.to: call.text for call in gateway.calls.taken}
        assert texts == {f"+{phone(n)}": f"Hola Ana {n}" for n in range(2000)}
        task = await gateway.task(answer["task_id"])
        assert task["result"]["total"] == 2000


async def test_phones_are_in_the_column_that_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        content = f"Celular,phone\n{phone(1)},old\n,old\n"
        answer = await broadcast(gateway, content, message="x", phone_column=" celular ")
        assert details(answer) == {"rows[3].Celular": "must be a phone in international digits, or a user id"}
        found = details(await broadcast(gateway, content, message="x", phone_column="mobile"))
        assert found == {"phone_column": "mobile is no column of the file, which has Celular, phone"}
        assert nothing_stored(gateway)
        await broadcast(gateway, content, message="x", phone_column="celular", on_invalid="skip")
        (call,) = await gateway.calls.wait(1)
        assert call.to == f"+{phone(1)}"


# -- rows at fault -----------------------------------------------------------------------------------------

FAULTY = f'phone,name\n{phone(1)},Ana\n\n{phone(2)}\n,"Eva\n2"\n{phone(3)},\n{phone(1)},Ana\n12,Ana\n'
FAULTS = {
    "rows[4]": "has 1 fields, and the header has 2",
    "rows[5].phone": "must be a phone in international digits, or a user id",
    "rows[8].phone": "must be a phone in international digits, or a user id",
}


async def test_rows_at_fault_are_named_as_the_spreadsheet_counts(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        found = details(await broadcast(gateway, FAULTY, message="{{name}}"))
        assert found.pop("rows[6].message")
        assert found == FAULTS
        assert nothing_stored(gateway)

        answer = (
            await broadcast(gateway, FAULTY, message="Hola {{name}}", on_invalid="skip", duplicates="drop")
        ).ok
        assert answer["total"] == 6
        assert answer["warnings"] == [
            "rows[7]: the same recipient as rows[2], skipped",
            *(f"{path}: {why}, skipped" for path, why in FAULTS.items()),
        ]
        await gateway.events.wait("message.sent", 2)
        task = await gateway.task_when(answer["task_id"], lambda task: task["status"] == "SUCCESS")
        assert (task["result"]["total"], task["result"]["failed"]) == (6, 4)


async def test_a_dry_run_shows_and_stores_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = (
            await broadcast(gateway, FAULTY, message="Hola {{name}}", dry_run="true", duplicates="drop")
        ).ok
        assert [problem["path"] for problem in answer.pop("problems")] == list(FAULTS)
        assert answer == {
            "success": True,
            "dry_run": True,
            "total": 6,
            "valid": 2,
            "invalid": 3,
            "repeated": 1,
            "suppressed": 0,
            "preview": [
                {
                    "row": row,
                    "to": to,
                    "message": {"type": "text", "text": {"body": body, "preview_url": True}},
                }
                for row, to, body in ((2, phone(1), "Hola Ana"), (6, phone(3), "Hola "))
            ],
            "warnings": ["rows[7]: the same recipient as rows[2], skipped"],
        }
        many = "phone\n" + "12\n" * 3000 + "".join(f"{phone(n)}\n" for n in range(3000))
        answer = (await broadcast(gateway, many, message="x", dry_run="true")).ok
        assert (answer["total"], answer["valid"], answer["invalid"]) == (6000, 3000, 3000)
        assert (len(answer["problems"]), len(answer["preview"])) == (100, 5)
        assert nothing_stored(gateway)


@pytest.mark.parametrize("dry_run", ["true", "false"])
@pytest.mark.parametrize(
    ("content", "fields", "expected"),
    [
        (sheet(3), {"message": "{{nmae}} {{x}} {{nmae}}"}, {"message": "{{x}} is no column of the file"}),
        (sheet(3), {"message": "x" * 4097}, {"message": "4097 characters, at most 4096"}),
        ("a,b\n1,2\n", {"message": "x"}, {"phone_column": "phone is no column of the file, which has a, b"}),
        ("phone\n", {"message": "x"}, {"file": "has no row below its header"}),
        ("", {"message": "x"}, {"file": "is empty"}),
        ("phone,Phone\n", {"message": "x"}, {"file": "names the column Phone twice"}),
        (sheet(2) + '1,"open\n', {"message": "x"}, {"file": "cannot be read from row 4 on"}),
        ("\n".join(["phone", *[phone(1)] * 4]), {"message": "x"}, {"file": "has more than 3 rows"}),
        (None, {}, {"file": "is required", "message": "give message or template_name"}),
        (sheet(1), {"message": "x", **TEMPLATE}, {"message": "not both"}),
        (sheet(1), {"message": "x", "parameters": "[1]"}, {"parameters": "goes with template_name only"}),
        (sheet(1), {**TEMPLATE, "parameters": "{{name}}"}, {"parameters": "must be a list, written as JSON"}),
        (sheet(1), {**TEMPLATE, "parameters": '{"a": 1}'}, {"parameters": "must be a list"}),
        (sheet(1), {"message": "x", "use_queue": "false"}, {"use_queue": "is always true here"}),
        (sheet(1), {"message": "x", "priority": "top"}, {"priority": "must be one of"}),
        (sheet(1), {"message": "x", "send_at": "2020-01-01T00:00:00Z"}, {"send_at": "is in the past"}),
        (sheet(1), {"message": "x", "phone_number_id": "7"}, {"phone_number_id": "none of the numbers"}),
        (sheet(1), {"message": "x", "recipients": "[]"}, {"recipients": "is no field of this form"}),
        (sheet(1), {"message": "x" * 65537}, {"message": "at most 65536 bytes"}),
    ],
)
async def test_what_is_wrong_for_all_is_told_once_and_stores_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    fields: dict[str, str],
    expected: dict[str, str],
    dry_run: str,
) -> None:
    monkeypatch.setattr(broadcasts, "MAX_RECIPIENTS", 3)
    async with serving(tmp_path) as gateway:
        answer = await broadcast(gateway, content, on_invalid="skip", dry_run=dry_run, **fields)
        found = details(answer)
        assert set(found) == set(expected), found
        for path, words in expected.items():
            assert words in found[path]
        assert nothing_stored(gateway)


# -- templates ---------------------------------------------------------------------------------------------


async def test_places_in_parameters_and_components_are_filled(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        parameters = json.dumps(["{{name}}", 7])
        await broadcast(gateway, sheet(1), template_name="t", parameters=parameters, phone_column="")
        text = {"type": "text", "text": "Sr. {{name}}"}
        components = json.dumps([{"type": "body", "parameters": [text]}])
        await broadcast(gateway, sheet(1), template_name="t", language="en", components=components)
        await broadcast(gateway, sheet(1), template_name="t", parameters='["x"]')
        calls = await gateway.calls.wait(3)
        sent: list[Any] = [call.message["template"] for call in calls]
        assert {one["language"]["code"] for one in sent} == {"es", "en"}
        filled = [[one["text"] for one in each["components"][0]["parameters"]] for each in sent]
        assert sorted(filled) == [["Ana 0", "7"], ["Sr. Ana 0"], ["x"]]


async def test_a_template_is_checked_and_its_faults_are_named(tmp_path: Path) -> None:
    async with serving(tmp_path, whatsapp=WABA) as gateway:
        found = details(await broadcast(gateway, sheet(3), template_name="no_such", on_invalid="skip"))
        assert list(found) == ["template_name"]
        found = details(await broadcast(gateway, sheet(3), template_name="hello_world", parameters='["x"]'))
        assert list(found) == ["parameters"]
        content = f"phone,name\n{phone(1)},\n{phone(2)},Ana\n"
        fields = {"template_name": "hello_world", "parameters": '["{{name}}"]'}
        found = details(await broadcast(gateway, content, **fields))
        assert "rows[2].parameters[0]" in found
        # How many there are is the same in every row.
        found = details(await broadcast(gateway, sheet(3), **fields, on_invalid="skip"))
        assert list(found) == ["parameters"]
        found = details(await broadcast(gateway, content, **{**fields, "parameters": '["{{nam}}"]'}))
        assert list(found) == ["parameters[0]"]
        assert nothing_stored(gateway)
        answer = (await broadcast(gateway, sheet(1), template_name="hello_world", dry_run="true")).ok
        assert answer["preview"][0]["message"]["template"]["name"] == "hello_world"


# -- the form ----------------------------------------------------------------------------------------------


async def test_a_page_of_another_site_may_not_send_the_form(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await broadcast(gateway, sheet(1), {"Origin": "https://evil.example"}, message="x")
        assert (answer.status, answer.body["code"]) == (403, "forbidden")
        assert nothing_stored(gateway)
        assert (await broadcast(gateway, sheet(1), {"Origin": gateway.url}, message="x")).status == 200


async def test_what_is_no_form_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for body, kind in ((b"{}", "application/json"), (b"message=x", "application/x-www-form-urlencoded")):
            answer = await gateway.post(PATH, body, **{"Content-Type": kind})
            assert (answer.status, answer.body["code"]) == (415, "unsupported_media_type")
        for kind in ("multipart/form-data", "multipart/form-data; boundary=B"):
            answer = await gateway.post(PATH, b"--B\r\n\r\n", **{"Content-Type": kind})
            assert (answer.status, answer.body["success"]) == (400, False), answer
        part = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
        type = {"Content-Type": "multipart/form-data; boundary=B"}
        message = part.format("message", "").encode()
        answer = await gateway.post(PATH, message + b"\xff\r\n--B--\r\n", **type)
        assert (answer.status, answer.body["code"]) == (400, "bad_form")
        file = part.format("file", '; filename="a.csv"') + sheet(1) + "\r\n"
        other = part.format("other", '; filename="a.csv"') + "x\r\n"
        twice = await gateway.post(PATH, message + f"x\r\n{file}{file}--B--\r\n".encode(), **type)
        assert details(twice) == {"file": "must be one file"}
        both = await gateway.post(PATH, message + f"x\r\n{file}{other}--B--\r\n".encode(), **type)
        assert details(both) == {"other": "is no file of this form"}
        again = await gateway.post(PATH, (message + b"x\r\n") * 2 + f"{file}--B--\r\n".encode(), **type)
        assert list(details(again)) == ["message"]
        text = await gateway.post(
            PATH, message + f"x\r\n{part.format('file', '')}phone\r\n--B--\r\n".encode(), **type
        )
        assert list(details(text)) == ["file"]
        assert nothing_stored(gateway)


async def test_a_form_repeated_with_its_key_is_sent_once(tmp_path: Path) -> None:
    """Each time with another boundary, as clients make them."""
    async with serving(tmp_path) as gateway:
        key = {"Idempotency-Key": "k"}
        first = await broadcast(gateway, sheet(2), key, message="x")
        again = await broadcast(gateway, sheet(2), key, message="x")
        assert again.ok == first.ok
        for content, message in ((sheet(3), "x"), (sheet(2), "y")):
            other = await broadcast(gateway, content, key, message=message)
            assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
        await gateway.events.wait("message.sent", 2)
        assert gateway.events.counts["task.created"] == 1
