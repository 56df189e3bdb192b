"""What is said of made-up tickets: who matches, at which cost, and against IMP at the same sparsity."""

import math

import numpy as np
import pytest

from experiments.ticket_findings import TicketFindings
from experiments.ticket_options import TicketSearch
from experiments.ticket_report import _continuous_table, _matching_table, _rounds_table, _turning_points

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
    # Which of the two starts to choose is known after both.
    assert [(t.epochs, t.seconds) for t in everything.tickets("cs-parallel")] == [(8, 8), (8, 8)]
    assert [PLAN.search_epochs("learning-rate-rewinding", round) for round in (1, 3)] == [4, 12]
    assert [PLAN.search_epochs("imp-continued", round) for round in (1, 3)] == [4, 12]
    assert [PLAN.search_epochs("imp-reinit", round) for round in (1, 3)] == [4, 11]
    assert [PLAN.search_epochs("cs-sequential", round) for round in (1, 2)] == [4, 8]


def test_seconds_are_those_of_the_chain_that_a_mask_comes_from():
    chain = "learning-rate-rewinding"
    rows = (
        rows_of("imp", 1, [0.9, 0.9], 0.2, seconds=100.0),
        rows_of("imp", 2, [0.9, 0.9], 0.36),
        rows_of("imp-reinit", 2, [0.9, 0.9], 0.36, seconds=7.0),
        rows_of(chain, 1, [0.9, 0.9], 0.2, seconds=2.0),
        rows_of(chain, 2, [0.9, 0.9], 0.36, seconds=9.0),
        rows_of("imp-continued", 2, [0.9, 0.9], 0.36, seconds=9.0),
        rows_of("cs-search", 1, [0.5, 0.5], 0.5, start=0.0, seconds=3.0),
        rows_of("cs-search", 2, [0.5, 0.5], 0.6, start=0.0, seconds=5.0),
        rows_of("cs-sequential", 2, [0.9, 0.9], 0.6, start=0.0, seconds=9.0),
    )
    everything = found(DENSE, *rows)
    (second,) = everything.tickets("cs-sequential")
    assert second.seconds == 4 * (3 + 5)
    for method, expected in (
        ("imp", 4 * (1 + 100)),
        ("imp-reinit", 4 * (1 + 100)),
        (chain, 4 * (1 + 2)),
        ("imp-continued", 4 * (1 + 2)),
    ):
        assert everything.tickets(method)[-1].seconds == expected


def test_a_compilation_in_the_first_epoch_does_not_count():
    slow = [row | {"seconds": 60.0} if row["epoch"] == 1 else row for row in DENSE]
    assert found(slow, CHAIN).tickets("imp")[0].seconds == 4


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
    assert everything.imp_within(epochs=8).round == 2
    assert everything.imp_within(seconds=9).round == 2
    assert everything.imp_within(epochs=3) is None


def test_a_ticket_that_a_seed_lacks_is_shown_as_such_and_matches_nothing():
    lacking = rows_of("imp", 3, [0.95], 0.488)
    broken = rows_of("imp", 3, [0.95], 0.488) + rows_of("imp", 3, [0.0, 0.95], 0.488, failed=True)[4:]
    for third in (lacking, broken):
        everything = found(DENSE, CHAIN[:16], third)
        ticket = everything.tickets("imp")[-1]
        assert (ticket.round, len(ticket.accuracies)) == (3, 1)
        assert everything.sparsest_matching("imp").round == 2
        assert everything.below_from("imp").round == 3
        assert any("95.00 (1 of 2 seeds)" in line for line in _rounds_table(everything, ["imp"]))
    assert len(found(DENSE, broken).diverged) == 1


def test_a_seed_whose_dense_network_diverged_is_compared_with_nothing():
    everything = found(DENSE[:4], rows_of("dense", 0, [0.0, 0.0], 0.0, failed=True)[4:], CHAIN)
    assert everything.against_dense(everything.tickets("imp")[0]).seeds == 1
    nothing = found(rows_of("dense", 0, [0.0, 0.0], 0.0, failed=True), CHAIN)
    assert nothing.sparsest_matching("imp") is None


def test_the_turning_point_is_where_all_sparser_tickets_are_below():
    """The first round is below by bad luck; the second is level again."""
    rounds = (
        rows_of("imp", 1, [0.86, 0.88], 0.2),
        rows_of("imp", 2, [0.90, 0.93], 0.36),
        rows_of("imp", 3, [0.80, 0.82], 0.488),
    )
    everything = found(DENSE, *rounds)
    assert everything.below_from("imp").round == 3
    assert everything.sparsest_not_below("imp").round == 2
    assert found(DENSE, *rounds[:2]).below_from("imp") is None


@pytest.mark.parametrize(
    ("reinit", "sentence"),
    [
        ([0.85, 0.87], "imp-reinit: surely below the dense network from here on: 80.00% kept"),
        ([0.85, 0.95], "imp-reinit: the sparsest ticket is not surely below the dense network"),
    ],
)
def test_turning_points(reinit, sentence):
    lines = "\n".join(_turning_points(found(DENSE, CHAIN, rows_of("imp-reinit", 1, reinit, 0.2))))
    assert "The best ticket: 80.00% kept (round 1, +1.00 ± 0.00 over dense)" in lines
    assert sentence in lines


def test_the_tables_say_what_was_found():
    everything = found(DENSE, CHAIN, CS)
    *_, third = _rounds_table(everything, ["imp"])
    assert third == "| 3 | 51.20% | 85.50 ± 0.71 | 11 |"
    *_, first, second = _continuous_table(everything)
    head = "| cs-parallel, start 0 | 64.00% | 92.50 ± 0.71 |"
    assert first == f"{head} +1.50 ± 6.35 | 8, 8 s | 7.5 | 64.00%, 91.00 | 64.00%, 91.00 |"
    assert second.startswith(
        "| cs-parallel, start -0.01 | 40.00% | 81.50 ± 2.12 | none | 8, 8 s | never |"
    )
    lines = {line.split(" | ")[0]: line for line in _matching_table(everything)}
    assert lines["| imp"] == (
        "| imp | imp, round 2 | 64.00% | +0.00 ± 0.00 | 7.5, 8 s | imp, round 1, 80.00% kept, 4, 4 s | "
        "imp, round 3, 51.20% kept |"
    )
    assert lines["| cs-sequential"] == "| cs-sequential | none |  |  |  |  | none |"
