"""A JSON value against a type: faults with their paths, rules, kinds by tag, and what is passed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from handlers.fields import convert, warnings_of
from store.errors import Problem
from whatsapp.failures import InvalidRequest
from whatsapp.validate import GROWS, MAX_UNKNOWN, Checked, Findings, Unchecked, join, validate


class Shape(Checked, frozen=True, tag_field="type"):
    """What is ours: only these kinds."""


class Circle(Shape, frozen=True, tag="circle"):
    radius: Annotated[int, Meta(ge=1)]


class Square(Shape, frozen=True, tag="square"):
    side: int

    def rules(self) -> Iterator[Problem]:
        if self.side % 2:
            yield "side", "must be even"


class Theirs(Checked, frozen=True):
    passes_on = True


class Animal(Theirs, frozen=True, tag_field="kind"):
    """What is theirs: other kinds come."""


class Cat(Animal, frozen=True, tag="cat"):
    lives: int = 9


class Dog(Animal, frozen=True, tag="dog"):
    name: str


class Keeper(Theirs, frozen=True):
    mood: Annotated[Literal["glad", "sad"], GROWS] = "glad"
    pace: Annotated[Literal["walk", "run"], GROWS] | None = None
    size: Literal["small", "large"] = "small"


class Zoo(Checked, frozen=True):
    shape: Circle | Square | None = None
    shapes: list[Circle | Square] = msgspec.field(default_factory=list)
    animals: list[Cat | Dog] = msgspec.field(default_factory=list)
    keeper: Keeper | None = None
    notes: Annotated[dict[str, Any], Meta(min_length=1, max_length=2)] | None = None
    least: int = 0
    most: int = msgspec.field(default=9, name="max")

    def rules(self) -> Iterator[Problem]:
        if self.least > self.most:
            yield "least", "is over max"
        if self.least < 0:
            yield "", "is upside down"


def found(value: Any, path: str = "") -> Findings:
    findings = Findings()
    zoo = validate(value, Zoo, findings, path)
    assert (zoo is None) == bool(findings.problems)
    return findings


def zoo_of(value: Any) -> Zoo:
    zoo = validate(value, Zoo, Findings())
    assert zoo is not None
    return zoo


# -- kinds by tag ------------------------------------------------------------------------------------------


def test_a_tag_says_the_kind() -> None:
    assert zoo_of({"shape": {"type": "circle", "radius": 1}}).shape == Circle(1)
    # Also on the way through what has more fields than we know.
    assert zoo_of({"shape": {"type": "square", "side": 2, "x": 1}}).shape == Square(2)
    assert zoo_of({"shapes": [{"type": "square", "side": 2}], "x": 1}).shapes == [Square(2)]


@pytest.mark.parametrize(
    ("shape", "path", "problem"),
    [
        ({}, "shape.type", "is required: one of circle, square"),
        ({"type": None}, "shape.type", "is required: one of circle, square"),
        ({"type": "star"}, "shape.type", "must be one of circle, square"),
        ({"type": 7}, "shape.type", "must be one of circle, square"),
        ({"type": ["circle"]}, "shape.type", "must be one of circle, square"),
        ("circle", "shape", "must be an object"),
        ([], "shape", "must be an object"),
        ({"type": "circle"}, "shape.radius", "is required"),
        ({"type": "circle", "radius": 0}, "shape.radius", "must be a whole number >= 1"),
        ({"type": "square", "side": 1}, "shape.side", "must be even"),
    ],
)
def test_a_fault_of_a_kind_is_told_with_its_place(shape: Any, path: str, problem: str) -> None:
    assert found({"shape": shape}).problems == [(path, problem)]
    assert found({"shape": shape}, "zoos[2]").problems == [(f"zoos[2].{path}", problem)]
    assert found({"shape": shape, "x": 1}).problems == [(path, problem)]


@pytest.mark.parametrize("more", [{}, {"x": 1}])
def test_where_there_is_one_kind_its_tag_may_be_left_out(more: dict[str, Any]) -> None:
    for right in ({"radius": 1}, {"type": "circle", "radius": 1}):
        assert validate({**right, **more}, Circle, Findings()) == Circle(1)
    findings = Findings()
    assert validate({"type": "square", "radius": 1, **more}, Circle, findings) is None
    assert findings.problems == [("type", "must be one of circle")]


def test_a_kind_of_theirs_that_is_not_known_is_passed_on() -> None:
    value = {"animals": [{"kind": "cat"}, {"kind": "dgo", "name": 7}, {"kind": "yak"}]}
    assert zoo_of(value).animals == [Cat(), Unchecked(), Unchecked()]
    findings = found(value, "zoo")
    assert findings.unknown == []
    assert findings.passed == [
        ("zoo.animals[1].kind", "unknown kind, passed on as it is; did you mean `dog`?"),
        ("zoo.animals[2].kind", "unknown kind, passed on as it is"),
    ]


@pytest.mark.parametrize("kind", [7, True, ["cat"], {}])
def test_a_kind_of_theirs_is_a_word(kind: Any) -> None:
    assert found({"animals": [{"kind": kind}]}).problems == [("animals[0].kind", "must be one of cat, dog")]
    assert found({"animals": [{}]}).problems == [("animals[0].kind", "is required: one of cat, dog")]


# -- words and fields --------------------------------------------------------------------------------------


def test_a_word_of_theirs_that_is_not_known_is_passed_on() -> None:
    keeper = zoo_of({"keeper": {"mood": "Sad", "pace": "crawl"}}).keeper
    assert keeper == Keeper(mood="Sad", pace="crawl")  # type: ignore[arg-type]
    assert found({"keeper": {"mood": "Sad", "pace": "crawl"}}).passed == [
        ("keeper.mood", "unknown value, passed on as it is; did you mean `sad`?"),
        ("keeper.pace", "unknown value, passed on as it is"),
    ]
    assert found({"keeper": {"mood": 7, "pace": []}}).problems == [
        ("keeper.mood", "must be one of glad, sad"),
        ("keeper.pace", "must be one of walk, run"),
    ]
    assert found({"keeper": {"size": "huge"}}).problems == [("keeper.size", "must be one of small, large")]


def test_fields_of_theirs_are_passed_on_and_ours_are_ignored() -> None:
    findings = found({"keeper": {"Mood": "sad"}, "leest": 1, "animals": [{"kind": "cat", "fur": 1}]})
    assert findings.unknown == [("leest", "; did you mean `least`?")]
    assert warnings_of(findings) == [
        "leest: unknown field, ignored; did you mean `least`?",
        "animals[0].fur: unknown field, passed on as it is",
        "keeper.Mood: unknown field, passed on as it is; did you mean `mood`?",
    ]


def test_where_it_is_strict_fields_of_theirs_are_passed_on_all_the_same() -> None:
    _, warnings = convert({"keeper": {"hat": 1}}, Zoo, strict=True)
    assert warnings == ["keeper.hat: unknown field, passed on as it is"]
    with pytest.raises(InvalidRequest) as caught:
        convert({"keeper": {"hat": 1}, "hat": 1}, Zoo, strict=True)
    assert [path for path, _ in caught.value.details] == ["hat"]


def test_what_is_passed_on_is_told_so_many_times() -> None:
    findings = found({"animals": [{"kind": f"yak{n}"} for n in range(MAX_UNKNOWN + 1)], "x": 1})
    assert len(findings.passed) == MAX_UNKNOWN
    assert len(findings.unknown) == 1
    long = found({"keeper": {"y" * 9999: 1}})
    assert long.passed == [(f"keeper.{'y' * 100}", "unknown field, passed on as it is")]


@pytest.mark.parametrize(
    ("notes", "problem"),
    [
        ({}, "must not be empty"),
        ({"a": 1, "b": 2, "c": 3}, "3 fields, at most 2"),
        ([], "must be an object, got a list"),
    ],
)
def test_fields_of_a_mapping_are_counted(notes: Any, problem: str) -> None:
    assert found({"notes": {"a": 1}}).problems == []
    assert found({"notes": notes}).problems == [("notes", problem)]


# -- rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"x": 1}])
def test_every_broken_rule_is_told_the_innermost_first(more: dict[str, Any]) -> None:
    squares = [{"type": "square", "side": side} for side in (1, 2, 3)]
    value = {"least": 8, "max": 7, "shapes": squares, "shape": squares[0], **more}
    assert found(value).problems == [
        ("shape.side", "must be even"),
        ("shapes[0].side", "must be even"),
        ("shapes[2].side", "must be even"),
        ("least", "is over max"),
    ]


def test_a_rule_of_the_whole_is_told_with_its_place() -> None:
    assert found({"least": -1}, "zoo").problems == [("zoo", "is upside down")]
    assert found({"least": -1}).problems == [("", "is upside down")]


def test_a_broken_rule_is_told_beside_other_faults() -> None:
    value = {
        "shape": {"type": "square", "side": 1},
        "shapes": [{"type": "circle", "radius": "1"}],
        "max": "a",
    }
    assert [path for path, _ in found(value).problems] == ["shape.side", "shapes[0].radius", "max"]


def test_rules_are_asked_only_of_what_is_right_by_itself() -> None:
    assert found({"least": 10, "max": "a"}).problems == [("max", "must be a whole number, got text")]


def test_faults_are_told_a_thousand_times_and_counted_on() -> None:
    findings = Findings()
    circles = {"shapes": [{"type": "circle", "radius": 0}] * 1500}
    assert validate(circles, Zoo, findings) is None
    assert len(findings.problems) == 1000
    assert findings.faults == 1500
    # What is wrong after that is wrong all the same.
    assert validate({"least": 10}, Zoo, findings) is None
    assert validate({"least": 1}, Zoo, findings) == Zoo(least=1)
    assert len(findings.problems) == 1000


@pytest.mark.parametrize(
    ("path", "name", "joined"),
    [
        ("", "a", "a"),
        ("a", "b", "a.b"),
        ("a", "", "a"),
        ("a", "[0]", "a[0]"),
        ("", "", ""),
        ("", "[0]", "[0]"),
    ],
)
def test_a_path_is_joined(path: str, name: str, joined: str) -> None:
    assert join(path, name) == joined


# -- anything ----------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SHAPES = ANY | st.fixed_dictionaries(
    {"type": st.sampled_from(["circle", "square", "star"]) | ANY},
    optional={"radius": st.integers(0, 2) | ANY, "side": st.integers(0, 2) | ANY},
)
ANIMALS = ANY | st.fixed_dictionaries(
    {"kind": st.sampled_from(["cat", "dog", "yak"]) | ANY}, optional={"name": ANY, "lives": ANY}
)
ZOOS = ANY | st.fixed_dictionaries(
    {},
    optional={
        "shape": SHAPES,
        "shapes": ANY | st.lists(SHAPES, max_size=3),
        "animals": ANY | st.lists(ANIMALS, max_size=3),
        "keeper": ANY | st.fixed_dictionaries({}, optional={"mood": ANY, "pace": ANY, "size": ANY}),
        "notes": ANY,
        "least": ANY,
        "max": ANY,
    },
)


@given(ZOOS)
def test_any_value_is_right_or_its_faults_are_told(value: Any) -> None:
    findings = found(value)
    assert all(problem for _, problem in findings.problems + findings.passed)


@given(ZOOS)
def test_both_ways_find_the_same(value: Any) -> None:
    """What is right is converted in one go; with a field that is not known it is walked through."""
    if not isinstance(value, dict):
        return
    straight, through = Findings(), Findings()
    zoo = validate(value, Zoo, straight)
    assert validate({**value, "never known": 1}, Zoo, through) == zoo
    assert through.problems == straight.problems
    assert through.passed == straight.passed
