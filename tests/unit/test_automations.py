"""Rules as they are written in the configuration: what they become, and what stops a start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import config
from automations import automations_of
from whatsapp.autoreply import Automation

RULE = '[[autoreply.rules]]\nname = "r"\n'


def load(toml: str, tmp_path: Path) -> config.Settings:
    path = tmp_path / "config.toml"
    path.write_text(toml)
    return config.load({}, dotenv=None, toml=path)


def made(rule: str, tmp_path: Path) -> Automation:
    (automation,) = automations_of(load(RULE + rule, tmp_path).autoreply)
    return automation


def fault(rule: str, tmp_path: Path, before: str = "") -> str:
    with pytest.raises(config.ConfigError) as error:
        load(before + RULE + rule, tmp_path)
    return error.value.message


def test_the_default_rules_are_right() -> None:
    settings = config.Settings()
    assert [one.rule.name for one in automations_of(settings.autoreply)] == [
        "greeting",
        "help",
        "info",
        "contact",
    ]


@pytest.mark.parametrize(
    ("rule", "content"),
    [
        ('text = "Hi"', {"type": "text", "text": {"body": "Hi", "preview_url": True}}),
        (
            'message = {type = "sticker", sticker = {id = "1234"}}',
            {"type": "sticker", "sticker": {"id": "1234"}},
        ),
        ('message = {text = {body = "Hi"}}', {"type": "text", "text": {"body": "Hi"}}),
        (
            'send = {kind = "location-request", body_text = "Where?"}',
            {
                "type": "interactive",
                "interactive": {
                    "type": "location_request_message",
                    "body": {"text": "Where?"},
                    "action": {"name": "send_location"},
                },
            },
        ),
    ],
)
def test_an_answer_is_a_text_metas_object_or_our_fields(
    rule: str, content: dict[str, Any], tmp_path: Path
) -> None:
    assert made(f'keywords = ["a"]\n{rule}', tmp_path).content == content


def test_kinds_are_as_tasks_have_them(tmp_path: Path) -> None:
    button = 'send = {kind = "button", body_text = "Hi {name}", buttons = [{id = "y", title = "Yes"}]}'
    assert made(f'keywords = ["a"]\n{button}', tmp_path).kind == "interactive"
    assert (
        made(
            'always = true\nsend = {kind = "list", body_text = "B", button_text = "O", '
            'sections = [{title = "S", rows = [{id = "1", title = "One"}]}]}',
            tmp_path,
        ).kind
        == "list"
    )


def test_conditions_and_options_are_taken_over(tmp_path: Path) -> None:
    rule = made(
        'types = ["text"]\nbuttons = ["b"]\nnumbers = ["100"]\nhours = ["mon 09:00-10:00"]\n'
        'timezone = "Europe/Madrid"\nfirst_within_days = 2\nstop = false\ncooldown_s = 0\ntext = "x"\n'
        'unless = {texts = ["no"], first_contact = true}',
        tmp_path,
    ).rule
    when, unless = rule.when, rule.unless
    assert (when.types, when.buttons, when.numbers) == ({"text"}, {"b"}, {"100"})
    assert (str(when.zone), when.first_within_ms) == ("Europe/Madrid", 172_800_000)
    assert unless is not None and (unless.texts, unless.first_within_ms) == ({"no"}, 0)
    assert (rule.stop, rule.cooldown_ms) == (False, 0)


def test_a_message_is_handed_over_to_who_is_named(tmp_path: Path) -> None:
    program = '[[autoreply.handovers]]\nname = "bot"\nurl = "http://127.0.0.1:9/x"\n'
    settings = load(program + RULE + 'always = true\nhand_over = "bot"', tmp_path)
    (automation,) = automations_of(settings.autoreply)
    assert automation.hand_over == "bot"
    assert any("AUTOREPLY_BOT_SECRET is not set" in notice for notice in settings.notices)


def test_the_secret_of_who_it_is_handed_over_to_is_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[[autoreply.handovers]]\nname = "my-bot"\nurl = "https://bot.example/x"\n')
    settings = config.load({"AUTOREPLY_MY_BOT_SECRET": "s3cret"}, dotenv=None, toml=path)
    assert settings.autoreply.handovers[0].secret == "s3cret"
    assert "s3cret" not in repr(settings)
    assert not [notice for notice in settings.notices if "AUTOREPLY" in notice]


A = 'keywords = ["a"]\n'


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ('text = "x"', "rule 'r': always: must be true where there is no condition"),
        (A + 'always = true\ntext = "x"', "always: goes with no other condition"),
        (A, "text: give one of text, message, send and hand_over"),
        (A + 'text = "x"\nhand_over = "b"', "text: give one of text, message, send and hand_over"),
        (A + 'hand_over = "b"', "hand_over: names none of [[autoreply.handovers]]: none is there"),
        (A + 'message = {type = "text"}', "message.text: is required where type is text"),
        (A + 'message = {type = "image", image = {}}', "rule 'r': message.image"),
        (A + 'message = {type = "text", text = {body = "x"}, to = "1"}', "message.to: is filled in"),
        (A + 'send = {body_text = "x"}', "send.kind: must be one of message, template"),
        (A + 'send = {kind = "button", body_text = "x", buttons = []}', "send.buttons"),
        (A + 'send = {kind = "button", body_text = "x", buttons = [{id = "1", title = "'
         + "y" * 21 + '"}]}', "send.buttons[0].title: 21 characters, at most 20"),
        (A + 'send = {kind = "message", messsage = "x"}', "send.message: is required"),
        (A + 'send = {kind = "message", message = "x", phone = "1"}', "send.phone: is whoever wrote"),
        (A + 'send = {kind = "message", message = "x", priority = "low"}', "send.priority: is no field"),
        (A + 'text = "{1}"', "text: has a place {1} that nothing fills: there are 0, match, m"),
        (A + 'text = "Hi {nmae}"', "text: has a place {nmae}"),
        ('patterns = ["(a)", "b"]\ntext = "{1}"', "text: has a place {1}"),
        ('patterns = ["(a"]\ntext = "x"', "patterns[0]: is no pattern of RE2's: "),
        ('hours = ["9-18"]\ntext = "x"', "hours[0]: must be hours such as"),
        ('hours = ["09:00-10:00"]\ntimezone = "Mars/Base"\ntext = "x"', "timezone: is none that there is"),
        ('hours = ["09:00-10:00"]\ntimezone = "../../etc/passwd"\ntext = "x"', "timezone: is none"),
        (A + 'timezone = "UTC"\ntext = "x"', "timezone: goes with hours"),
        ('texts = ["!"]\ntext = "x"', "texts[0]: has neither a letter nor a digit"),
        ('first_contact = true\nfirst_within_days = 1\ntext = "x"', "first_within_days: does not go with"),
        (A + 'unless = {}\ntext = "x"', "unless: must have a condition"),
        (A + 'unless = {patterns = ["["]}\ntext = "x"', "unless.patterns[0]: is no pattern"),
        (A + 'keyword = ["b"]\ntext = "x"', "[autoreply] rules"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_met_or_sent_stops_the_start_by_its_name_and_key(
    rule: str, says: str, tmp_path: Path
) -> None:
    message = fault(rule, tmp_path)
    assert message.startswith("[autoreply] rules: ")
    assert says in message


def test_a_number_that_is_none_of_ours_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{RULE}numbers = ["200", "100"]\ntext = "x"')
    ours = {"VERIFY_TOKEN": "v", "ACCESS_TOKEN": "t", "PHONE_NUMBER_ID": "100"}
    with pytest.raises(config.ConfigError, match="numbers: '200' is none of the numbers here: 100"):
        config.load(ours, dotenv=None, toml=path)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ('name = "b"\nurl = "ftp://x/"', "'b': url must be an https:// or http:// address"),
        ('name = "b"\nurl = "https://x/"\nheaders = ["X-Gateway-Event: 1"]', "is the gateway's own"),
        ('name = "B!"\nurl = "https://x/"', "[autoreply] handovers: table 'B!': name: must be text matching"),
        (
            'name = "a-b"\nurl = "https://x/"\n[[autoreply.handovers]]\nname = "a_b"\nurl = "https://x/"',
            "gives two",
        ),
    ],
)
def test_who_cannot_be_handed_over_to_stops_the_start(program: str, says: str, tmp_path: Path) -> None:
    assert says in fault(A + 'text = "x"', tmp_path, f"[[autoreply.handovers]]\n{program}\n")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    message = fault('hours = ["x"]\npatterns = ["("]\ntext = "{x}"', tmp_path)
    assert len(message.splitlines()) == 3
