"""Which rule answers a text."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

from __future__ import annotations

import string
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.opening_hours import parse_span
from whatsapp.plain_words import normalize, plain_words
from whatsapp.rules import Conditions, Incoming, Rule, compile_pattern, match, phrase


def rule(name: str, *keywords: str) -> Rule:
    return Rule(name, Conditions(phrases=tuple(map(phrase, keywords))))


def first(rules: Sequence[Rule], text: str) -> Rule | None:
    found = match(rules, Incoming(text))
    return found[0].rule if found else None


def matches(keyword: str, text: str) -> bool:
    return first([rule("one", keyword)], text) is not None


def met(conditions: Conditions, text: str = "", **message: Any) -> bool:
    return bool(match([Rule("one", conditions)], Incoming(text, **message)))


# -- normalize ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("Hola", "hola"),
        ("AYÚDA", "ayuda"),
        ("ayu\u0301da", "ayuda"),  # accent as a letter of its own
        ("Ñandú", "nandu"),
        ("çédille Ångström", "cedille angstrom"),
        ("Straße", "strasse"),
        ("İSTANBUL", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
        ("Привет Ёлка", "привет елка"),
        ("ＨＯＬＡ", "hola"),
        ("𝐇𝐨𝐥𝐚 ℌola", "hola hola"),
        ("ﬁn Ⅷ", "fin viii"),
        ("你好", "你好"),
        ("a_b-c 1½", "a_b-c 11⁄2"),
        ("👋🏽", "👋🏽"),
    ],
)
def test_normalize(text: str, plain: str) -> None:
    assert normalize(text) == plain


@given(st.text())
def test_what_is_normal_stays_so(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.text())
def test_case_makes_no_difference(text: str) -> None:
    assert normalize(text.casefold()) == normalize(text)


@given(st.text(string.printable))
def test_plain_letters_only_lose_their_case(text: str) -> None:
    assert normalize(text) == text.lower()


# -- one keyword -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "hola",
        "HOLA",
        "Hóla",
        " hola ",
        "¡Hola!",
        "hola, ¿qué tal?",
        "buenas,hola",
        "(hola)",
        "«hola»",
        "hola\nquisiera saber",
        "hola👋",
        "👋hola👋",
        "*hola*",
        "_hola_",
        "~hola~",
        "hola.hola",
        "hola-hola",
        "hola/buenas",
        "𝐇𝐨𝐥𝐚",
    ],
)
def test_a_whole_word_matches(text: str) -> None:
    assert matches("hola", text)
    assert matches("HÓLA", text)


@pytest.mark.parametrize(
    "text", ["", " ", "hol", "holas", "ahola", "holanda", "hola2", "2hola", "h ola", "h.o.l.a", "👋", "¿?"]
)
def test_a_part_of_a_word_does_not(text: str) -> None:
    assert not matches("hola", text)


@pytest.mark.parametrize(
    ("keyword", "text", "found"),
    [
        ("buenos días", "Buenos Dias!", True),
        ("buenos días", "muy buenos, días", True),
        ("buenos días", "buenos  \n días", True),
        ("buenos días", "buenos y días", False),
        ("buenos días", "días buenos", False),
        ("buenos días", "buenos diasporas", False),
        ("buenos días", "buenosdias", False),
        ("24/7", "abierto 24/7?", True),
        ("24/7", "24 7", True),
        ("24/7", "247", False),
        ("año_nuevo", "feliz ano nuevo", True),
        ("你好", "你好!", True),
        ("👋", "👋", False),
        ("!", "!", False),
        ("", "", False),
        (" ", " ", False),
        ("hola👋", "hola", True),
    ],
)
def test_keywords_of_several_words_and_of_none(keyword: str, text: str, found: bool) -> None:
    assert matches(keyword, text) is found


WORDS = st.text(string.ascii_lowercase + "áéñ", min_size=1)
NOISE = st.text(" .,;!?¿¡-*_\n👋😀", min_size=1)


@given(WORDS, NOISE, NOISE, st.text(), st.text())
def test_a_word_is_found_wherever_it_stands_alone(
    word: str, before: str, after: str, head: str, tail: str
) -> None:
    assert matches(word, f"{head}{before}{word.upper()}{after}{tail}")


@given(WORDS, WORDS)
def test_a_longer_word_is_another(word: str, more: str) -> None:
    assert not matches(word, f"{word}{more}")
    assert not matches(word, f"{more}{word}")


@given(st.lists(st.text()), st.text())
def test_no_rule_and_no_text_raises(keywords: list[str], text: str) -> None:
    first([rule("one", *keywords)], text)


# -- several rules -----------------------------------------------------------------------------------------

GREETING = rule("greeting", "hola", "hello")
HELP = rule("help", "ayuda", "help", "hola")
RULES = [GREETING, HELP]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hello", GREETING),
        ("help", HELP),
        ("hola", GREETING),
        ("ayuda, hello", GREETING),  # the order is that of the rules, not of the text
        ("ayuda por favor", HELP),
        ("adiós", None),
    ],
)
def test_the_first_rule_with_a_keyword_answers(text: str, found: Rule | None) -> None:
    assert first(RULES, text) is found


def test_the_order_of_rules_counts() -> None:
    assert first([HELP, GREETING], "hola") is HELP


def test_without_rules_nothing_answers() -> None:
    assert first([], "hola") is None


# -- other conditions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "found"), [("HOLA!", True), ("hola que tal", False), ("", False)])
def test_a_whole_text_is_compared_as_words_are(text: str, found: bool) -> None:
    assert met(Conditions(texts=frozenset({plain_words("¡Hola!")})), text) is found


def test_types_buttons_and_numbers_are_looked_up() -> None:
    assert met(Conditions(types=frozenset({"image", "video"})), type="video")
    assert not met(Conditions(types=frozenset({"image"})), type="text")
    assert met(Conditions(buttons=frozenset({"yes"})), button="yes")
    assert not met(Conditions(buttons=frozenset({"yes"})), button="")
    assert met(Conditions(numbers=frozenset({"100"})), phone_number_id="100")
    assert not met(Conditions(numbers=frozenset({"100"})), phone_number_id="200")


def test_all_conditions_must_hold_and_none_of_unless() -> None:
    both = Conditions(types=frozenset({"text"}), phrases=(phrase("hola"),))
    assert met(both, "hola") and not met(both, "hola", type="image") and not met(both, "adios")
    rule = Rule("one", Conditions(), Conditions(types=frozenset({"text"}), phrases=(phrase("stop"),)))
    assert match([rule], Incoming("hola")) and match([rule], Incoming("stop", "image"))
    assert not match([rule], Incoming("stop"))


def test_a_pattern_gives_its_groups_and_a_keyword_itself() -> None:
    order = Conditions(
        patterns=(compile_pattern(r"x"), compile_pattern(r"(?:pedido|order) +([\pL\d]+)(-\d)?"))
    )
    (found,) = match([Rule("order", order)], Incoming("Mi PEDIDO Á12, por favor"))
    assert found.found == ("PEDIDO Á12", "Á12", "")
    assert found.values("Ana") == {
        "name": "Ana",
        "match": "PEDIDO Á12",
        "0": "PEDIDO Á12",
        "1": "Á12",
        "2": "",
    }
    (found,) = match([rule("help", "Ayúda")], Incoming("¿AYUDA?"))
    assert found.found == ("Ayúda",)
    (found,) = match([Rule("all", Conditions())], Incoming("anything"))
    assert found.found == ("anything",)


@pytest.mark.parametrize("source", ["(", r"(a)\1", "(?=a)", "a{2000}", "[", "(?:a{1000}){1000}"])
def test_what_is_no_pattern_of_re2s_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compile_pattern(source)


def test_no_text_makes_a_pattern_slow() -> None:
    # A backtracking engine would not come back from this one.
    assert compile_pattern(r"^(a+)+$").find("a" * 4000 + "b") is None


@pytest.mark.parametrize(
    ("within_ms", "silent_ms", "first"),
    [
        (0, None, True),
        (0, 0, False),
        (0, 10**12, False),
        (1000, None, True),
        (1000, 999, False),
        (1000, 1000, True),
    ],
)
def test_a_first_contact_is_one_that_was_silent_for_long(
    within_ms: int, silent_ms: int | None, first: bool
) -> None:
    assert met(Conditions(first_within_ms=within_ms), silent_ms=silent_ms) is first


def test_rules_after_one_that_does_not_stop_act_too() -> None:
    rules = [
        Rule("log", Conditions(), stop=False),
        Rule("skipped", Conditions(types=frozenset({"image"}))),
        Rule("hello", Conditions(phrases=(phrase("hola"),))),
        Rule("late", Conditions()),
    ]
    assert [one.rule.name for one in match(rules, Incoming("hola"))] == ["log", "hello"]
    assert [one.rule.name for one in match(rules, Incoming("adios"))] == ["log", "late"]


# -- hours -------------------------------------------------------------------------------------------------

MEXICO = ZoneInfo("America/Mexico_City")


def at(text: str, zone: ZoneInfo = MEXICO) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


@pytest.mark.parametrize(
    ("span", "time", "inside"),
    [
        ("mon-fri 09:00-18:00", "2026-11-27T09:00", True),
        ("mon-fri 09:00-18:00", "2026-11-27T18:00", False),
        ("mon-fri 09:00-18:00", "2026-11-28T12:00", False),
        ("Sat, Sun 10:00 - 14:00", "2026-11-28T13:59", True),
        ("fri-mon 00:00-24:00", "2026-11-30T23:59", True),
        ("fri-mon 00:00-24:00", "2026-12-01T00:00", False),
        ("22:00-06:00", "2026-11-28T23:00", True),
        ("22:00-06:00", "2026-11-28T05:59", True),
        ("22:00-06:00", "2026-11-28T12:00", False),
        # The night that begins on a Friday.
        ("fri 22:00-06:00", "2026-11-28T05:00", True),
        ("fri 22:00-06:00", "2026-11-27T05:00", False),
        ("sun 22:00-06:00", "2026-11-30T05:00", True),
    ],
)
def test_hours_are_of_the_wall_clock_there(span: str, time: str, inside: bool) -> None:
    assert met(Conditions(hours=(parse_span(span),), zone=MEXICO), at=at(time)) is inside


def test_hours_are_those_of_the_zone_also_over_its_summer_time() -> None:
    madrid = ZoneInfo("Europe/Madrid")
    office = Conditions(hours=(parse_span("09:00-10:00"),), zone=madrid)
    for day, utc_hour in (("2026-03-28", 8), ("2026-03-29", 7)):
        moment = datetime.fromisoformat(f"{day}T{utc_hour:02}:30").replace(tzinfo=UTC)
        assert met(office, at=int(moment.timestamp() * 1000))


@pytest.mark.parametrize(
    "text",
    "|9-18|mon 09:00|mon-fri 9:00-18:00|25:00-26:00|10:60-11:00|10:00-10:00|day 10:00-11:00|mon- 10:00-11:00"
    "|, 10:00-11:00|24:00-01:00|mon 10:00-24:01".split("|"),
)
def test_what_is_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be hours such as"):
        parse_span(text)


@given(st.text())
def test_no_text_breaks_the_reading_of_hours(text: str) -> None:
    try:
        parse_span(text)
    except ValueError:
        pass
