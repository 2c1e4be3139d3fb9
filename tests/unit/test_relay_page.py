"""docs/relay.md against the code: its keys, and its two receivers, each of which is run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hub.delivery import _REFUSALS
from settings import HookSettings, HooksSettings, RelaySettings
from tests.support.pages import page, section, table
from whatsapp.post_signature import SIGNATURE, TIMESTAMP, signed_headers

PAGE = page("docs/relay.md")
BODY = '{"type":"event","offset":7,"data":{"text":"¡hola!"}}'.encode()
SECRET = "a secret"

Headers = dict[str, str]


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def _python(secret: str, headers: Headers, body: bytes) -> bool:
    (code,) = (block for block in _blocks("python") if "def is_from_gateway" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    return bool(names["is_from_gateway"](secret, headers, body))


def _javascript(secret: str, headers: Headers, body: bytes) -> bool:
    (code,) = _blocks("js")
    lower = {name.lower(): value for name, value in headers.items()}
    asked = f"isFromGateway({json.dumps(secret)}, {json.dumps(lower)}, Buffer.from({list(body)}))"
    done = subprocess.run(
        ["node", "-e", f"{code}\nconsole.log({asked})"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() == "true"


def _now() -> int:
    return int(time.time() * 1000)


WRONG: dict[str, Callable[[Headers], tuple[str, Headers, bytes]]] = {
    "another secret": lambda headers: ("another", headers, BODY),
    "another body": lambda headers: (SECRET, headers, BODY + b" "),
    "another time": lambda headers: (SECRET, {**headers, TIMESTAMP: str(_now() // 1000 + 1)}, BODY),
    "sent again later": lambda _: (SECRET, signed_headers(SECRET, BODY, _now() - 301_000), BODY),
    "no headers": lambda _: (SECRET, {}, BODY),
    "no signature": lambda headers: (SECRET, {TIMESTAMP: headers[TIMESTAMP]}, BODY),
    "no time": lambda headers: (SECRET, {SIGNATURE: headers[SIGNATURE]}, BODY),
    "what is no signature": lambda headers: (SECRET, {**headers, SIGNATURE: "sha256=é"}, BODY),
    "what is no time": lambda headers: (SECRET, {**headers, TIMESTAMP: "x"}, BODY),
}


@pytest.mark.parametrize("check", [_python, _javascript], ids=["python", "js"])
def test_a_receiver_of_the_page_knows_the_gateway(check: Callable[[str, Headers, bytes], bool]) -> None:
    if check is _javascript and not shutil.which("node"):
        pytest.skip("there is no node here")
    assert check(SECRET, signed_headers(SECRET, BODY, _now()), BODY)
    assert check(SECRET, signed_headers(SECRET, BODY, _now() - 200_000), BODY)


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("check", [_python, _javascript], ids=["python", "js"])
def test_a_receiver_of_the_page_refuses(check: Callable[[str, Headers, bytes], bool], what: str) -> None:
    if check is _javascript and not shutil.which("node"):
        pytest.skip("there is no node here")
    secret, headers, body = WRONG[what](signed_headers(SECRET, BODY, _now()))
    assert not check(secret, headers, body)


def test_the_receivers_are_short() -> None:
    for block in (*_blocks("python"), *_blocks("js")):
        assert len(list(filter(None, block.splitlines()))) <= 12


@pytest.mark.parametrize(
    ("heading", "column", "kind"),
    [("Hooks", "key", HookSettings), ("The relay", r"key of `\[relay\]`", RelaySettings)],
)
def test_every_key_has_its_line(heading: str, column: str, kind: type) -> None:
    rows = table(section(PAGE, heading).text, column)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert told == {field.name for field in msgspec.structs.fields(kind)}


def test_the_keys_of_all_hooks_are_named_with_their_defaults() -> None:
    text = section(PAGE, "Hooks").text
    for field in msgspec.structs.fields(HooksSettings):
        if field.name != "endpoints":
            assert re.search(rf"`{field.name}` \({field.default:g}[,)]", text), field.name


def test_the_statuses_that_refuse_are_those_of_the_code() -> None:
    (row,) = (row for row in table(section(PAGE, "What is not taken").text, "answer") if "422" in row[0])
    assert {int(status) for status in row[0].split(", ")} == _REFUSALS
