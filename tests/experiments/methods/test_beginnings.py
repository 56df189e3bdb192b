"""Where networks begin: at which step, with whose weights and momentum, under which mask, by hand."""

import jax
import numpy as np
import optax
import pytest

import pruning
from experiments.methods.point import Need, Point, dense
from experiments.methods.registry import METHODS, scored
from experiments.methods.seeds import SeedKeys, seed_keys
from tests.experiments.everything import ABLATED, EPOCH, FEW, KNOBS

LAST = 3 * EPOCH


def at(method, variant="none", step=0):
    return Point(method, variant, step, sparsity_target=0.9)


def dense_at(networks, step):
    return networks.state(Need(dense(at("random")), step))


def masks_of(state):
    return jax.tree.map(np.asarray, pruning.get_masks(state.opt_state))


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_new_optimizer(state, step=0):
    """No momentum, and the schedule at the step."""
    assert int(state.step) == step
    counts = optax.tree.get_all_with_path(state.opt_state, "count")
    assert {int(count) for path, count in counts if "Schedule" in str(path)} <= {step}
    trace = optax.tree.get(state.opt_state, "trace")
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(trace))


def assert_same_momentum(*states):
    one, other = (optax.tree.get(state.opt_state, "trace") for state in states)
    assert np.any(one["dense1"]["kernel"])
    assert_equal(one, other)


@pytest.mark.parametrize("name", FEW)
def test_where_it_is_pruned_a_network_begins_with_zeros(networks, name):
    check_zeros(networks, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name in ABLATED or name not in scored()])
def test_so_it_does_with_every_method(all_networks, name):
    check_zeros(all_networks, name)


def check_zeros(networks, name):
    """Of all points of the method; of gates, the weights are whole and the gates decide."""
    for point in (p for p in networks.schedule.needs if p.method == name):
        state = networks.start(point)
        assert int(state.step) == networks.schedule.kind(point).first_step
        if isinstance(state.params, pruning.SoftMasked):
            continue
        masks = networks.population(networks.schedule.program(point)).masks(state)
        masked = pruning.apply_masks(state.params, jax.tree.map(np.asarray, masks))
        assert_equal(state.params, masked)


# --- which networks share what --------------------------------------------------------------------


def test_networks_of_a_seed_share_init_and_order_and_no_others(networks):
    for point in networks.schedule.needs:
        keys, member = seed_keys(point.seed), networks.member(point)
        order = keys.other_order if point.variant == "retrained" else keys.order
        assert member.init_key == keys.init
        assert member.order_key == order
    assert len({tuple(jax.random.key_data(k).tolist()) for s in range(3) for k in seed_keys(s)}) == 27
    assert SeedKeys._fields[:2] == ("init", "order")


def test_draws_of_weights_differ(networks):
    draws = [networks.initial(0, draw).params for draw in ("init", "other_init", "second_draw")]
    first = {float(draw["dense1"]["kernel"][0, 0]) for draw in [*draws, networks.initial(1).params]}
    assert len(first) == 4


# --- methods of one moment ------------------------------------------------------------------------


@pytest.mark.slow
def test_at_initialization_the_initial_weights_are_under_a_mask_of_many_rounds(all_networks):
    check_initial_weights(all_networks, "grasp-iterative")


@pytest.mark.parametrize("name", ["magnitude", "random", "snip"])
def test_at_initialization_the_initial_weights_are_under_the_mask(networks, name):
    check_initial_weights(networks, name)


def check_initial_weights(networks, name):
    seen = networks.seen(Need(dense(at(name)), 0))
    masks = networks.maker.masks(name, METHODS[name].ranking, seen, 0.9)
    state, initial = networks.start(at(name)), networks.initial(0)
    assert_equal(masks_of(state), masks)
    assert_equal(state.params, pruning.apply_masks(initial.params, masks))
    other = networks.start(at(name, "reinit")) if name != "random" else None
    if other is not None:
        there = networks.initial(0, "other_init").params
        assert_equal(other.params, pruning.apply_masks(there, masks))
        drawn = pruning.sparse_kaiming_normal(seed_keys(0).other_init, there, masks)
        fitting = networks.start(at(name, "sparse-reinit"))
        assert_equal(masks_of(fitting), masks)
        jax.tree.map(
            lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-6), fitting.params, drawn
        )
        shuffled = pruning.shuffle_masks(seed_keys(0).shuffle, masks)
        assert_equal(masks_of(networks.start(at(name, "shuffle"))), shuffled)


def test_inverting_keeps_the_other_end(networks):
    inverted = masks_of(networks.start(at("magnitude", "invert")))
    magnitudes = pruning.magnitude_scores(networks.initial(0).params)
    assert_equal(inverted, pruning.global_masks(pruning.invert_scores(magnitudes), 0.9))


def test_at_a_later_step_the_network_of_that_step_goes_on_with_its_momentum(networks):
    there = dense_at(networks, 5)
    state = networks.start(at("magnitude", step=5))
    masks = pruning.global_masks(pruning.magnitude_scores(there.params), 0.9)
    assert_equal(state.params, pruning.apply_masks(there.params, masks))
    assert_same_momentum(state, there)


# --- magnitude after training ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step", "scored_at"),
    [
        ("magnitude-fine-tuned", 2 * EPOCH, 2 * EPOCH),
        ("magnitude-after-training", 0, LAST),
        ("lottery-ticket-rewinding", 3, LAST),
    ],
)
def test_trained_weights_are_ranked_and_a_network_goes_on(networks, name, step, scored_at):
    trained, state = dense_at(networks, scored_at), networks.start(at(name, step=step))
    masks = pruning.global_masks(pruning.magnitude_scores(trained.params), 0.9)
    goes_on = trained if name == "magnitude-after-training" else dense_at(networks, step)
    assert_equal(masks_of(state), masks)
    assert_equal(state.params, pruning.apply_masks(goes_on.params, masks))
    if name == "magnitude-after-training":
        assert_new_optimizer(state)
    else:
        assert_same_momentum(state, goes_on)


def test_other_weights_begin_at_step_0_under_the_rewound_mask(networks):
    for name in ("magnitude-after-training", "lottery-ticket-rewinding"):
        state = networks.start(at(name, "reinit"))
        masks = pruning.global_masks(pruning.magnitude_scores(dense_at(networks, LAST).params), 0.9)
        there = networks.initial(0, "other_init").params
        assert_equal(state.params, pruning.apply_masks(there, masks))
        assert int(state.step) == 0


# --- searches -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_candidates_have_the_masks_that_the_library_draws(networks):
    initial, key = networks.initial(0).params, seed_keys(0).candidates
    for name, sparsity in (("k-starts", 0.9), ("k-starts+dissipating-gradients", 1 - 0.1**0.5)):
        expected = pruning.candidate_masks(key, initial, k=KNOBS.search.k, sparsity=np.float32(sparsity))
        for candidate in range(2):
            state = networks.start(at(name)._replace(candidate=candidate))
            drawn = jax.tree.map(lambda leaf, c=candidate: leaf[c], expected)
            assert_equal(masks_of(state), drawn)


# --- tickets --------------------------------------------------------------------------------------


def test_a_round_takes_its_mask_from_the_round_before_and_its_weights_from_where_it_should(networks):
    chains = {"imp": "imp", "imp-reinit": "imp", "imp-continued": "learning-rate-rewinding"}
    chains["learning-rate-rewinding"] = "learning-rate-rewinding"
    for name, chain in chains.items():
        before = networks.state(Need(Point(chain, round=1), LAST))
        magnitudes = pruning.magnitude_scores(before.params)
        masks = pruning.prune_remaining(magnitudes, masks_of(before), 0.2)
        weights, step = dense_at(networks, 3), 3
        if name == "imp-reinit":
            weights, step = networks.initial(0, "other_init"), 0
        elif name == "learning-rate-rewinding":
            weights, step = before, 0
        state = networks.start(Point(name, round=2))
        assert_equal(masks_of(state), masks)
        assert_equal(state.params, pruning.apply_masks(weights.params, masks))
        assert_new_optimizer(state, step)


def test_what_is_pruned_stays_zero(networks):
    ended = networks.state(Need(Point("imp", round=1), LAST))
    assert_equal(ended.params, pruning.apply_masks(ended.params, masks_of(ended)))
    assert pruning.sparsity(masks_of(ended)) == pytest.approx(0.2, abs=1e-4)


def test_tickets_of_gates_are_rewound_to_an_early_step_of_their_own_search(networks):
    search = Point("cs-search", setting=-0.01, round=1)
    early, end = (networks.state(Need(search, step)) for step in (3, LAST))
    state = networks.start(search._replace(method="cs-parallel"))
    masks = pruning.ticket_masks(end.params.gates)
    assert_equal(masks_of(state), masks)
    assert_equal(state.params, pruning.apply_masks(early.params.params, masks))
    assert_new_optimizer(state, 3)
    moved = np.abs(
        early.params.params["dense1"]["kernel"] - dense_at(networks, 3).params["dense1"]["kernel"]
    )
    assert 0 < moved.max() < 0.1


def test_a_second_round_goes_on_with_the_weights_and_the_papers_gates(networks):
    first = Point("cs-search", setting=0.0, round=1)
    end, begun = networks.state(Need(first, LAST)), networks.start(first._replace(round=2))
    assert_equal(begun.params.params, end.params.params)
    assert_equal(begun.params.gates, pruning.next_round(end.params.gates, 200.0, initial=0.0))
    assert begun.step == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(begun.opt_state))


@pytest.mark.parametrize("what", ["gates", "weights"])
def test_a_search_that_has_diverged_is_no_ticket(networks, what, monkeypatch):
    point = Point("cs-parallel", setting=-0.01, round=1)
    assert METHODS["cs-parallel"].why_useless(point, networks) is None
    end = networks.state(Need(point._replace(method="cs-search"), LAST))
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), end.params)
    params = end.params._replace(**{"params" if what == "weights" else "gates": broken[what == "gates"]})
    monkeypatch.setattr(networks, "state", lambda need: end._replace(params=params))
    assert "has diverged" in METHODS["cs-parallel"].why_useless(point, networks)
