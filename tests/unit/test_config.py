"""config.py and settings.py: who wins, what is refused and in which words, what the shipped examples say."""

from __future__ import annotations

import itertools
import json
import logging
import os
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, fields

import config
from config import ConfigError, Settings, env_name, load, shown_store, sqlite_path
from settings import AutoReplyRule, Secret, is_loopback
from store.errors import GatewayError

ROOT = Path(__file__).resolve().parents[2]
TODAY = date(2026, 11, 24)
REAL = {"VERIFY_TOKEN": "v", "ACCESS_TOKEN": "a", "PHONE_NUMBER_ID": "1", "APP_SECRET": "s"}
SECTIONS = {field.name: field.type for field in fields(Settings) if field.name != "notices"}
KEYS = [(section, field.name) for section, kind in SECTIONS.items() for field in fields(kind)]
VARIABLES = [*(env_name(*key) for key in KEYS), "MONGODB_URL"]


def load_from(
    environ: dict[str, str] | None = None, *, dotenv: Path | None = None, toml: Path | None = None
) -> Settings:
    return load(environ or {}, dotenv=dotenv, toml=toml, today=TODAY)


def written(tmp_path: Path, text: str, name: str = "config.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def faults_of(environ: dict[str, str] | None = None, **files: Path) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_from(environ, **files)
    lines = str(caught.value).splitlines()
    assert lines == [f"{key}: {why}" for key, why in caught.value.details]
    return dict(caught.value.details)


# Defaults and the shipped examples


def test_nothing_set_is_the_defaults_on_the_sandbox() -> None:
    settings = load_from()
    assert settings == Settings()
    assert settings.sandbox_mode
    assert settings.store_url == "sqlite:///data/sandbox.db"


def test_the_example_file_has_every_key_with_its_default() -> None:
    example = tomllib.loads((ROOT / "config.example.toml").read_text("utf-8"))
    assert {(section, key) for section, keys in example.items() for key in keys} == set(KEYS)
    for section, kind in SECTIONS.items():
        for key, default in asdict(kind()).items():
            plain = json.loads(msgspec.json.encode(default, enc_hook=str))
            assert (example[section][key], type(example[section][key])) == (plain, type(plain)), (
                section,
                key,
            )
    assert load_from(toml=ROOT / "config.example.toml") == Settings()


def test_the_example_file_says_what_each_key_is() -> None:
    lines = (ROOT / "config.example.toml").read_text("utf-8").split("[[autoreply.rules]]")[0].splitlines()
    for above, line in itertools.pairwise(lines):
        if " = " in line and not line.startswith("#"):
            assert above.startswith("# "), line


def test_the_env_example_changes_nothing_and_knows_every_credential() -> None:
    path = ROOT / ".env.example"
    assert load_from(dotenv=path) == Settings()
    named = {line.partition("=")[0] for line in path.read_text("utf-8").splitlines() if "=" in line}
    assert named >= {env_name("whatsapp", field.name) for field in fields(SECTIONS["whatsapp"])}
    assert named >= {"HOST", "PORT", "API_KEY", "STORE_URL", "DEBUG", "CONFIG"}


def test_names_of_variables_are_unambiguous() -> None:
    assert len(set(VARIABLES)) == len(VARIABLES)
    assert env_name("lane", "rate") == "LANE_RATE"
    assert env_name("server", "port") == "PORT"
    assert env_name("whatsapp", "access_token") == "ACCESS_TOKEN"


# A token in a file of its own


def test_a_token_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    token = written(tmp_path, "\ufeffEAAtoken\n", "token")
    settings = load_from({**REAL, "ACCESS_TOKEN": "", "ACCESS_TOKEN_FILE": str(token)})
    assert settings.whatsapp.access_token == "EAAtoken"
    assert "EAAtoken" not in repr(settings)
    named = written(tmp_path, f'[whatsapp]\naccess_token_file = "{token}"\n')
    assert load_from({**REAL, "ACCESS_TOKEN": ""}, toml=named).whatsapp.access_token == "EAAtoken"
    assert config.files_of({}, dotenv=tmp_path / ".env", toml=named) == (tmp_path / ".env", named, token)


@pytest.mark.parametrize(
    ("text", "more", "problem"),
    [
        ("EAA", {"ACCESS_TOKEN": "other"}, "contradicts ACCESS_TOKEN: set one of them"),
        (" \n", {}, "holds no token"),
        (None, {}, "cannot be read"),
        ("two words", {}, "plain ASCII without blanks"),
        ("two\nlines", {}, "line ends"),
    ],
)
def test_a_file_that_gives_no_token_is_named(
    tmp_path: Path, text: str | None, more: dict[str, str], problem: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text, "utf-8")
    found = faults_of({**REAL, "ACCESS_TOKEN": "", "ACCESS_TOKEN_FILE": str(path), **more})
    (told,) = (why for key, why in found.items() if problem in why)
    assert told
    assert "two" not in told


# Who wins


def test_environment_wins_over_dotenv_over_toml_over_defaults(tmp_path: Path) -> None:
    toml = written(tmp_path, "[lane]\nrate = 1\npair_burst = 1\nread_ahead = 1\n")
    dotenv = written(tmp_path, "LANE_RATE=2\nLANE_PAIR_BURST=2\n", ".env")
    lane = load_from({"LANE_RATE": "3"}, dotenv=dotenv, toml=toml).lane
    assert (lane.rate, lane.pair_burst, lane.read_ahead, lane.concurrency) == (3.0, 2, 1, 256)


def test_an_empty_text_counts_as_not_set(tmp_path: Path) -> None:
    toml = written(tmp_path, '[server]\nhost = ""\napi_key = "from toml"\n'.replace(" toml", "-toml"))
    dotenv = written(tmp_path, "PORT=5001\nAPI_KEY=\n", ".env")
    server = load_from({"PORT": "  ", "API_KEY": "", "HOST": ""}, dotenv=dotenv, toml=toml).server
    assert (server.host, server.port, server.api_key) == ("127.0.0.1", 5001, "from-toml")


def test_values_are_stripped(tmp_path: Path) -> None:
    toml = written(tmp_path, '[server]\nhost = " ::1 "\n')
    server = load_from({"API_KEY": " key\n"}, toml=toml).server
    assert (server.host, server.api_key) == ("::1", "key")


def test_config_names_the_toml_file_from_either_place(tmp_path: Path) -> None:
    default = written(tmp_path, "[server]\nport = 1\n")
    other = written(tmp_path, "[server]\nport = 2\n", "other.toml")
    dotenv = written(tmp_path, f"CONFIG='{other}'\n", ".env")
    assert load_from(toml=default).server.port == 1
    assert load_from({"CONFIG": str(other)}, toml=default).server.port == 2
    assert load_from(dotenv=dotenv, toml=default).server.port == 2


def test_files_that_are_not_there_are_no_fault_unless_config_names_them(tmp_path: Path) -> None:
    assert load_from(dotenv=tmp_path / ".env", toml=tmp_path / "config.toml") == Settings()
    assert "there is no file" in faults_of({"CONFIG": str(tmp_path / "missing.toml")})["CONFIG"]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    toml = written(tmp_path, "\ufeff[server]\nport = 7\n")
    dotenv = written(tmp_path, "\ufeffLANE_RATE=7\n", ".env")
    settings = load_from(dotenv=dotenv, toml=toml)
    assert (settings.server.port, settings.lane.rate) == (7, 7.0)


def test_mongodb_url_is_store_url(tmp_path: Path) -> None:
    dotenv = written(tmp_path, "STORE_URL=sqlite:///old.db\n", ".env")
    assert load_from(REAL | {"MONGODB_URL": "mongodb://h/d"}, dotenv=dotenv).store_url == "mongodb://h/d"
    both = {"MONGODB_URL": "mongodb://h/d", "STORE_URL": "mongodb://h/d"}
    assert load_from(REAL | both).store.url == "mongodb://h/d"
    assert "contradicts STORE_URL" in faults_of(both | {"STORE_URL": "sqlite:///a.db"})["MONGODB_URL"]


def test_the_environment_of_the_process_is_left_alone(tmp_path: Path) -> None:
    before = dict(os.environ)
    load_from(dotenv=written(tmp_path, "LANE_RATE=5\nGATEWAY_TEST_ONLY=1\n", ".env"))
    assert dict(os.environ) == before


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("Yes", True), ("ON", True), ("False", False), ("0", False), ("no", False)],
)
def test_words_for_true_and_false(text: str, value: bool) -> None:
    assert load_from({"DEBUG": text}).server.debug is value


def test_lists_in_the_environment() -> None:
    settings = load_from(
        {
            "SECURITY_TRUSTED_NETWORKS": "10.0.0.0/8, fd00::/8,",
            "AUTOREPLY_RULES": '[{"name": "a", "keywords": ["b", "c"], "text": "línea\\notra"}]',
        }
    )
    assert settings.security.trusted_networks == ("10.0.0.0/8", "fd00::/8")
    assert [str(network) for network in settings.security.networks] == ["10.0.0.0/8", "fd00::/8"]
    assert settings.autoreply.rules == (AutoReplyRule(name="a", keywords=("b", "c"), text="línea\notra"),)


def test_rules_in_toml_replace_the_defaults(tmp_path: Path) -> None:
    toml = written(tmp_path, '[[autoreply.rules]]\nname = "a"\nkeywords = ["b"]\ntext = "c"\n')
    assert [rule.name for rule in load_from(toml=toml).autoreply.rules] == ["a"]
    assert load_from({"AUTOREPLY_RULES": "[]"}, toml=toml).autoreply.rules == ()


def test_further_numbers_have_the_token_of_the_first_unless_they_have_one(
    tmp_path: Path,
) -> None:
    toml = written(
        tmp_path,
        '[[whatsapp.numbers]]\nphone_number_id = "222"\n'
        '[[whatsapp.numbers]]\nphone_number_id = "333"\naccess_token = "T3"\nrate = 20\n',
    )
    settings = load_from({**REAL, "PHONE_NUMBER_ID": "111", "ACCESS_TOKEN": "T1"}, toml=toml)
    told = [(number.phone_number_id, number.access_token, number.rate) for number in settings.numbers]
    assert told == [("111", "T1", None), ("222", "T1", None), ("333", "T3", 20.0)]
    assert "T3" not in repr(settings)


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ('[{"phone_number_id": "111"}]', "names a number twice"),
        ('[{"phone_number_id": "2"}, {"phone_number_id": "2"}]', "names a number twice"),
        ('[{"phone_number_id": "+1 555"}]', "must hold ids as Meta's dashboard shows them"),
        ('[{"phone_number_id": "2", "access_token": "a b"}]', "must hold tokens that are plain ASCII"),
        ('[{"phone_number_id": "2", "rate": 2000}]', "must hold rates of at most 1000"),
        ('[{"phone_number_id": "2", "rate": 0}]', "table '2': rate: must be a number > 0"),
        ('[{"number": "2"}]', "table 1: number: is not known"),
        ('["2"]', "table 1: must be an object, got text"),
        ("{}", "must be a list of tables"),
        ("222,333", "must be JSON"),
    ],
)
def test_numbers_that_cannot_be_used_are_told(numbers: str, why: str) -> None:
    assert why in faults_of({**REAL, "PHONE_NUMBER_ID": "111", "NUMBERS": numbers})["NUMBERS"]


def test_further_numbers_need_the_first() -> None:
    assert "PHONE_NUMBER_ID" in faults_of({"NUMBERS": '[{"phone_number_id": "2"}]'})["NUMBERS"]


def test_the_default_rules_answer_the_words_that_customers_know() -> None:
    words = {rule.name: rule.keywords for rule in Settings().autoreply.rules}
    assert words == {
        "greeting": ("hola", "hello"),
        "help": ("ayuda", "help"),
        "info": ("info",),
        "contact": ("contacto",),
    }


def test_a_slash_at_the_end_of_base_url_is_dropped() -> None:
    assert (
        load_from({"BASE_URL": "https://graph.facebook.com/"}).whatsapp.base_url
        == "https://graph.facebook.com"
    )


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PORT", "65536", "must be a whole number from 0 up to 65535, not '65536'"),
        ("PORT", "-1", "must be a whole number"),
        ("PORT", "http", "must be a whole number"),
        ("PORT", "9" * 400, "..."),
        ("DEBUG", "maybe", "must be true or false, not 'maybe'"),
        ("LANE_RATE", "0", "must be a number over 0"),
        ("LANE_RATE", "nan", "must be a number over 0"),
        ("LANE_RATE", "inf", "must be a number over 0"),
        ("LANE_RATE", "1000.5", "must be at most 1000"),
        ("LANE_RATE", "80/s", "must be a number over 0"),
        ("LANE_PAIR_BURST", "4.5", "must be a whole number"),
        ("RETRY_MAX_ATTEMPTS", "0", "must be a whole number from 1"),
        ("RETRY_CAP_S", "0.5", "must not be less than [retry] base_s"),
        ("UNKNOWN_ACTION", "drop", "must be resend or fail, not 'drop'"),
        ("DIRECT_TIMEOUT_S", "0", "must be a number over 0"),
        ("DRAIN_TIMEOUT_S", "-1", "must be a number over 0"),
        ("HUB_BUFFER_BYTES", "10", "must be a whole number from 1024"),
        ("RETENTION_DAYS", "30", "must be a whole number from 35"),
        ("AUTOREPLY_COOLDOWN_S", "-1", "must be a number from 0"),
        ("AUTOREPLY_RULES", "hola", "must be JSON"),
        ("AUTOREPLY_RULES", "{}", "must be a list of tables"),
        ("AUTOREPLY_RULES", '[{"name": "a", "keywords": ["b"]}]', "rule 'a': text: give one of"),
        ("AUTOREPLY_RULES", '[{"name": "a", "keywords": [], "text": "t"}]', "rule 'a': always: must be"),
        (
            "AUTOREPLY_RULES",
            '[{"name": "a", "keyword": ["b"]}]',
            "table 'a': keyword: is not known; did you mean `keywords`?",
        ),
        (
            "AUTOREPLY_RULES",
            '[{"name": "a"}, {"keywords": "b"}]',
            "table 2: keywords: must be a list, got text",
        ),
        ("AUTOREPLY_RULES", '[{"keywords": ["b"]}]', "table 1: name: is required"),
        (
            "AUTOREPLY_RULES",
            '[{"name":"a","keywords":["b"],"text":"t"},{"name":"a","keywords":["c"],"text":"t"}]',
            "gives two rules the same name, 'a'",
        ),
        ("SECURITY_TRUSTED_NETWORKS", "10.0.0.1/8", "such as 10.0.0.0/8, not '10.0.0.1/8'"),
        ("SECURITY_TRUSTED_NETWORKS", "0.0.0.0/0", "must not trust the whole world"),
        ("HOST", "http://127.0.0.1", "must be a bare name or address"),
        ("HOST", "[::1]", "must be a bare name or address"),
        ("API_KEY", "two words", "must be plain ASCII without blanks"),
        ("ACCESS_TOKEN", "tóken", "must be plain ASCII without blanks"),
        ("ACCESS_TOKEN", "a\nb", "must not hold control characters"),
        ("PHONE_NUMBER_ID", "+34 600", "must be an id"),
        ("WABA_ID", "1/2", "must be an id"),
        ("VERSION", "26.0", "must be a version of the Graph API such as v26.0, not '26.0'"),
        ("VERSION", "v26", "must be a version"),
        ("BASE_URL", "graph.facebook.com", "must be an https:// address"),
        ("BASE_URL", "https://", "must be an https:// address"),
        ("BASE_URL", "https://h:99999", "must be an https:// address"),
        ("BASE_URL", "https://h/?a=b", "must be an https:// address"),
        ("BASE_URL", "http://graph.facebook.com", "must begin with https://"),
        ("WEBSOCKET_URL", "https://host/path", "must be a ws:// or wss:// address"),
        ("STORE_URL", "redis://h", "must begin with sqlite:///"),
        ("STORE_URL", "sqlite://gateway.db", "must begin with sqlite:///"),
        ("STORE_URL", "mongodb://", "must begin with sqlite:///"),
        ("STORE_URL", "sqlite:///", "must name a file"),
        ("STORE_URL", "sqlite:///:memory:", "must name a file"),
        ("STORE_URL", "sqlite:///a.db?mode=ro", "must name a file"),
        ("MONGODB_URL", "h/d", "must begin with"),
        ("SANDBOX_STORE_URL", "gateway.db", "must begin with"),
        ("SANDBOX_STORE_URL", "sqlite:///data/../data/gateway.db", "must be another store than STORE_URL"),
        ("APP_SECRET_PREVIOUS", "old", ""),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable_and_why(name: str, value: str, why: str) -> None:
    faults = faults_of({name: value})
    expected = "APP_SECRET" if name == "APP_SECRET_PREVIOUS" else name
    assert why in faults[expected]
    assert "\n" not in faults[expected]


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("[lane]\nrate = '80'", "[lane] rate", "must be a number over 0 up to 1000000, not '80'"),
        ("[lane]\nrate = true", "[lane] rate", "not True"),
        ("[lane]\npair_burst = 4.5", "[lane] pair_burst", "must be a whole number"),
        ("[server]\ndebug = 1", "[server] debug", "must be true or false, not 1"),
        (
            "[whatsapp]\nphone_number_id = 123",
            "[whatsapp] phone_number_id",
            "must be a text, in quotes, not 123",
        ),
        ("[whatsapp]\naccess_token = 123", "[whatsapp] access_token", "must be a text, in quotes"),
        (
            "[security]\ntrusted_networks = '10.0.0.0/8'",
            "[security] trusted_networks",
            "must be a list of texts",
        ),
        ("[lane]\nraet = 1", "[lane] raet", "is no known key; did you mean [lane] rate?"),
        ("[lane]\nport = 1", "[lane] port", "did you mean [server] port?"),
        ("[lane]\nzzzzzzzz = 1", "[lane] zzzzzzzz", "is no known key"),
        ("[lanes]\nrate = 1", "[lanes]", "is no known section; did you mean [lane]?"),
        ("[notices]\na = 1", "[notices]", "is no known section"),
        ("port = 1", "port", "stands outside of any section; did you mean [server] port?"),
        ("lane = 1", "lane", "is a section: write [lane]"),
        ("[lane", "config.toml", "is not TOML"),
        ("[[lane]]\nrate = 1", "lane", "is a section"),
    ],
)
def test_a_fault_in_toml_names_section_and_key(tmp_path: Path, text: str, key: str, why: str) -> None:
    faults = {
        name.removeprefix(f"{tmp_path}{os.sep}"): line
        for name, line in faults_of(toml=written(tmp_path, text)).items()
    }
    assert why in faults[key]


def test_a_finding_names_the_key_where_it_was_written(tmp_path: Path) -> None:
    toml = written(tmp_path, "[lane]\nrate = 2000\n[retry]\ncap_s = 0.1\n")
    assert set(faults_of({"RETRY_BASE_S": "5"}, toml=toml)) == {"[lane] rate", "[retry] cap_s"}


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    toml = written(tmp_path, "[lane]\nraet = 1\n[hub]\nbuffer_bytes = 'x'\n")
    dotenv = written(tmp_path, "DEBUG=perhaps\n", ".env")
    faults = faults_of({"PORT": "x", "VERSION": "latest"}, dotenv=dotenv, toml=toml)
    assert set(faults) == {"[lane] raet", "[hub] buffer_bytes", "DEBUG", "PORT", "VERSION"}


def test_a_bad_value_is_not_judged_a_second_time_as_its_default() -> None:
    assert set(faults_of(REAL | {"ACCESS_TOKEN": "a\tb", "HOST": "0.0.0.0", "API_KEY": "k"})) == {
        "ACCESS_TOKEN"
    }
    assert set(faults_of({"RETRY_BASE_S": "x", "RETRY_CAP_S": "0.1"})) == {"RETRY_BASE_S"}


def test_files_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    (tmp_path / "latin1.toml").write_bytes("[whatsapp]\nverify_token = 'ñ'".encode("latin-1"))
    (tmp_path / ".env").write_bytes("VERIFY_TOKEN=ñ".encode("latin-1"))
    faults = faults_of(dotenv=tmp_path / ".env", toml=tmp_path / "latin1.toml")
    assert [Path(name).name for name in faults] == [".env", "latin1.toml"]
    assert "cannot be read" in faults_of({"CONFIG": str(tmp_path)})["CONFIG"]
    assert "cannot be read" in faults_of({"CONFIG": "a\0b"})["CONFIG"]


def test_the_error_is_one_that_the_gateway_can_explain() -> None:
    assert issubclass(ConfigError, GatewayError)
    assert ConfigError.code == "config"


# Credentials and exposure


def test_credentials_together_mean_meta() -> None:
    settings = load_from(REAL)
    assert not settings.sandbox_mode
    assert settings.store_url == "sqlite:///data/gateway.db"
    assert settings.app_secrets == ("s",)
    assert load_from(REAL | {"APP_SECRET_PREVIOUS": "old"}).app_secrets == ("s", "old")


@pytest.mark.parametrize("present", ["ACCESS_TOKEN", "PHONE_NUMBER_ID"])
@pytest.mark.parametrize("verify", [True, False])
def test_credentials_in_part_stop_the_start_naming_what_is_missing(present: str, verify: bool) -> None:
    environ = {present: "1"} | ({"VERIFY_TOKEN": "v"} if verify else {})
    missing = {"VERIFY_TOKEN", "ACCESS_TOKEN", "PHONE_NUMBER_ID"} - set(environ)
    assert set(faults_of(environ)) == missing


def test_both_sending_credentials_still_need_the_verify_token() -> None:
    assert set(faults_of({"ACCESS_TOKEN": "a", "PHONE_NUMBER_ID": "1"})) == {"VERIFY_TOKEN"}


def test_a_verify_token_alone_leaves_the_sandbox_on() -> None:
    assert load_from({"VERIFY_TOKEN": "v", "APP_SECRET": "s"}).sandbox_mode


@pytest.mark.parametrize("extra", [{}, {"API_KEY": "k", "APP_SECRET": "s"}, {"SECURITY_INSECURE": "true"}])
def test_the_sandbox_runs_on_loopback_only(extra: dict[str, str]) -> None:
    faults = faults_of({"HOST": "0.0.0.0"} | extra)
    assert set(faults) == {"HOST"}
    assert "sandbox" in faults["HOST"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert load_from(REAL | {"HOST": host, "APP_SECRET": ""}).server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.example", "localhost.example"])
def test_another_address_needs_key_and_secret_or_says_insecure(host: str) -> None:
    assert not is_loopback(host)
    environ = REAL | {"HOST": host, "APP_SECRET": ""}
    assert set(faults_of(environ)) == {"API_KEY", "APP_SECRET"}
    assert set(faults_of(environ | {"API_KEY": "k"})) == {"APP_SECRET"}
    assert load_from(environ | {"API_KEY": "k", "APP_SECRET": "s"}).server.host == host
    notices = load_from(environ | {"SECURITY_INSECURE": "true"}).notices
    assert any("API_KEY is not set" in line for line in notices)
    assert any("APP_SECRET is not set" in line for line in notices)


def test_the_world_may_be_trusted_only_insecurely() -> None:
    everybody = {"SECURITY_TRUSTED_NETWORKS": "::/0", "SECURITY_INSECURE": "true"}
    assert load_from(everybody).security.trusted_networks == ("::/0",)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:80"])
def test_plain_http_and_a_lifted_rate_are_for_this_machine(url: str) -> None:
    settings = load_from(REAL | {"BASE_URL": url, "LANE_RATE": "20000"})
    assert (settings.whatsapp.base_url, settings.lane.rate) == (url, 20_000.0)


def test_no_secret_is_shown() -> None:
    secret = "hunter2"
    environ = {
        "VERIFY_TOKEN": secret,
        "ACCESS_TOKEN": secret,
        "PHONE_NUMBER_ID": "1",
        "APP_SECRET": secret,
        "APP_SECRET_PREVIOUS": secret,
        "API_KEY": secret,
        "STORE_URL": f"mongodb://u:{secret}@h/d",
        "SANDBOX_STORE_URL": f"mongodb://u:{secret}@h/e",
        "WEBSOCKET_URL": f"wss://h/?token={secret}",
    }
    settings = load_from(environ)
    shown = f"{settings!r} {settings} {settings.whatsapp!r} {settings.store_url!r} {settings.app_secrets!r}"
    assert secret not in shown
    assert "'***'" in shown
    assert settings.whatsapp.access_token == secret
    assert repr(Secret()) == "''"


def test_no_fault_shows_a_secret() -> None:
    secret = "hunter2\x7f"
    names = ["VERIFY_TOKEN", "ACCESS_TOKEN", "APP_SECRET", "APP_SECRET_PREVIOUS", "API_KEY"]
    names += ["STORE_URL", "SANDBOX_STORE_URL", "WEBSOCKET_URL"]
    for value in (secret, "hunter2 ñ", "ftp://u:hunter2@h"):
        with pytest.raises(ConfigError) as caught:
            load_from(dict.fromkeys(names, value))
        assert "hunter2" not in str(caught.value)


# Notices


@pytest.mark.parametrize(
    ("version", "today", "words"),
    [
        ("v17.0", TODAY, "v17.0 is over"),
        ("v20.0", TODAY, "v20.0 is over"),
        ("v21.0", TODAY, "v21.0 ends on 2027-01-21"),
        ("v21.0", date(2026, 10, 1), ""),
        ("v21.0", date(2027, 1, 21), "v21.0 is over"),
        ("v22.0", TODAY, ""),
        ("v25.0", date(2028, 7, 1), "v25.0 ends on 2028-07-29"),
        ("v26.0", date(2040, 1, 1), ""),
        ("v27.0", TODAY, ""),
    ],
)
def test_a_version_that_is_over_or_soon_will_be_is_noticed(version: str, today: date, words: str) -> None:
    notices = load({"VERSION": version}, dotenv=None, toml=None, today=today).notices
    assert [words in line for line in notices] == ([True] if words else [])


def test_today_is_the_day_unless_given() -> None:
    assert len(load({"VERSION": "v1.0"}, dotenv=None, toml=None).notices) == 1


@pytest.mark.parametrize("unless", ["", "unless = "])
@pytest.mark.parametrize(("days", "told"), [(35, 0), (36, 1)])
def test_a_rule_that_looks_back_further_than_is_kept_is_noticed(
    tmp_path: Path, unless: str, days: int, told: int
) -> None:
    condition = f"{{ first_within_days = {days} }}" if unless else f"first_within_days = {days}"
    rule = f'[[autoreply.rules]]\nname = "new"\ntext = "hi"\nkeywords = ["a"]\n{unless}{condition}\n'
    notices = load_from(toml=written(tmp_path, rule)).notices
    assert [f"new: first_within_days looks back {35} days" in line for line in notices] == [True] * told


def test_redis_url_is_ignored_with_a_notice(tmp_path: Path) -> None:
    dotenv = written(tmp_path, "REDIS_URL=redis://h\n", ".env")
    for settings in (load_from({"REDIS_URL": "redis://h"}), load_from(dotenv=dotenv)):
        assert len(settings.notices) == 1
        assert "REDIS_URL is ignored" in settings.notices[0]
        assert msgspec.structs.replace(settings, notices=()) == Settings()


@pytest.mark.parametrize(
    ("environ", "dotenv", "words"),
    [
        ({"LANE_RAET": "1"}, "", "LANE_RAET is not a setting; did you mean LANE_RATE?"),
        ({"STORE_ZZZ": "1"}, "", "STORE_ZZZ is not a setting"),
        ({"SERVER_PORT": "1"}, "", "SERVER_PORT is not a setting; its variable is PORT"),
        ({"WHATSAPP_ACCESS_TOKEN": "1"}, "", "its variable is ACCESS_TOKEN"),
        ({"ACCESSTOKEN": "1"}, "", "ACCESSTOKEN is not a setting; did you mean ACCESS_TOKEN?"),
        ({"MONGODB_URI": "1"}, "", "MONGODB_URI is not a setting; did you mean MONGODB_URL?"),
        ({}, "ACCESSTOKEN=1", ".env: ACCESSTOKEN is not a setting; did you mean ACCESS_TOKEN?"),
        ({"ACESS_TOKEN": "1"}, "ACESS_TOKEN=2", ".env: ACESS_TOKEN is not a setting; did you mean"),
        ({}, "access_token=1", ".env: access_token is not a setting; did you mean ACCESS_TOKEN?"),
        ({}, "SERVER_PORT=1", ".env: SERVER_PORT is not a setting; its variable is PORT"),
        ({}, "HOME=1", ".env: HOME is not a setting"),
        ({"GIT_ACCESS_TOKEN": "1", "HOSTNAME": "1", "SERVER_NAME": "1", "PATH": "/bin"}, "", ""),
        ({"Lane_x": "1", "LANE": "1", "OPENAI_API_KEY": "1", "port": "1"}, "HOME=", ""),
    ],
)
def test_a_variable_that_looks_misspelt_is_noticed(
    tmp_path: Path, environ: dict[str, str], dotenv: str, words: str
) -> None:
    notices = load_from(environ, dotenv=written(tmp_path, dotenv, ".env")).notices
    assert [words in line for line in notices] == ([True] if words else [])


def test_what_is_misspelt_is_told_beside_what_is_missing(tmp_path: Path) -> None:
    dotenv = written(tmp_path, "ACCESSTOKEN=a-secret\n", ".env")
    with pytest.raises(ConfigError) as caught:
        load_from({"PHONE_NUMBER_ID": "1", "VERIFY_TOKEN": "v"}, dotenv=dotenv)
    assert set(dict(caught.value.details)) == {"ACCESS_TOKEN"}
    (notice,) = caught.value.notices
    assert "ACCESSTOKEN is not a setting" in notice and "a-secret" not in notice


def test_missing_protection_on_loopback_is_noticed_only_where_people_can_be_reached() -> None:
    assert load_from(REAL).notices == ()
    assert any("APP_SECRET" in line for line in load_from(REAL | {"APP_SECRET": ""}).notices)
    assert load_from({}).notices == ()


def test_a_store_that_the_sandbox_will_not_use_is_noticed(tmp_path: Path) -> None:
    assert "STORE_URL is not used by the sandbox" in load_from({"STORE_URL": "sqlite:///a.db"}).notices[0]
    toml = written(tmp_path, '[store]\nurl = "sqlite:///a.db"\n')
    assert load_from(toml=toml).notices[0].startswith("[store] url is not used")


def test_a_line_of_dotenv_that_makes_no_sense_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_from(dotenv=written(tmp_path, "PORT=6000\n- nonsense here\nLANE_RATE\n", ".env"))
    assert settings.server.port == 6000
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# Stores


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/gateway.db", Path("data/gateway.db")),
        ("sqlite:////var/lib/gateway.db", Path("/var/lib/gateway.db")),
        ("mongodb://h/d", None),
        ("mongodb+srv://h/d", None),
    ],
)
def test_the_file_of_a_store(url: str, path: Path | None) -> None:
    assert sqlite_path(url) == path
    assert load_from(REAL | {"STORE_URL": url}).store_url == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///data/gateway.db", "SQLite, data/gateway.db"),
        ("mongodb://h/d", "MongoDB, h/d"),
        ("mongodb://u:hunter2@a:27017,b:27018/d?authSource=hunter2", "MongoDB, a:27017,b:27018/d"),
    ],
)
def test_a_store_is_shown_without_its_password(url: str, shown: str) -> None:
    assert shown_store(url) == shown


def test_mongodb_urls_may_list_several_hosts() -> None:
    url = "mongodb://u:p@a:27017,b:27018,c/gateway?replicaSet=rs"
    assert load_from(REAL | {"STORE_URL": url}).store_url == url


# Whatever is set


@given(
    st.dictionaries(
        st.sampled_from(VARIABLES),
        st.one_of(
            st.text(),
            st.sampled_from(["0", "1", "-1", "1e400", "true", "[]", "::1", "http://[", "sqlite:///x"]),
        ),
    )
)
def test_any_values_load_or_are_refused_by_name(environ: dict[str, str]) -> None:
    names = {
        "STORE_URL",
        "VERIFY_TOKEN",
        "ACCESS_TOKEN",
        "PHONE_NUMBER_ID",
        "APP_SECRET",
        "API_KEY",
        *environ,
    }
    try:
        settings = load_from(environ)
    except ConfigError as error:
        assert error.details
        assert {key for key, _ in error.details} <= names
    else:
        assert isinstance(settings, Settings)


_TOML_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.lists(st.text(), max_size=2)
)


@given(st.sampled_from(KEYS), _TOML_VALUES)
def test_any_value_in_toml_loads_or_is_refused_by_name(key: tuple[str, str], value: Any) -> None:
    problems: list[tuple[str, str]] = []
    given_by_table = config._from_table({key[0]: {key[1]: value}}, problems)
    _, bad = config._build(given_by_table, problems)
    assert bad <= {key}
    assert [name for name, _ in problems] == [f"[{key[0]}] {key[1]}"] * len(bad)
