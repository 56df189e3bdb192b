"""Many methods compared at once: Holm's intervals, what methods cost, and the verdicts."""

import numpy as np
import pytest
from scipy import stats

from experiments.methods.point import Point
from experiments.referee import EXPERIMENT, Referee, summary
from experiments.report.costs import Costs
from experiments.report.holm import holm_estimates, number_tested
from experiments.report.paired import estimate
from experiments.report.referee import control_table, referee
from experiments.report.referee_figure import referee_figure
from tests.experiments.made_up import EPOCHS, STEPS, results, row, several

WOBBLE = stats.zscore(np.random.default_rng(0).normal(size=8), ddof=1)


def shifted(mean, spread=1.0):
    """Eight values of this mean and standard deviation."""
    return mean + spread * WOBBLE


def p_value(values):
    return stats.ttest_1samp(values, 0).pvalue


def test_a_single_comparison_is_not_corrected():
    values = shifted(1.0)
    (found,) = holm_estimates({"one": values}).values()
    expected = estimate({(seed, 0.9): value for seed, value in enumerate(values)})
    assert (found.mean, found.half_width) == pytest.approx((expected.mean, expected.half_width))


def test_intervals_leave_out_0_where_holm_rejects():
    """p-values 0.0002, 0.017, 0.03 and 0.5: with thresholds 0.0125, 0.0167, ... the second ends it."""
    means = {"a": 2.5, "b": 1.1, "c": 0.95, "d": 0.25}
    values = {name: shifted(mean) for name, mean in means.items()}
    ps = [p_value(values[name]) for name in "abcd"]
    assert ps[0] < 0.05 / 4
    assert 0.05 / 3 < ps[1] < ps[2] < 0.05
    found = holm_estimates(values)
    assert [found[name].sign for name in "abcd"] == [1, 0, 0, 0]
    level = stats.t.ppf(1 - 0.05 / 3 / 2, 7) / np.sqrt(8)
    assert [found[name].half_width for name in "bcd"] == pytest.approx([level] * 3)
    assert found["a"].half_width == pytest.approx(stats.t.ppf(1 - 0.05 / 4 / 2, 7) / np.sqrt(8))


def test_what_has_no_interval_does_not_count():
    """A diverged seed is left out; of one or two seeds there is a mean alone."""
    values = {"a": np.append(shifted(1.0), np.nan), "one": np.array([3.0]), "none": np.array([np.nan])}
    values["two"] = np.array([3.0, 3.1])
    found = holm_estimates(values)
    alone = holm_estimates({"a": shifted(1.0)})["a"]
    assert found["a"] == alone
    assert (found["one"].mean, found["one"].seeds, found["none"].seeds) == (3.0, 1, 0)
    assert (found["two"].points, found["two"].sign) == ("+305.00", 0)
    assert number_tested(found) == 1
    constant = holm_estimates({"same": np.zeros(3), "other": np.full(3, 0.5)})
    assert (constant["same"].sign, constant["other"].sign) == (0, 1)


def trained(point, seconds=1.0, epochs=range(1, EPOCHS + 1), **more):
    return [row(point, epoch=epoch, seconds=seconds, **more) for epoch in epochs]


def test_costs_are_what_comes_on_top_of_one_training():
    search = Point("k-starts", sparsity_target=0.9)
    after = Point("magnitude-after-training", sparsity_target=0.9)
    snip = Point("snip", sparsity_target=0.9)
    rows = [
        *trained(Point("dense", sparsity_target=0.0), seconds=3.0),
        *trained(search),
        *trained(snip),
        *trained(Point("rigl-snip", sparsity_target=0.9)),
        *trained(after),
        *(r for i in range(8) for r in trained(search._replace(candidate=i), 0.5, range(1, 3))),
    ]
    found = results(rows)
    found.table.attrs["facts"] |= {"scored_examples": 64, "mask_seconds": {"snip": 0.25}}
    costs = Costs(found)
    assert costs.of("k-starts") == pytest.approx((8 * 2, 8 * 2 * 0.5))
    assert costs.of("magnitude-after-training") == pytest.approx((EPOCHS, EPOCHS * 3.0))
    assert costs.of("rigl-snip") == costs.of("snip")
    batch = found.settings["recipe"]["batch_size"]
    assert costs.of("snip") == pytest.approx((64 / (STEPS * batch), 0.25))


def test_the_first_epoch_s_compilation_is_no_cost():
    search = Point("k-starts", sparsity_target=0.9)
    rows = trained(search)
    for i in range(8):
        rows += trained(search._replace(candidate=i), 0.5, [1, 2])
    rows[EPOCHS]["seconds"] = 0.5
    assert Costs(results(rows)).of("k-starts").seconds == pytest.approx(8.0)


@pytest.fixture
def judged():
    """SNIP is surely best; K-starts hardly differs from it and random is below; one has diverged."""
    noise = 0.001 * WOBBLE
    search = several("k-starts", list(0.9001 + noise[::-1]))
    return results(
        several("random", list(0.8 + noise))
        + several("snip", list(0.9 + 2 * noise))
        + several("magnitude", list(0.7 + noise))
        + search
        + several("grasp", [float("nan")] * 8, failed=True)
    )


def test_verdicts(judged):
    found = referee(judged)
    assert found.best == {0.9: "k-starts"}
    # SNIP costs nothing that was measured here; both are level, and random is no longer.
    assert set(found.level_with_best(0.9)) == {"k-starts", "snip"}
    assert {m: g.sign for (m, _), g in found.over_random.items()} == {
        "snip": 1,
        "magnitude": -1,
        "k-starts": 1,
        "grasp": 0,
    }
    assert found.ranked(0.9) == ["k-starts", "snip", "random", "magnitude", "grasp"]


def test_the_summary_says_whom_one_would_pick(judged):
    text = "\n".join(summary(judged, None))
    assert "- At sparsity 0.9: **K-starts**, not told apart from: SNIP." in text
    assert ". The cheapest of these: SNIP; K-starts." in text
    assert (
        "Surely above random pruning at every sparsity: SNIP; K-starts. At no sparsity surely above "
        "it: Magnitude; GraSP." in text
    )
    assert "| GraSP | diverged |" in text
    assert "corrected by Holm for 3 comparisons with random pruning and 3 with the best" in text
    assert set(EXPERIMENT.figures(judged)) == {"accuracy", "referee"}


def test_what_lies_far_from_the_others_stands_at_the_edge_of_the_figure_as_a_number():
    near = (
        "snip",
        "grasp",
        "synflow",
        "force",
        "px",
        "phew",
        "prospr",
        "lamp",
        "rigl",
        "set",
        "magnitude",
    )
    means = {"random": 0.8, "edge-popup": 0.4}
    means |= {name: 0.81 + 0.003 * place for place, name in enumerate(near)}
    rows = [one for name, mean in means.items() for one in several(name, [mean, mean + 0.01, mean])]
    (axes,) = referee_figure(referee(results(rows))).axes
    low, high = axes.get_xlim()
    assert -4 < low < 0 < 4 < high < 8
    assert [text.get_text() for text in axes.texts] == ["-40"]


def merged_runs():
    """Runs made one: SNIP and, of which one seed has diverged, magnitude at one of two sparsities."""
    found = [0.8 + 0.001 * WOBBLE, 0.7 + 0.001 * WOBBLE]
    rows = [r for s, values in zip((0.5, 0.9), found, strict=True) for r in (
        several("random", list(values), sparsity=s) + several("synflow", list(values + 0.1), sparsity=s)
    )]  # fmt: skip
    rows += several("snip", list(0.75 - 0.001 * WOBBLE))
    rows += several("grasp", [float("nan")] * 8, failed=True)
    return results(rows, sparsities=[0.5, 0.9])


def test_a_method_has_no_place_at_sparsities_at_which_it_was_not_run():
    found = referee(merged_runs())
    assert found.run == {0.5: ["random", "synflow"], 0.9: ["random", "snip", "grasp", "synflow"]}
    text = "\n".join(summary(merged_runs(), None))
    _, first, second = text.split("## Sparsity ")
    assert "SNIP" not in first
    assert "| SNIP | 75.00 ± " in second
    assert "diverged" not in first
    assert "| GraSP | diverged | diverged | diverged |" in second
    assert "corrected by Holm for 3 comparisons with random pruning and 3 with the best" in text
    assert (
        "Surely above random pruning at every sparsity at which they were run: SNIP; SynFlow. At no "
        "sparsity surely above it: GraSP." in text
    )
    assert EXPERIMENT.figures(merged_runs()).keys() == {"accuracy", "referee"}


def test_a_control_that_was_not_run_at_a_sparsity_leaves_its_cell_empty():
    found = results(
        several("rigl", [0.9] * 3)
        + several("random-erk", [0.8] * 3)
        + several("set", [0.9] * 3, sparsity=0.5)
        + several("snip", [0.9] * 3)
        + several("rigl-snip", [float("nan")] * 3, failed=True),
        sparsities=[0.5, 0.9],
    )
    assert control_table(found)[2:] == [
        "| RigL over Random, ERK |  | **+10.00 ± 0.00** |",
        "| RigL from SNIP over SNIP |  | diverged |",
    ]


NAN = float("nan")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (several("random", [NAN] * 3, failed=True), "every network diverged."),
        (several("random", [0.8, 0.81, 0.82]), "Random alone was trained there."),
        # No seed is in both.
        (
            several("random", [0.8, 0.81, 0.82]) + several("snip", [NAN] * 3 + [0.9] * 3)[3:],
            "**SNIP**, not told apart from: Random.",
        ),
        # The mean of the only network that did not diverge is no better than a whole row of means.
        (
            several("random", [0.8, 0.81, 0.82]) + several("snip", [0.9, NAN, NAN]),
            "**Random**, not told apart from: SNIP.",
        ),
    ],
)
def test_only_what_was_compared_is_surely_below(rows, said):
    assert f"- At sparsity 0.9: {said}" in "\n".join(summary(results(rows), None))


SURE = several("snip", [0.8, 0.81, 0.82, 0.83, 0.84])
BETTER = several("synflow", [0.9501, 0.96, 0.97, 0.98, NAN])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "**SNIP** (surely above it, of 4 seeds: SynFlow). The cheapest of these: SNIP."),
        (
            several("random", [0.7, 0.71, 0.72, 0.7301, 0.74]),
            "**SNIP** (surely above it, of 4 seeds: SynFlow), surely above all others.",
        ),
        (
            several("magnitude", [0.9, 0.7, 0.9, 0.7, 0.7]),
            "**SNIP** (surely above it, of 4 seeds: SynFlow), not told apart from: Magnitude.",
        ),
    ],
)
def test_what_fewer_seeds_have_may_be_surely_above_the_best(more, said):
    """The last seed of SynFlow has diverged, so that it cannot be the best."""
    text = "\n".join(summary(results(SURE + BETTER + more), None))
    assert f"- At sparsity 0.9: {said}" in text
    assert "| SynFlow | 96.50 ± 1.29 (4 of 5 seeds) |" in text
    assert "The best is the one of the highest mean, of the methods that the most seeds have, in" in text


def test_the_best_of_all_means_is_called_so(judged):
    text = "\n".join(summary(judged, None))
    assert "The best is the one of the highest mean in the same runs, so that" in text


@pytest.mark.parametrize(("seeds", "said"), [(1, "1 seed"), (2, "2 seeds")])
def test_few_seeds_tell_nothing(seeds, said):
    found = results(several("random", [0.8, 0.801][:seeds]) + several("snip", [0.9] * seeds))
    text = "\n".join(summary(found, None))
    assert f"- At sparsity 0.9: SNIP, by {said}: too few seeds to tell." in text
    assert "Which are above random pruning: too few seeds to tell." in text
    assert "paired by seed, without intervals: too few seeds to tell." in text
    assert "surely" not in text.lower()
    gap = "10.00" if seeds == 1 else "9.95"
    assert f" | +{gap} |  | " in text
    assert f" |  | -{gap} | " in text


def test_a_method_stands_beside_what_differs_in_one_thing(judged):
    """RigL holds the mask of random-erk and moves it; two comparisons, of which one is sure."""
    found = results(
        several("rigl", list(0.9 + 0.001 * WOBBLE))
        + several("random-erk", list(0.8 - 0.001 * WOBBLE))
        + several("set", list(0.8 + 0.1 * WOBBLE))
    )
    lines = control_table(found)
    assert lines[2].startswith("| RigL over Random, ERK | **+10.00 ± 0.")
    assert lines[3].startswith("| SET over Random, ERK | +0.00 ± 8.")
    assert control_table(judged) == []


def test_methods_that_find_their_own_sparsity_have_no_place_in_it():
    with pytest.raises(ValueError, match="'supermask' has no sparsity to choose"):
        Referee(methods=("random", "supermask"))


@pytest.mark.parametrize(
    ("other", "said"), [("rare-gems", ", 0.01 (of gates 3), which"), ("snip", ", 0.01, which")]
)
def test_the_rate_of_gates_is_said_where_a_method_has_them(other, said):
    rows = several("random", [0.1, 0.2, 0.3]) + several(other, [0.2, 0.3, 0.4])
    assert said in "\n".join(summary(results(rows, gate_learning_rate=3.0), None))
