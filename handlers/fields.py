"""From a JSON object to the typed request of a path, with every fault named at once.

Pure. A request type is a ``msgspec.Struct``: its fields, their types, defaults and bounds are the contract.
What callers of the earlier service send is taken as it is (API.md, Part 1): ``null`` for a field left out,
fields we do not know ignored and named in warnings, with the field that was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from store.errors import Problem
from whatsapp.failures import InvalidRequest

__all__ = ["MAX_WARNINGS", "convert", "convert_each", "refusal", "refuse_if"]

MAX_WARNINGS = 100
"""Named in an answer."""
_NAME_LIMIT = 100
"""So much is told of a name that we do not know."""

T = TypeVar("T", bound=msgspec.Struct)


def convert(body: Mapping[str, Any], type: type[T], *, strict: bool = False) -> tuple[T, list[str]]:
    """The request and its warnings. Raises InvalidRequest that names every field at fault.

    ``strict``: fields we do not know are at fault too (API.md, Part 2).
    """
    problems: list[Problem] = []
    request, unknown = _convert(body, type, "", problems)
    if strict:
        problems += [(name, f"is no field of this request{hint}") for name, hint in _hints(unknown, type)]
    refuse_if(problems)
    assert request is not None
    return request, _ignored(unknown[:MAX_WARNINGS], type)


def convert_each(
    items: Sequence[Any], type: type[T], path: str
) -> tuple[list[T | None], list[Problem], list[str]]:
    """Each item of a list, None where it is at fault; the faults; the warnings. Paths: ``path[i].field``."""
    problems: list[Problem] = []
    found: list[T | None] = []
    warnings: list[str] = []
    for number, item in enumerate(items):
        where = f"{path}[{number}]"
        if isinstance(item, dict):
            request, unknown = _convert(item, type, where, problems)
            found.append(request)
            warnings += _ignored(unknown[: MAX_WARNINGS - len(warnings)], type, where)
        else:
            problems.append((where, "must be an object"))
            found.append(None)
    return found, problems, warnings


def refuse_if(problems: Sequence[Problem]) -> None:
    """Raise InvalidRequest where there are any."""
    if problems:
        raise refusal(problems)


def refusal(problems: Sequence[Problem]) -> InvalidRequest:
    """What to raise for these faults, of which there is one at least; the sentence names the first."""
    path, problem = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"{path}: {problem}{more}", problems)


def _convert(
    body: Mapping[str, Any], type: type[T], path: str, problems: list[Problem]
) -> tuple[T | None, list[str]]:
    values: dict[str, Any] = {}
    before = len(problems)
    known = _fields(type)
    unknown = [name[:_NAME_LIMIT] for name in body if name not in known]
    for name, field in known.items():
        value = body.get(name)
        if value is None:
            if field.required:
                # Looked for only as often as it may be told.
                near = _near(name, unknown[:MAX_WARNINGS]) if len(problems) < MAX_WARNINGS else ""
                problems.append((_join(path, name), "is required" + (near and f"; {near} is no field")))
            continue
        try:
            values[field.name] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            problems.append((_join(path, name), _problem(error, field.type)))
    if len(problems) > before:
        return None, unknown
    return type(**values), unknown


@lru_cache
def _fields(type: type[msgspec.Struct]) -> Mapping[str, FieldInfo]:
    # Asked once a recipient, and costs more than all else that is done for one.
    return {field.encode_name: field for field in msgspec.structs.fields(type)}


def _ignored(names: Sequence[str], type: type[msgspec.Struct], path: str = "") -> list[str]:
    return [f"{_join(path, name)}: unknown field, ignored{hint}" for name, hint in _hints(names, type)]


def _hints(names: Sequence[str], type: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Each name with the field that was probably meant, for the first so many."""
    for number, name in enumerate(names):
        near = _near(name.lower(), _fields(type)) if number < MAX_WARNINGS else ""
        yield name, near and f"; did you mean {near}?"


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f"`{near[0]}`" if near else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _problem(error: msgspec.ValidationError, type: Any) -> str:
    """msgspec's sentence, in the words of a caller; the words to choose from where there are."""
    if choices := _choices(type):
        return f"must be one of {', '.join(map(str, choices))}"
    text = str(error)
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours)
    return text[:1].lower() + text[1:]


def _choices(type: Any) -> tuple[Any, ...]:
    """The values of a ``Literal``, or of one that may be None, in their order."""
    if get_origin(type) in (Union, UnionType):
        (type, *others) = (member for member in get_args(type) if member is not NoneType)
        if others:
            return ()
    return get_args(type) if get_origin(type) is Literal else ()


_WORDS: Iterable[tuple[str, str]] = (
    ("Expected `", "must be `"),
    (" - at `$", " at `"),
    ("`str`", "text"),
    ("`int`", "a whole number"),
    ("`bool`", "true or false"),
    ("`array`", "a list"),
    ("`object`", "an object"),
    ("`str | int`", "text or a number"),
    ("`int | str`", "text or a number"),
)
