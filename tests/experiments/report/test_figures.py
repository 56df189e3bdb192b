"""Figures are made of whatever a run has: one sparsity, one seed, no baseline, diverged networks."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.compare import EXPERIMENT as COMPARE
from experiments.methods.point import Point
from experiments.methods.registry import METHODS, find_method, in_rounds, to_sparsities
from experiments.methods.scored import ABLATIONS
from experiments.missing_the_mark import EXPERIMENT as MARK
from experiments.pruning_methods import EXPERIMENT as METHODS_AT_EQUAL_EPOCHS
from experiments.report.ablations import seeds_figure
from experiments.report.accuracy import MOST_IN_A_PANEL, accuracy_figure, kept_axis
from experiments.report.coverage import coverage_figure
from experiments.report.dots import dots_figure
from experiments.report.effective import compression_figure
from experiments.report.sparsities import sparsity_figure
from experiments.report.steps import steps_figure
from experiments.report.table import Results, as_table, load
from experiments.ticket_search import EXPERIMENT as TICKETS
from tests.experiments.made_up import results, row, several


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def table(few):
    return load(few)


@pytest.fixture(scope="module")
def whole_table(everything):
    return load(everything)


def only(table, *methods, **changes):
    """The results of some methods of a run, with changed columns."""
    chosen = table[table["method"].isin({"dense", "cs-search", *methods})].assign(**changes)
    settings = table.attrs["settings"] | {"methods": list(methods), "ablations": list(ABLATIONS)}
    chosen.attrs = table.attrs | {"settings": settings}
    return Results(chosen)


ASKED = {
    "no baseline": ("snip", "dissipating-gradients"),
    "one method": ("random",),
    "own sparsities alone": ("supermask", "continuous-sparsification"),
    "a search": ("k-starts",),
}


EXPERIMENTS = {"c": COMPARE, "m": MARK, "p": METHODS_AT_EQUAL_EPOCHS}


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize("methods", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_run_of_one_seed_and_one_sparsity_has_figures_and_a_summary(table, name, methods, diverged):
    check_figures(table, EXPERIMENTS[name], methods, diverged)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_so_has_a_run_of_all_methods(whole_table, name):
    check_figures(whole_table, EXPERIMENTS[name], to_sparsities(), diverged=False)


def check_figures(table, experiment, methods, diverged):
    found = only(table, *methods, **({"failed": True} if diverged else {}))
    assert experiment.figures(found)
    summary = "\n".join(experiment.summary(found, None))
    assert ("**Diverged**" in summary) == diverged
    at_sparsities = [m for m in methods if METHODS[m].at_sparsities and m != "k-starts"]
    for method in () if experiment is MARK else at_sparsities:
        assert METHODS[method].look.label in summary


@pytest.mark.parametrize("methods", [in_rounds(), ("imp",), ("cs-sequential",), ("imp-reinit",)])
def test_tickets_have_figures_and_a_summary(table, methods):
    assert set(TICKETS.figures(only(table, *methods))) == {"tickets", "cost"}
    summary = "\n".join(TICKETS.summary(only(table, *methods), None))
    assert "one seed cannot tell" in summary
    assert ("## Continuous Sparsification, and IMP" in summary) == ("cs-sequential" in methods)


@pytest.mark.slow
def test_of_many_methods_each_has_its_look_in_a_panel_of_few(whole_table):
    panels = accuracy_figure(only(whole_table, *to_sparsities()), baseline="random").axes[::2]
    legends = [axes.get_legend_handles_labels()[1] for axes in panels]
    assert max(map(len, legends)) <= MOST_IN_A_PANEL + 2  # The dense network, and the baseline.
    labels = {label for legend in legends for label in legend}
    assert labels == {find_method(name).look.label for name in ("dense", *to_sparsities())}


def test_a_method_that_is_rewound_to_a_pruning_step_is_drawn_once():
    """Its networks are pruned at that step too, but it is no method that prunes there."""
    rows = several("snip", [0.5]) + several("snip", [0.6], step=5)
    rows += [*several("lottery-ticket-rewinding", [0.7], step=5), row(Point("dense"), 0.9, sparsity=0)]
    axes, *_ = steps_figure(results(rows)).axes
    _, names = axes.get_legend_handles_labels()
    assert sorted(names) == ["Dense", "Lottery-ticket rewinding", "SNIP"]


def test_the_figure_of_one_sparsity_shows_every_seed():
    rows = several("snip", [0.5, 0.6]) + several("snip", [0.4, 1.0], variant="reinit")
    rows += several("random", [0.2, 0.001])
    (axes,) = seeds_figure(results(rows)).axes
    drawn = np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() == "."])
    np.testing.assert_allclose(np.sort(drawn), [0.01, 0.2, 0.4, 0.5, 0.6, 0.999])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Random", "SNIP"]


@pytest.mark.parametrize("values", [(0.982, 0.986), (1.0, 1.0), (0.0, 0.5), (float("nan"), 0.9)])
def test_the_figure_of_one_sparsity_has_an_axis_whatever_the_accuracies(values):
    dense, random = values
    rows = [row(Point("dense", sparsity_target=0.0), dense), *several("random", [random])]
    (axes,) = seeds_figure(results(rows)).axes
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2
    drawn = np.concatenate([np.atleast_1d(line.get_ydata()) for line in axes.lines])
    assert np.all((low <= drawn) & (drawn <= high) | np.isnan(drawn))


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize("effective", [0.9, 0.95, 1.0])
@pytest.mark.filterwarnings("error")
def test_what_is_connected_of_one_sparsity_has_axes(sparsity, effective):
    rows = several("snip", [0.5, 0.6], sparsity=sparsity, effective_sparsity=effective)
    (axes,) = compression_figure(results(rows, sparsities=[sparsity])).axes
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    assert 1 / (1 - sparsity) / 2 < low < 1 / (1 - sparsity) < high < 2 / (1 - sparsity)


def test_errors_of_single_networks_stand_on_a_log_axis_that_runs_towards_better_ones():
    (axes,) = dots_figure(results(several("snip", [0.5, 0.9]), sparsities=[0.9]), [("snip", "none")]).axes
    dots, mean = axes.lines
    np.testing.assert_allclose(dots.get_xdata(), [0.5, 0.1])
    np.testing.assert_allclose(mean.get_xdata(), [0.3])
    worst, best = axes.get_xlim()
    assert axes.get_xscale() == "log"
    assert worst > 0.5 > 0.1 > best
    assert axes.get_xlabel() == "final test error (log axis, better is right)"


@pytest.mark.parametrize("kept", [[0.02], [0.02, 0.02001], [0.044, 0.04401], [0.5, 0.01]])
def test_ticks_of_the_weights_kept_tell_neighbours_apart(kept):
    figure, axes = plt.subplots()
    axes.plot(kept, kept, "o")
    kept_axis(axes)
    figure.canvas.draw()
    high, low = axes.get_xlim()
    shown = [tick.get_text() for tick in axes.get_xticklabels() if low <= tick.get_position()[0] <= high]
    assert shown
    assert len(set(shown)) == len(shown)


def test_ticks_of_the_coverage_tell_neighbours_apart():
    rows = several("random-erk", [0.5, 0.6], explored=None)
    rows += [one | {"explored": 0.1 + 0.01 * one["seed"]} for one in several("rigl", [0.7, 0.8, 0.9])]
    (axes,) = coverage_figure(results(rows)).axes
    axes.figure.canvas.draw()
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(ticks)) == len(ticks) > 3
    assert {"10%", "11%"} <= set(ticks)


def test_only_what_is_known_to_have_kept_no_more_is_drawn_with_what_it_keeps():
    """Gradual magnitude pruning began with all weights, and so did the trained network."""
    still = ("random-erk", "gradual-magnitude", "magnitude-after-training")
    rows = [one for method in still for one in several(method, [0.5, 0.6], explored=None)]
    rows += several("rigl", [0.7, 0.8], explored=0.3)
    (axes,) = coverage_figure(results(rows)).axes
    assert axes.get_legend_handles_labels()[1] == ["Random, ERK", "RigL"]


def legend_of(axes):
    handles, names = axes.get_legend_handles_labels()
    return names, [handle.get_color() for handle in handles]


def test_settings_and_sparsities_of_all_methods_have_a_name_and_a_colour_of_their_own():
    def ending(point, sparsity):
        return [row(point, epoch=epoch, sparsity=sparsity * epoch / 2) for epoch in (1, 2)]

    rows = [
        *(one for value in (0.1, 0.2) for one in ending(Point("dissipating-band", setting=value), value)),
        *(one for value in (0.1, -0.5) for one in ending(Point("supermask", setting=value), 0.5)),
        *ending(Point("gradual-magnitude", sparsity_target=0.5), 0.5),
        *(one for s in (0.5, 0.9) for one in ending(Point("rigl", sparsity_target=s), s)),
    ]
    own, given = sparsity_figure(results(rows, sparsities=[0.5, 0.9])).axes
    names, colours = legend_of(own)
    band, mask = "Dissipating gradients, band", "Supermask"
    assert names == [f"{band} 0.1", f"{band} 0.2", band, f"{mask} -0.5", f"{mask} 0.1", mask]
    assert len({colour for colour, name in zip(colours, names, strict=True) if name[-1].isdigit()}) == 4
    # The same sparsity has one colour, whoever has it.
    assert legend_of(given)[0] == ["0.5", "Gradual magnitude", "0.9", "RigL"]
    lines = [line for line in given.lines if len(line.get_xdata())]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()


def test_a_table_is_in_the_order_of_legends():
    rows = several("synflow", [0.5]) + several("random", [0.5]) + [row(Point("dense"), sparsity=0)]
    assert list(as_table(rows)["method"]) == ["random", "synflow", "dense"]
