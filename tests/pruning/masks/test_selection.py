"""Selection against a plain sort: numpy's lexsort, lowest score first, of ties the last one first."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pruning

ORACLES = Path(__file__).parents[3].parent / "shared" / "oracles" / "jaxpruner_lenet300.npz"

# Many ties, both zeros, infinities.
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 1.0, -1.0, 2.0, 0.5, np.inf, -np.inf]) | st.floats(
    width=32, allow_nan=False
)
WITH_NAN = NUMBERS | st.just(np.nan)
SHAPES = {"a": (2, 3), "b": (1, 4)}
SIZE = 10


def networks(numbers):
    return st.fixed_dictionaries(
        {k: hnp.arrays(np.float32, shape, elements=numbers) for k, shape in SHAPES.items()}
    )


MASKS = st.fixed_dictionaries({k: hnp.arrays(bool, shape) for k, shape in SHAPES.items()})


def reference(scores, pruned, mask):
    """Keeps all but the `pruned` lowest: pruned already, then NaN, then numbers; ties from the end."""
    scores = np.asarray(scores, np.float64) + 0.0
    rank = np.where(mask, np.where(np.isnan(scores), 1, 2), 0)
    value = np.where(rank == 2, scores, 0)
    order = np.lexsort((-np.arange(scores.size), value, rank))
    kept = mask.copy()
    kept[order[:pruned]] = False
    return kept


def flat(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def _ranks_nothing(scores):
    return np.all(scores == 0) or np.all(scores == np.inf)


@functools.cache
def compiled(function):
    return jax.jit(lambda scores, sparsity, masks: function(scores, sparsity, masks=masks))


@settings(deadline=None)
@given(networks(WITH_NAN), MASKS, st.integers(0, SIZE - 1))
def test_global_selection_under_jit(scores, masks, tenths):
    assume(not (_ranks_nothing(flat(scores)) and np.all(flat(masks))))
    kept = compiled(pruning.global_masks)(scores, tenths / SIZE, masks)
    np.testing.assert_array_equal(flat(kept), reference(flat(scores), tenths, flat(masks)))


@settings(deadline=None)
@given(networks(WITH_NAN), MASKS, st.integers(0, 5), st.integers(0, 3))
def test_layerwise_selection_under_jit(scores, masks, sixths, quarters):
    kept = compiled(pruning.layerwise_masks)(scores, {"a": sixths / 6, "b": quarters / 4}, masks)
    for name, pruned in (("a", sixths), ("b", quarters)):
        expected = reference(scores[name].ravel(), pruned, masks[name].ravel())
        np.testing.assert_array_equal(flat(kept[name]), expected)


@settings(deadline=None, max_examples=40)
@given(networks(NUMBERS), st.floats(0, 0.9999))
def test_global_selection_with_concrete_sparsity(scores, sparsity):
    assume(np.any(flat(scores)) and np.any(np.isfinite(flat(scores))))
    kept = pruning.global_masks(jax.tree.map(jnp.asarray, scores), sparsity)
    pruned = math.floor(sparsity * SIZE + 1e-6)
    np.testing.assert_array_equal(flat(kept), reference(flat(scores), pruned, np.ones(SIZE, bool)))


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (2, 4), elements=st.floats(allow_nan=True)),
    st.integers(0, 7),
)
def test_float64_scores_are_ranked_in_float64(scores, eighths):
    assume(not _ranks_nothing(scores))
    with jax.enable_x64(True):
        kept = compiled(pruning.global_masks)({"w": scores}, eighths / 8, None)
    np.testing.assert_array_equal(flat(kept), reference(scores.ravel(), eighths, np.ones(8, bool)))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_scores(dtype):
    kept = pruning.global_masks({"w": jnp.array([[3, -1, 6e-8, 2, -7, 0.5]], dtype)}, 0.5)["w"]
    assert kept.tolist() == [[True, False, False, True, False, True]]


def test_leaves_of_different_precision_are_ranked_together():
    scores = {"a": jnp.array([[1.0, 3.0]], jnp.bfloat16), "b": jnp.array([[2.0, 4.0]])}
    assert flat(pruning.global_masks(scores, 0.5)).tolist() == [False, True, False, True]


TIES = np.array([3.0, 1.0, 2.0, 2.0, 2.0, 5.0, 2.0, 0.0, 2.0, 1.0], np.float32)


@pytest.mark.parametrize(
    ("pruned", "expected"),
    [
        (0, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (2, [1, 1, 1, 1, 1, 1, 1, 0, 1, 0]),
        (5, [1, 0, 1, 1, 1, 1, 0, 0, 0, 0]),
        (6, [1, 0, 1, 1, 0, 1, 0, 0, 0, 0]),
        (8, [1, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        (9, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
    ],
)
def test_ties_by_hand(pruned, expected):
    kept = pruning.global_masks({"w": jnp.asarray(TIES.reshape(2, 5))}, pruned / 10)["w"]
    assert flat(kept).astype(int).tolist() == expected


@pytest.mark.skipif(not ORACLES.is_file(), reason=f"no oracle arrays at {ORACLES}")
def test_ties_as_in_jaxpruner():
    """Its counts are its own (at least 1 kept, rounded in float32); the choice among ties is ours."""
    oracle = np.load(ORACLES)
    scores = {"w": jnp.asarray(oracle["topk/tie_scores"])[None]}
    names = [name for name in oracle.files if name.startswith("topk/tie_mask/")]
    assert len(names) == 7
    for name in names:
        expected = oracle[name].astype(bool)
        kept = pruning.global_masks(scores, 1 - expected.sum() / 10)["w"]
        np.testing.assert_array_equal(flat(kept), expected, err_msg=name)


@pytest.mark.skipif(not ORACLES.is_file(), reason=f"no oracle arrays at {ORACLES}")
@pytest.mark.parametrize("sparsity", ["0.8", "0.95"])
def test_the_largest_of_a_real_network_as_in_jaxpruner(sparsity):
    """Raw global magnitudes of 266,200 weights; the reference may keep one fewer."""
    oracle = np.load(ORACLES)
    layers = ("Dense_0", "Dense_1", "Dense_2")
    params = {layer: jnp.asarray(oracle[f"param/{layer}/kernel"]) for layer in layers}
    kept = pruning.global_masks(pruning.magnitude_scores(params), float(sparsity))
    assert pruning.count_prunable(kept) - pruning.count_kept(kept) == round(float(sparsity) * 266_200)
    differing = 0
    for layer in layers:
        bits = oracle[f"maskbits/global_magnitude_raw/{sparsity}/{layer}/kernel"]
        expected = np.unpackbits(bits, count=params[layer].size).astype(bool)
        assert not (expected & ~flat(kept[layer])).any()
        differing += int((expected != flat(kept[layer])).sum())
    assert differing <= 1


def test_subnormal_scores_are_not_zero():
    scores = np.array([[1e-40, 3e-40, 2e-40, 0.0]], np.float32)
    for select in (pruning.global_masks, jax.jit(pruning.global_masks)):
        assert select({"w": scores}, 0.5)["w"].tolist() == [[False, True, True, False]]


def test_both_zeros_are_one_score():
    kept = pruning.global_masks({"w": jnp.array([[-0.0, 0.0, -0.0, 0.0, 1.0]])}, 0.4)["w"]
    assert kept.tolist() == [[True, True, False, False, True]]


@pytest.mark.parametrize("value", [0.0, -0.0, np.inf])
def test_scores_that_rank_nothing(value):
    """By place in the tree they would make masks that look right."""
    scores = {"a": jnp.full((2, 3), value), "b": jnp.full((2, 1), value)}
    with pytest.raises(ValueError, match="expected scores that rank the weights, got"):
        pruning.global_masks(scores, 0.5)
    assert not np.any(flat(compiled(pruning.global_masks)(scores, 0.5, None)))
    assert np.all(flat(compiled(pruning.global_masks)(scores, 0.0, None)))
    assert np.all(flat(pruning.global_masks(scores, 0.0)))


def test_zero_scores_of_what_pruning_has_left_rank_nothing_and_pass():
    scores, masks = {"w": jnp.zeros((1, 4))}, {"w": jnp.array([[False, True, True, True]])}
    for select in (pruning.global_masks, jax.jit(pruning.global_masks)):
        assert select(scores, 0.5, masks=masks)["w"].tolist() == [[False, True, True, False]]


def test_one_threshold_for_the_network_or_one_for_each_layer():
    scores = {"a": jnp.array([[4.0, 3.0]]), "b": jnp.array([[2.0, 1.0]])}
    assert flat(pruning.global_masks(scores, 0.5)).tolist() == [True, True, False, False]
    assert flat(pruning.layerwise_masks(scores, {"a": 0.5, "b": 0.5})).tolist() == [True, False] * 2


def test_scores_may_be_numpy_arrays():
    """numpy's default is float64, which is not on without jax_enable_x64."""
    kept = pruning.global_masks({"w": np.array([[3.0, 1.0, 2.0, 5.0]])}, 0.5)["w"]
    assert kept.tolist() == [[True, False, False, True]]


NAN = {"a": jnp.array([[1.0, 2.0]]), "b": jnp.array([[jnp.nan, 1.0]])}


@pytest.mark.parametrize(
    "select",
    [lambda s: pruning.global_masks(s, 0.5), lambda s: pruning.layerwise_masks(s, {"a": 0.5, "b": 0.5})],
)
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (NAN, r"NaN at \['b'\]"),
        ({**NAN, "b": jnp.array([[1, 2]])}, r"float scores at \['b'\], got int32"),
        ({**NAN, "b": jnp.array([[True, False]])}, r"float scores at \['b'\], got bool"),
    ],
)
def test_scores_that_cannot_be_ranked_are_named(select, scores, message):
    with pytest.raises(ValueError, match=message):
        select(scores)


def test_scores_of_weights_that_are_pruned_already_may_be_nan():
    masks = {"a": jnp.array([[True, True]]), "b": jnp.array([[False, True]])}
    found = pruning.global_masks(NAN, 0.5, masks=masks)
    assert [found["a"].tolist(), found["b"].tolist()] == [[[True, True]], [[False, False]]]


def test_no_scores_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        pruning.global_masks({"a": None}, 0.5)


SCORES = {"a": jnp.ones((1, 2)), "b": jnp.ones((1, 2))}
FULL = {"a": jnp.ones((1, 2), bool), "b": jnp.ones((1, 2), bool)}
HALF = {"a": jnp.array([[True, False]]), "b": jnp.array([[True, False]])}


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"a": FULL["a"]}, "structure"),
        ({**FULL, "b": jnp.ones((2, 1), bool)}, r"shape \(1, 2\) at \['b'\], got \(2, 1\)"),
        ({**FULL, "b": jnp.ones((1, 2))}, r"bool mask at \['b'\]"),
        ({**FULL, "b": None}, r"\['b'\]"),
        (HALF, "ask for a higher sparsity"),
    ],
)
def test_masks_that_do_not_fit_the_scores_are_an_error(masks, message):
    with pytest.raises(ValueError, match=message):
        pruning.global_masks(SCORES, 0.25, masks=masks)
    with pytest.raises(ValueError, match=message):
        pruning.layerwise_masks(SCORES, {"a": 0.0, "b": 0.0}, masks=masks)


@pytest.mark.parametrize("sparsities", [0.5, {"a": 0.5}, {"a": 0.5, "b": None}, [0.5, 0.5]])
def test_a_sparsity_is_needed_for_each_layer(sparsities):
    with pytest.raises(ValueError, match="a sparsity for each layer"):
        pruning.layerwise_masks(SCORES, sparsities)
