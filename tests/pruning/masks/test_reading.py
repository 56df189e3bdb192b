"""Where masks are found in a state, and that they fit what they came from."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pruning
from pruning.masks.reading import fit_masks, plain_path

PARAMS = {"w": jnp.ones((1, 2)), "b": jnp.ones(2)}
HALF = {"w": jnp.array([[True, False]]), "b": None}


class Net(NamedTuple):
    masks: jax.Array
    w: jax.Array


@pytest.mark.parametrize(
    "around",
    [
        lambda last: optax.chain(optax.adam(0.1), last),
        lambda last: optax.chain(optax.zero_nans(), optax.adam(0.1), last),
        lambda last: optax.chain(pruning.accumulate_gradients(), optax.sgd(0.1, momentum=0.9), last),
        lambda last: optax.MultiSteps(optax.chain(optax.sgd(0.1), last), 2).gradient_transformation(),
    ],
)
def test_params_with_a_field_called_masks_are_not_taken_for_a_state(around):
    params = Net(jnp.ones((1, 2)), jnp.ones((2, 2)))
    masks = Net(jnp.array([[True, False]]), jnp.ones((2, 2), bool))
    found = pruning.get_masks(around(pruning.hold_masks(masks)).init(params))
    assert isinstance(found, Net)
    assert found.masks.tolist() == [[True, False]]
    with pytest.raises(ValueError, match="got none; add"):
        pruning.get_masks(optax.chain(optax.zero_nans(), optax.adam(0.1)).init(params))


def before_and_after(masks, others):
    clip = optax.clip_by_global_norm(1.0)
    return optax.chain(pruning.hold_masks(masks), clip, optax.adam(0.1), pruning.hold_masks(others))


def test_masks_before_and_after_clipping():
    state = before_and_after(HALF, HALF).init(PARAMS)
    assert pruning.get_masks(state)["w"].tolist() == [[True, False]]


def test_the_last_transformation_has_the_last_word():
    tx = optax.chain(
        pruning.hold_masks(pruning.full_masks(PARAMS)), optax.adam(0.1), pruning.hold_masks(HALF)
    )
    assert pruning.get_masks(tx.init(PARAMS))["w"].tolist() == [[True, False]]
    traced = jax.jit(lambda params: pruning.get_masks(tx.init(params)))(PARAMS)
    assert traced["w"].tolist() == [[True, False]]


def test_a_last_transformation_that_keeps_more_is_refused_with_what_to_do():
    state = before_and_after(HALF, pruning.full_masks(PARAMS)).init(PARAMS)
    with pytest.raises(ValueError, match=r"HoldMasksState, HoldMasksState.*at \['w'\].*get_masks\(opt"):
        pruning.get_masks(state)


PARTS = [
    ({"a": "slow", "b": "fast"}, {"a": jnp.ones((1, 2)), "b": jnp.ones((2, 2))}),
    (
        {"a": "slow", "b": "fast"},
        {"a": {"w": jnp.ones((1, 2)), "bias": jnp.ones(2)}, "b": {"w": jnp.ones((2, 2))}},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "params"), PARTS)
def test_masks_of_the_parts_of_a_partition_are_put_together(labels, params):
    tx = optax.partition(
        {
            "slow": optax.chain(optax.sgd(0.1), pruning.gradual_magnitude([0.5], check_every=1)),
            "fast": optax.chain(optax.adam(0.1), pruning.gradual_magnitude([0.75], check_every=1)),
        },
        labels,
    )
    _, state = tx.update(params, tx.init(params), params)
    masks = pruning.get_masks(state)
    pruning.check_masks(masks, params)
    assert [int(jnp.sum(~mask)) for mask in jax.tree.leaves(masks)] == [1, 3]


@pytest.mark.parametrize(("labels", "params"), PARTS[1:])
def test_masks_of_a_part_of_the_params_can_be_applied_to_all(labels, params):
    tx = optax.masked(pruning.gradual_magnitude([0.5], check_every=1), {"a": True, "b": False})
    masks = pruning.get_masks(tx.init(params))
    applied = pruning.apply_masks(params, masks)
    assert jax.tree.structure(applied) == jax.tree.structure(params)


def test_masks_that_arithmetic_has_made_integers_are_bool_again():
    state = pruning.hold_masks(HALF).init(PARAMS)
    numbers = jax.tree.map(lambda mask: 1 * mask + 0 * mask, state)
    assert numbers.masks["w"].dtype == jnp.int32
    assert pruning.get_masks(numbers)["w"].tolist() == [[True, False]]
    updates, after = pruning.hold_masks(HALF).update(PARAMS, numbers, PARAMS)
    assert updates["w"].tolist() == [[1, -1]]
    assert after.masks["w"].dtype == bool


def test_a_state_restored_without_a_target_says_what_to_do():
    state = optax.chain(optax.adam(0.1), pruning.hold_masks(HALF)).init(PARAMS)
    restored = [state[0]._asdict() if hasattr(state[0], "_asdict") else None, state[1]._asdict()]
    with pytest.raises(ValueError, match=r"restore it with a target, tx\.init\(params\)"):
        pruning.get_masks(restored)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.last = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.first(x)))


def trained(last):
    model = Network(nnx.Rngs(0))
    tx = optax.chain(pruning.accumulate_gradients(), optax.adam(0.1), last)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    gradients = nnx.grad(lambda model: jnp.sum(model(jnp.arange(6.0).reshape(2, 3)) ** 2))(model)
    optimizer.update(model, gradients)
    return model, optimizer


@pytest.mark.slow
def test_masks_of_an_nnx_optimizer_fit_the_params_and_the_next_hold_masks():
    model, optimizer = trained(pruning.gradual_magnitude([0.5], check_every=1))
    masks, params = pruning.get_masks(optimizer.opt_state), nnx.state(model, nnx.Param)
    assert pruning.sparsity(masks) == 0.5
    assert sum(row.kept for row in pruning.layer_report(params, masks)) == 10
    assert sum(row.kept for row in pruning.layer_report(nnx.as_pure(params), masks)) == 10
    applied = pruning.apply_masks(params, masks)
    assert jax.tree.structure(applied) == jax.tree.structure(params)
    again, state = trained(pruning.hold_masks(masks))
    kernel = again.first.kernel[...]
    assert (np.asarray(kernel)[~np.asarray(masks["first"]["kernel"])] == 0).all()
    np.testing.assert_array_equal(
        pruning.get_masks(state.opt_state)["last"]["kernel"], masks["last"]["kernel"]
    )


@pytest.mark.slow
def test_gradient_sums_of_an_nnx_optimizer_have_a_fitness():
    _, optimizer = trained(pruning.gradual_magnitude([0.5], check_every=1))
    sums = optax.tree.get(optimizer.opt_state, "gradient_sums")
    stack = lambda tree: jax.tree.map(lambda leaf: leaf[None], tree)  # noqa: E731
    masks = stack(pruning.get_masks(optimizer.opt_state))
    pure = optax.tree.get(nnx.as_pure(optimizer.opt_state), "gradient_sums")
    found = [pruning.gradient_fitness(None, stack(each), masks) for each in (sums, pure)]
    assert np.isfinite(found).all()
    assert found[0] == found[1]


@pytest.mark.parametrize("boxed", [False, True])
def test_the_order_of_layers_is_named_with_boxes_or_without(boxed):
    """Inside ``update`` the params of an nnx.Optimizer have boxes, which ``init`` does not see."""
    params = nnx.state(Network(nnx.Rngs(0)), nnx.Param)
    kernels = pruning.full_masks(params if boxed else nnx.as_pure(params))
    layers = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(kernels)]
    ratios = partial(pruning.smart_ratios, layers=layers)
    _, optimizer = trained(pruning.gradual_magnitude([0.5], check_every=1, allocation=ratios))
    assert pruning.sparsity(pruning.get_masks(optimizer.opt_state)) == 0.5


def test_boxes_are_put_on_and_taken_off():
    boxed = {"w": nn.Partitioned(jnp.ones((1, 2)), ("a", "b")), "b": nn.Partitioned(jnp.ones(2), ("a",))}
    masks = fit_masks(HALF, boxed)
    pruning.check_masks(masks, boxed)
    pruning.check_masks(fit_masks(masks, PARAMS), PARAMS)
    assert fit_masks({"w": {"inner": HALF["w"]}, "b": None}, PARAMS)["w"] == {"inner": HALF["w"]}


def test_the_path_of_a_leaf_has_no_box():
    (path, _), *_ = jax.tree_util.tree_leaves_with_path(nnx.State({"w": nnx.Param(jnp.ones(1))}))
    assert plain_path(path) == "['w']"


@pytest.mark.parametrize(
    "last", [pruning.hold_masks(HALF), pruning.dissipate(0.1, check_every=1, stop_after=1)]
)
def test_optax_flatten_around_a_transformation_says_where_it_goes(last):
    with pytest.raises(ValueError, match=r"shape \(4,\).*put the pruning transformation around it"):
        optax.flatten(optax.chain(optax.sgd(0.1), last)).init(PARAMS)
    with pytest.raises(ValueError, match="put the pruning transformation around it"):
        optax.flatten(pruning.accumulate_gradients()).init(PARAMS)


def test_masks_and_functions_under_inject_hyperparams_are_static():
    model = eqx.filter(eqx.nn.Linear(2, 2, key=jax.random.key(0)), eqx.is_array)
    masks = pruning.full_masks(model)
    assert callable(masks)
    tx = optax.inject_hyperparams(pruning.hold_masks, static_args="masks")(masks)
    assert pruning.get_masks(tx.init(model)).weight.shape == (2, 2)
    static = ("allocation", "prunable")
    by_layer = optax.inject_hyperparams(pruning.gradual_magnitude, static_args=static)
    tx = by_layer([0.5], check_every=1, allocation=pruning.uniform, prunable=pruning.prunable)
    _, state = tx.update(model, tx.init(model), model)
    assert pruning.sparsity(pruning.get_masks(state)) == 0.5


X = jnp.ones((2, 3))
AGAIN = {
    "global_masks": lambda _, params, masks: pruning.global_masks(
        pruning.magnitude_scores(params), 0.8, masks=masks
    ),
    "layerwise_masks": lambda _, params, masks: pruning.layerwise_masks(
        pruning.magnitude_scores(params), jax.tree.map(lambda mask: 0.8, masks), masks=masks
    ),
    "prune_remaining": lambda _, params, masks: pruning.prune_remaining(
        pruning.magnitude_scores(params), masks, 0.5
    ),
    "prune_remaining_by_layer": lambda _, params, masks: pruning.prune_remaining_by_layer(
        pruning.magnitude_scores(params), masks, jax.tree.map(lambda mask: 0.5, masks)
    ),
    "effective_masks": pruning.effective_masks,
    "intersect_masks": lambda _, params, masks: pruning.intersect_masks(
        pruning.full_masks(params), masks
    ),
}


@pytest.mark.parametrize(
    "name", [n if n == "layerwise_masks" else pytest.param(n, marks=pytest.mark.slow) for n in AGAIN]
)
def test_masks_of_an_nnx_optimizer_are_pruned_further_with_the_params_in_their_boxes(name):
    model, optimizer = trained(pruning.gradual_magnitude([0.5], check_every=1))
    model.eval()  # statistics change in training mode, from which no signal can be followed
    masks = pruning.get_masks(optimizer.opt_state)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    found = AGAIN[name](lambda params: nnx.merge(graph, params, rest)(X), params, masks)
    removed = jax.tree.map(lambda mask, before: mask & ~before, nnx.as_pure(found), masks)
    assert not any(leaf.any() for leaf in jax.tree.leaves(removed))
    if name == "prune_remaining":
        assert pruning.sparsity(found) == 0.75


@pytest.mark.slow
def test_reports_of_boxed_params_take_masks_without_boxes():
    model, optimizer = trained(pruning.gradual_magnitude([0.5], check_every=1))
    model.eval()  # statistics change in training mode, from which no signal can be followed
    masks = pruning.get_masks(optimizer.opt_state)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    rows = pruning.network_report(lambda params: nnx.merge(graph, params, rest)(X[:1]), params, masks)
    assert sum(row.kept for row in rows) == 10
    pruning.check_rankable(pruning.magnitude_scores(params), masks)
