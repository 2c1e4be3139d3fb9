"""What is sent where a window is open, closed, or unknown, and what opens one (docs/design.md, Window)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from store.records import Alias
from tests.support.gateway import NUMBER, Harness, serving
from tests.support.waiting import eventually
from tests.support.windows import called, remember, user_of, wrote
from whatsapp.sandbox import SandboxSettings

Json = dict[str, Any]

PHONE = "5215550001111"
OTHER = "5215550002222"
BYSTANDER = "5215550009999"
"""Who writes so that something has come for the number."""
QUIET = SandboxSettings(enforce_limits=False, status_delays=None)
HELLO = {"template_name": "hello_world"}
LONG_AGO = {PHONE: 26.0}


@asynccontextmanager
async def knowing(
    directory: Path, heard: Mapping[str, float], *, unbroken_h: float = 30
) -> AsyncIterator[Harness]:
    """A gateway that has kept its ledger for long, and for whose number webhooks come."""
    await remember(directory, heard, unbroken_h=unbroken_h)
    async with serving(directory, sandbox=QUIET) as gateway:
        await watching(gateway)
        yield gateway


async def watching(gateway: Harness) -> None:
    """Return once windows can be judged."""
    assert (await gateway.webhook(wrote(BYSTANDER))).status == 200

    async def ask() -> bool | None:
        return (await gateway.status())["unbroken_since"] is not None or None

    await eventually(ask)


def sent(gateway: Harness) -> list[str]:
    """The kinds of what Meta got."""
    return [call.message["type"] for call in gateway.calls.all]


async def rows(gateway: Harness, task_id: str) -> list[Json]:
    found: list[Json] = (await gateway.get(f"/api/tasks/{task_id}/messages")).ok["messages"]
    return found


# -- closed ------------------------------------------------------------------------------------------------


async def test_where_the_window_is_closed_the_fallback_goes_without_a_call_before_it(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        answer = await gateway.send(PHONE, fallback_template=HELLO)
        assert answer.ok["fallback"] is True
        assert sent(gateway) == ["template"]
        (retrying,) = gateway.events.of("message.retrying")
        assert retrying["fallback"] is True and retrying["error"]["name"] == "window_closed"
        assert "code" not in retrying["error"]
        (row,) = await rows(gateway, answer.body["task_id"])
        assert (row["state"], row["fallback"]) == ("sent", True)


async def test_without_a_fallback_it_fails_without_a_call(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        answer = await gateway.send(PHONE)
        assert (answer.status, answer.body["code"]) == (400, "window_closed")
        assert "24 hours" in answer.body["error"]
        task_id = await gateway.queue(PHONE)
        failed = await gateway.events.wait("message.failed", 2)
        assert [data["error"]["name"] for data in failed] == ["window_closed"] * 2
        (row,) = await rows(gateway, task_id)
        assert (row["state"], row["error"]["name"]) == ("failed", "window_closed")
        assert sent(gateway) == []
        view = (await gateway.store.find_rows([row["message_id"]]))[row["message_id"]]
        assert view.row.failures == 0


async def test_a_window_that_meta_finds_closed_is_answered_by_the_same_code(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.send("5215599131047")
        assert (answer.status, answer.body["code"]) == (400, "window_closed")
        assert answer.body["meta"]["code"] == 131047
        assert answer.body["error"] == answer.body["meta"]["details"]
        assert (await gateway.status())["refused"] == {"window_closed": 1}


async def test_what_failed_for_a_closed_window_is_sent_once_it_is_open_and_a_person_retries(
    tmp_path: Path,
) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        task_id = await gateway.queue(PHONE)
        await gateway.events.wait("message.failed")
        assert (await gateway.post(f"/api/tasks/{task_id}/retry", {})).ok["retried"] == 1
        await gateway.events.wait("message.failed", 2)
        await gateway.webhook(wrote(PHONE))
        assert (await gateway.post(f"/api/tasks/{task_id}/retry", {})).ok["retried"] == 1
        await gateway.events.wait("message.sent")
        assert sent(gateway) == ["text"]


async def test_a_word_that_the_ledger_stepped_over_closes_nothing_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        gateway.store.fail("note_inbound", ZeroDivisionError("not this one"))
        await gateway.webhook(wrote(PHONE))

        async def skipped() -> bool | None:
            told = (await gateway.status())["consumers"]
            return any(one["skipped"] for one in told if one["name"] == "windows") or None

        await eventually(skipped)
        gateway.store.heal()
        await gateway.restart()
        await watching(gateway)
        assert (await gateway.send(PHONE)).status == 200
        assert sent(gateway) == ["text"]
    assert "stepped over the event" in caplog.text
    caplog.clear()


async def test_a_template_is_sent_whatever_the_window(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        answer = await gateway.post("/api/send-template", {"phone": PHONE, "template_name": "hello_world"})
        assert answer.status == 200
        assert sent(gateway) == ["template"]


async def test_of_many_each_is_judged_alone_with_one_read_for_those_that_leave_together(
    tmp_path: Path,
) -> None:
    phones = [f"52155500{n:05}" for n in range(60)]
    async with knowing(
        tmp_path, {phone: 26.0 if n % 3 else 1.0 for n, phone in enumerate(phones)}
    ) as gateway:
        gateway.store.hold("mark_sending")
        before = gateway.store.calls["find_inbound"]
        recipients = [{"phone": phone, "message": "hi"} for phone in phones]
        task_id = (await gateway.bulk(recipients)).ok["task_id"]
        await gateway.store.arrived("mark_sending")
        gateway.store.heal()
        await gateway.events.wait("task.completed")
        states = [row["state"] for row in await rows(gateway, task_id)]
        assert states == ["failed" if n % 3 else "sent" for n in range(60)]
        assert len(gateway.calls.all) == 20
        assert gateway.store.calls["find_inbound"] - before <= gateway.store.calls["mark_sending"]


# -- open, and open again ----------------------------------------------------------------------------------


async def test_within_the_window_the_message_itself_goes(tmp_path: Path) -> None:
    async with knowing(tmp_path, {PHONE: 23.9}) as gateway:
        assert "fallback" not in (await gateway.send(PHONE, fallback_template=HELLO)).ok
        assert sent(gateway) == ["text"]


async def test_who_writes_opens_the_window_at_once(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        assert (await gateway.send(PHONE)).status == 400
        # The ledger does not get it yet.
        gateway.store.hold("note_inbound")
        await gateway.webhook(wrote(PHONE))
        assert (await gateway.send(PHONE)).status == 200


async def test_the_ledger_itself_remembers_who_wrote(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        await gateway.webhook(wrote(PHONE))
        await gateway.consumed("windows")
        await gateway.restart()
        await watching(gateway)
        assert (await gateway.send(PHONE)).status == 200


async def test_a_call_opens_the_window(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        # While the ledger has not taken it, whose call it was is not known: Meta decides for all.
        gateway.store.hold("note_inbound")
        await gateway.webhook(called(PHONE))
        assert (await gateway.send(PHONE)).status == 200
        gateway.store.heal()
        await gateway.consumed("windows")
        await gateway.restart()
        await watching(gateway)
        assert (await gateway.send(PHONE)).status == 200


async def test_who_has_not_written_for_as_long_as_things_are_kept_is_forgotten(tmp_path: Path) -> None:
    async with knowing(tmp_path, {PHONE: 35 * 24 + 1, OTHER: 35 * 24 - 1}) as gateway:

        async def ask() -> bool | None:
            known = await gateway.store.find_inbound(NUMBER, [PHONE, OTHER])
            return known.keys() == {OTHER} or None

        await eventually(ask)


@pytest.mark.parametrize("calls", [False, True])
async def test_a_word_while_the_message_is_claimed_still_counts(tmp_path: Path, calls: bool) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        # Whatever the ledger makes of it.
        gateway.store.fail("note_inbound")
        gateway.store.hold("mark_sending")
        await gateway.queue(PHONE)
        await gateway.store.arrived("mark_sending")
        await gateway.webhook(called(PHONE) if calls else wrote(PHONE))
        gateway.store.heal()
        await gateway.events.wait("message.sent")
        assert sent(gateway) == ["text"]


# -- unknown -----------------------------------------------------------------------------------------------


async def test_to_who_was_never_heard_from_meta_decides(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        assert (await gateway.send(OTHER)).status == 200
        refused = await gateway.send("5215599131047", fallback_template=HELLO)
        assert refused.ok["fallback"] is True
        assert sent(gateway) == ["text", "text", "template"]


async def test_where_webhooks_may_have_been_missed_meta_decides(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO, unbroken_h=23) as gateway:
        assert (await gateway.send(PHONE)).status == 200


async def test_a_gateway_that_was_down_for_long_lets_meta_decide(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        assert (await gateway.send(PHONE)).status == 400
        gateway.sandbox.webhook_url = None
        await gateway.stop_gateway()
        # As if it had stopped two minutes ago.
        await backdate(tmp_path)
        await gateway.start_gateway()
        await watching(gateway)
        assert (await gateway.send(PHONE)).status == 200


async def backdate(directory: Path) -> None:
    with sqlite3.connect(directory / "gateway.db") as db:
        db.execute("UPDATE intake SET at = at - 120000")
    db.close()


async def test_what_comes_late_shows_that_more_may_be_missing(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        assert (await gateway.send(PHONE)).status == 400
        await gateway.webhook(wrote(OTHER, hours_ago=2))
        await gateway.consumed("windows")
        assert (await gateway.send(PHONE)).status == 200


async def test_a_restart_keeps_all_that_is_known(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        await gateway.restart()
        # Nothing has come for the number since: its webhooks may not reach us at all.
        assert (await gateway.send(PHONE)).status == 200
        await watching(gateway)
        assert (await gateway.send(PHONE)).status == 400


async def test_where_the_ledger_does_not_answer_meta_decides(tmp_path: Path) -> None:
    async with knowing(tmp_path, LONG_AGO) as gateway:
        gateway.store.fail("find_inbound")
        assert (await gateway.send(PHONE)).status == 200


async def test_a_group_has_no_window_of_a_persons(tmp_path: Path) -> None:
    group = "Y2FwaV9ncm91cDoxODA1NTU1MDE3Mjo"
    async with knowing(tmp_path, {f"group:{group}": 26.0}) as gateway:
        message = {"to": group, "recipient_type": "group", "type": "text", "text": {"body": "hi"}}
        assert (await gateway.post("/api/messages", message)).status == 200


# -- who a contact is --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("heir_h", "status"), [(26.0, 400), (1.0, 200), (None, 200)])
async def test_the_window_of_who_has_the_address_now_counts_too(
    tmp_path: Path, heir_h: float | None, status: int
) -> None:
    """The message was accepted for one contact, who has turned out to be another since."""
    heard = {**LONG_AGO, **({user_of(PHONE): heir_h} if heir_h else {})}
    async with knowing(tmp_path, heard) as gateway:
        gateway.store.hold("read_ahead")
        task_id = await gateway.queue(PHONE)
        await gateway.store.put_aliases([Alias(PHONE, user_of(PHONE), user_of(PHONE))])
        gateway.store.heal()
        await gateway.events.wait("message.sent" if status == 200 else "message.failed")
        (row,) = await rows(gateway, task_id)
        assert row["state"] == ("sent" if status == 200 else "failed")


async def test_who_wrote_without_a_user_id_may_write_under_another_name(tmp_path: Path) -> None:
    async with knowing(tmp_path, {}) as gateway:
        # Read from the log long after it came, so that nothing is late.
        await gateway.webhook(wrote(PHONE, from_user_id=""))
        await gateway.consumed("windows")
        assert await gateway.store.find_inbound(NUMBER, [PHONE]) == {}
