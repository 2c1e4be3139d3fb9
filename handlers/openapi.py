"""The description of the REST API (OpenAPI 3.1), made of the types that requests are checked by.

Pure. Owns how an operation is described and what the document looks like; which operations there are is said
by ``operations.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from handlers.answers import Refusal

__all__ = ["Operation", "Query", "describe"]

_REF = "#/components/schemas/{name}"
_REFUSALS: Mapping[int, str] = {
    400: "Something in the request cannot be used, and nothing was done.",
    401: "A key is needed (API_KEY), and this is none.",
    403: "Only callers on this machine may come without a key.",
    413: "The body is too large.",
    415: "The body is of another type than this path takes, or does not say.",
    503: "The store cannot be reached, or the gateway is stopping: try again.",
}
"""What every operation may answer."""


class Query(NamedTuple):
    """A parameter of the query."""

    name: str
    schema: Mapping[str, Any]
    what: str


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    """With its parameters in braces."""
    tag: str
    summary: str
    answers: Mapping[int, tuple[str, Any]]
    """Status to what it means and the type of the body; beside what every operation may answer."""
    request: Any = None
    """The type of the JSON body."""
    items: tuple[str, Any] | None = None
    """The name of a field of the request that is a list, and the type of what it holds."""
    example: Mapping[str, Any] | None = None
    query: Sequence[Query] = ()
    lenient: bool = False
    """Whether fields that are unknown are passed over."""
    content: str = "application/json"
    """The type of the body."""
    schema: Mapping[str, Any] | None = None
    """Of the body, where no type describes it."""
    raw: Mapping[int, str] = {}
    """Content types of answers that are not JSON."""
    public: bool = False
    """Whether it asks for no key, and so refuses nobody."""


def describe(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The whole document."""
    operations = list(operations)
    types = [Refusal]
    for operation in operations:
        types += [kind for kind in (operation.request, *(a[1] for a in operation.answers.values())) if kind]
        types += [operation.items[1]] if operation.items else []
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    ref_of = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        told = _operation(operation, ref_of)
        paths.setdefault(operation.path, {})[operation.method.lower()] = told
    strict = {
        operation.request.__name__ for operation in operations if operation.request and not operation.lenient
    }
    for name in components.keys() - strict:
        # What clients send beside the fields is passed over, and told in warnings.
        components[name].pop("additionalProperties", None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "WhatsApp gateway",
            "version": version,
            "description": "A gateway to the WhatsApp Business Cloud API. Events are on `/ws`.",
        },
        "security": [{"bearer": []}, {"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(operation: Operation, ref_of: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *map(_query, operation.query)],
        **({"security": []} if operation.public else {}),
        "responses": _responses(operation, ref_of),
    }
    if operation.request is not None or operation.schema is not None:
        schema = (
            ref_of[id(operation.request)] if operation.request is not None else dict(operation.schema or {})
        )
        if operation.items is not None:
            name, kind = operation.items
            schema = {"allOf": [schema, {"properties": {name: {"items": ref_of[id(kind)]}}}]}
        body: dict[str, Any] = {"schema": schema}
        if operation.example is not None:
            body["example"] = operation.example
        told["requestBody"] = {"required": True, "content": {operation.content: body}}
    return told


def _responses(operation: Operation, ref_of: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    refusal = {"application/json": {"schema": ref_of[id(Refusal)]}}
    told: dict[str, Any] = {
        str(status): {"description": what, "content": refusal}
        for status, what in _REFUSALS.items()
        if not operation.public
    }
    for status, (what, kind) in operation.answers.items():
        answer: dict[str, Any] = {"description": what}
        if status in operation.raw:
            answer["content"] = {operation.raw[status]: {}}
        elif kind is not None:
            answer["content"] = {"application/json": {"schema": ref_of[id(kind)]}}
        told[str(status)] = answer
    return dict(sorted(told.items()))


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query(query: Query) -> dict[str, Any]:
    return {"name": query.name, "in": "query", "schema": dict(query.schema), "description": query.what}


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[a-z]+", f"{operation.method.lower()} {operation.path.removeprefix('/api')}")
    return "_".join(words)
