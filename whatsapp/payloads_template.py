"""Meta's ``template`` object: its name, its language, and what fills it (CLOUD_API.md 1.3,
CLOUD_API_2026.md 5.1).

Pure. What only the template itself can tell is not known here: how many parameters it has, whether it is one
for authentication (whose code has 15 characters at most, and which goes to no user id).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta, field

from store.errors import Problem
from whatsapp.payloads_basic import Filled, MetaObject
from whatsapp.payloads_parameters import (
    ActionParameter,
    AnyParameter,
    CouponParameter,
    CurrencyParameter,
    DateTimeParameter,
    DocumentParameter,
    GifParameter,
    ImageParameter,
    LocationParameter,
    OfferParameter,
    Parameter,
    PayloadParameter,
    ProductParameter,
    TextParameter,
    TtlParameter,
    VideoParameter,
)
from whatsapp.payloads_parts import repeats, tag_of
from whatsapp.validate import GROWS, Checked

__all__ = ["AnyComponent", "Template"]

_MAX_INDEX = 9
_QUICK_REPLY_LIMIT = 256
_URL_TEXT_LIMIT = 2000

SubType = Literal[
    "quick_reply",
    "url",
    "copy_code",
    "catalog",
    "mpm",
    "flow",
    "voice_call",
    "order_details",
    "QUICK_REPLY",
    "URL",
    "COPY_CODE",
    "CATALOG",
    "MPM",
    "FLOW",
    "VOICE_CALL",
    "ORDER_DETAILS",
]


class _Takes(NamedTuple):
    """What a button takes."""

    kinds: tuple[type[Parameter], ...]
    most: int = 1


_BUTTONS: Mapping[str, _Takes] = {
    "quick_reply": _Takes((PayloadParameter,)),
    "url": _Takes((TextParameter,)),
    "copy_code": _Takes((CouponParameter,)),
    "catalog": _Takes((ActionParameter,)),
    "mpm": _Takes((ActionParameter,)),
    "flow": _Takes((ActionParameter,)),
    "voice_call": _Takes((TtlParameter, PayloadParameter), most=2),
}
"""By sub_type; orders are passed on unread."""


# -- components --------------------------------------------------------------------------------------------


class Component(MetaObject, frozen=True, tag_field="type"):
    """One of ``components``."""


class Filling(Component, frozen=True, kw_only=True):
    """A component of which it is known which parameters it takes: ``takes``."""

    takes: ClassVar[tuple[type[Parameter], ...]] = ()
    parameters: list[AnyParameter] = field(default_factory=list)

    def rules(self) -> Iterator[Problem]:
        yield from _misplaced(self.parameters, self.takes)
        yield from repeats(
            (f"parameters[{number}].parameter_name", parameter.parameter_name)
            for number, parameter in enumerate(self.parameters)
            if isinstance(parameter, Parameter) and parameter.parameter_name is not None
        )


class HeaderComponent(Filling, frozen=True, tag="header"):
    """What stands above the body: one parameter at most."""

    takes = (
        TextParameter,
        ImageParameter,
        VideoParameter,
        DocumentParameter,
        GifParameter,
        LocationParameter,
        ProductParameter,
    )

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        yield from _too_many(self.parameters, 1)


class BodyComponent(Filling, frozen=True, tag="body"):
    """The text."""

    takes = (TextParameter, CurrencyParameter, DateTimeParameter)


class OfferComponent(Filling, frozen=True, tag="limited_time_offer"):
    """When the offer ends: one parameter."""

    takes = (OfferParameter,)

    def rules(self) -> Iterator[Problem]:
        yield from super().rules()
        if not self.parameters:
            yield "parameters", "must not be empty"
        yield from _too_many(self.parameters, 1)


class TapTargetComponent(Component, frozen=True, tag="tap_target_configuration"):
    """The page that a template's picture opens; passed on unread."""

    parameters: list[dict[str, Any]] = field(default_factory=list)


class ButtonComponent(Component, frozen=True, tag="button"):
    """One button, by its place among all of the template's."""

    sub_type: Annotated[SubType, GROWS]
    index: int | str
    """0 to 9, as a number or as text."""
    parameters: list[AnyParameter] = field(default_factory=list)

    def rules(self) -> Iterator[Problem]:
        if str(self.index) not in _INDEXES:
            yield "index", f"must be 0 to {_MAX_INDEX}"
        sub_type = self.sub_type.lower()
        if sub_type in _BUTTONS:
            yield from _misplaced(self.parameters, _BUTTONS[sub_type].kinds)
            yield from _too_many(self.parameters, _BUTTONS[sub_type].most)
        for number, parameter in enumerate(self.parameters):
            for where, problem in _button_faults(sub_type, parameter):
                yield f"parameters[{number}].{where}", problem


_INDEXES = frozenset(map(str, range(_MAX_INDEX + 1)))


def _button_faults(sub_type: str, parameter: object) -> Iterator[Problem]:
    """What one sub_type asks of a parameter, over what its kind does."""
    match sub_type, parameter:
        case "quick_reply", PayloadParameter(payload=text) if len(text) > _QUICK_REPLY_LIMIT:
            yield "payload", f"{len(text)} characters, at most {_QUICK_REPLY_LIMIT}"
        case "url", TextParameter(text=text) if len(text) > _URL_TEXT_LIMIT:
            yield "text", f"{len(text)} characters, at most {_URL_TEXT_LIMIT}"
        case "mpm", ActionParameter(action=action):
            if action.thumbnail_product_retailer_id is None:
                yield "action.thumbnail_product_retailer_id", "is required"
            if action.sections is None:
                yield "action.sections", "is required"


def _misplaced(parameters: Sequence[Checked], takes: tuple[type[Parameter], ...]) -> Iterator[Problem]:
    for number, parameter in enumerate(parameters):
        if isinstance(parameter, Parameter) and not isinstance(parameter, takes):
            yield f"parameters[{number}].type", f"must be one of {', '.join(map(tag_of, takes))}"


def _too_many(parameters: Sequence[Checked], most: int) -> Iterator[Problem]:
    if len(parameters) > most:
        yield "parameters", f"{len(parameters)} items, at most {most}"


# -- cards -------------------------------------------------------------------------------------------------


class TemplateCard(MetaObject, frozen=True):
    """One of a carousel's ``cards``."""

    card_index: Annotated[int, Meta(ge=0, le=9)]
    components: list[HeaderComponent | BodyComponent | ButtonComponent]

    def rules(self) -> Iterator[Problem]:
        yield from _component_faults(self.components)


class CarouselComponent(Component, frozen=True, tag="carousel"):
    """One to ten cards."""

    cards: Annotated[list[TemplateCard], Meta(min_length=1, max_length=10)]

    def rules(self) -> Iterator[Problem]:
        yield from repeats((f"cards[{n}].card_index", card.card_index) for n, card in enumerate(self.cards))


AnyComponent = (
    HeaderComponent
    | BodyComponent
    | ButtonComponent
    | CarouselComponent
    | OfferComponent
    | TapTargetComponent
)


# -- template ----------------------------------------------------------------------------------------------


class Language(MetaObject, frozen=True):
    """Which translation of a template."""

    code: Filled
    policy: Annotated[Literal["deterministic"], GROWS] = "deterministic"


class Template(MetaObject, frozen=True):
    """``template``."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=512,
            pattern="^[a-z0-9_]*$",
            extra={"must": "be lower-case letters, digits and underscores"},
        ),
    ]
    language: Language
    components: list[AnyComponent] = field(default_factory=list)

    def rules(self) -> Iterator[Problem]:
        yield from _component_faults(self.components)


def _component_faults(components: Sequence[Checked]) -> Iterator[Problem]:
    """Faults over all ``components`` of a template or a card: two of one button, names for some only."""
    buttons = [(n, button) for n, button in enumerate(components) if isinstance(button, ButtonComponent)]
    yield from repeats((f"components[{n}].index", str(button.index)) for n, button in buttons)
    texts = list(_texts(components))
    if any(parameter.parameter_name is not None for _, parameter in texts):
        for path, parameter in texts:
            if parameter.parameter_name is None:
                yield f"{path}.parameter_name", "is required, as others have one"


def _texts(components: Iterable[Checked]) -> Iterator[tuple[str, Parameter]]:
    """Parameters that have a name where the template was created with names."""
    for place, component in enumerate(components):
        if isinstance(component, Filling):
            for number, parameter in enumerate(component.parameters):
                if isinstance(parameter, TextParameter | CurrencyParameter | DateTimeParameter):
                    yield f"components[{place}].parameters[{number}]", parameter
