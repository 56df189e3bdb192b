"""What an optimizer keeps of each weight is found, or the optimizer is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from pruning.transforms.slots import zero_slots

PARAMS = {
    "a": {"kernel": jax.random.normal(jax.random.key(0), (6, 4))},
    "b": {"kernel": jnp.ones((4, 3))},
}
MASKS = pruning.random_masks(jax.random.key(1), PARAMS, 0.5)
HELD = pruning.apply_masks(PARAMS, MASKS)


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (optax.adafactor(0.1, min_dim_size_to_factor=2), r"v_row\['a'\]\['kernel'\]"),
        (optax.sm3(0.1), r"\['a'\]\['kernel'\]"),
        (optax.lbfgs(0.1), r"\['a'\]\['kernel'\]"),
        (optax.flatten(optax.adam(0.1)), "an array of shape"),
        (optax.MultiSteps(optax.adam(0.1), 2), r"write optax.MultiSteps\(rigl\(optimizer, ...\), k\)"),
    ],
)
def test_optimizers_that_keep_something_else_are_refused_by_name(optimizer, says):
    tx = pruning.rigl(optimizer, MASKS, check_every=1, stop_after=1)
    with pytest.raises(ValueError, match=says):
        tx.init(HELD)


def test_a_flattened_state_of_one_param_is_refused_too():
    tx = pruning.rigl(
        optax.flatten(optax.adam(0.1)), {"w": MASKS["a"]["kernel"]}, check_every=1, stop_after=1
    )
    with pytest.raises(ValueError, match="an array of shape"):
        tx.init({"w": HELD["a"]["kernel"]})


def test_a_param_is_not_taken_for_another_whose_path_its_own_ends_with():
    """The head's kernel is not pruned; what the optimizer keeps of it stays."""
    params = {"w": jnp.array([[1.0, 0.0]]), "head": {"w": jnp.ones((1, 2))}}
    masks = {"w": jnp.array([[True, False]]), "head": {"w": None}}
    tx = pruning.rigl(optax.sgd(0.1, momentum=0.9), masks, check_every=1, stop_after=1, drop_fraction=1.0)
    state = tx.init(params)
    state = state._replace(inner=jax.tree.map(jnp.ones_like, state.inner))
    _, state = tx.update({"w": jnp.array([[0.0, 1.0]]), "head": {"w": jnp.ones((1, 2))}}, state, params)
    trace = state.inner[0].trace
    np.testing.assert_array_equal(trace["head"]["w"], [[1, 1]])
    np.testing.assert_array_equal(trace["w"], [[1, 0]])


@pytest.mark.parametrize("name", ["other", "mu", "nu"])
def test_a_module_may_be_called_as_a_field_of_the_optimizers_state(name):
    """Adam keeps ``mu`` of each weight, and a Gaussian policy has a head of that name."""
    params = {
        "w": jnp.array([[1.0, 0.5, 1.0, 0.0]]),
        name: {"w": jnp.ones((1, 4)), "v": jnp.ones((3, 2))},
    }
    chosen = {"w": jnp.array([[True, False, False, False]]), name: {"w": None, "v": None}}
    state = jax.tree.map(jnp.ones_like, optax.adam(0.1).init(params))
    found = zero_slots(state, chosen, params)[0]
    for slots in (found.mu, found.nu):
        np.testing.assert_array_equal(slots["w"], [[0, 1, 1, 1]])
        np.testing.assert_array_equal(slots[name]["w"], 1)
    pruning.rigl(optax.adam(0.1), pruning.full_masks(params), check_every=1, stop_after=1).init(params)


def test_what_is_kept_of_a_layer_of_one_weight_is_put_to_0_too():
    params, chosen = {"a": jnp.ones((1, 1)), "b": jnp.ones((1, 2))}, {"a": [[True]], "b": [[False, True]]}
    state = optax.trace(0.9).init(params)._replace(trace=jax.tree.map(jnp.ones_like, params))
    chosen = {name: jnp.array(mask) for name, mask in chosen.items()}
    found = zero_slots(state, chosen, params).trace
    np.testing.assert_array_equal(found["a"], [[0]])
    np.testing.assert_array_equal(found["b"], [[1, 0]])
