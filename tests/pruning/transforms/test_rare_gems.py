"""Rare Gems: the reference's step and rounds, a case by hand, and what never returns."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from tests.pruning.oracles import NETWORKS, Arrays, cross_entropy, load, needs_oracles

FREE = optax.set_to_zero()


def given(case, arrays, params):
    """The reference's gates before the clip, and its flags; for mlp drawn as it has drawn them."""
    names = [name for name, leaf in params.items() if leaf.ndim >= 2]
    if case == "conv":
        return [arrays.under(f"rare_gems/{what}") for what in ("p", "flag")]
    draw = np.random.RandomState(int(arrays["seed"]))
    _, p, flags = ({n: draw.uniform(size=params[n].shape) for n in names} for _ in range(3))
    return {n: 1.2 * p[n] - 0.1 for n in names}, {n: flags[n] >= 0.1 for n in names}


@needs_oracles
@pytest.mark.parametrize("case", ["mlp", pytest.param("conv", marks=pytest.mark.slow)])
def test_a_step_and_two_rounds_are_the_references(case):
    """The clipped gates after a step of SGD, and what two rounds of a fifth leave, bit for bit."""
    arrays = Arrays(case, "edge_popup_rare_gems")
    with jax.enable_x64(True):
        params, x, y = load(case)
        p, flags = given(case, arrays, params)
        trees = [{n: jnp.asarray(tree[n]) if n in tree else None for n in params} for tree in (p, flags)]
        gates, flags = jax.tree.map(lambda g: jnp.clip(g, 0, 1), trees[0]), trees[1]
        flags = jax.tree.map(lambda flag: flag != 0, flags)
        both = pruning.SoftMasked(params, gates)
        size, kept = pruning.count_prunable(flags), int(pruning.count_kept(flags))
        left = [kept := kept - math.ceil(0.2 * kept) for _ in range(2)]
        # Half a weight more than goes, so that rounding does not matter.
        sparsities = [1 - (count - 0.5) / size for count in left]
        sgd = optax.sgd(0.1, momentum=0.9)
        chain = optax.chain(optax.add_decayed_weights(2 * float(arrays["rare_gems/lambda"])), sgd)
        step = pruning.rare_gems(FREE, chain, sparsities, check_every=100)

        def loss(gates):
            return cross_entropy(NETWORKS[case](pruning.rounded_gates(params, gates, flags), x), y)

        @jax.jit
        def learned(both):
            gradients = pruning.SoftMasked(params, jax.grad(loss)(both.gates))
            start = pruning.set_masks(step.init(both), flags)
            return optax.apply_updates(both, step.update(gradients, start, both)[0])

        after = learned(both)
        sampled = case == "mlp"
        for name, expected in arrays.under(f"{'sample_' * sampled}p_after64/rare_gems").items():
            where = arrays[f"sample_index/{name}"] if sampled else slice(None)
            found, stays = (np.asarray(t[name]).ravel()[where] for t in (after.gates, flags))
            np.testing.assert_allclose(found, np.where(stays, expected.ravel(), 0), atol=1e-12)
            assert (found == 1).any() == (expected == 1).any()

        rounds = pruning.rare_gems(FREE, FREE, sparsities, check_every=1)
        state, another = pruning.set_masks(rounds.init(after), flags), jax.jit(rounds.update)
        for number, count in enumerate(left, start=1):
            _, state = another(after, state, after)
            arrays.check_masks(f"rare_gems/flags_after_prune{number}", pruning.get_masks(state))
            assert pruning.count_kept(pruning.get_masks(state)) == count


WEIGHTS = {"w": jnp.array([[8.0, 4.0, 2.0, 1.0]]), "b": jnp.array([1.0])}
GATES = {"w": jnp.array([[0.4375, 0.75, 0.5, 1.0]]), "b": None}


@pytest.mark.slow
def test_a_search_of_four_steps_and_two_of_training_by_hand():
    """Two members side by side, which differ in their sparsities."""
    ones = {"w": jnp.ones((1, 4)), "b": jnp.ones(1)}
    gradients = pruning.SoftMasked(ones, {"w": jnp.array([[0.125, 0.125, 0.171875, -0.125]]), "b": None})

    def run(sparsities):
        tx = pruning.rare_gems(optax.sgd(0.5, momentum=0.5), optax.sgd(1.0), sparsities, check_every=2)

        def step(carry, _):
            both, state = carry
            updates, state = tx.update(gradients, state, both)
            both = optax.apply_updates(both, updates)
            return (both, state), (both, pruning.get_masks(state)["w"])

        both = pruning.SoftMasked(WEIGHTS, GATES)
        return jax.lax.scan(step, (both, tx.init(both)), length=6)[1]

    members = jnp.array([[0.25, 0.5], [0.0, 0.25]])
    both, masks = jax.jit(jax.vmap(run))(members)
    gates, weights = both.gates["w"][:, :, 0], both.params["w"][:, :, 0]
    # The last gate is clipped to 1; the third falls below the first in step 2, which is a check.
    first = [[0.3125, 0.625, 0.328125, 1], [0.1875, 0.5, 0, 1], [0.0625, 0.375, 0, 1]]
    np.testing.assert_array_equal(gates[0], [*first, *[[0, 0.25, 0, 1]] * 3])
    np.testing.assert_array_equal(gates[1][1], [0.1875, 0.5, 0.15625, 1])
    np.testing.assert_array_equal(gates[1][3:], [[0, 0.25, 0, 1]] * 3)
    kept = [[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1]]
    np.testing.assert_array_equal(masks[0, :, 0], np.array(kept, bool))
    # Of two gates of 0 the lower index stays.
    np.testing.assert_array_equal(masks[1, :, 0].sum(-1), [4, 4, 4, 3, 3, 3])
    assert masks[1, 5, 0].tolist() == [True, True, False, True]
    # Weights wait for the end of the search, and momentum begins then.
    frozen = [[8, 4, 2, 1], *[[8, 4, 0, 1]] * 2, [0, 4, 0, 1]]
    np.testing.assert_array_equal(weights[0], [*frozen, [0, 3.5, 0, 0.5], [0, 2.75, 0, -0.25]])
    np.testing.assert_array_equal(both.params["b"][0, :, 0], [1, 1, 1, 1, 0.5, -0.25])


@pytest.mark.slow
def test_what_ties_at_zero_goes_one_by_one():
    """The reference would remove all four gates of 0 in the round that is to remove two weights."""
    both = pruning.SoftMasked(
        {"w": jnp.ones((2, 4))}, {"w": jnp.array([[0, 0, 0.9, 0.1], [0.2, 0, 0.3, 0]])}
    )
    tx = pruning.rare_gems(FREE, FREE, [0.25, 0.5], check_every=1)
    state = tx.init(both)
    for expected in ([[1, 1, 1, 1], [1, 0, 1, 0]], [[0, 0, 1, 1], [1, 0, 1, 0]]):
        _, state = tx.update(both, state, both)
        np.testing.assert_array_equal(state.masks["w"], np.array(expected, bool))
    # One is enough here, and it is gone already: it does not change places with another.
    without_first = {"w": jnp.arange(8).reshape(2, 4) > 0}
    tx = pruning.rare_gems(FREE, FREE, [0.125], check_every=1)
    _, state = tx.update(both, pruning.set_masks(tx.init(both), without_first), both)
    np.testing.assert_array_equal(state.masks["w"], without_first["w"])


def test_the_schedule_is_the_references_up_to_its_rounding():
    """ceil(rate * active) in each of floor((E - 1) / 5) rounds, with the rate of its released code."""
    size, target, rounds = 10_000, 0.02, (150 - 1) // 5
    rate, active, ours = 1 - math.exp(math.log(target) / rounds), size, []
    for number, sparsity in enumerate(pruning.exponential_sparsities(1 - target, rounds), start=1):
        active -= math.ceil(rate * active)
        ours.append(size - pruning.pruned_count(sparsity, size))
        assert 0 <= ours[-1] - active <= number
    assert ours[-1] == size * target


BOTH = pruning.SoftMasked(WEIGHTS, GATES)


@pytest.mark.parametrize(
    ("sparsities", "check_every", "both", "says"),
    [
        ([], 1, BOTH, "a sequence of sparsities, one a check"),
        ([0.5, 0.25], 1, BOTH, "do not decrease"),
        ([1.0], 1, BOTH, r"sparsities\[0\] in \[0, 1\)"),
        ([jnp.bfloat16(0.5)], 1, BOTH, "float32 or longer, got bfloat16"),
        ([0.5], 0, BOTH, "check_every >= 1"),
        ([0.5], 1, WEIGHTS, r"SoftMasked\(params, gates\).* got dict"),
        ([0.5], 1, BOTH._replace(gates={"w": jnp.ones((4, 1)), "b": None}), r"\(1, 4\) at \['w'\]"),
        ([0.5], 1, BOTH._replace(gates={"w": None, "b": None}), "at least one mask"),
    ],
)
def test_what_does_not_fit_is_refused(sparsities, check_every, both, says):
    with pytest.raises(ValueError, match=says):
        pruning.rare_gems(FREE, FREE, sparsities, check_every=check_every).init(both)


def test_it_needs_the_params():
    tx = pruning.rare_gems(FREE, FREE, [0.5], check_every=1)
    with pytest.raises(ValueError, match="rare_gems needs the params"):
        tx.update(BOTH, tx.init(BOTH))


def test_updates_may_have_another_dtype_than_gradients():
    params = {"w": jnp.ones((2, 2), jnp.bfloat16)}
    both = pruning.SoftMasked(params, pruning.random_scores(jax.random.key(0), params))
    of_params = optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.float32)
    tx = pruning.rare_gems(of_params, optax.sgd(0.1), [0.5], check_every=1)
    state = tx.init(both)
    gradients = jax.tree.map(jnp.ones_like, both)
    for _ in range(3):
        updates, state = jax.jit(tx.update)(gradients, state, both)
        both = optax.apply_updates(both, updates)
    assert pruning.sparsity(state.masks) == 0.5
    assert int((both.params["w"] == 0).sum()) == 2
