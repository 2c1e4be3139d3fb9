"""A JSON value against a type, with every fault named by its path at once.

Pure. A type is a :class:`Checked`: its fields, their types, defaults and bounds are the contract, and its
``rules`` add what concerns several fields. ``null`` is a field left out; fields that the type does not know
are found, and passed over. What is right is converted in one go; only what is not is walked through.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from store.errors import Problem

__all__ = ["MAX_UNKNOWN", "Checked", "Findings", "join", "validate"]

MAX_UNKNOWN = 100
"""Unknown fields that are told."""
_MAX_PROBLEMS = 1000
_NAME_LIMIT = 100
"""So much is told of a name that we do not know."""
_BAD: Any = object()

T = TypeVar("T", bound="Checked")


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object with named fields. One with unknown fields too is right to :func:`validate`, which tells
    them."""

    def rules(self) -> Iterable[Problem]:
        """Faults of fields that are right each by itself; their paths begin here."""
        return ()


class Findings:
    """What was found wrong, at most a thousand times, and what is unknown."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.unknown: list[tuple[str, str]] = []
        """(path, "; did you mean ...?" or empty)"""

    def fault(self, path: str, problem: str) -> None:
        """Something is wrong here."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append((path, problem))


def validate(value: Any, kind: type[T], findings: Findings, path: str = "") -> T | None:
    """The value as that type; None where it is at fault, which ``findings`` then tell.

    ``path``: where the value stands in its request; empty for the whole.
    """
    try:
        found: T = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        found = _walk(value, kind, path, findings)
        if found is _BAD:
            return None
    before = len(findings.problems)
    for where, problem in _broken_rules(found, path):
        findings.fault(where, problem)
    return found if len(findings.problems) == before else None


def join(path: str, name: str) -> str:
    """The path of a field, or of what a rule names, below a path."""
    return f"{path}.{name}" if path and name and not name.startswith("[") else f"{path}{name}"


# -- rules -------------------------------------------------------------------------------------------------


def _broken_rules(value: Checked, path: str) -> Iterator[Problem]:
    for where, problem in value.rules():
        yield join(path, where), problem
    for name, encoded in _nested(type(value)):
        yield from _broken_rules_in(getattr(value, name), join(path, encoded))


def _broken_rules_in(value: Any, path: str) -> Iterator[Problem]:
    if isinstance(value, Checked):
        yield from _broken_rules(value, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _broken_rules_in(item, f"{path}[{number}]")


@lru_cache
def _nested(kind: type[Checked]) -> Sequence[tuple[str, str]]:
    """Names of the fields that may hold objects with rules of their own."""
    return [(field.name, field.encode_name) for field in _fields(kind).values() if _holds_checked(field.type)]


def _holds_checked(kind: Any) -> bool:
    if isinstance(kind, type):
        return issubclass(kind, Checked)
    return any(_holds_checked(part) for part in get_args(kind))


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
        return _walk_object(value, plain, path, findings)
    if get_origin(plain) is list:
        return _walk_list(value, kind, get_args(plain)[0], path, findings)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
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
    for name in unknown[: MAX_UNKNOWN - len(findings.unknown)]:
        near = _near(name.lower(), fields)
        findings.unknown.append((join(path, name[:_NAME_LIMIT]), near and f"; did you mean {near}?"))
    return _BAD if any(found is _BAD for found in values.values()) else kind(**values)


def _walk_list(value: Any, kind: Any, item_type: Any, path: str, findings: Findings) -> Any:
    if not isinstance(value, list):
        findings.fault(path, "must be a list")
        return _BAD
    if problem := _length_problem(len(value), kind, "items"):
        findings.fault(path, problem)
        return _BAD
    items = [_walk(item, item_type, f"{path}[{number}]", findings) for number, item in enumerate(value)]
    return _BAD if any(item is _BAD for item in items) else items


@lru_cache
def _fields(kind: type[Checked]) -> Mapping[str, FieldInfo]:
    # Asked once an object, and costs more than all else that is done for one.
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


# -- words -------------------------------------------------------------------------------------------------


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:_NAME_LIMIT], [other[:_NAME_LIMIT] for other in names], 1)
    return f"`{near[0]}`" if near else ""


def _problem(error: msgspec.ValidationError, value: Any, kind: Any) -> str:
    """msgspec's sentence, in the words of a caller; the words to choose from where there are."""
    if choices := _choices(kind):
        return f"must be one of {', '.join(map(str, choices))}"
    if isinstance(value, str) and (problem := _length_problem(len(value), kind, "characters")):
        return problem
    for meta in _metas(kind):
        if meta.extra and "must" in meta.extra and _fits_plainly(value, kind):
            return f"must {meta.extra['must']}"
    text = str(error)
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
    ("`str | int`", "text or a number"),
    ("`int | str`", "text or a number"),
)
