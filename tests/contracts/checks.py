"""What results must satisfy. Each check takes a row's result and the params it was made from."""

import math

import jax
import numpy as np
import pytest


def fail(found):
    raise AssertionError(f"found {found}")


def array(leaf):
    """As float64 or bool NumPy, so that bfloat16 compares like the others."""
    leaf = np.asarray(leaf)
    return leaf if leaf.dtype == bool else leaf.astype(np.float64)


def leaves(tree):
    """Leaves with None counted: what is not prunable has its place."""
    return jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)


def structure(tree):
    return jax.tree.structure(tree, is_leaf=lambda leaf: leaf is None)


def is_prunable(leaf):
    return leaf is not None and leaf.ndim >= 2


def floor(sparsity, size):
    return math.floor(sparsity * size + 1e-6)


def like(result, params, dtype=None):
    """Structure, shapes and dtypes of `params` (or the one dtype)."""
    assert jax.tree.structure(result) == jax.tree.structure(params)
    for found, leaf in zip(jax.tree.leaves(result), jax.tree.leaves(params), strict=True):
        assert found.shape == leaf.shape
        assert found.dtype == (leaf.dtype if dtype is None else dtype)


def masks_like(result, params, leading=()):
    assert structure(result) == structure(params)
    for mask, leaf in zip(leaves(result), leaves(params), strict=True):
        assert (mask is not None) == is_prunable(leaf)
        if mask is not None:
            assert mask.dtype == bool
            assert mask.shape == (*leading, *leaf.shape)


def masks(per_layer, total, leading=None):
    """Masks that remove exactly floor(s n) in each layer and, or, in total."""

    def check(result, params):
        masks_like(result, params, () if leading is None else (leading,))
        each = jax.tree.leaves(result)
        if leading is not None:
            flat = [np.asarray(mask).reshape(leading, -1) for mask in each]
        else:
            flat = [np.asarray(mask).reshape(1, -1) for mask in each]
        removed = np.stack([(~mask).sum(axis=1) for mask in flat])
        sizes = [mask.shape[1] for mask in flat]
        if per_layer is not None:
            for counts, size in zip(removed, sizes, strict=True):
                assert (counts == floor(per_layer, size)).all()
        if total is not None and per_layer is None:
            assert (removed.sum(axis=0) == floor(total, sum(sizes))).all()

    return check


def zero_where_pruned(params, masks):
    """Exactly zero, and plus zero, where a mask says so."""
    for mask, leaf in zip(leaves(masks), leaves(params), strict=True):
        if mask is not None:
            pruned = array(leaf)[~np.asarray(mask)]
            assert (pruned == 0).all()
            assert not np.signbit(pruned).any()


def applied(result, params):
    like(result, params)
    for found, leaf in zip(jax.tree.leaves(result), jax.tree.leaves(params), strict=True):
        expected = array(leaf).ravel()
        if leaf.ndim >= 2:
            expected = np.where(np.arange(leaf.size) % 2 == 0, expected, 0)
        np.testing.assert_array_equal(array(found).ravel(), expected)


def scores(dtype):
    """Scores in the given dtype; None: that of the params; "wide": float32 at least."""

    def check(result, params):
        assert structure(result) == structure(params)
        for score, leaf in zip(leaves(result), leaves(params), strict=True):
            assert (score is not None) == is_prunable(leaf)
            if score is not None:
                wide = np.promote_types(np.float32, leaf.dtype) if dtype == "wide" else dtype
                assert score.dtype == (leaf.dtype if dtype is None else wide)
                assert score.shape == leaf.shape
                assert np.isfinite(array(score)).all()

    return check


def sparsities(total):
    """A sparsity in [0, 1) for each layer; together they remove `total` of the weights."""

    def check(result, params):
        assert structure(result) == structure(params)
        sizes = [leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]
        found = [float(value) for value in jax.tree.leaves(result)]
        assert all(0 <= value < 1 for value in found)
        assert np.dot(found, sizes) / sum(sizes) == pytest.approx(total, abs=1e-6)

    return check


def probabilities(total):
    """Rows that add up to 1; so many units lead in and out of all kernels."""

    def check(result, params):
        for found in result:
            for rows in (found.forward, found.backward):
                np.testing.assert_allclose(array(rows).sum(axis=-1), 1, rtol=1e-5)
            assert found.position.dtype == found.forward.dtype
        assert sum(sum(found.forward.shape) for found in result) == total

    return check


def stacked_trees(result, params):
    for tree in result:
        assert jax.tree.structure(tree) == jax.tree.structure(params)
        for found, leaf in zip(jax.tree.leaves(tree), jax.tree.leaves(params), strict=True):
            assert found.shape == (3, *leaf.shape)
            assert found.dtype == leaf.dtype


def fitness(result, params):
    assert result.shape == (3,)
    assert result.dtype == np.promote_types(np.float32, jax.tree.leaves(params)[0].dtype)
    assert (np.diff(array(result)) > 0).all()  # the candidates grow in every part


def fitness_of_known_parts(result, params):
    """Two parts with the deviations -1.2247, 0, 1.2247 (in units of their own)."""
    np.testing.assert_allclose(result, [-(6**0.5), 0, 6**0.5], rtol=1e-6, atol=1e-6)


def winner(result, params):
    masks(0.5, 0.5)(result.masks, params)
    like(result.params, params)
    zero_where_pruned(result.params, result.masks)
    assert result.fitness.shape == (3,)
    assert 0 <= int(result.winner) < 3
    assert float(result.fitness[result.winner]) == float(np.max(array(result.fitness)))


def trained(result, params):
    found, kept = result
    like(found, params)
    masks_like(kept, params)
    zero_where_pruned(found, kept)
    for mask, leaf in zip(leaves(kept), leaves(found), strict=True):
        if mask is not None:
            assert mask.any()
            assert (array(leaf) != 0)[np.asarray(mask)].all()


def trained_to(total):
    def check(result, params):
        trained(result, params)
        masks(None, total)(result[1], params)

    return check


def each(check):
    """The same of several results."""

    def of_all(results, params):
        for result in results:
            check(result, params)

    return of_all


def sums(factor, part):
    """Sums over prunable leaves, float32 at least; the updates pass through as they came."""

    def check(result, params):
        updates, found = result
        like(updates, params)
        for total, leaf in zip(leaves(found), leaves(params), strict=True):
            assert (total is not None) == is_prunable(leaf)
            if total is not None:
                assert total.dtype == np.promote_types(np.float32, leaf.dtype)
                np.testing.assert_allclose(array(total), factor * part(array(leaf)), rtol=1e-6)

    return check


def report(result, params):
    expected = [(leaf.shape, leaf.size) for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]
    assert [(row.shape, row.size) for row in result] == expected
    assert all(row.kept == row.size // 2 and row.sparsity == 0.5 for row in result)
    assert all(isinstance(row.path, str) and row.path for row in result)


def effective(result, params):
    """Of every other weight; the row of pixels never meets the second row of the 2x2 kernel."""
    masks_like(result, params)
    for mask in jax.tree.leaves(result):
        flat = np.asarray(mask).ravel()
        used = flat.size if mask.ndim == 2 else flat.size // 2
        np.testing.assert_array_equal(
            flat, (np.arange(flat.size) % 2 == 0) & (np.arange(flat.size) < used)
        )


def convolution_alone(result, params):
    paths = jax.tree_util.tree_leaves_with_path(params)
    assert result == tuple(jax.tree_util.keystr(path) for path, leaf in paths if leaf.ndim == 4)


def first_unit(result, params):
    """One bool a unit, True for the first one of each layer."""
    assert structure(result) == structure(params)
    for dead, leaf in zip(leaves(result), leaves(params), strict=True):
        assert (dead is not None) == is_prunable(leaf)
        if dead is not None:
            assert dead.dtype == bool
            assert dead.tolist() == [True] + [False] * (leaf.shape[-1] - 1)


def compacted(expected_of):
    """Outputs stay, at another batch size too."""

    def check(result, params):
        images = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
        found, expected = result.apply_fn(result.variables, images), expected_of(params, images)
        np.testing.assert_allclose(array(found), array(expected), rtol=2e-2, atol=1e-6)
        masks_like(result.masks, result.variables)

    return check


def half_stored(result, params):
    """Of every other weight."""
    kept = sorted(leaf.size // 2 for leaf in jax.tree.leaves(params) if leaf.ndim >= 2)
    nodes = jax.tree.leaves(result, is_leaf=lambda node: hasattr(node, "indices"))
    assert sorted(node.data.size for node in nodes if hasattr(node, "indices")) == kept


def network_rows(result, params):
    """Half of each layer is kept; each weight is used once, in the convolution at 5 positions."""
    report(result, params)
    for row in result:
        uses, connected = (1, 10) if len(row.shape) == 2 else (5, 3)
        assert (row.dense_flops, row.sparse_flops) == (2 * uses * row.size, 2 * uses * row.kept)
        assert row.effective_kept == connected
        assert row.effective_sparsity == 1 - connected / row.size


def equal(expected):
    def check(result, params):
        if isinstance(expected, dict) or expected is None:
            assert result == expected
        else:
            np.testing.assert_allclose(np.asarray(result), np.asarray(expected), rtol=1e-6)

    return check


def all_prunable(value):
    """A float leaf of one value for each prunable one."""

    def check(result, params):
        scores(None)(result, params)
        for leaf in jax.tree.leaves(result):
            np.testing.assert_allclose(array(leaf), value, rtol=1e-6)

    return check


def unchanged(result, params):
    like(result, params)
    for found, leaf in zip(jax.tree.leaves(result), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(array(found), array(leaf))


def moved_together(result, params):
    like(result.params, params)
    assert all((array(leaf) == -1).all() for leaf in jax.tree.leaves(result.params))
    all_prunable(-2)(result.gates, params)


def record(fields):
    def check(result, params):
        assert result._fields == tuple(fields.split())
        again = jax.tree.map(lambda leaf: leaf, result)
        assert type(again) is type(result)
        assert jax.tree.structure(again) == jax.tree.structure(result)

    return check
