"""The description of the REST API (OpenAPI 3.1), made of the types that requests are checked by.

Pure. Owns how an operation is described and what the document looks like; which operations there are is said
by ``operations.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from handlers.answers import Refusal
from handlers.parameters import KEY_HEADER, KEY_PATTERN

__all__ = ["Operation", "describe", "plain_fields"]

_REF = "#/components/schemas/{name}"
_REFUSALS: Mapping[int, str] = {
    400: "Something in the request cannot be used, and nothing was done.",
    401: "A key is needed (API_KEY), and this is none.",
    403: "Only callers on this machine may come without a key, and no page of another site with a form, or"
    " without a body.",
    413: "The body is too large.",
    415: "The body is of another type than this path takes, or does not say.",
    422: f"The {KEY_HEADER} was used with another body.",
    503: "The store cannot be reached, or the gateway is stopping: try again.",
}
_KEY: Mapping[str, Any] = {
    "name": KEY_HEADER,
    "in": "header",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
    "description": "Repeated under the same key, the request has its effect once, and the same answer for"
    " 24 hours.",
}


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    """With its parameters in braces."""
    tag: str
    summary: str
    answers: Mapping[int, tuple[str, Any]]
    """Status to what it means and the type of the body; beside the refusals that operations share."""
    request: Any = None
    """The type of the JSON body."""
    items: tuple[str, Any] | None = None
    """The name of a field of the request that is a list, and the type of what it holds."""
    examples: Mapping[str, Mapping[str, Any]] = {}
    """Bodies by what they are for."""
    query: type | None = None
    """The type of the query."""
    lenient: bool = False
    """Whether fields that are unknown are passed over."""
    content: str = "application/json"
    """The type of the body."""
    schema: Mapping[str, Any] | None = None
    """Of the body, where no type describes it."""
    bodiless: bool = False
    """Whether the body may be left out."""
    raw: Mapping[int, Sequence[str]] = {}
    """Content types of answers that are not JSON, or not always."""
    public: bool = False
    """Whether it asks for no key, and so refuses nobody."""

    @property
    def has_body(self) -> bool:
        """Whether it takes one."""
        return self.request is not None or self.schema is not None

    @property
    def is_keyed(self) -> bool:
        """Whether it may be repeated under a key of the caller's."""
        return self.method == "POST"


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


def plain_fields(kind: type) -> dict[str, dict[str, Any]]:
    """The fields of a query or a form. All are texts there, and none is null: what may be null may be left
    out."""
    told = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    return {
        name: next(one for one in schema.get("anyOf", [schema]) if one != {"type": "null"})
        for name, schema in told.items()
    }


def _operation(operation: Operation, ref_of: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation.path),
            *_query_parameters(operation.query),
            *([dict(_KEY)] if operation.is_keyed else []),
        ],
        **({"security": []} if operation.public else {}),
        "responses": _responses(operation, ref_of),
    }
    if operation.has_body:
        schema = (
            ref_of[id(operation.request)] if operation.request is not None else dict(operation.schema or {})
        )
        if operation.items is not None:
            name, kind = operation.items
            schema = {"allOf": [schema, {"properties": {name: {"items": ref_of[id(kind)]}}}]}
        body: dict[str, Any] = {"schema": schema}
        if operation.examples:
            body["examples"] = {name: {"value": value} for name, value in operation.examples.items()}
        told["requestBody"] = {"required": not operation.bodiless, "content": {operation.content: body}}
    return told


def _responses(operation: Operation, ref_of: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    refusal = {"application/json": {"schema": ref_of[id(Refusal)]}}
    told: dict[str, Any] = {
        str(status): {"description": _REFUSALS[status], "content": refusal} for status in _refusals(operation)
    }
    for status, (what, kind) in operation.answers.items():
        content: dict[str, Any] = {}
        if kind is not None:
            content["application/json"] = {"schema": ref_of[id(kind)]}
        content |= {raw: {} for raw in operation.raw.get(status, ())}
        told[str(status)] = {"description": what, "content": content}
    return dict(sorted(told.items()))


def _refusals(operation: Operation) -> Iterator[int]:
    """What is answered before the operation itself begins."""
    yield from (400, 413)
    if not operation.public:
        yield from (401, 403, 503)
    if operation.has_body:
        yield 415
    if operation.is_keyed:
        yield 422


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(query: type | None) -> Iterator[dict[str, Any]]:
    if query is None:
        return
    required = {field.encode_name for field in msgspec.structs.fields(query) if field.required}
    for name, schema in plain_fields(query).items():
        told = {"name": name, "in": "query", "schema": schema, "description": schema.pop("description")}
        yield told | ({"required": True} if name in required else {})


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[a-z]+", f"{operation.method.lower()} {operation.path.removeprefix('/api')}")
    return "_".join(words)
