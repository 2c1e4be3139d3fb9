"""Settings of the relay and of hooks: where their secrets come from, and what stops the start."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from config import ConfigError, changed_keys, load
from settings import Secret, Settings

HOOK = '[[hooks.endpoints]]\nname = "crm"\nurl = "https://example.com/h?k=hidden"\n'


def load_from(
    tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, dotenv: str = ""
) -> Settings:
    toml, env = tmp_path / "config.toml", tmp_path / ".env"
    toml.write_text(text, "utf-8")
    env.write_text(dotenv, "utf-8")
    return load(environ or {}, dotenv=env, toml=toml, today=date(2026, 11, 24))


def fault(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_from(tmp_path, text, environ)
    ((key, why),) = caught.value.details
    return key, why


def test_a_secret_may_stand_in_any_place_and_the_environment_wins(tmp_path: Path) -> None:
    def secret(*places: str) -> str:
        (hook,) = load_from(
            tmp_path,
            HOOK + ('secret = "toml"\n' if "toml" in places else ""),
            {"HOOKS_CRM_SECRET": "environ"} if "environ" in places else {},
            "HOOKS_CRM_SECRET=dotenv\n" if "dotenv" in places else "",
        ).hooks.endpoints
        return str(hook.secret)

    assert secret() == ""
    assert secret("toml") == "toml"
    assert secret("toml", "dotenv") == "dotenv"
    assert secret("toml", "dotenv", "environ") == "environ"


def test_the_variable_of_a_secret_follows_from_the_name(tmp_path: Path) -> None:
    text = HOOK.replace('"crm"', '"big-crm_2"')
    settings = load_from(tmp_path, text, {"HOOKS_BIG_CRM_2_SECRET": "s"})
    assert settings.hooks.endpoints[0].secret == "s"
    assert not any("HOOKS" in notice for notice in settings.notices)


def test_hooks_may_be_given_as_json(tmp_path: Path) -> None:
    given = {"HOOKS_ENDPOINTS": '[{"name": "a", "url": "http://127.0.0.1:1/"}]', "HOOKS_A_SECRET": "s"}
    (hook,) = load_from(tmp_path, environ=given).hooks.endpoints
    assert (hook.name, hook.secret, hook.types, hook.batch) == ("a", "s", ("inbound",), 1)


def test_nothing_shows_what_is_secret(tmp_path: Path) -> None:
    text = HOOK + 'secret = "hidden"\nheaders = ["X-Key: hidden"]\n[relay]\ntoken = "hidden"\n'
    assert "hidden" not in repr(load_from(tmp_path, text))


def test_a_new_secret_is_no_change_that_waits_for_a_start_and_another_address_is(tmp_path: Path) -> None:
    before = load_from(tmp_path, HOOK, {"HOOKS_CRM_SECRET": "a"})
    assert changed_keys(before, load_from(tmp_path, HOOK, {"HOOKS_CRM_SECRET": "b"})) == ()
    elsewhere = load_from(tmp_path, HOOK.replace("example.com", "example.org"))
    assert changed_keys(before, elsewhere) == ("HOOKS_ENDPOINTS",)


def test_what_an_operator_may_have_overlooked_is_told(tmp_path: Path) -> None:
    text = HOOK.replace("https", "http") + 'types = ["message.recieved", "message.*", "inbound"]\n'
    notices = load_from(tmp_path, text, dotenv="HOOKS_CMR_SECRET=x\n").notices
    assert "HOOKS_CRM_SECRET is not set: its receiver cannot tell who posts to it" in notices
    assert "[[hooks.endpoints]] crm: http:// carries what customers write in the clear" in notices
    told = "types: message.recieved is no event of this version, nothing is sent for it"
    assert f"[[hooks.endpoints]] crm: {told}" in notices
    assert any("HOOKS_CMR_SECRET is not a setting" in notice for notice in notices)
    local = HOOK.replace("https://example.com", "http://127.0.0.1:9000") + 'secret = "s"\n'
    assert not any("hooks" in notice.lower() for notice in load_from(tmp_path, local).notices)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('url = "ftp://example.com/"', "endpoint 'crm': url must be an https:// or http:// address"),
        ('url = "example.com"', "url must be an https://"),
        ('url = "https://"', "url must be an https://"),
        ('url = "https://example.com/a b"', "url must be an https://"),
        ("types = []", "table 'crm': types: must be a list of length >= 1"),
        ('types = ["message*"]', "endpoint 'crm': types: 'message*' is neither"),
        ('headers = ["X-Key"]', "headers must each be written 'Name: value'"),
        ('headers = ["X Key: 1"]', "headers must each be written 'Name: value'"),
        ('headers = ["X-Key: a\\nX-Other: b"]', "headers must each be written 'Name: value'"),
        ('headers = ["X-Key: é"]', "header X-Key must be plain ASCII"),
        ('headers = ["X-Gateway-Signature: mine"]', "header X-Gateway-Signature is the gateway's own"),
        ('headers = ["content-type: text/plain"]', "header content-type is the gateway's own"),
        ("batch = 0", "table 'crm': batch: must be a whole number >= 1"),
        ("batch = 101", "table 'crm': batch: must be a whole number <= 100"),
        ('on_refused = "drop"', "table 'crm': on_refused: must be one of skip, pause"),
        ('name = "CRM"', "table 'CRM': name: must be text matching"),
        ('name = "../etc"', "table '../etc': name: must be text"),
        ('name = "relay"', "must not name an endpoint 'relay'"),
        ("retries = 3", "table 'crm': retries: is not known"),
    ],
)
def test_a_hook_that_cannot_be_used_stops_the_start(tmp_path: Path, line: str, why: str) -> None:
    key = line.partition(" ")[0]
    lines = [one for one in HOOK.splitlines() if not one.startswith(f"{key} ")]
    where, told = fault(tmp_path, "\n".join([*lines, line]))
    assert where == "[hooks] endpoints"
    assert why in told


def test_two_hooks_with_one_name_or_one_variable_stop_the_start(tmp_path: Path) -> None:
    for other in ("a_b", "a-b"):
        text = HOOK.replace('"crm"', '"a-b"') + HOOK.replace('"crm"', f'"{other}"')
        assert "the same name" in fault(tmp_path, text)[1]


def test_there_are_at_most_32(tmp_path: Path) -> None:
    texts = [HOOK.replace('"crm"', f'"h{n}"') for n in range(33)]
    assert len(load_from(tmp_path, "".join(texts[:32])).hooks.endpoints) == 32
    assert "32" in fault(tmp_path, "".join(texts))[1]


@pytest.mark.parametrize(
    ("variable", "value", "key", "why"),
    [
        ("WEBSOCKET_URL", "http://example.com/", "WEBSOCKET_URL", "must be a ws:// or wss:// address"),
        ("RELAY_TYPES", "message*", "RELAY_TYPES", "is neither an event's name nor a group"),
        ("RELAY_TOKEN", "two words", "RELAY_TOKEN", "plain ASCII without blanks"),
        ("RELAY_HEADERS", "X-Key", "RELAY_HEADERS", "headers must each be written"),
        ("RELAY_ACK", "maybe", "RELAY_ACK", "must be true or false"),
        ("HOOKS_RETRY_CAP_S", "0.5", "HOOKS_RETRY_CAP_S", "must not be less than [hooks] retry_base_s"),
        ("HOOKS_PAUSE_AFTER_S", "0", "HOOKS_PAUSE_AFTER_S", "must be a number over 0 up to 2592000"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    tmp_path: Path, variable: str, value: str, key: str, why: str
) -> None:
    where, told = fault(tmp_path, "", {variable: value})
    assert where == key
    assert why in told


def test_lists_of_the_relay_are_spelt_out_in_variables(tmp_path: Path) -> None:
    given = {"RELAY_TYPES": "message.received, task.*", "RELAY_HEADERS": "X-A: 1,X-B: 2"}
    relay = load_from(tmp_path, environ=given).relay
    assert relay.types == ("message.received", "task.*")
    assert relay.headers == (Secret("X-A: 1"), Secret("X-B: 2"))
    assert all(isinstance(header, Secret) for header in relay.headers)
