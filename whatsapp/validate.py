"""A JSON value against a type, with every fault named by its path at once.

Pure. A type is a :class:`Checked`: its fields, their types, defaults and bounds are the contract, and its
``rules`` add what concerns several fields. ``null`` is a field left out; fields that the type does not know
are found, and passed over. What is not known of an object of Meta's (``passes_on``) is found too, and goes on
as it came. What is right is converted in one go; only what is not is walked through.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from store.errors import Problem

__all__ = [
    "GROWS",
    "MAX_PROBLEMS",
    "MAX_UNKNOWN",
    "Checked",
    "Findings",
    "Unchecked",
    "join",
    "problem_of",
    "validate",
]

MAX_UNKNOWN = 100
"""Unknown fields that are told, and as many other things that are passed on."""
GROWS = Meta(extra={"grows": True})
"""Marks a ``Literal`` to which Meta adds: ``Annotated[Literal["a", "b"], GROWS]``. A text that it lacks is
found, and taken."""
MAX_PROBLEMS = 1000
"""Faults that are told; more are only counted."""
_NAME_LIMIT = 100
"""So much is told of a name that we do not know."""
_BAD: Any = object()

T = TypeVar("T", bound="Checked")


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object with named fields. One with unknown fields too is right to :func:`validate`, which tells
    them."""

    passes_on: ClassVar[bool] = False
    """Whether it goes on as it came, unknown fields and all. Of a union, also objects of unknown tags."""

    def rules(self) -> Iterable[Problem]:
        """Faults of fields that are right each by itself; their paths begin here."""
        return ()


class Unchecked(Checked, frozen=True):
    """Stands in a converted value for an object of an unknown tag, which is passed on as it came."""


class Findings:
    """What was found wrong, at most a thousand times, and what is unknown."""

    def __init__(self) -> None:
        self.faults = 0
        self.problems: list[Problem] = []
        self.unknown: list[tuple[str, str]] = []
        """Fields that are ignored: (path, "; did you mean ...?" or empty)"""
        self.passed: list[Problem] = []
        """What is not known here and goes on as it came: (path, "unknown ..., passed on as it is...")"""

    def fault(self, path: str, problem: str) -> None:
        """Something is wrong here."""
        self.faults += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append((path, problem))

    def pass_on(self, path: str, what: str, given: str, known: Iterable[str]) -> None:
        """Something of Meta's is not known here; ``known``: what it may have been meant to be."""
        if len(self.passed) < MAX_UNKNOWN:
            self.passed.append((path, f"unknown {what}, passed on as it is{meant(given, known)}"))


def validate(value: Any, kind: type[T], findings: Findings, path: str = "") -> T | None:
    """The value as that type; None where it is at fault, which ``findings`` then tell.

    ``path``: where the value stands in its request; empty for the whole.
    """
    before = findings.faults
    try:
        found: T = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        found = _walk(value, kind, path, findings)
    else:
        _tell_rules(found, path, findings)
    return found if findings.faults == before else None


def join(path: str, name: str) -> str:
    """The path of a field, or of what a rule names, below a path."""
    return f"{path}.{name}" if path and name and not name.startswith("[") else f"{path}{name}"


# -- rules -------------------------------------------------------------------------------------------------


def _tell_rules(value: Checked, path: str, findings: Findings) -> None:
    """Rules that an object or one within it breaks, the innermost first, as on the way through."""
    for name, encoded in _nested(type(value)):
        inner = getattr(value, name)
        if isinstance(inner, Checked):
            _tell_rules(inner, join(path, encoded), findings)
        elif isinstance(inner, list):
            for number, item in enumerate(inner):
                _tell_rules(item, f"{join(path, encoded)}[{number}]", findings)
    _tell_own_rules(value, path, findings)


def _tell_own_rules(value: Checked, path: str, findings: Findings) -> None:
    for where, problem in value.rules():
        findings.fault(join(path, where), problem)


@cache
def _nested(kind: type[Checked]) -> Sequence[tuple[str, str]]:
    """Names of the fields that may hold an object, or a list of objects, with rules or with more below it."""
    return [(field.name, field.encode_name) for field in _fields(kind).values() if _holds_rules(field.type)]


def _holds_rules(kind: Any) -> bool:
    if isinstance(kind, type):
        return issubclass(kind, Checked) and (kind.rules is not Checked.rules or bool(_nested(kind)))
    return any(_holds_rules(part) for part in get_args(kind))


# -- the way through what is wrong -------------------------------------------------------------------------


def _walk(value: Any, kind: Any, path: str, findings: Findings) -> Any:
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(plain) in (Union, UnionType):
        members = [member for member in get_args(plain) if member is not NoneType]
        if value is None and len(members) < len(get_args(plain)):
            return None
        if len(members) == 1:
            return _walk(value, members[0], path, findings)
        if all(isinstance(member, type) and issubclass(member, Checked) for member in members):
            return _walk_tagged(value, members, path, findings)
    if isinstance(plain, type) and issubclass(plain, Checked):
        if isinstance(value, dict) and value.get(plain.__struct_config__.tag_field) is not None:
            return _walk_tagged(value, [plain], path, findings)
        return _walk_object(value, plain, path, findings)
    if get_origin(plain) is list:
        return _walk_list(value, kind, get_args(plain)[0], path, findings)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if isinstance(value, str) and any(meta.extra == GROWS.extra for meta in _metas(kind)):
            findings.pass_on(path, "value", value, map(str, _choices(kind)))
            return value
        findings.fault(path, _problem(error, value, kind))
        return _BAD


def _walk_tagged(value: Any, members: Sequence[type[Checked]], path: str, findings: Findings) -> Any:
    """An object whose kind one of its fields tells."""
    tags = {str(member.__struct_config__.tag): member for member in members}
    field = str(members[0].__struct_config__.tag_field)
    if not isinstance(value, dict):
        findings.fault(path, "must be an object")
        return _BAD
    if value.get(field) is None:
        findings.fault(join(path, field), f"is required: one of {', '.join(tags)}")
        return _BAD
    member = tags.get(value[field]) if isinstance(value[field], str) else None
    if member is None:
        if members[0].passes_on and isinstance(value[field], str):
            findings.pass_on(join(path, field), "kind", value[field], tags)
            return Unchecked()
        findings.fault(join(path, field), f"must be one of {', '.join(tags)}")
        return _BAD
    return _walk_object(value, member, path, findings)


def _walk_object(value: Any, kind: type[Checked], path: str, findings: Findings) -> Any:
    if not isinstance(value, dict):
        findings.fault(path, "must be an object")
        return _BAD
    fields = _fields(kind)
    unknown = [str(name) for name in value if name not in fields and name != kind.__struct_config__.tag_field]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        given = value.get(name)
        if given is not None:
            values[field.name] = _walk(given, field.type, join(path, name), findings)
        elif field.required:
            # Looked for only as often as it may be told.
            near = _near(name, unknown[:MAX_UNKNOWN]) if len(findings.problems) < MAX_UNKNOWN else ""
            findings.fault(join(path, name), "is required" + (near and f"; {near} is no field"))
            values[field.name] = _BAD
    for name in unknown[:MAX_UNKNOWN]:
        where = join(path, name[:_NAME_LIMIT])
        if kind.passes_on:
            findings.pass_on(where, "field", name, fields)
        elif len(findings.unknown) < MAX_UNKNOWN:
            findings.unknown.append((where, meant(name, fields)))
    if any(found is _BAD for found in values.values()):
        return _BAD
    found = kind(**values)
    _tell_own_rules(found, path, findings)
    return found


def _walk_list(value: Any, kind: Any, item_type: Any, path: str, findings: Findings) -> Any:
    if not isinstance(value, list):
        findings.fault(path, "must be a list")
        return _BAD
    if problem := _length_problem(len(value), kind, "items"):
        findings.fault(path, problem)
        return _BAD
    items = [_walk(item, item_type, f"{path}[{number}]", findings) for number, item in enumerate(value)]
    return _BAD if any(item is _BAD for item in items) else items


@cache
def _fields(kind: type[Checked]) -> Mapping[str, FieldInfo]:
    # Asked once an object, and costs more than all else that is done for one.
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


# -- words -------------------------------------------------------------------------------------------------


def meant(name: str, known: Iterable[str]) -> str:
    """What was probably meant, as the end of a sentence; empty where nothing is near."""
    near = _near(name.lower(), known)
    return near and f"; did you mean {near}?"


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:_NAME_LIMIT], [other[:_NAME_LIMIT] for other in names], 1)
    return f"`{near[0]}`" if near else ""


def _problem(error: msgspec.ValidationError, value: Any, kind: Any) -> str:
    """msgspec's sentence, in the words of a caller; the words to choose from where there are."""
    if choices := _choices(kind):
        return f"must be one of {', '.join(map(str, choices))}"
    unit = "characters" if isinstance(value, str) else "fields"
    if isinstance(value, str | dict) and (problem := _length_problem(len(value), kind, unit)):
        return problem
    for meta in _metas(kind):
        if meta.extra and "must" in meta.extra and _fits_plainly(value, kind):
            return f"must {meta.extra['must']}"
    return _in_words(str(error))


def problem_of(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> Problem:
    """What msgspec found first, in the words of a caller: (path, problem); the path may be empty."""
    text, _, place = str(error).partition(" - at `$")
    path = place.rstrip("`").removeprefix(".")
    types = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    if named := _NAMED.fullmatch(text):
        what, name = named.groups()
        problem = "is required" if what == "missing required" else f"is not known{meant(name, types)}"
        return join(path, name[:_NAME_LIMIT]), problem
    if choices := _choices(types.get(path)):
        return path, f"must be one of {', '.join(map(str, choices))}"
    return path, _in_words(text)


_NAMED = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)


def _in_words(text: str) -> str:
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours)
    return text[:1].lower() + text[1:]


def _length_problem(length: int, kind: Any, unit: str) -> str:
    for meta in _metas(kind):
        if meta.min_length is not None and length < meta.min_length:
            return "must not be empty" if not length else f"{length} {unit}, at least {meta.min_length}"
        if meta.max_length is not None and length > meta.max_length:
            return f"{length} {unit}, at most {meta.max_length}"
    return ""


def _metas(kind: Any) -> Iterator[Meta]:
    """The bounds of a type, also where it may be None."""
    if get_origin(kind) is Annotated:
        yield from (part for part in get_args(kind)[1:] if isinstance(part, Meta))
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _metas(member)


def _fits_plainly(value: Any, kind: Any) -> bool:
    """Whether a value is of the type but for its bounds."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    try:
        msgspec.convert(value, plain)
    except msgspec.ValidationError:
        return False
    return True


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of a ``Literal``, or of one that may be None, in their order."""
    if get_origin(kind) in (Union, UnionType):
        (kind, *others) = (member for member in get_args(kind) if member is not NoneType)
        if others:
            return ()
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    return get_args(kind) if get_origin(kind) is Literal else ()


_WORDS: Iterable[tuple[str, str]] = (
    ("Expected `", "must be `"),
    (" - at `$", " at `"),
    ("`str`", "text"),
    ("`int`", "a whole number"),
    ("`float`", "a number"),
    ("`bool`", "true or false"),
    ("`array`", "a list"),
    ("`object`", "an object"),
    ("`int | float | str`", "text or a number"),
    ("`str | int`", "text or a number"),
    ("`int | str`", "text or a number"),
)
