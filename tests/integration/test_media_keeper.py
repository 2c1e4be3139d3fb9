"""Files of customers, fetched and kept: the folder, the keeper against a Graph API, and all together."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from store.errors import GatewayError, StoreUnavailable
from store.records import Cursor, Event, Lease
from store.sqlite import SqliteStore
from tests.support.fake_graph import WHOLE, FakeGraph, faking
from tests.support.gateway import Harness, serving
from tests.support.waiting import eventually
from whatsapp.graph import Graph
from whatsapp.media import Media
from whatsapp.media_folder import Kept, MediaFolder, Want
from whatsapp.media_keeper import MediaKeeper, wanted_of

DAY = 86_400_000
NOW = 1_800_000_000_000
NUMBER = "1"
DIGEST = hashlib.sha256(WHOLE)


def received(id: object, *, offset: int = 1, at: int = NOW, kind: str = "image", **more: Any) -> Event:
    message = {"type": kind, kind: {"id": id, "mime_type": "image/png", **more}}
    body = json.dumps({"event": "message.received", "data": {"message": message}}).encode()
    return Event(offset, offset - 1, f"k{offset}", "message.received", at, body, NUMBER)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- what a message brings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "audio", "video", "document", "sticker"])
def test_a_message_brings_its_file(kind: str) -> None:
    event = received("12", kind=kind, sha256="abc", filename="a.pdf")
    assert wanted_of(event) == Want("12", NOW, "image/png", "abc", "a.pdf", NUMBER)


@pytest.mark.parametrize("id", ["../../etc/passwd", "..", "a/b", "a.json", "", "x" * 200, None, 7, ["1"]])
def test_what_is_not_safe_to_name_is_not_wanted(id: object) -> None:
    assert wanted_of(received(id)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"\xff",
        b'{"data": {}}',
        b'{"data": {"message": 1}}',
        b'{"data": {"message": {"type": "text", "text": {"body": "x"}}}}',
        b'{"data": {"message": {"type": "image"}}}',
        b'{"data": {"message": {"type": ["image"]}}}',
    ],
)
def test_other_messages_bring_none(body: bytes) -> None:
    assert wanted_of(Event(1, 0, "k", "message.received", NOW, body)) is None
    assert wanted_of(Event(1, 0, "k", "message.echo", NOW, received("1").body)) is None


# -- the folder --------------------------------------------------------------------------------------------


async def keep(folder: MediaFolder, id: str, content: bytes = b"abc", at: int = NOW) -> None:
    writing = await folder.write(id)
    await writing.write(content)
    await writing.keep(mime_type="image/png", name="n", at=at)
    await writing.discard()


async def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    folder = MediaFolder(tmp_path / "m")
    assert await folder.prepare() == []
    assert await folder.want([Want("1", NOW)]) == [Want("1", NOW)]
    assert await folder.want([Want("1", NOW)]) == []
    writing = await folder.write("1")
    await writing.write(b"abc")
    assert await folder.find("1") is None
    await writing.keep(mime_type="image/png", name="n", at=NOW)
    await writing.discard()
    assert await folder.find("1") == Kept("image/png", 3, hashlib.sha256(b"abc").hexdigest(), NOW, "n")
    assert b"".join([chunk async for chunk in folder.read("1", 3)]) == b"abc"
    assert names(folder.path) == ["1", "1.json"]
    assert await folder.want([Want("1", NOW)]) == []


async def test_only_the_owner_may_read(tmp_path: Path) -> None:
    folder = MediaFolder(tmp_path / "m")
    await folder.prepare()
    await keep(folder, "1")
    await folder.want([Want("2", NOW)])
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {0o600}


async def test_what_was_left_half_done_is_cleared_away_and_what_is_wanted_stays(tmp_path: Path) -> None:
    folder = MediaFolder(tmp_path)
    await folder.prepare()
    left = await folder.write("1")
    await folder.want([Want("2", NOW, name="x")])
    (tmp_path / "3.want").write_bytes(b"no note")
    (tmp_path / "4.want").write_bytes(b'{"id": "../4", "at": 1}')
    assert await MediaFolder(tmp_path).prepare() == [Want("2", NOW, name="x")]
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
    await left.discard()


async def test_a_file_that_was_cut_short_is_told(tmp_path: Path) -> None:
    folder = MediaFolder(tmp_path)
    await keep(folder, "1")
    (tmp_path / "1").write_bytes(b"ab")
    with pytest.raises(OSError, match="not as long"):
        [chunk async for chunk in folder.read("1", 3)]
    (tmp_path / "1").unlink()
    assert await folder.find("1") is None


async def test_old_files_go_in_portions(tmp_path: Path) -> None:
    folder = MediaFolder(tmp_path)
    for n in range(5):
        await keep(folder, f"old{n}", at=NOW - 1)
    await keep(folder, "new")
    assert await folder.sweep(NOW, 3) == 3
    assert await folder.sweep(NOW, 3) == 2
    assert await folder.sweep(NOW, 3) == 0
    assert names(tmp_path) == ["new", "new.json"]


# -- the keeper --------------------------------------------------------------------------------------------


class Bench:
    """A keeper that works on a Graph API of ours."""

    def __init__(self, graph: FakeGraph, client: Graph, store: SqliteStore, lease: Lease, path: Path) -> None:
        self.graph = graph
        self.now = NOW
        self.folder = MediaFolder(path)
        self._store = store
        self._lease = lease
        self.media = Media(client, store, folder=self.folder, now_ms=lambda: self.now)
        self.keeper = self.make(days=30)

    def make(self, days: int) -> MediaKeeper:
        return MediaKeeper(
            self.media, self.folder, store=self._store, days=days, now_ms=lambda: self.now, base_s=0.001
        )

    async def handle(self, *events: Event) -> None:
        await self.keeper.handle(events, Cursor("media", events[-1].offset), self._lease)
        assert await self._store.load_cursor("media") == events[-1].offset

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.Task(self.keeper.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()

    async def until(self, **wanted: int) -> None:
        """The status, once it is so: the loops have nobody to tell."""

        async def ask() -> bool | None:
            status = self.keeper.status()
            return all(status[name] == value for name, value in wanted.items()) or None

        await eventually(ask)


@asynccontextmanager
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = SqliteStore(tmp_path / "a.db")
    await store.open()
    lease = await store.acquire_lease("consumer:media", "me", 60_000)
    assert lease is not None
    async with faking() as graph:
        client = Graph(graph.url, "v26.0", "T")
        await client.open()
        try:
            made = Bench(graph, client, store, lease, tmp_path / "m")
            await made.keeper.prepare()
            yield made
        finally:
            await client.close()
            await store.close()


async def test_a_file_is_fetched_and_served_from_here(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, one.running():
        sha256 = base64.b64encode(DIGEST.digest()).decode()
        await one.handle(received("whole", sha256=sha256, filename="../me.png"))
        await one.until(fetched=1, wanted=0)
        assert names(one.folder.path) == ["whole", "whole.json"]
        calls = len(one.graph.asked)
        async with one.media.open("whole", NUMBER) as download:
            assert download[:3] == ("image/png", "_me.png", len(WHOLE))
            assert b"".join([chunk async for chunk in download.chunks]) == WHOLE
        assert len(one.graph.asked) == calls
        # Handed over again, as after a crash: it is here.
        await one.handle(received("whole", offset=2))
        assert one.keeper.status()["wanted"] == 0


async def test_a_graph_that_fails_is_asked_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        one.graph.fail_first = 5
        async with one.running():
            await one.handle(received("whole"))
            await one.until(fetched=1, given_up=0)
            assert one.keeper.status()["fault"] is None


async def test_what_meta_does_not_know_is_given_up(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, one.running():
        await one.handle(received("unknown"), received("whole", offset=2))
        await one.until(fetched=1, given_up=1, wanted=0)
        assert one.graph.asked.count("GET /v26.0/unknown") == 3
        assert names(one.folder.path) == ["whole", "whole.json"]


@pytest.mark.parametrize("id", ["short", "less", "huge"])
async def test_a_file_that_breaks_off_leaves_nothing_until_it_is_given_up(tmp_path: Path, id: str) -> None:
    async with bench(tmp_path) as one:
        async with one.running():
            await one.handle(received(id))

            async def tried() -> bool | None:
                return one.graph.asked.count(f"GET /v26.0/{id}") >= 4 or None

            await eventually(tried)
            one.now += 8 * DAY
            await one.until(given_up=1, wanted=0)
        assert names(one.folder.path) == []


async def test_what_is_wanted_outlives_the_process(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.handle(received("whole"))
        assert names(one.folder.path) == ["whole.want"]
        one.keeper = one.make(days=30)
        await one.keeper.prepare()
        async with one.running():
            await one.until(fetched=1)


async def test_a_file_that_drips_holds_up_no_events(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        async with one.running():
            await one.handle(received("drip"))
            await one.graph.dripping.wait()
            await one.handle(received("whole", offset=2))
            await one.until(fetched=1, wanted=1)
        assert "drip.want" in names(one.folder.path)


async def test_what_meta_has_no_more_is_not_asked_for(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, one.running():
        await one.handle(received("whole", at=NOW - 8 * DAY))
        assert one.keeper.status()["wanted"] == 0
    async with bench(tmp_path / "b") as one:
        one.keeper = one.make(days=1)
        await one.handle(received("whole", at=NOW - 2 * DAY))
        assert one.keeper.status()["wanted"] == 0


async def test_another_digest_is_tried_again_and_then_kept_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with bench(tmp_path) as one, one.running():
        await one.handle(received("whole", sha256=hashlib.sha256(b"other").hexdigest()))
        await one.until(fetched=1)
        assert one.graph.asked.count("GET /v26.0/whole") == 4
        assert "digest is not the one" in caplog.text


async def test_old_files_are_removed(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await keep(one.folder, "old", at=NOW - 31 * DAY)
        await keep(one.folder, "new", at=NOW - 29 * DAY)
        async with one.running():

            async def removed() -> bool | None:
                return "old" not in names(one.folder.path) or None

            await eventually(removed)
        assert names(one.folder.path) == ["new", "new.json"]


async def test_a_disk_that_fails_holds_the_cursor(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        one.folder.path = tmp_path / "gone"
        with pytest.raises(StoreUnavailable, match="MEDIA_DIR"):
            await one.handle(received("whole"))
        assert "MEDIA_DIR" in one.keeper.status()["fault"]
        one.folder.path = tmp_path / "m"
        await one.handle(received("whole"))
        assert names(one.folder.path) == ["whole.want"]


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file")
    with pytest.raises(GatewayError, match=r"MEDIA_DIR: the folder .* cannot be used"):
        async with bench(tmp_path):
            raise AssertionError("it was not told")


# -- all of it ---------------------------------------------------------------------------------------------


async def customer_sends(gateway: Harness, media_id: str) -> None:
    message = {"type": "document", "document": {"id": media_id, "filename": "cv.pdf"}}
    await gateway.sandbox.inbound("5215550001111", message=message)
    await gateway.events.wait("message.received")
    await gateway.consumed("media")

    async def fetched() -> bool | None:
        kept = (await gateway.status())["media"]["kept"]
        return kept["fetched"] == 1 or None

    await eventually(fetched)


async def test_what_customers_send_is_here_when_meta_has_it_no_more(tmp_path: Path) -> None:
    media = {"dir": str(tmp_path / "files"), "days": 1}
    async with serving(tmp_path, media=media) as gateway:
        shelf = gateway.sandbox._account.media
        media_id = shelf.put(gateway.sandbox.number, "application/pdf", b"%PDF").id
        await customer_sends(gateway, media_id)
        consumers = [consumer["name"] for consumer in (await gateway.status())["consumers"]]
        assert "media" in consumers
        shelf.remove(media_id)
        await gateway.restart()
        async with gateway.http.get(f"{gateway.url}/api/media/{media_id}/download") as answer:
            assert (answer.status, await answer.read()) == (200, b"%PDF")
            assert answer.headers["Content-Type"] == "application/pdf"
            assert answer.headers["Content-Disposition"] == 'attachment; filename="cv.pdf"'
        # Meta's own word of it is another matter.
        assert (await gateway.get(f"/api/media/{media_id}")).status == 404
        assert (await gateway.request("DELETE", f"/api/media/{media_id}")).ok == {"success": True}
        assert (await gateway.request("DELETE", f"/api/media/{media_id}")).status == 404
        assert names(tmp_path / "files") == []


async def test_a_kept_file_that_was_damaged_never_looks_whole(tmp_path: Path) -> None:
    media = {"dir": str(tmp_path / "files"), "days": 1}
    async with serving(tmp_path, media=media) as gateway:
        folder = MediaFolder(tmp_path / "files")
        await keep(folder, "77", b"abcdef", at=int(time.time() * 1000))
        (tmp_path / "files" / "77").write_bytes(b"abc")
        with pytest.raises(aiohttp.ClientPayloadError):
            async with gateway.http.get(f"{gateway.url}/api/media/77/download") as answer:
                await answer.read()


async def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path, media={"dir": str(tmp_path / "files")}) as gateway:
        status = await gateway.status()
        assert status["media"]["kept"] is None
        assert "media" not in [consumer["name"] for consumer in status["consumers"]]
        assert not (tmp_path / "files").exists()
