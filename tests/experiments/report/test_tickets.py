"""What tickets cost and whether they match, from made-up rows of which the truth is known."""

import math

import numpy as np
import pytest

from experiments.methods.point import Point
from experiments.options.knobs import GateKnobs, Knobs, RoundKnobs, ScheduleKnobs
from experiments.report.ticket_tables import (
    continuous_table,
    matching_table,
    rounds_table,
    turning_points,
)
from experiments.report.tickets import Tickets
from experiments.ticket_search import TicketSearch
from tests.experiments.made_up import results, row

KNOBS = Knobs(
    rounds=RoundKnobs(rounds=3),
    gates=GateKnobs(starts=(0.0, -0.01)),
    schedule=ScheduleKnobs(rewind_step=5),  # of 10 an epoch
)


def rows_of(method, round, accuracies, sparsity, setting=None, **more):
    """Of four epochs; a round is 0 for the dense network."""
    target = 0.0 if method == "dense" else None
    return [
        row(
            Point(method, round=round or None, setting=setting, sparsity_target=target, seed=seed),
            accuracy,
            epoch=epoch,
            sparsity=sparsity,
            **more,
        )
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
    rows_of("cs-search", 1, [0.5, 0.5], 0.36, 0.0)
    + rows_of("cs-search", 1, [0.5, 0.5], 0.6, -0.01)
    + rows_of("cs-parallel", 1, [0.92, 0.93], 0.36, 0.0)
    + rows_of("cs-parallel", 1, [0.80, 0.83], 0.6, -0.01)
)


def found(*parts):
    rows = [one for part in parts for one in part]
    return Tickets(
        results(rows, seeds=2, **KNOBS.settings() | {"prune_epochs": 2, "gate_learning_rate": 0.1})
    )


def test_a_ticket_matches_if_it_is_at_least_as_good_in_the_mean():
    everything = found(DENSE, CHAIN, CS)
    assert everything.sparsest_matching("imp").round == 2
    assert everything.cheapest_matching("imp").round == 1
    assert everything.sparsest_matching("cs-parallel").setting == 0.0
    assert everything.sparsest_matching("cs-sequential") is None
    np.testing.assert_allclose(everything.against_dense(everything.tickets("imp")[-1]).mean, -0.055)


CHAINED = "learning-rate-rewinding"
MORE = (
    rows_of("imp-reinit", 2, [0.9, 0.9], 0.36, seconds=7.0)
    + rows_of(CHAINED, 1, [0.9, 0.9], 0.2, seconds=2.0)
    + rows_of(CHAINED, 2, [0.9, 0.9], 0.36, seconds=9.0)
    + rows_of("imp-continued", 2, [0.9, 0.9], 0.36, seconds=9.0)
    + rows_of("cs-search", 2, [0.5, 0.5], 0.6, 0.0, seconds=5.0)
    + rows_of("cs-sequential", 2, [0.9, 0.9], 0.6, 0.0, seconds=9.0)
)


@pytest.mark.parametrize(
    ("method", "epochs", "seconds"),
    [
        # Rewinding to step 5 of 40 saves half an epoch a round; four seconds a network of four epochs.
        ("imp", [4, 7.5, 11], [4, 8, 12]),
        ("cs-parallel", [8, 8], [8, 8]),  # Which of the two starts to choose is known after both.
        # The seconds are those of the chain that a mask comes from.
        ("imp-reinit", [7.5], [8]),
        (CHAINED, [4, 8], [4, 4 * (1 + 2)]),
        ("imp-continued", [8], [4 * (1 + 2)]),
        ("cs-sequential", [8], [4 * (1 + 5)]),
    ],
)
def test_search_costs_are_what_was_trained_before_the_ticket_was_known(method, epochs, seconds):
    tickets = found(DENSE, CHAIN, CS, MORE).tickets(method)
    assert [ticket.epochs for ticket in tickets] == epochs
    assert [ticket.seconds for ticket in tickets] == seconds


def test_a_compilation_in_the_first_epoch_does_not_count():
    slow = [one | {"seconds": 60.0} if one["epoch"] == 1 else one for one in DENSE]
    assert found(slow, CHAIN).tickets("imp")[0].seconds == 4


def test_imp_at_the_same_sparsity_is_interpolated_in_what_is_kept():
    everything = found(
        DENSE, CHAIN, rows_of("cs-parallel", 1, [0.9, 0.9], 1 - math.sqrt(0.64 * 0.512), 0.0)
    )
    (one,) = everything.tickets("cs-parallel")
    # Half way, in logarithms, between rounds 2 and 3: 0.88 and 0.885 by seed.
    np.testing.assert_allclose(everything.against_imp(one).mean, 0.9 - 0.8825)
    assert everything.against_imp(one).seeds == 2


def test_outside_of_imps_rounds_there_is_no_comparison():
    everything = found(DENSE, CHAIN, CS)
    (sparse,) = [t for t in everything.tickets("cs-parallel") if t.setting == -0.01]
    assert everything.against_imp(sparse).seeds == 0
    assert math.isnan(everything.imp_epochs_to(0.6))
    assert everything.imp_epochs_to(0.36) == 7.5
    assert everything.imp_within(epochs=8).round == everything.imp_within(seconds=9).round == 2
    assert everything.imp_within(epochs=3) is None


def test_a_ticket_that_a_seed_lacks_is_shown_as_such_and_matches_nothing():
    lacking = rows_of("imp", 3, [0.95], 0.488)
    broken = lacking + rows_of("imp", 3, [0.0, 0.95], 0.488, failed=True)[4:]
    for third in (lacking, broken):
        everything = found(DENSE, CHAIN[:16], third)
        ticket = everything.tickets("imp")[-1]
        assert (ticket.round, len(ticket.accuracies)) == (3, 1)
        assert everything.sparsest_matching("imp").round == 2
        assert everything.below_from("imp") is None
        assert any("95.00 (1 of 2 seeds)" in line for line in rounds_table(everything))
    assert len(found(DENSE, broken).diverged) == 1


SURELY_BELOW = rows_of("imp", 1, [0.80, 0.822], 0.2)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        # It is even above; the second seed's has diverged.
        (
            CHAIN[:8] + rows_of("imp", 2, [0.95], 0.36),
            "the sparsest ticket that every seed has is not surely below the dense network; not every "
            "seed has that of round 2.",
        ),
        (
            SURELY_BELOW + rows_of("imp", 2, [0.95], 0.36),
            "surely below the dense network from here on: 80.00% kept (round 1, -9.90 ± 1.27 over "
            "dense); not every seed has that of round 2.",
        ),
        (
            rows_of("imp", 1, [0.95], 0.2) + rows_of("imp", 1, [0.0, 0.0], 0.2, failed=True)[4:],
            "there is no ticket that every seed has.",
        ),
        (rows_of("imp", 1, [0.95], 0.2), "one seed cannot tell."),
    ],
)
def test_a_ticket_that_a_seed_lacks_is_not_called_below(rows, says):
    everything = found(DENSE, rows)
    assert f"- IMP: {says}" in "\n".join(turning_points(everything))


def test_a_method_is_judged_by_the_seeds_that_it_was_run_with():
    """IMP was run with two seeds and merged with a run of three."""
    dense = rows_of("dense", 0, [0.90, 0.92, 0.91], 0.0)
    parallel = rows_of("cs-parallel", 1, [0.8, 0.8, 0.8], 0.6, 0.0)
    merged = Tickets(results(dense + CHAIN + parallel, seeds=3))
    assert merged.sparsest_matching("imp").round == 2
    assert merged.below_from("imp") is None
    lines = "\n".join([*matching_table(merged), *turning_points(merged)])
    assert "| IMP | IMP, round 2 | 64.00% | +0.00 (2 of 3 seeds) |" in lines
    assert "- IMP: the sparsest ticket is not surely below the dense network." in lines
    assert "Not every seed" not in lines
    lacking = found(DENSE, CHAIN[:16], rows_of("imp", 3, [0.95], 0.488))
    said = "Not every seed has these, which count in no column: IMP, round 3."
    assert said in "\n".join(matching_table(lacking))


def test_a_seed_whose_dense_network_diverged_is_compared_with_nothing():
    wild = rows_of("dense", 0, [0.0, 0.0], 0.0, failed=True)
    everything = found(DENSE[:4], wild[4:], CHAIN)
    assert everything.against_dense(everything.tickets("imp")[0]).seeds == 1
    assert found(wild, CHAIN).sparsest_matching("imp") is None


def test_the_turning_point_is_where_all_sparser_tickets_are_below():
    """The first round is below by bad luck; the second is level again."""
    rounds = (
        rows_of("imp", 1, [0.86, 0.88], 0.2),
        rows_of("imp", 2, [0.90, 0.93], 0.36),
        rows_of("imp", 3, [0.80, 0.822], 0.488),
    )
    everything = found(DENSE, *rounds)
    assert everything.below_from("imp").round == 3
    assert everything.sparsest_not_below("imp").round == 2
    assert found(DENSE, *rounds[:2]).below_from("imp") is None


@pytest.mark.parametrize(
    ("reinit", "sentence"),
    [
        ([0.85, 0.872], "IMP, other weights: surely below the dense network from here on: 80.00% kept"),
        ([0.85, 0.95], "IMP, other weights: the sparsest ticket is not surely below the dense network"),
    ],
)
def test_turning_points(reinit, sentence):
    lines = "\n".join(turning_points(found(DENSE, CHAIN, rows_of("imp-reinit", 1, reinit, 0.2))))
    assert "The best ticket: 80.00% kept (round 1, +1.00 over dense)" in lines
    assert sentence in lines


def test_the_tables_say_what_was_found():
    everything = found(DENSE, CHAIN, CS)
    *_, third = rounds_table(everything)
    assert third == "| 3 | 51.20% | 85.50 ± 0.71 | 11 |"
    *_, first, second = continuous_table(everything)
    head = "| CS, parallel, start 0 | 64.00% | 92.50 ± 0.71 |"
    assert first == f"{head} +1.50 ± 6.35 | 8, 8 s | 7.5 | 64.00%, 91.00 | 64.00%, 91.00 |"
    assert second.startswith(
        "| CS, parallel, start -0.01 | 40.00% | 81.50 ± 2.12 | none | 8, 8 s | never |"
    )
    lines = {line.split(" | ")[0]: line for line in matching_table(everything)}
    assert lines["| IMP"] == (
        "| IMP | IMP, round 2 | 64.00% | +0.00 | 7.5, 8 s | IMP, round 1, 80.00% kept, 4, 4 s | "
        "IMP, round 3, 51.20% kept |"
    )
    assert TicketSearch().methods[0] == "imp"
