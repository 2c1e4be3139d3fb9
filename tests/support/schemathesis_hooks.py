"""What schemathesis does before it reads a description and before it sends a request; named by
``schemathesis.toml``.
"""

from __future__ import annotations

import os
from itertools import count, cycle
from typing import Any

import schemathesis

from handlers import answers

__all__ = ["CUSTOMER", "ERASURE", "NAMES", "NOBODY", "WAMID", "before_call", "before_load_schema"]

_KEY = "Idempotency-Key"
_SHARED = 8
"""One request of so many keeps the key that was made up for it."""
_OPEN = {"Status"}
"""Answers that are described in part only."""
_number = count()

NAMES = [f"name-{n}" for n in range(20)]
"""Subscribers that there are."""
_names = cycle(NAMES)
CUSTOMER = "5215550001111"
"""Who has written."""
WAMID = "WAMID_OF_CUSTOMER"
"""The variable that has Meta's id of what they wrote."""
NOBODY = "5215550009999"
"""Who is erased, and has written nothing."""
ERASURE = "SCHEMATHESIS_ERASURE"
"""The variable that has the id of a request to do so."""


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Hold answers to the fields that are described. Callers are not told that there are no others, since
    later versions may add some."""
    schemas = raw_schema["components"]["schemas"]
    for name in schemas.keys() & (set(answers.__all__) - _OPEN):
        schemas[name]["additionalProperties"] = False


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Give most requests a key of their own: the same few are made up for all, and a key that came with
    another body is answered 422 before anything else is looked at."""
    number = next(_number)
    if case.headers.get(_KEY) and number % _SHARED:
        case.headers[_KEY] += str(number)
    if isinstance(wait := (case.query or {}).get("wait"), int):
        case.query["wait"] = min(wait, 1)
    if case.path.startswith(("/api/conversations/", "/api/contacts/")) and number % 2:
        case.path_parameters["contact"] = CUSTOMER
    if (case.method, case.path) == ("DELETE", "/api/contacts/{contact}"):
        if number % 2 or CUSTOMER in case.path_parameters["contact"]:
            # Who is asked about, and whom all is sent to, is not to be erased meanwhile.
            case.path_parameters["contact"] = NOBODY
    if case.path == "/api/erasures/{erasure}" and number % 2:
        case.path_parameters["erasure"] = os.environ[ERASURE]
    if (case.method, case.path) == ("GET", "/api/messages") and number % 2:
        case.query = {"wamid": os.environ[WAMID]}
    if case.path == "/api/subscribers/{name}" and number % 2:
        case.path_parameters["name"] = next(_names)
