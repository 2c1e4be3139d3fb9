"""When a refusal of Meta's limits begins to count against the message."""

from __future__ import annotations

from typing import cast

import pytest

from store.records import Row
from tests.support.rows import make_row
from whatsapp.app_limit import AppLimit
from whatsapp.brakes import Brakes
from whatsapp.errors import GraphError, Verdict, classify
from whatsapp.graph import Graph
from whatsapp.pacing import LanePacer, PairPacer
from whatsapp.template_holds import TemplateHolds

PATIENCE = 20
ROW, OTHER = make_row(0), make_row(1)


class Bench:
    """Brakes whose clock stands still; nobody asks Meta."""

    def __init__(self) -> None:
        self.brakes = Brakes(
            "100",
            LanePacer(80.0),
            PairPacer(),
            graph=cast(Graph, None),
            templates=TemplateHolds(60.0),
            app=AppLimit(),
            monotonic=lambda: 0.0,
            probe_s=1.0,
        )

    def refused(self, row: Row, code: int = 130429) -> Verdict:
        error = GraphError(code=code, http_status=400, from_graph=True)
        return self.brakes.react(row, classify(error))

    def refused_among_others(self, times: int, code: int = 130429) -> list[bool]:
        """Whether each refusal counted, with another message taken after each."""
        counted = []
        for _ in range(times):
            counted.append(self.refused(ROW, code).burn)
            self.brakes.accepted(OTHER)
        return counted


@pytest.mark.parametrize("code", [130429, 131056])
def test_a_message_that_limits_refuse_while_others_pass_uses_up_its_attempts_in_the_end(code: int) -> None:
    counted = Bench().refused_among_others(PATIENCE + 3, code)
    assert counted == [False] * PATIENCE + [True] * 3


def test_while_nothing_is_taken_no_refusal_counts() -> None:
    bench = Bench()
    assert not any(bench.refused(ROW).burn for _ in range(10 * PATIENCE))


def test_a_message_that_was_taken_is_forgotten() -> None:
    bench = Bench()
    bench.refused_among_others(PATIENCE)
    bench.brakes.accepted(ROW)
    assert bench.refused_among_others(PATIENCE) == [False] * PATIENCE


def test_each_message_has_a_patience_of_its_own() -> None:
    bench = Bench()
    bench.refused_among_others(PATIENCE + 1)
    assert not bench.refused(OTHER).burn


def test_a_failure_that_counts_anyway_counts_from_the_first() -> None:
    assert Bench().refused(ROW, 131016).burn


def test_a_refusal_of_the_pair_delays_the_message_as_long_as_the_pair() -> None:
    bench = Bench()
    assert [bench.refused(ROW, 131056).delay_s for _ in range(3)] == [1.0, 4.0, 16.0]
    bench.brakes.told(ROW.contact, bench.refused(ROW, 131056))
    assert bench.refused(ROW, 131056).delay_s == 4.0**5, "a status counts among the refusals in a row"
