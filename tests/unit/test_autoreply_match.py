"""Which rule answers a text."""

# ruff: noqa: RUF001 - letters that look like others are what is tested

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.autoreply import Rule, match
from whatsapp.plain_words import normalize


def rule(name: str, *keywords: str) -> Rule:
    return Rule(name, keywords, f"the text of {name}")


def matches(keyword: str, text: str) -> bool:
    return match([rule("one", keyword)], text) is not None


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
    match([rule("one", *keywords)], text)


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
    assert match(RULES, text) is found


def test_the_order_of_rules_counts() -> None:
    assert match([HELP, GREETING], "hola") is HELP


def test_without_rules_or_keywords_nothing_answers() -> None:
    assert match([], "hola") is None
    assert match([rule("empty")], "hola") is None
