"""Hooks, with the whole gateway, over real sockets: what receivers get, and what they cannot break."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from handlers import answers
from settings import HookSettings, Secret
from tests.support.gateway import Harness, Json, serving, write
from tests.support.memory_log import new_event
from tests.support.receiver import Answer, Delivery, Receiver, endless, receiving
from tests.support.waiting import eventually
from whatsapp.post_signature import SIGNATURE, TIMESTAMP, signed_headers

_QUICK: Mapping[str, Any] = {"retry_base_s": 0.01, "retry_cap_s": 0.02, "answer_timeout_s": 5.0}
_LOG = "hub.outlet"


def hook(receiver: Receiver | str, name: str = "crm", **values: Any) -> HookSettings:
    url = receiver if isinstance(receiver, str) else receiver.url
    return HookSettings(name=name, url=Secret(url), **{"types": ("message.received",), **values})


@asynccontextmanager
async def hooked(path: Path, *endpoints: HookSettings, **rules: Any) -> AsyncIterator[Harness]:
    async with serving(path, hooks={**_QUICK, **rules, "endpoints": endpoints}) as gateway:
        yield gateway


async def state(gateway: Harness, name: str = "crm") -> Json:
    found: Json = (await gateway.get(f"/api/hooks/{name}")).ok
    return found


async def state_when(gateway: Harness, ready: Callable[[Json], bool], name: str = "crm") -> Json:
    async def ask() -> Json | None:
        found = await state(gateway, name)
        return found if ready(found) else None

    return await eventually(ask)


async def healthy(gateway: Harness) -> None:
    """Return once it is: a store is known as away until it has answered."""

    async def ask() -> bool | None:
        return (await gateway.status())["status"] == "healthy" or None

    await eventually(ask)


def texts(posts: list[Delivery]) -> list[str]:
    return [event["data"]["text"] for post in posts for event in post.events]


def holding(receiver: Receiver) -> Answer:
    """Answers once the receiver lets go of them."""

    async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        await receiver.held.wait()
        return web.Response()

    return answer


# -- what comes --------------------------------------------------------------------------------------------


async def test_each_event_comes_once_in_order_as_subscribers_see_it_and_signed(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver, secret=Secret("s"))) as gateway:
        await write(gateway, "a", "b", "c")
        posts = await receiver.took(3)
        epoch = (await gateway.status())["store"]["epoch"]
        assert texts(posts) == ["a", "b", "c"]
        for post, event in zip(posts, gateway.events.all, strict=False):
            (frame,) = post.events
            assert frame == {
                "type": "event",
                "offset": event.offset,
                "prev": event.prev,
                **json.loads(event.body),
            }
            at = int(post.headers[TIMESTAMP]) * 1000
            assert post.headers[SIGNATURE] == signed_headers("s", post.body, at)[SIGNATURE]
            assert post.headers["X-Gateway-Hook"] == "crm"
            assert post.headers["X-Gateway-Event"] == "message.received"
            assert post.headers["X-Gateway-Event-Id"] == f"{epoch}:{event.offset}"
        told = await state_when(gateway, lambda told: told["lag"] == 0)
        assert (told["state"], told["taken"], told["last_error"]) == ("running", 3, None)


async def test_a_hook_gets_what_it_wants_and_no_other(tmp_path: Path) -> None:
    async with receiving() as all_, receiving() as inbound, receiving() as tasks, receiving() as none:
        endpoints = (
            hook(all_, "all", types=("*",)),
            hook(inbound, "inbound", types=("inbound",)),
            hook(tasks, "tasks", types=("task.*",)),
            hook(none, "none", types=("*",), phone_number_id="999"),
        )
        async with hooked(tmp_path, *endpoints) as gateway:
            await write(gateway, "hello")
            await gateway.send("5215550001111")
            await gateway.events.wait("message.read")
            await gateway.events.wait("task.completed")
            for name in ("all", "inbound", "tasks"):
                await state_when(gateway, lambda told: told["lag"] == 0, name)
            assert all_.offsets == [event.offset for event in gateway.events.all]
            by_meta = {"message.received", "message.status", "message.delivered", "message.read"}
            assert {e["event"] for post in inbound.taken for e in post.events} == by_meta
            assert {e["event"] for post in tasks.taken for e in post.events} == {
                "task.created",
                "task.completed",
            }
            assert none.posts == []


async def test_a_hook_with_a_batch_gets_lists(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver, batch=10)) as gateway:
        receiver.answer = holding(receiver)
        await write(gateway, "a")
        await receiver.got(1)
        await write(gateway, *"bcdefghijklm")
        receiver.held.set()
        await receiver.wait(lambda: len(receiver.offsets) == 13, "all of them")
        assert [len(json.loads(post.body)) for post in receiver.taken] == [1, 10, 2]
        assert texts(receiver.taken) == list("abcdefghijklm")
        assert receiver.taken[0].headers["X-Gateway-Event"] == "batch"


async def test_it_begins_with_what_comes_after_its_first_start_and_goes_on_after_that(
    tmp_path: Path,
) -> None:
    async with receiving() as receiver:
        async with hooked(tmp_path) as gateway:
            await write(gateway, "before")
        async with hooked(tmp_path, hook(receiver)) as gateway:
            await receiver.stop()
            await write(gateway, "while it is away")
            await state_when(gateway, lambda told: told["state"] == "failing")
            await gateway.restart()
            await receiver.start()
            await write(gateway, "after")
            posts = await receiver.took(2)
            assert texts(posts) == ["while it is away", "after"]


async def test_a_new_secret_is_taken_over_while_it_runs(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver, secret=Secret("old"))) as gateway:
        running = gateway.gateway._settings
        hooks = msgspec.structs.replace(running.hooks, endpoints=(hook(receiver, secret=Secret("new")),))
        said = gateway.gateway.renew(msgspec.structs.replace(running, hooks=hooks))
        assert said.endswith("new secrets for the hooks crm")
        await write(gateway, "a")
        (post,) = await receiver.took(1)
        at = int(post.headers[TIMESTAMP]) * 1000
        assert post.headers[SIGNATURE] == signed_headers("new", post.body, at)[SIGNATURE]
        assert "hooks" not in gateway.gateway.renew(msgspec.structs.replace(running, hooks=hooks))


# -- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404, 302])
async def test_what_is_not_taken_is_tried_again_and_keeps_the_order(tmp_path: Path, status: int) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        receiver.answers(status, status, 200, headers={"Location": "http://127.0.0.1:9/"})
        await write(gateway, "a", "b")
        assert texts(await receiver.took(2)) == ["a", "b"]
        assert texts(receiver.posts[:3]) == ["a", "a", "a"]
        told = await state_when(gateway, lambda told: told["state"] == "running")
        assert told["failing_since"] is None


async def test_who_hangs_up_after_reading_gets_the_same_again(tmp_path: Path) -> None:
    async def hang_up(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        receiver.answer = None
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)

    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        receiver.answer = hang_up
        await write(gateway, "a")
        await receiver.took(1)
        assert texts(receiver.posts) == ["a", "a"]
        ids = {post.headers["X-Gateway-Event-Id"] for post in receiver.posts}
        assert len(ids) == 1


async def test_a_retry_after_is_waited_for(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        receiver.answers(503, 200, headers={"Retry-After": "3600"})
        await write(gateway, "a")
        await state_when(gateway, lambda told: told["state"] == "failing")
        assert len(receiver.posts) == 1
        # A person may have it tried at once.
        assert (await gateway.post("/api/hooks/crm/resume", b"")).ok["success"]
        await receiver.took(1)


async def test_gone_pauses_at_once_and_a_person_has_it_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        receiver.answers(410)
        await write(gateway, "a")
        (paused,) = await gateway.events.wait("hook.paused")
        assert (paused["hook"], paused["reason"], paused["why"]) == ("crm", "gone", "HTTP 410")
        told = await state_when(gateway, lambda told: told["state"] == "paused")
        assert told["reason"] == "gone"
        assert (await gateway.status())["status"] == "degraded"
        assert (await gateway.get("/api/ready")).status == 200
        # Over a restart, too.
        await gateway.restart()
        await write(gateway, "b")
        assert (await state(gateway))["state"] == "paused"
        assert len(receiver.posts) == 1
        receiver.answers(200)
        answer = (await gateway.post("/api/hooks/crm/resume", b"")).ok
        assert answer["hook"]["state"] == "running"
        assert texts(await receiver.took(2)) == ["a", "b"]
        (resumed,) = await gateway.events.wait("hook.resumed")
        assert resumed["hook"] == "crm"
        await healthy(gateway)
    assert [r.name for r in caplog.records if r.levelno >= logging.ERROR] == [_LOG]
    caplog.clear()


async def test_an_event_that_is_refused_for_too_long_is_skipped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def picky(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        return web.Response(status=422 if "poison" in texts([delivery]) else 200)

    async with receiving() as receiver, hooked(tmp_path, hook(receiver), max_age_s=0.2) as gateway:
        receiver.answer = picky
        await write(gateway, "a", "poison", "b")
        assert texts(await receiver.took(2)) == ["a", "b"]
        (skipped,) = await gateway.events.wait("hook.skipped")
        poison = next(event for event in gateway.events.all if b"poison" in event.body)
        assert skipped["hook"] == "crm" and skipped["reason"] == "refused"
        assert (skipped["offset"], skipped["event"]) == (poison.offset, "message.received")
        assert skipped["why"] == "HTTP 422" and skipped["refused_since"]
        assert (await state(gateway))["skipped"] == 1
        # Whether it is skipped again is told again.
        await gateway.post(f"/api/hooks/crm/replay?from={poison.prev}", b"")
        assert texts(await receiver.took(3)) == ["a", "b", "b"]
        assert len(gateway.events.of("hook.skipped")) == 2
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 2
    caplog.clear()


async def test_of_a_batch_only_the_one_that_is_refused_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def picky(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        return web.Response(status=400 if "poison" in texts([delivery]) else 200)

    async with receiving() as receiver, hooked(tmp_path, hook(receiver, batch=50), max_age_s=0.1) as gateway:
        await receiver.stop()
        await write(gateway, "a", "b", "poison", "c", "d")
        receiver.answer = picky
        await receiver.start()
        await receiver.wait(lambda: len(receiver.offsets) == 4, "all but one")
        assert texts(receiver.taken) == ["a", "b", "c", "d"]
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1
    caplog.clear()


async def test_a_hook_may_be_paused_by_an_event_that_it_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        async with hooked(tmp_path, hook(receiver, on_refused="pause"), max_age_s=0.1) as gateway:
            receiver.answers(400)
            await write(gateway, "a")
            (paused,) = await gateway.events.wait("hook.paused")
            assert paused["reason"] == "refused"
            assert gateway.events.of("hook.skipped") == []
            receiver.answers(200)
            await gateway.post("/api/hooks/crm/resume", b"")
            assert texts(await receiver.took(1)) == ["a"]
    caplog.clear()


async def test_a_receiver_that_takes_nothing_for_long_is_paused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver), pause_after_s=0.2) as gateway:
        receiver.answers(500)
        await write(gateway, "a")
        (paused,) = await gateway.events.wait("hook.paused")
        assert paused["reason"] == "failing"
        # A resume gives it as long again.
        receiver.answers(500, 200)
        await gateway.post("/api/hooks/crm/resume", b"")
        assert texts(await receiver.took(1)) == ["a"]
    caplog.clear()


async def test_a_slow_receiver_and_a_dead_one_hold_back_nobody_else(tmp_path: Path) -> None:
    async with receiving() as slow, receiving() as good:
        slow.answer = holding(slow)
        endpoints = (
            hook(slow, "slow"),
            hook("http://127.0.0.1:9/", "dead"),
            hook("http://no-such-host.invalid/", "nowhere"),
            hook(good, "good"),
        )
        async with hooked(tmp_path, *endpoints, answer_timeout_s=60.0) as gateway:
            await write(gateway, *(str(n) for n in range(20)))
            posts = await good.took(20)
            assert texts(posts) == [str(n) for n in range(20)]
            assert (await gateway.send("5215550001111")).status == 200
            assert len(slow.posts) == 1
            for name in ("dead", "nowhere"):
                told = await state_when(gateway, lambda told: told["state"] == "failing", name)
                assert told["last_error"].startswith("no answer")


async def test_an_endless_answer_is_an_answer(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        receiver.answer = endless
        await write(gateway, "a", "b")
        await state_when(gateway, lambda told: told["taken"] == 2)
        assert texts(receiver.posts) == ["a", "b"]


async def test_a_store_that_is_away_stops_the_posts_until_it_can_keep_what_was_taken(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        await write(gateway, "a")
        await receiver.took(1)
        await state_when(gateway, lambda told: told["lag"] == 0)
        receiver.answer = holding(receiver)
        await write(gateway, "b", "c")
        await receiver.got(2)
        gateway.store.fail("save_cursor")
        receiver.held.set()
        await gateway.store.arrived("save_cursor", 2)
        gateway.store.heal()
        assert texts(await receiver.took(3)) == ["a", "b", "c"]
        assert len(receiver.posts) == 3


async def test_the_status_is_told_while_the_store_is_away(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        await write(gateway, "a")
        await receiver.took(1)
        told = await state_when(gateway, lambda told: told["lag"] == 0)
        gateway.store.fail_all()
        (known,) = (await gateway.status())["hooks"]
        for field in ("name", "state", "position", "taken"):
            assert known[field] == told[field]
        assert (await gateway.post("/api/hooks/crm/pause", b"")).status == 503


async def test_one_that_is_far_behind_gets_all_in_order_beside_live_ones(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver, batch=100)) as gateway:
        await gateway.post("/api/hooks/crm/pause", b"")
        store, log = gateway.store.as_store(), gateway.gateway._log
        for portion in range(20):
            # Past what is kept in memory.
            await store.append_events([new_event(portion * 1000 + n, size=700) for n in range(1000)])
        async with gateway.http.ws_connect(f"{gateway.url}/ws?types=message.received") as live:
            await live.receive_json()
            await gateway.post("/api/hooks/crm/resume", b"")
            outlet = gateway.gateway._outlets.by_name["crm"]
            while outlet._taken < 20_000:
                assert len(outlet._ahead) <= 100
                (event,) = await log.append([new_event(20_000 + len(gateway.events.all))])
                frame = await live.receive_json()
                while frame["type"] != "event":
                    frame = await live.receive_json()
                assert frame["offset"] == event.offset, "a live one waits for nobody"
        await state_when(gateway, lambda told: told["lag"] == 0)
        kept = [event.offset for event in gateway.events.all if event.type == "message.received"]
        assert receiver.offsets == kept


# -- what persons do ---------------------------------------------------------------------------------------


async def test_a_person_pauses_and_resumes(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        for _ in range(2):
            answer = (await gateway.post("/api/hooks/crm/pause", b"")).ok
            assert (answer["hook"]["state"], answer["hook"]["reason"]) == ("paused", "person")
        assert len(gateway.events.of("hook.paused")) == 1
        await write(gateway, "a")
        await gateway.restart()
        assert (await state(gateway))["state"] == "paused"
        # It is what was wanted.
        await healthy(gateway)
        assert receiver.posts == []
        await gateway.post("/api/hooks/crm/resume", b"")
        assert texts(await receiver.took(1)) == ["a"]


async def test_a_replay_goes_back_or_forward_and_is_told(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        await write(gateway, "a", "b")
        await receiver.took(2)
        epoch = (await gateway.status())["store"]["epoch"]
        second = gateway.events.all[-1]
        answer = (await gateway.post(f"/api/hooks/crm/replay?from={epoch}:{second.prev}", b"")).ok
        assert (answer["offset"], answer["recovered"]) == (second.prev, True)
        assert texts(await receiver.took(3)) == ["a", "b", "b"]
        await gateway.post("/api/hooks/crm/replay?from=0", b"")
        assert texts(await receiver.took(5))[3:] == ["a", "b"]
        told = await gateway.events.wait("hook.replayed", 2)
        assert [one["to"] for one in told] == [second.prev, 0]
        # Forward, past what it does not want any more.
        await gateway.post("/api/hooks/crm/pause", b"")
        await write(gateway, "unwanted")
        await gateway.post("/api/hooks/crm/replay?from=now", b"")
        await gateway.post("/api/hooks/crm/resume", b"")
        await write(gateway, "c")
        assert texts(await receiver.took(6))[5:] == ["c"]


async def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        for method, path in (
            ("GET", ""),
            ("POST", "/pause"),
            ("POST", "/resume"),
            ("POST", "/replay?from=0"),
        ):
            assert (await gateway.request(method, f"/api/hooks/nobody{path}")).status == 404
        for query in (
            "",
            "?from=",
            "?from=x",
            "?from=-1",
            "?from=other:1",
            "?from=99",
            "?from=9999999999999999",
        ):
            answer = await gateway.post(f"/api/hooks/crm/replay{query}", b"")
            assert answer.status == 400 and "from" in answer.body["error"], (query, answer)
        assert (await gateway.post("/api/hooks/crm/replay?from=0&more=1", b"")).status == 400


async def test_answers_show_no_secret(tmp_path: Path) -> None:
    url = "http://user:hidden-1@127.0.0.1:9/hidden-2?token=hidden-3"
    endpoint = hook(url, secret=Secret("hidden-4"), headers=(Secret("X-Key: hidden-5"),))
    async with hooked(tmp_path, endpoint) as gateway:
        await write(gateway, "a")
        told = await state_when(gateway, lambda told: told["state"] == "failing")
        assert told["address"] == "http://127.0.0.1:9"
        shown = [told, await gateway.status(), (await gateway.get("/api/hooks")).ok]
        assert "hidden" not in json.dumps(shown)
        memo = await gateway.store.find_memo("outlet:crm")
        assert b"hidden" not in memo.body
        assert "hidden" not in repr(gateway.gateway._settings)


async def test_answers_have_the_shapes_that_are_described(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, hook(receiver)) as gateway:
        await write(gateway, "a")
        await receiver.took(1)
        msgspec.convert((await gateway.get("/api/hooks")).ok, answers.HookPage)
        for path, kind in (("pause", answers.HookChanged), ("resume", answers.HookChanged)):
            msgspec.convert((await gateway.post(f"/api/hooks/crm/{path}", b"")).ok, kind)
        replayed = await gateway.post("/api/hooks/crm/replay?from=0", b"")
        msgspec.convert(replayed.ok, answers.HookReplayed)
