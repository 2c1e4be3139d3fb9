"""What is kept of Meta's word on the price."""

from __future__ import annotations

import msgspec
import pytest

from whatsapp.pricing import kept_pricing


def test_what_the_bill_goes_by_is_kept_and_the_rest_is_not() -> None:
    told = {
        "pricing_model": "PMP",
        "type": "regular",
        "category": "utility",
        "new": {"a": 1},
    }
    assert msgspec.json.decode(kept_pricing(told)) == {
        "billable": None,
        "pricing_model": "PMP",
        "type": "regular",
        "category": "utility",
    }


def test_the_older_name_of_the_type_is_read_too() -> None:
    assert msgspec.json.decode(kept_pricing({"pricing_type": "regular"}))["type"] == "regular"


@pytest.mark.parametrize(
    "told", [None, {}, [], "free", {"category": 7}, {"category": "x" * 1000}, {"type": []}]
)
def test_nothing_is_kept_of_what_tells_nothing(told: object) -> None:
    assert kept_pricing(told) == b""
