"""Every method of the registry, trained on a small grid: what its rows must say; fast tests see a few."""

import functools
import re
from collections import defaultdict

import numpy as np
import pytest

import pruning
from experiments.compare import Compare
from experiments.dynamic_sparse_training import DynamicSparseTraining
from experiments.effective_sparsity import EffectiveSparsity
from experiments.layer_collapse import LayerCollapse
from experiments.layer_fractions import LayerFractions
from experiments.methods.dynamic import Dynamic
from experiments.methods.method import When
from experiments.methods.point import Point
from experiments.methods.ranking import Ranking
from experiments.methods.registry import METHODS, find_method, in_order, in_rounds, scored, to_sparsities
from experiments.methods.scored import ABLATIONS
from experiments.methods.searched import KStartsLike, Searching, searches_of
from experiments.methods.straight_through import EdgePopup
from experiments.missing_the_mark import MissingTheMark
from experiments.pruning_methods import PruningMethods
from experiments.referee import NAMES, Referee
from experiments.report.table import as_rows, load
from experiments.sparse_starts import SparseStarts
from experiments.ticket_search import TicketSearch
from tests.experiments.everything import ABLATED, EPOCH, FEW, Everything, by_name, rows_of

LAYERS = (64 * 300, 300 * 100, 100 * 10)
SIZE, UNITS = sum(LAYERS), 300 + 100 + 10
COMBINED = "k-starts+dissipating-gradients"


BOTH_RUNS = pytest.mark.parametrize("run", ["few", pytest.param("everything", marks=pytest.mark.slow)])


@pytest.fixture
def path(request):
    """The run that is asked for, or that has the method of the test."""
    asked = getattr(request.node, "callspec", None)
    asked = asked.params if asked else {}
    return request.getfixturevalue(
        asked.get("run", "few" if asked.get("name", "random") in FEW else "everything")
    )


@functools.cache
def read(path):
    return as_rows(load(path)), rows_of(path)


@pytest.fixture
def rows(path):
    return read(path)[0]


@pytest.fixture
def final(path):
    return read(path)[1]


def at(method, variant="none", step=None):
    """Where the method prunes by itself, or at a step."""
    step = method_step(method, variant) if step is None else step
    return Point(method, variant, step, sparsity_target=0.9)


def method_step(method, variant):
    if method == "lottery-ticket-rewinding" and variant != "reinit":
        return 3
    return 2 * EPOCH if method == "magnitude-fine-tuned" else 0


def layers(row):
    return [row[f"kept['dense{number}']['kernel']"] for number in (1, 2, 3)]


def by_layer(method):
    """Whether each layer is given its sparsity, and rounds down by itself."""
    if isinstance(METHODS[method], Searching | Dynamic | EdgePopup):
        return not isinstance(METHODS[method], KStartsLike)
    ranking = scored()[method].ranking if method in scored() else None
    return isinstance(ranking, Ranking) and ranking.allocation is not None


def by_epoch(rows, method):
    found = [row for row in rows if row["method"] == method and row["candidate"] is None]
    return {row["epoch"]: row for row in found if row["variant"] == "none"}


# --- the registry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_definition_is_whole(method):
    assert METHODS[method.name] is find_method(method.name) is method
    assert method.functions
    assert set(method.functions) <= set(pruning.__all__)
    assert "20" in method.source  # A year.


@pytest.mark.parametrize("names", [to_sparsities(), in_rounds()])
def test_methods_that_may_share_a_figure_look_different(names):
    looks = [METHODS[name].look for name in names]
    assert len({look.label for look in looks}) == len(names)
    assert len({(look.colour.lower(), look.marker) for look in looks}) == len(names)
    assert len({look.colour.lower() for look in looks}) == len(names)


def test_names_have_one_order_and_one_kind():
    assert set(to_sparsities()) | set(in_rounds()) == set(METHODS)
    assert in_order(["synflow", "dense", "imp", "random"]) == ["random", "synflow", "imp", "dense"]
    assert {METHODS[name].when for name in scored()} == {When.BEFORE}


EXPERIMENTS = {
    Compare: to_sparsities(),
    PruningMethods: to_sparsities(),
    Referee: NAMES,
    DynamicSparseTraining: to_sparsities(),
    MissingTheMark: to_sparsities(),
    SparseStarts: to_sparsities(),
    LayerFractions: to_sparsities(),
    TicketSearch: in_rounds(),
    LayerCollapse: scored(),
    EffectiveSparsity: scored(),
}


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_an_experiment_takes_every_method_that_can_act_in_it(kind):
    for name in METHODS:
        if name in EXPERIMENTS[kind]:
            assert kind(methods=(name,)).methods == (name,)
        else:
            first = re.escape(next(iter(EXPERIMENTS[kind])))
            says = f"'{re.escape(name)}' .*, so it is not for this .*; the valid names are: {first}, "
            with pytest.raises(ValueError, match=says):
                kind(methods=(name,))


# --- what all have in common ----------------------------------------------------------------------


@pytest.mark.parametrize("name", by_name(METHODS))
def test_networks_are_finished_and_as_sparse_as_they_say(final, name):
    found = [row for point, row in final.items() if point.method == name and point.candidate is None]
    assert found
    for row in found:
        assert not row["failed"]
        assert 0 <= row["test_accuracy"] <= 1
        removed = SIZE - sum(layers(row))
        assert row["sparsity"] == pytest.approx(removed / SIZE, abs=1e-6)
        if row["sparsity_target"] is not None:
            # Each layer rounds down by itself, and of SRigL each unit.
            slack = UNITS if name == "srigl" else len(LAYERS) if by_layer(name) else 0
            if name == "snip-channels":  # The last layer, and a channel of each other.
                slack = LAYERS[-1] + 64 + 300
            allowed = pruning.pruned_count(row["sparsity_target"], SIZE)
            assert allowed - slack <= removed <= allowed


@BOTH_RUNS
def test_networks_train_to_the_end_from_where_they_begin(rows, run):
    first = defaultdict(set)
    for row in rows:
        first[row["member"]].add(row["epoch"])
    for member, epochs in first.items():
        searches = "candidate" in member
        later_round = member.startswith("successive-elimination") and "round-2" in member
        begins = 3 if "fine-tuned" in member else 2 if f"step-{EPOCH}" in member else 1
        if later_round:
            assert epochs in ({0}, {2}), member  # Half of them are eliminated.
            continue
        assert epochs == ({1} if searches else set(range(begins, 4))), member


# --- methods of one moment ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", by_name(n for n in ABLATED if set(METHODS[n].ablations) & set(ABLATIONS))
)
def test_ablations_keep_the_counts_of_layers_or_turn_them(final, name):
    unmodified = final[at(name)]
    early, variants = METHODS[name].when is When.BEFORE, {"shuffle", "reinit"}
    variants |= {"sparse-reinit"} if early else set()
    for variant in variants:
        ablated = final[at(name, variant)]
        assert layers(ablated) == layers(unmodified)
        assert ablated["test_loss"] != unmodified["test_loss"]
    if at(name, "invert") in final:
        inverted = final[at(name, "invert")]
        assert (layers(inverted) == layers(unmodified)) == by_layer(name)
        assert inverted["test_loss"] != unmodified["test_loss"]
    assert {point.variant for point in final if point.method == name} - {"none", "invert"} == variants
    has_scores = early and isinstance(METHODS[name].ranking, Ranking)
    assert ("invert" in METHODS[name].ablations) == has_scores


@pytest.mark.parametrize("name", by_name(n for n in ABLATED if n in scored()))
def test_methods_prune_at_later_steps_too(final, name):
    later = {point.pruned_at_step for point in final if point.method == name}
    assert later == ({0} if name == "snip-second-draw" else {0, 5, EPOCH})
    losses = {final[at(name, step=step)]["test_loss"] for step in later}
    assert len(losses) == len(later)


def test_one_shot_baselines_share_the_mask_of_the_trained_network(final):
    names = "magnitude-after-training", "lottery-ticket-rewinding"
    after, ticket = (final[at(name)] for name in names)
    assert layers(after) == layers(ticket)
    assert after["test_loss"] != ticket["test_loss"]


# --- searches, and what prunes while networks train -----------------------------------------------


@pytest.mark.parametrize("name", ["k-starts", COMBINED])
def test_the_fittest_candidate_goes_on(rows, name):
    """After the search's epoch its row is the winner's: it is the same network, trained again."""
    (search,) = searches_of(rows, name, 1)
    (best,) = search.rows[search.fittest("combined")]
    others = {
        row["test_loss"]
        for place, (row,) in enumerate(search.rows)
        if place != search.fittest("combined")
    }
    here = by_epoch(rows, name)[1]
    assert here["test_loss"] == pytest.approx(best["test_loss"], rel=1e-6)
    assert all(here["test_loss"] != pytest.approx(other, rel=1e-6) for other in others)
    assert here["sparsity"] == best["sparsity"]


def test_the_winner_may_be_trained_in_another_order(final):
    assert final[at("k-starts", "retrained")]["test_loss"] != final[at("k-starts")]["test_loss"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("gradual-magnitude", [0.9 * (1 - 0.5**3), 0.9, 0.9], marks=pytest.mark.slow),
        ("dissipating-gradients", [1 - 0.1**0.5, 0.9, 0.9]),
        ("random+dissipating-gradients", [1 - 0.1**0.5, 0.9, 0.9]),
        (COMBINED, [1 - 0.1**0.5, 0.9, 0.9]),
    ],
)
def test_sparsity_rises_on_the_schedule(rows, name, expected):
    found = by_epoch(rows, name)
    np.testing.assert_allclose([found[epoch]["sparsity"] for epoch in (1, 2, 3)], expected, atol=5e-5)


@pytest.mark.parametrize(
    "name", by_name(["continuous-sparsification", "supermask", "stochastic-supermask"])
)
def test_the_lower_gates_begin_the_sparser_the_network(final, name):
    settings = (-1.0, 1.0) if name.startswith("stochastic") else (-0.01, 0.02)
    low, high = (final[Point(name, setting=setting)]["sparsity"] for setting in settings)
    assert low > high


# --- tickets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["imp", "imp-continued", "imp-reinit", "learning-rate-rewinding"])
def test_a_round_removes_a_fraction_of_what_is_left(final, name):
    kept = SIZE
    for round in (1, 2):
        kept -= int(0.2 * kept)
        assert sum(layers(final[Point(name, round=round)])) == kept


def test_a_ticket_is_as_sparse_as_its_search(final):
    def sparsity(name, setting, round):
        return final[Point(name, setting=setting, round=round)]["sparsity"]

    for place in ((-0.01, 1), (0.02, 1)):
        assert sparsity("cs-parallel", *place) == sparsity("cs-search", *place)
    for place in ((0.0, 1), (0.0, 2)):
        assert sparsity("cs-sequential", *place) == sparsity("cs-search", *place)
    assert sparsity("cs-search", 0.0, 2) > sparsity("cs-search", 0.0, 1)


@BOTH_RUNS
def test_only_what_others_begin_with_is_kept(path, run):
    kept = {file.name.split("-seed")[0] for file in (path / "snapshots").iterdir()}
    searches = {f"cs-search-setting-{where}" for where in ("-0.01-round-1", "0.02-round-1")}
    searches |= {f"cs-search-setting-0.0-round-{round}" for round in (1, 2)}
    chains = {"imp-round-1", "learning-rate-rewinding-round-1"}
    if run == "everything":
        head = "successive-elimination-sparsity-0.9-round-1-candidate"
        searches |= {f"{head}-{place}" for place in range(4)}
    assert kept == {"dense-sparsity-0.0", "other-init"} | searches | chains


@BOTH_RUNS
def test_all_kinds_of_networks_are_in_the_run(final, run):
    methods = FEW if run == "few" else METHODS
    assert {point.method for point in final} == {*methods, "dense", "cs-search"}
    assert Everything().methods == (*METHODS,)
