"""Trees that do not fit are told by their first difference, in one line however large they are."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax.core import freeze

import pruning
from pruning.trees.differences import first_difference

LARGE = {f"layer_{i}": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)} for i in range(40)}
MASKS = pruning.full_masks(LARGE)


@pytest.mark.parametrize(
    ("tree", "other", "said"),
    [
        ({"a": [1]}, {"a": [2]}, ""),
        ({"a": None}, {"a": 1}, ""),
        ({"a": 1}, {"b": 1}, "['a'] against nothing"),
        ({"a": 1}, {"a": 1, "b": 1}, "nothing against ['b']"),
        ({"a": {"b": 1}}, {"a": 1}, "at ['a'] a dict against a leaf"),
        ({"a": {"b": 1}}, {"a": None}, "at ['a'] a dict against None"),
        (1, [1], "at the top a leaf against a list"),
    ],
)
def test_first_difference(tree, other, said):
    assert first_difference(tree, other) == said


@pytest.mark.parametrize(
    "call",
    [
        lambda: pruning.apply_masks(freeze(LARGE), MASKS),
        lambda: pruning.global_masks(pruning.magnitude_scores(freeze(LARGE)), 0.5, masks=MASKS),
        lambda: pruning.movement_scores(LARGE, freeze(LARGE)),
        lambda: pruning.layerwise_masks(
            pruning.magnitude_scores(LARGE), pruning.uniform(freeze(LARGE), 0.5)
        ),
    ],
)
def test_a_frozen_dict_against_a_dict(call):
    with pytest.raises(ValueError, match=r"at the top a \w+ against a \w+") as caught:
        call()
    assert "FrozenDict" in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_forgotten_predicate_is_called_so():
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}
    one = functools.partial(pruning.magnitude_scores, prunable=lambda path, leaf: path[0].key == "a")
    for score, knobs in (
        (one, {}),
        (pruning.magnitude_scores, {"prunable": pruning.prunable_under("a")}),
    ):
        with pytest.raises(ValueError, match=r"at \['b'\].*pass the same prunable= everywhere"):
            pruning.iterative_masks(score, params, 0.5, rounds=2, **knobs)


HUGE = {"a": jax.ShapeDtypeStruct((2**16, 2**15), jnp.float32)}
LIMITED = {
    "global_masks": lambda p: pruning.global_masks(pruning.magnitude_scores(p), 0.5),
    "random_masks": lambda p: pruning.random_masks(jax.random.key(0), p, 0.5),
    "iterative_masks": lambda p: pruning.iterative_masks(pruning.magnitude_scores, p, 0.5, rounds=2),
    "sparsity": lambda p: pruning.sparsity(pruning.full_masks(p)),
    "mutate_masks": lambda p: pruning.mutate_masks(jax.random.key(0), pruning.full_masks(p), 0.5),
    "dissipate": lambda p: _updated(pruning.dissipate(0.5, check_every=1, stop_after=1), p),
    "dissipate_to": lambda p: _updated(pruning.dissipate_to([0.5], check_every=1), p),
    "gradual_magnitude": lambda p: _updated(pruning.gradual_magnitude([0.5], check_every=1), p),
}


def _updated(tx, params):
    return tx.update(params, tx.init(params), params)


@pytest.mark.parametrize("name", LIMITED)
def test_the_limit_of_weights_that_are_counted_together_is_named(name):
    with pytest.raises(ValueError, match=r"fewer than 2\*\*31 weights .*, got 2147483648: rank them in"):
        jax.eval_shape(LIMITED[name], HUGE)


def test_layers_below_the_limit_may_be_more_than_it_together():
    layers = {name: HUGE["a"].update(shape=(2**16, 2**14)) for name in "abc"}
    jax.eval_shape(lambda p: pruning.random_masks(jax.random.key(0), p, 0.5), layers)
    stacked = {"a": HUGE["a"].update(shape=(3, 2**16, 2**14))}
    allocation = functools.partial(pruning.uniform, layout=pruning.stacked_layout())
    jax.eval_shape(
        lambda p: pruning.random_masks(jax.random.key(0), p, 0.5, allocation=allocation), stacked
    )


@pytest.mark.slow
def test_a_traced_sparsity_under_strict_promotion():
    """Known sparsities are among the contracts, all of which hold under strict promotion."""
    params = {"a": jnp.arange(1.0, 9).reshape(2, 4), "b": jnp.arange(9.0, 17).reshape(4, 2)}
    with jax.numpy_dtype_promotion("strict"):
        masks = jax.jit(lambda s: pruning.iterative_masks(pruning.magnitude_scores, params, s, rounds=2))(
            0.5
        )
    assert [int(mask.sum()) for mask in masks.values()] == [0, 8]
