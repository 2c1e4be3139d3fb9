"""What of settings that are read again is taken over, and when they are read."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest

import config
import reloading
from reloading import Reloader, tokens_after, tokens_of
from settings import LaneSettings, NumberSettings, Secret, Settings, WhatsAppSettings
from tests.support.waiting import eventually


def settings(token: str = "old", *numbers: tuple[str, str], number: str = "1", **more: Any) -> Settings:
    others = tuple(NumberSettings(phone_number_id=id, access_token=Secret(own)) for id, own in numbers)
    whatsapp = WhatsAppSettings(access_token=Secret(token), phone_number_id=number, numbers=others)
    return Settings(whatsapp=whatsapp, **more)


def test_a_number_without_a_token_of_its_own_follows_the_common_one() -> None:
    before = tokens_of(settings("old", ("2", ""), ("3", "own")))
    after = tokens_after(before, settings("new", ("2", ""), ("3", "own")))
    assert after == ("new", {"1": "new", "2": "new", "3": "own"})


def test_a_number_gets_its_own_token_or_loses_it() -> None:
    before = tokens_of(settings("old", ("2", ""), ("3", "own")))
    after = tokens_after(before, settings("old", ("2", "fresh"), ("3", "")))
    assert after.of_number == {"1": "old", "2": "fresh", "3": "old"}


def test_a_number_that_is_not_named_keeps_its_token_and_a_new_one_waits() -> None:
    before = tokens_of(settings("old", ("2", "own")))
    after = tokens_after(before, settings("new", ("9", "nine")))
    assert after.of_number == {"1": "new", "2": "own"}


def test_what_has_changed_beside_tokens_is_named_without_its_value() -> None:
    new = settings("new", ("2", "own"), lane=LaneSettings(rate=20.0))
    assert config.changed_keys(settings("old"), new) == ("NUMBERS", "LANE_RATE")
    assert config.changed_keys(settings("old", ("2", "a")), settings("new", ("2", "b"))) == ()


class Bench:
    """A gateway's files, and what it took over from them."""

    def __init__(self, directory: Path) -> None:
        self.dotenv = directory / ".env"
        self.write("old")
        self.taken: list[str] = []
        self.reloader = Reloader(self.read(), read=self.read, files=self.files, take=self.take)

    def write(self, token: str, **more: str) -> None:
        lines = {"ACCESS_TOKEN": token, "PHONE_NUMBER_ID": "1", "VERIFY_TOKEN": "v", **more}
        self.dotenv.write_text("".join(f"{name}={value}\n" for name, value in lines.items() if value))

    def files(self) -> tuple[Path, ...]:
        return config.files_of({}, dotenv=self.dotenv, toml=self.dotenv.with_name("config.toml"))

    def read(self) -> Settings:
        return config.load({}, dotenv=self.dotenv, toml=None)

    def take(self, found: Settings) -> str:
        self.taken.append(found.whatsapp.access_token)
        return "taken"

    @asynccontextmanager
    async def running(self) -> Any:
        with mock.patch.object(reloading, "_LOOK_S", 0.01):
            task = asyncio.create_task(self.reloader.run())
            try:
                yield
            finally:
                task.cancel()

    async def took(self, count: int) -> list[str]:
        async def ask() -> list[str] | None:
            return self.taken if len(self.taken) >= count else None

        return cast(list[str], await eventually(ask))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_file_that_changes_is_read(bench: Bench) -> None:
    async with bench.running():
        bench.write("new")
        assert await bench.took(1) == ["new"]
        # In place of the file another is put, as who mounts secrets does.
        other = bench.dotenv.with_name("other")
        other.write_text(bench.dotenv.read_text().replace("new", "two"))
        other.rename(bench.dotenv)
        assert await bench.took(2) == ["new", "two"]


async def test_who_asks_has_them_read_though_nothing_has_changed(bench: Bench) -> None:
    async with bench.running():
        bench.reloader.ask()
        assert await bench.took(1) == ["old"]


async def test_a_token_in_a_file_of_its_own_is_followed(bench: Bench, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    bench.write("", ACCESS_TOKEN_FILE=str(token))
    async with bench.running():
        assert await bench.took(1) == ["one"]
        token.write_text("another")
        assert await bench.took(2) == ["one", "another"]


async def test_a_file_that_is_named_from_then_on_is_watched_too(bench: Bench) -> None:
    named = bench.dotenv.with_name("named.toml")
    named.write_text("")
    async with bench.running():
        bench.write("new", CONFIG=str(named))
        await bench.took(1)
        named.write_text("[lane]\nrate = 20.0\n")
        assert await bench.took(2) == ["new", "new"]


@pytest.mark.parametrize(
    ("token", "more", "sentence"),
    [
        ("two words", {}, "ACCESS_TOKEN"),
        ("new", {"LANE_RATE": "fast"}, "LANE_RATE: must be a number"),
        ("", {}, "ACCESS_TOKEN"),
        ("", {"PHONE_NUMBER_ID": ""}, "is not set any more"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_fault_and_changes_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, token: str, more: dict[str, str], sentence: str
) -> None:
    bench.write(token, **more)
    bench.reloader.reload()
    assert bench.taken == []
    assert "the old ones stay" in caplog.text
    assert sentence in caplog.text
    caplog.clear()
    bench.write("new")
    bench.reloader.reload()
    assert bench.taken == ["new"]


@pytest.mark.parametrize("rate", ["20", "fast"])
def test_a_variable_that_is_misspelt_is_named_whether_or_not_the_rest_can_be_used(
    bench: Bench, caplog: pytest.LogCaptureFixture, rate: str
) -> None:
    bench.write("new", ACESS_TOKEN="newer", LANE_RATE=rate)
    bench.reloader.reload()
    assert "ACESS_TOKEN is not a setting; did you mean ACCESS_TOKEN?" in caplog.text
    assert "newer" not in caplog.text
    caplog.clear()


def test_no_token_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.write("EAAsecret", LANE_RATE="20")
    bench.reloader.reload()
    assert "LANE_RATE" in caplog.text
    assert "EAAsecret" not in caplog.text


def test_credentials_do_not_lead_out_of_the_sandbox(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    on_sandbox = Reloader(Settings(), read=bench.read, files=bench.files, take=bench.take)
    on_sandbox.reload()
    assert bench.taken == []
    assert "start it anew" in caplog.text
    caplog.clear()
