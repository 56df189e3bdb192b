"""What is said of made-up tickets: who matches, at which cost, and against IMP at the same sparsity."""

import math

import numpy as np
import pytest

from experiments.ticket_findings import TicketFindings
from experiments.ticket_options import TicketSearch
from experiments.ticket_report import _turning_points

STEPS = 10  # of an epoch
PLAN = TicketSearch(seeds=2, rounds=3, epochs=4, rewind_step=5, starts=(0.0, -0.01)).plan(STEPS)


def rows_of(method, round, accuracies, sparsity, start=None, seconds=1.0, failed=False):
    return [
        {
            "member": f"{method}/{round}/{start}/{seed}",
            "method": method,
            "round": round,
            "start": start,
            "seed": seed,
            "epoch": epoch,
            "sparsity": sparsity,
            "test_accuracy": accuracy,
            "failed": failed,
            "seconds": seconds,
        }
        for seed, accuracy in enumerate(accuracies)
        for epoch in range(1, 5)
    ]


DENSE = rows_of("dense", 0, [0.90, 0.92], 0.0)
CHAIN = (
    rows_of("imp", 1, [0.91, 0.93], 0.2)
    + rows_of("imp", 2, [0.90, 0.92], 0.36)
    + rows_of("imp", 3, [0.86, 0.85], 0.488)
)
CS = (
    rows_of("cs-search", 1, [0.5, 0.5], 0.36, start=0.0)
    + rows_of("cs-search", 1, [0.5, 0.5], 0.6, start=-0.01)
    + rows_of("cs-parallel", 1, [0.92, 0.93], 0.36, start=0.0)
    + rows_of("cs-parallel", 1, [0.80, 0.83], 0.6, start=-0.01)
)


def found(*parts):
    return TicketFindings([row for part in parts for row in part], PLAN)


def test_a_ticket_matches_if_it_is_at_least_as_good_in_the_mean():
    everything = found(DENSE, CHAIN, CS)
    assert everything.sparsest_matching("imp").round == 2
    assert everything.cheapest_matching("imp").round == 1
    assert everything.sparsest_matching("cs-parallel").start == 0.0
    assert everything.sparsest_matching("cs-sequential") is None
    third = everything.tickets("imp")[-1]
    np.testing.assert_allclose(everything.against_dense(third).mean, -0.055)


def test_search_costs_are_what_was_trained_before_the_ticket_was_known():
    """Rewinding to step 5 of 40 saves half an epoch a round; four seconds a network of four epochs."""
    everything = found(DENSE, CHAIN, CS)
    imp = {ticket.round: ticket for ticket in everything.tickets("imp")}
    assert [imp[round].epochs for round in (1, 2, 3)] == [4, 7.5, 11]
    assert [imp[round].seconds for round in (1, 2, 3)] == [4, 8, 12]
    (sparse,) = [t for t in everything.tickets("cs-parallel") if t.start == -0.01]
    assert (sparse.epochs, sparse.seconds) == (4, 4)
    assert PLAN.search_epochs("learning-rate-rewinding", 3) == 12
    assert PLAN.search_epochs("cs-sequential", 2) == 8


def test_imp_at_the_same_sparsity_is_interpolated_in_what_is_kept():
    ticket = rows_of("cs-parallel", 1, [0.9, 0.9], 1 - math.sqrt(0.64 * 0.512), start=0.0)
    everything = found(DENSE, CHAIN, ticket)
    (one,) = everything.tickets("cs-parallel")
    # Half way, in logarithms, between rounds 2 and 3: 0.88 and 0.885 by seed.
    np.testing.assert_allclose(everything.against_imp(one).mean, 0.9 - 0.8825)
    assert everything.against_imp(one).seeds == 2


def test_outside_of_imps_rounds_there_is_no_comparison():
    everything = found(DENSE, CHAIN, CS)
    (sparse,) = [t for t in everything.tickets("cs-parallel") if t.start == -0.01]
    assert everything.against_imp(sparse).seeds == 0
    assert math.isnan(everything.imp_epochs_to(0.6))
    assert everything.imp_epochs_to(0.36) == 7.5
    assert everything.imp_within(8).round == 2
    assert everything.imp_within(3) is None


def test_a_ticket_that_a_seed_lacks_is_left_out():
    lacking = rows_of("imp", 3, [0.95], 0.488)
    broken = rows_of("imp", 3, [0.95, 0.95], 0.488, failed=True)
    for third in (lacking, broken):
        tickets = found(DENSE, CHAIN[:16], third).tickets("imp")
        assert [ticket.round for ticket in tickets] == [1, 2]
    assert len(found(DENSE, broken).diverged) == 2


@pytest.mark.parametrize(
    ("reinit", "sentence"),
    [
        ([0.85, 0.87], "Re-initialised tickets are surely below the dense network first at 80.00%"),
        ([0.85, 0.95], "Re-initialised tickets are not surely below the dense network in any round"),
    ],
)
def test_turning_points(reinit, sentence):
    lines = "\n".join(_turning_points(found(DENSE, CHAIN, rows_of("imp-reinit", 1, reinit, 0.2))))
    assert "The best ticket: 80.00% kept (round 1, +1.00 ± 0.00 over dense)" in lines
    assert sentence in lines
