"""Relatives of K-starts: other candidates, elimination and evolution, as the library has them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from experiments.methods.elimination import ELIMINATED, epochs_of_search
from experiments.methods.point import Point
from experiments.methods.seeds import seed_keys
from train.populations.population import stack_members

pytestmark = pytest.mark.slow
NAMES = ("successive-elimination", "evolved-masks", "k-starts-erk", "k-starts-synflow")
ELIMINATION, EVOLVED, ERK, LIKE_SYNFLOW = (Point(name, sparsity_target=0.9) for name in NAMES)


@pytest.fixture
def networks(all_networks):
    return all_networks


def masks_at_start(networks, point):
    return jax.device_get(pruning.get_masks(networks.start(point).opt_state))


def layer_counts(masks):
    return [int(leaf.sum()) for leaf in jax.tree.leaves(masks)]


def same(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_elimination_is_the_librarys(networks):
    """It trains each candidate an epoch at a time, the same way, and finds the same winner."""
    first = ELIMINATION._replace(candidate=0, round=1)
    population, member = networks.population(ELIMINATED), networks.member(first)
    states = {}

    def train_fn(params, masks, epoch):
        """Goes on from the whole state of the candidate, which is known by its masks."""
        name = np.asarray(jax.tree.leaves(masks)[0]).tobytes()
        state = states.get(name)
        if state is None:
            state = networks.begin(first, params, networks.initial(0).batch_stats, masks)
        before = optax.tree.get(state.opt_state, "gradient_sums")
        (ended,) = population.train(
            stack_members([member]),
            states=stack_members([state]),
            first_step=epoch * networks.study.steps_per_epoch,
            epochs=epoch + 1,
        )
        state = states[name] = jax.tree.map(lambda leaf: leaf[0], ended.states)
        sums = optax.tree.get(state.opt_state, "gradient_sums")
        return state.params, jax.tree.map(jnp.subtract, sums, before)

    with pytest.MonkeyPatch.context() as patch:
        # The population is a program of its own, which no vmap goes through.
        patch.setattr(pruning.search.elimination, "map_candidates", one_by_one)
        found = pruning.successive_elimination(
            seed_keys(0).candidates,
            networks.initial(0).params,
            train_fn,
            k=4,
            sparsity=0.9,
            fitness=pruning.combined_fitness,
        )
    assert same(found.masks, masks_at_start(networks, ELIMINATION))


def one_by_one(function, stacked):
    count = len(jax.tree.leaves(stacked)[0])
    results = [function(jax.tree.map(lambda leaf, i=i: leaf[i], stacked)) for i in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def test_half_of_the_candidates_go_on(networks):
    rows = [networks.rows(ELIMINATION._replace(candidate=i, round=2))[-1] for i in range(4)]
    gone = [row.get("untrained_because") for row in rows]
    assert gone.count("it was eliminated after epoch 1") == gone.count(None) == 2
    assert [epochs_of_search(k) for k in (1, 2, 3, 4, 16)] == [1, 1, 2, 2, 4]


def test_the_fitter_half_of_a_generation_survives_and_breeds(networks):
    """Without mutation a child has nothing that no parent has, and all that both have."""
    first, second = (
        [masks_at_start(networks, EVOLVED._replace(round=r, candidate=i)) for i in range(4)]
        for r in (1, 2)
    )
    rows = [networks.rows(EVOLVED._replace(round=1, candidate=i))[0] for i in range(4)]
    weight, gradient = (
        jnp.float32([row[f"fitness_{name}"] for row in rows]) for name in ("weight", "gradient")
    )
    order = np.argsort(-pruning.add_standardised(weight, gradient))
    parents = [first[place] for place in order[:2]]
    assert all(same(one, other) for one, other in zip(second, parents, strict=False))
    for child in second[2:]:
        assert layer_counts(child) == layer_counts(first[0])
        for leaf, one, other in zip(*map(jax.tree.leaves, (child, *parents)), strict=True):
            assert not (leaf & ~(one | other)).any()
            assert not (one & other & ~leaf).any()
    assert any(same(masks_at_start(networks, EVOLVED), masks) for masks in second)


def test_candidates_have_the_layers_of_an_allocation_or_of_another_mask(networks):
    params = networks.initial(0).params
    erk = pruning.random_masks(jax.random.key(5), params, 0.9, allocation=pruning.erdos_renyi_kernel)
    assert layer_counts(masks_at_start(networks, ERK)) == layer_counts(erk)
    synflow = masks_at_start(networks, LIKE_SYNFLOW._replace(method="synflow"))
    drawn = [masks_at_start(networks, LIKE_SYNFLOW._replace(candidate=i)) for i in range(2)]
    assert layer_counts(drawn[0]) == layer_counts(drawn[1]) == layer_counts(synflow)
    assert not same(*drawn)
    assert not same(drawn[0], synflow)
