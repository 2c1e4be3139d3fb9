"""Message templates: ``GET /api/templates`` (contract.md, Part 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from handlers.base import BaseHandler
from handlers.fields import refuse_if
from handlers.parameters import TemplatesQuery
from whatsapp.events import rfc3339
from whatsapp.failures import InvalidRequest
from whatsapp.template_list import Templates
from whatsapp.templates import Needs, Template

__all__ = ["TemplateList"]

_FILTERS = TemplatesQuery.__struct_fields__


class TemplateList(BaseHandler):
    """``GET /api/templates``."""

    templates: Templates

    async def get(self) -> None:
        """200 with the templates and what each asks for; 400 where no account is configured, 502 or 503 where
        Meta cannot be asked and nothing is known."""
        no = f"is no filter; these are: {', '.join(_FILTERS)}"
        refuse_if([(name, no) for name in self.request.query_arguments if name not in _FILTERS])
        if not self.templates.configured:
            raise InvalidRequest("WABA_ID is not set: it names the account whose templates are listed")
        wanted = {name: self.get_query_argument(name, "") for name in _FILTERS}
        wanted["status"] = wanted["status"].upper()
        found = await self.templates.all()
        self.answer(
            {
                "success": True,
                "templates": [
                    _shown(template)
                    for template in found
                    if all(not value or getattr(template, name) == value for name, value in wanted.items())
                ],
                "fetched_at": rfc3339(self.templates.fetched_at),
            }
        )


def _shown(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "language": template.language,
        "status": template.status,
        "category": template.category,
        "parameter_format": "NAMED" if template.named else "POSITIONAL",
        "parameters": dict(_parameters(template.needs, template.named)),
    }


def _parameters(needs: Needs, named: bool) -> Iterator[tuple[str, Any]]:
    """Counts of positional parameters, the names of named ones."""

    def places(found: tuple[str, ...]) -> int | list[str]:
        return list(found) if named else len(found)

    header = {"type": needs.header, "parameters": places(needs.header_names) if needs.header_names else 1}
    yield "header", header if needs.header else None
    yield "body", places(needs.body)
    yield (
        "buttons",
        [
            {"index": button.index, "sub_type": button.sub_type, "parameters": button.count}
            for button in needs.buttons
        ],
    )
    if needs.cards:
        yield "cards", [dict(_parameters(card, named)) for card in needs.cards]
