import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning

KEY = jax.random.key(0)
PARAMS = {"w": jnp.array([[1.0, -2.0], [0.0, -0.0]]), "b": jnp.ones(2)}


@pytest.mark.parametrize(
    ("now", "initial", "expected"),
    [
        (3.0, 2.0, 0.5),
        (-2.0, 2.0, 2.0),
        (2.0, 2.0, 0.0),
        (0.0, -4.0, 1.0),
        (0.0, 0.0, 0.0),
        (1.0, 0.0, np.inf),
    ],
)
def test_displacement_by_hand(now, initial, expected):
    scores = pruning.displacement_scores({"w": jnp.array([[now]])}, {"w": jnp.array([[initial]])})
    assert scores["w"][0, 0] == expected


def test_displacement_in_half_precision_is_computed_in_float32():
    now, initial = ({"w": jnp.array([[value]], jnp.bfloat16)} for value in (1.0078125, 1.0))
    scores = pruning.displacement_scores(now, initial)["w"]
    assert scores.dtype == jnp.float32
    assert scores[0, 0] == 0.0078125


def test_random_scores_are_uniform_and_differ_between_layers():
    scores = pruning.random_scores(KEY, {"a": jnp.ones((50, 40)), "b": jnp.ones((50, 40))})
    a, b = np.asarray(scores["a"]), np.asarray(scores["b"])
    assert 0 <= a.min() < 0.01
    assert 0.99 < a.max() < 1
    assert abs(a.mean() - 0.5) < 0.03
    assert (a != b).mean() > 0.99


def test_random_masks_do_not_look_at_the_weights():
    other = {"w": PARAMS["w"] * -5 + 1, "b": PARAMS["b"]}
    masks = [pruning.random_masks(KEY, params, 0.5)["w"].tolist() for params in (PARAMS, other)]
    assert masks[0] == masks[1]


draw = jax.jit(jax.vmap(lambda key: pruning.random_masks(key, {"w": jnp.ones((2, 5))}, 0.3)["w"]))


def test_every_weight_is_pruned_equally_often():
    kept = np.asarray(draw(jax.random.split(KEY, 4000)))
    np.testing.assert_allclose(kept.mean(axis=0), 0.7, atol=0.04)
    assert (kept.sum(axis=(1, 2)) == 7).all()


traced = jax.jit(
    lambda key, sparsity: pruning.random_masks(
        key, {"a": jnp.ones((7, 11)), "b": jnp.ones((3, 2, 4, 5)), "c": jnp.ones(6)}, sparsity
    )
)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 999))
def test_counts_are_exact_in_each_layer_at_every_sparsity(seed, thousandths):
    masks = traced(jax.random.key(seed), thousandths / 1000)
    for name, size in (("a", 77), ("b", 120)):
        assert int((~masks[name]).sum()) == min(thousandths * size // 1000, size - 1)


NOW = {"w": jnp.array([[3.0, -1.0], [-2.0, 0.5]]), "b": jnp.zeros(2)}
START = {"w": jnp.array([[1.0, 1.0], [-3.0, 0.5]]), "b": jnp.ones(2)}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pruning.magnitude_scores(NOW), [[3, 1], [2, 0.5]]),
        (pruning.movement_scores(NOW, START), [[2, 2], [1, 0]]),
        (pruning.magnitude_increase_scores(NOW, START), [[2, 0], [-1, 0]]),
    ],
)
def test_scores_of_weights_by_hand(found, expected):
    assert found["w"].tolist() == expected
    assert found["b"] is None


OF_CHANGE = [
    pruning.displacement_scores,
    pruning.movement_scores,
    pruning.magnitude_increase_scores,
]
FLOATS8 = ["float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("criterion", OF_CHANGE)
def test_criteria_of_change_need_two_trees_that_match(criterion):
    with pytest.raises(ValueError, match="one structure"):
        criterion(NOW, {"v": START["w"], "b": START["b"]})
    with pytest.raises(ValueError, match=r"shape \(2, 2\) at \['w'\], got \(2, 1\)"):
        criterion(NOW, {"w": jnp.ones((2, 1)), "b": START["b"]})


@pytest.mark.parametrize("dtype", FLOATS8)
@pytest.mark.parametrize("criterion", OF_CHANGE)
def test_changes_of_8_bit_floats_are_computed_in_float32(criterion, dtype):
    now, start = (jax.tree.map(lambda leaf: leaf.astype(dtype), tree) for tree in (NOW, START))
    found, expected = criterion(now, start), criterion(NOW, START)
    assert found["w"].dtype == jnp.float32
    assert found["w"].tolist() == expected["w"].tolist()


@pytest.mark.parametrize("dtype", FLOATS8)
def test_a_difference_beyond_8_bits_is_no_nan(dtype):
    large = {"w": jnp.full((1, 1), 448.0).astype(dtype)}
    scores = pruning.movement_scores(large, jax.tree.map(jnp.negative, large))
    assert scores["w"].tolist() == [[896]]


def test_functions_among_the_leaves_are_left_alone():
    now, start = {**NOW, "activation": jax.nn.relu}, {**START, "activation": jax.nn.relu}
    found = [criterion(now, start) for criterion in OF_CHANGE]
    found += [pruning.magnitude_scores(now), pruning.random_scores(KEY, now)]
    assert all(scores["activation"] is None for scores in found)
