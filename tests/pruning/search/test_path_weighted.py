"""PHEW: probabilities by hand, exact counts, walks that are paths, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pruning

KEY = jax.random.key(0)
ONES = jnp.ones((1, 4))


def residual(params):
    """A stem, two blocks with shortcuts, excitation, a head the other way round: nobody's names.

    No position of a kernel meets padding, so every weight is on a path and so is every walk.
    """
    stem, blocks, (excite, head) = params["s"], params["blocks"], params["end"]

    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)

    x = jax.nn.relu(convolve(jnp.ones((1, 10, 10, 3)), stem))
    x = x[:, 2:-2, 2:-2] + jax.nn.relu(convolve(jax.nn.relu(convolve(x, blocks[0]["m"])), blocks[0]["n"]))
    x = convolve(x, blocks[1]["m"]) + convolve(x[:, 1:-1, 1:-1], blocks[1]["n"])  # 1x1 in the shortcut
    x = x + (x.mean((1, 2)) @ excite)[:, None, None]
    return x.transpose(0, 3, 1, 2).reshape(1, -1) @ head.T


def residual_params(seed=1):
    params = {
        "s": np.ones((3, 3, 3, 4)),
        "blocks": [
            {"m": np.ones((3, 3, 4, 4)), "n": np.ones((3, 3, 4, 4))},
            {"m": np.ones((3, 3, 4, 6)), "n": np.ones((1, 1, 4, 6))},
        ],
        "end": (np.ones((6, 6)), np.ones((5, 24))),
    }
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda leaf: jnp.asarray(draw(size=leaf.shape), jnp.float32), params)


@jax.jit
def of_residual(key, params, sparsity):
    """One program for all tests of that network."""
    return pruning.phew_masks(key, residual, params, sparsity)


def of_chain(kernels, sparsity, **knobs):
    return jax.jit(lambda k: pruning.path_weighted_masks(KEY, k, sparsity, **knobs))(kernels)


# --- probabilities --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_probabilities_of_a_convolution():
    """Two positions, one input unit, two output units: |w| of (1, 3) and (0, 0)."""
    kernel = jnp.array([[[[1.0, 0.0]], [[-3.0, 0.0]]]])  # HWIO (1, 2, 1, 2)
    found = pruning.path_probabilities(kernel)
    assert found.forward.tolist() == [[1.0, 0.0]]
    assert found.backward.tolist() == [[1.0], [1.0]]
    assert found.position.tolist() == [[[[0.25, 0.5]], [[0.75, 0.5]]]]


@pytest.mark.slow
def test_stacked_layers_have_probabilities_of_their_own():
    kernels = jnp.array([[[1.0, 3.0], [2.0, 2.0]], [[0.0, 0.0], [1.0, 0.0]]])
    found = pruning.path_probabilities({"k": kernels}, layout=pruning.stacked_layout())["k"]
    assert found.forward.tolist() == [[[0.25, 0.75], [0.5, 0.5]], [[0.5, 0.5], [1.0, 0.0]]]
    assert found.backward.shape == (2, 2, 2)
    assert found.position.shape == (2, 2, 2)


@pytest.mark.slow
def test_heads_are_units():
    tree = {"query": {"kernel": jnp.arange(12.0).reshape(2, 3, 2)}}
    found = pruning.path_probabilities(tree)["query"]["kernel"]
    np.testing.assert_allclose(
        found.forward, jnp.arange(12.0).reshape(2, 6) / jnp.array([[15.0], [51.0]])
    )


# --- walks ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_step_is_over_a_weight_as_often_as_it_is_large():
    """One weight is kept: that of the first step forward, from the one input unit."""
    kernels = [jnp.array([[1.0, -3.0, 0.0]]), jnp.ones((3, 1))]
    keys = jax.random.split(KEY, 400)
    masks = jax.jit(jax.vmap(lambda key: pruning.path_weighted_masks(key, kernels, 5 / 6)))(keys)
    assert not masks[1].any()
    often = masks[0].mean(axis=0)[0]
    np.testing.assert_allclose(often, [0.25, 0.75, 0], atol=0.07)  # three standard deviations
    assert often[2] == 0


def test_the_second_walk_goes_backward_from_an_output_unit():
    """Two inputs, one hidden unit, two outputs: walk 0 leaves input 0, walk 1 output 0."""
    kernels = [jnp.ones((2, 1)), jnp.array([[1.0, 1e-9]])]
    masks = of_chain(kernels, 0.25)
    assert masks[1].tolist() == [[True, False]]  # of walk 0, and of walk 1 again
    assert masks[0].tolist() == [[True], [True]]  # 3 of 4 are kept: walk 2 leaves input 1


@pytest.mark.parametrize(("sparsity", "is_traced"), [(0.0, True), (0.9, True), (0.0, False)])
@pytest.mark.slow
def test_counts_are_exact(sparsity, is_traced):
    params = residual_params()
    if is_traced:
        masks = of_residual(KEY, params, sparsity)
    else:
        masks = jax.jit(lambda p: pruning.phew_masks(KEY, residual, p, sparsity))(params)
    size = pruning.count_prunable(masks)
    assert size - pruning.count_kept(masks) == int(sparsity * size + 1e-6)


@pytest.mark.slow
def test_what_is_kept_lies_on_kept_paths_but_for_the_walk_that_is_cut():
    params = residual_params()
    effective = jax.jit(lambda masks: pruning.effective_masks(residual, params, masks))
    longest, cut = 6, []
    for sparsity in (0.5, 0.9, 0.95, 0.98, 0.99):
        masks = of_residual(KEY, params, sparsity)
        cut.append(pruning.count_kept(masks) - pruning.count_kept(effective(masks)))
        assert 0 <= cut[-1] < longest
    assert min(cut) == 0


@pytest.mark.slow
def test_masks_of_one_key_are_nested_and_another_key_gives_others():
    params = residual_params()
    wanted = ((KEY, 0.95), (KEY, 0.9), (jax.random.key(1), 0.9))
    few, many, other = (of_residual(key, params, sparsity) for key, sparsity in wanted)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.all(~a | b)), few, many)))
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.any(a != b)), many, other)))


@pytest.mark.slow
def test_the_chain_is_the_network_that_is_read():
    """Two convolutions and a dense layer, flattened as Flax does: the same walks."""
    kernels = [
        jax.random.normal(key, shape)
        for key, shape in zip(
            jax.random.split(KEY, 3), [(3, 3, 2, 4), (3, 3, 4, 4), (36, 5)], strict=True
        )
    ]

    def network(kernels):
        x = jnp.ones((1, 3, 3, 2))
        for kernel in kernels[:2]:
            x = lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x.reshape(1, -1) @ kernels[2]

    read = jax.jit(lambda: pruning.phew_masks(KEY, network, kernels, 0.8))()
    chain = of_chain(kernels, 0.8)
    for one, other in zip(read, chain, strict=True):
        np.testing.assert_array_equal(one, other)
    size = pruning.count_prunable(read)
    assert size - pruning.count_kept(read) == int(0.8 * size + 1e-6)


@pytest.mark.slow
def test_a_stack_of_layers_is_a_chain():
    stack = jax.random.normal(KEY, (3, 4, 4))
    layout = pruning.stacked_layout()
    masks, each = of_chain([stack], 0.5, layout=layout), of_chain(list(stack), 0.5)
    np.testing.assert_array_equal(masks[0], jnp.stack(each))


# --- what walks do not come to --------------------------------------------------------------------


@pytest.mark.slow
def test_after_the_last_walk_weights_follow_by_magnitude():
    """From the one input unit no walk of 64 goes to the second hidden unit but by chance of 1e-12."""
    kernels = [jnp.array([[1.0, 1e-12, 1e-11]]), jnp.array([[1.0, 1.0], [1e-12, 1e-9], [1e-10, 1e-8]])]
    masks = of_chain(kernels, 4 / 9, most_walks=1)
    assert masks[0].tolist() == [[True, False, False]]
    assert masks[1].tolist() == [[True, True], [False, True], [False, True]]


@pytest.mark.slow
def test_zeros_are_never_gone_over():
    params = residual_params()
    masked = jax.tree.map(lambda leaf: jnp.where(abs(leaf) > 0.2, leaf, 0), params)
    masks = of_residual(KEY, masked, 0.9)
    assert all(jax.tree.leaves(jax.tree.map(lambda m, w: bool(jnp.all(~m | (w != 0))), masks, masked)))


@pytest.mark.slow
def test_too_few_weights():
    params = {"a": jnp.ones((4, 3)), "b": jnp.ones((3, 2)), "unused": jnp.ones((5, 5))}
    network = lambda p: ONES @ p["a"] @ p["b"]  # noqa: E731
    with pytest.raises(ValueError, match=r"expected 22 weights .* got 18 \(none of \['unused'\]\)"):
        pruning.phew_masks(KEY, network, params, 0.5)
    with pytest.raises(ValueError, match="got 18"):  # known without the weights
        jax.eval_shape(lambda p: pruning.phew_masks(KEY, network, p, 0.5), params)
    masks = jax.jit(lambda s: pruning.phew_masks(KEY, network, params, s))(0.5)
    assert pruning.count_kept(masks) == 22
    assert masks["a"].all()
    assert masks["b"].all()
    assert masks["unused"].sum() == 4
    used = pruning.prunable_except("unused")
    kept = jax.jit(lambda: pruning.phew_masks(KEY, network, params, 0.5, prunable=used))()
    assert kept["unused"] is None
    with pytest.raises(ValueError, match=r"expected 4 weights that a walk can go over, got 3"):
        pruning.path_weighted_masks(KEY, [jnp.array([[1.0, 1.0], [1.0, 0.0]])], 0.0)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ([], "at least one kernel, .* got none"),
        ([jnp.ones(3)], r"at least two axes and one weight, got \[0\] \(3,\)"),
        ([jnp.ones((3, 0))], r"one weight, got \[0\] \(3, 0\)"),
        ([jnp.ones((3, 4)), jnp.ones((6, 2))], r"expected 4 input units at \[1\], .* got 6"),
    ],
)
def test_kernels_that_are_no_chain(kernels, message):
    with pytest.raises(ValueError, match=message):
        pruning.path_weighted_masks(KEY, kernels, 0.5)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan"), "half"])
def test_a_sparsity_out_of_range(sparsity):
    with pytest.raises(ValueError, match="expected sparsity"):
        pruning.path_weighted_masks(KEY, [jnp.ones((2, 2))], sparsity)
    with pytest.raises(ValueError, match="expected sparsity"):
        pruning.phew_masks(KEY, lambda p: ONES @ p, jnp.ones((4, 2)), sparsity)


def test_a_network_without_a_path():
    with pytest.raises(ValueError, match="expected a path of prunable weights"):
        pruning.phew_masks(KEY, lambda p: jnp.ones((1, 3)), {"w": jnp.ones((4, 3))}, 0.5)
    with pytest.raises(ValueError, match="expected a path of prunable weights"):
        pruning.phew_masks(KEY, lambda p: 0 * ONES @ p["w"], {"w": jnp.ones((4, 3))}, 0.5)


def test_walks_that_are_none():
    with pytest.raises(ValueError, match="expected most_walks >= 1"):
        pruning.path_weighted_masks(KEY, [jnp.ones((2, 2))], 0.5, most_walks=0)
    with pytest.raises(ValueError, match="expected most_walks >= 1, a whole number"):
        jax.jit(lambda n: pruning.path_weighted_masks(KEY, [jnp.ones((2, 2))], 0.5, most_walks=n))(3)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    params = {"a": jnp.array([[1.0, bad]]), "b": jnp.ones((2, 1))}
    with pytest.raises(ValueError, match=r"expected finite weights, got NaN or infinity at \['a'\]"):
        pruning.phew_masks(jax.random.key(0), lambda p: jnp.ones((1, 1)) @ p["a"] @ p["b"], params, 0.5)
