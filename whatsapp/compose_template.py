"""Template messages (CLOUD_API.md 1.3, template), from our request fields.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from whatsapp.compose import Composed, Names

__all__ = ["template"]


def template(
    *,
    template_name: str,
    language: str,
    parameters: Sequence[str | int | float] = (),
    components: Sequence[Any] = (),
) -> Composed:
    """``parameters`` fill the body in their order; ``components`` are Meta's own, go as they are, and win."""
    content: dict[str, Any] = {"language": {"code": language}}
    if template_name:
        content["name"] = template_name
    names = _BY_PARAMETERS
    if components:
        content["components"] = components
        names = _BY_COMPONENTS
    elif parameters:
        texts = [{"type": "text", "text": str(parameter)} for parameter in parameters]
        content["components"] = [{"type": "body", "parameters": texts}]
    return Composed({"type": "template", "template": content}, names)


_SHARED: Names = (("template.name", "template_name"), ("template.language", "language"))
_BY_PARAMETERS: Names = (
    *_SHARED,
    ("template.components[0].parameters[]", "parameters[]"),
    ("template.components", "parameters"),
    ("template", "template_name"),
)
_BY_COMPONENTS: Names = (*_SHARED, ("template.components*", "components*"), ("template", "template_name"))
