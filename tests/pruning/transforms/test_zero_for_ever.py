"""A pruned weight is exactly zero at every step after its removal, whatever is around the method."""

import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning

from .wrappers import OTHERS, WRAPPERS, training, trajectory

STEPS = 12
PARAMS = {"w": jnp.array(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32), "b": jnp.ones(6)}
GRADIENTS = {
    "w": jnp.array(np.random.default_rng(1).normal(size=(STEPS, 4, 6)), jnp.float32),
    "b": jnp.ones((STEPS, 6)),
}
NAN_AT = 4
WITH_NAN = jax.tree.map(lambda leaf: leaf.at[NAN_AT].set(jnp.nan), GRADIENTS)
START = {"w": PARAMS["w"] > 0.3, "b": None}

# Wrappers that skip steps, repeat them, or show the method a part of the tree.
DIFFERENT = ("apply_if_finite", "multi_steps", "after_multi_steps", "partition")
METHODS = {
    "dissipate": lambda **start: pruning.dissipate(0.5, check_every=2, stop_after=6, **start),
    "dissipate_settled": lambda **start: pruning.dissipate_settled(
        0.5, check_every=2, stop_after=6, **start
    ),
    "gradual_magnitude": lambda **start: pruning.gradual_magnitude([0.25, 0.5], check_every=3, **start),
    "dissipate_to": lambda **start: pruning.dissipate_to(np.array([0.25, 0.5]), check_every=3, **start),
    "injected": lambda **start: optax.inject_hyperparams(pruning.dissipate)(
        fraction=0.5, check_every=2, stop_after=6, **start
    ),
}


def kernel_masks(state):
    return pruning.get_masks(state)["w"]


def assert_zero_for_ever(weights, masks):
    """Plus zero, to the bit, where pruned; what is pruned stays so; something is pruned and kept."""
    weights, masks = np.asarray(weights), np.asarray(masks)
    assert (weights[~masks].view(np.uint32) == 0).all()
    assert not (masks[1:] & ~masks[:-1]).any()
    assert 0 < masks[-1].sum() < masks[-1].size
    assert (weights[-1][masks[-1]] != 0).all()


# One method in all wrappers, as held masks below; the others in those that handle updates in other ways.
CASES = [
    pytest.param(
        method,
        wrapper,
        marks=() if method == "dissipate" or wrapper in ("adamw", *DIFFERENT) else pytest.mark.slow,
    )
    for method, wrapper in itertools.product(METHODS, WRAPPERS)
]


@pytest.mark.parametrize(("method", "wrapper"), CASES)
def test_dissipation(method, wrapper):
    gradients = WITH_NAN if wrapper == "apply_if_finite" else GRADIENTS
    tx = WRAPPERS[wrapper](METHODS[method]())
    params, masks = jax.jit(lambda p: trajectory(tx, p, gradients, kernel_masks))(PARAMS)
    assert_zero_for_ever(params["w"], masks)
    assert np.isfinite(params["w"]).all()


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_held_masks(wrapper):
    gradients = WITH_NAN if wrapper == "apply_if_finite" else GRADIENTS
    tx = WRAPPERS[wrapper](pruning.hold_masks(START))
    params = pruning.apply_masks(PARAMS, START)
    params, masks = jax.jit(lambda p: trajectory(tx, p, gradients, kernel_masks))(params)
    assert_zero_for_ever(params["w"], masks)
    np.testing.assert_array_equal(masks[-1], START["w"])


@pytest.mark.parametrize("wrapper", ["nesterov", "multi_steps", "masked", "partition"])
def test_dissipation_that_starts_from_masks(wrapper):
    tx = WRAPPERS[wrapper](METHODS["dissipate"](masks=START))
    params = pruning.apply_masks(PARAMS, START)
    params, masks = jax.jit(lambda p: trajectory(tx, p, GRADIENTS, kernel_masks))(params)
    assert_zero_for_ever(params["w"], masks)
    assert not (masks[-1] & ~START["w"]).any()


PAGE = Path(__file__).parents[3] / "docs" / "optimizers.md"
HELD = {
    "hold_masks": lambda: pruning.hold_masks(START),
    "dissipate_to": lambda: pruning.dissipate_to([0.25, 0.5], check_every=2),
    "gradual_magnitude": lambda: pruning.gradual_magnitude([0.25, 0.5], check_every=2),
}
INPUTS = jnp.array(np.random.default_rng(2).normal(size=(16, 4)), jnp.float32)
TARGETS = jnp.array(np.random.default_rng(3).normal(size=(16, 6)), jnp.float32)


def squares(params):
    return jnp.mean((INPUTS @ params["w"] + params["b"][None] - TARGETS) ** 2)


def train(row, method, steps=8):
    params = pruning.apply_masks(PARAMS, START) if method == "hold_masks" else PARAMS
    run = jax.jit(lambda params: training(OTHERS[row], HELD[method](), params, squares, steps))
    return run(params)


@pytest.mark.parametrize("row", OTHERS)
@pytest.mark.parametrize(
    "method", [m if m == "hold_masks" else pytest.param(m, marks=pytest.mark.slow) for m in HELD]
)
@pytest.mark.usefixtures("quick_compilation")
def test_every_row_of_the_table_of_optimizers(row, method):
    networks, masks, losses = train(row, method)
    leaves = zip(*(jax.tree.leaves(network["w"]) for network in networks), strict=True)
    for kept, copies in zip(jax.tree.leaves(masks), leaves, strict=True):
        kept = np.asarray(kept)
        assert kept.dtype == bool
        assert not (kept[1:] & ~kept[:-1]).any()
        assert 0 < kept[-1].sum() < kept[-1].size
        for weights in copies:
            assert (np.asarray(weights)[~kept] == 0).all()
            assert np.isfinite(weights).all()
    assert np.isfinite(losses).all()


def test_the_table_in_the_docs_has_the_rows_that_are_tested():
    names = {row.removeprefix("inside ").removeprefix("opaque ") for row in OTHERS}
    assert [name for name in sorted(names) if f"{name}`" not in PAGE.read_text()] == []


def test_the_code_in_the_docs_holds_both_copies():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names = {}
    exec(compile(block, PAGE.name, "exec"), names)
    masks = pruning.get_masks(names["state"])
    assert all((network["w"][~masks["w"]] == 0).all() for network in names["both"])


@pytest.mark.slow
def test_lbfgs_converges_on_the_masked_loss():
    """With the cached gradients of the unmasked loss it goes astray."""
    tx = optax.chain(optax.lbfgs(), pruning.hold_masks(START))
    params = pruning.apply_masks(PARAMS, START)

    def masked_loss(params):
        return squares(pruning.apply_masks(params, START))

    def step(carry, _):
        params, state = carry
        value, gradient = optax.value_and_grad_from_state(masked_loss)(params, state=state)
        updates, state = tx.update(
            gradient, state, params, value=value, grad=gradient, value_fn=masked_loss
        )
        params = optax.apply_updates(params, updates)
        return (params, state), params

    def run(params):
        return jax.lax.scan(step, (params, tx.init(params)), length=25)[1]

    found = jax.jit(run)(params)
    assert (np.asarray(found["w"])[:, ~START["w"]] == 0).all()
    last = jax.tree.map(lambda leaf: leaf[-1], found)
    assert optax.tree.norm(jax.grad(masked_loss)(last)) < 1e-3


@pytest.mark.slow
def test_what_schedule_free_evaluates_is_masked_by_the_caller():
    tx = optax.chain(optax.contrib.schedule_free(optax.sgd(0.1), 0.1), HELD["dissipate_to"]())
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(4):
        updates, state = tx.update(jax.grad(squares)(params), state, params)
        params = optax.apply_updates(params, updates)
    averaged = optax.contrib.schedule_free_eval_params(state[0], params)
    masks = pruning.get_masks(state)
    assert (averaged["w"][~masks["w"]] != 0).any()
    assert (pruning.apply_masks(averaged, masks)["w"][~masks["w"]] == 0).all()


def test_lookahead_that_resets_its_state_begins_the_pruning_anew():
    """So docs/optimizers.md says: held masks alone go with it."""

    def kept(last):
        wrapped = optax.lookahead(optax.chain(optax.sgd(0.1), last), 2, 0.5, reset_state=True)
        tx = pruning.hold_outside(wrapped)
        params = optax.LookaheadParams.init_synced(PARAMS)
        state, counts = tx.init(params), []
        for _ in range(2):
            updates, state = tx.update(PARAMS, state, params)
            params = optax.apply_updates(params, updates)
            counts.append(int(pruning.count_kept(pruning.get_masks(state))))
        return counts

    assert kept(pruning.gradual_magnitude([0.5], check_every=1)) == [12, 24]
    assert kept(pruning.hold_masks(START)) == [int(START["w"].sum())] * 2


def test_hold_outside_needs_masks_inside():
    with pytest.raises(ValueError, match="expected a transformation that holds masks"):
        pruning.hold_outside(optax.adam(0.1)).init(PARAMS)


@pytest.mark.parametrize("update", [jnp.nan, jnp.inf])
def test_an_update_that_is_not_finite_does_not_reach_a_pruned_weight(update):
    params, masks = {"w": jnp.zeros((1, 2))}, {"w": jnp.zeros((1, 2), bool)}
    tx = pruning.hold_masks(masks)
    updates, _ = tx.update({"w": jnp.full((1, 2), update)}, tx.init(params), params)
    assert optax.apply_updates(params, updates)["w"].tolist() == [[0, 0]]


@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("bfloat16", "bfloat16")])
def test_mixed_precision_inside_wrappers_that_branch(dtypes):
    params = jax.tree.map(lambda p: p.astype(dtypes[0]), PARAMS)
    gradients = jax.tree.map(lambda g: g.astype(dtypes[1]), WITH_NAN)
    inner = optax.chain(optax.sgd(0.1), METHODS["dissipate"]())
    tx = optax.apply_if_finite(inner, 3)
    found, masks = jax.jit(lambda p: trajectory(tx, p, gradients, kernel_masks))(params)
    assert (np.asarray(found["w"], np.float32)[~np.asarray(masks)] == 0).all()


@pytest.mark.parametrize("method", [method for method in METHODS if method != "gradual_magnitude"])
def test_what_optax_maps_over_are_the_initial_weights(method):
    tx = optax.chain(optax.adam(0.1), METHODS[method]())
    state = tx.init(PARAMS)
    doubled = optax.tree.map_params(tx, lambda leaf: leaf * 2, state)
    initial = optax.tree.get(doubled, "initial")["w"]
    np.testing.assert_array_equal(initial, PARAMS["w"] * 2)
    count = jax.tree.leaves(
        optax.tree.get(doubled, "count", filtering=lambda path, _: "Diss" in str(path))
    )
    assert [int(value) for value in count] == [0]
