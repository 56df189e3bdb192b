"""Vision Transformers: values by hand, what is prunable, scores and structures, and compaction."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from pruning.connectivity.compaction.compact import compact
from pruning.trees.layout import axes_of
from train.evaluation import cross_entropy
from train.models import layers_in_order, make_model, param_shapes
from train.models.sized import resized
from train.models.vit import VisionTransformer

from .by_hand import dense, draw_images, draw_variables, gelu, layer_normalise, patches_of

TINY = VisionTransformer(num_classes=3, patch=2, width=8, heads=2, layers=2)
"""Five tokens of images of 4x4 pixels, heads of 4 dimensions, MLPs of 32 units."""
SHAPE = (4, 4, 3)
BLOCKS = ("block1", "block2")


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def drawn():
    """Params of TINY, biases too."""
    variables = draw_variables(TINY, np.zeros((1, *SHAPE)))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables["params"])


def initial():
    params = jax.jit(TINY.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)))["params"]
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)


def images(count):
    return jnp.asarray(draw_images(count, *SHAPE), jnp.float64)


@jax.jit
def apply(variables, x):
    return TINY.apply(variables, x)


def output(params):
    return TINY.apply({"params": params}, jnp.ones((1, *SHAPE)))


def loss(params, batch):
    return cross_entropy(TINY.apply({"params": params}, batch[0]), batch[1]).mean()


def test_the_network_by_hand_with_flaxs_attention():
    params, x = jax.tree.map(np.asarray, drawn()), np.asarray(images(3))
    kernel = params["patch_embedding"]["kernel"].reshape(12, 8)
    tokens = patches_of(x, 2) @ kernel + params["patch_embedding"]["bias"]
    first = np.broadcast_to(params["class_token"], (3, 1, 8))
    x = np.concatenate([first, tokens], axis=1) + params["position_embedding"]
    attend = jax.jit(nn.MultiHeadDotProductAttention(num_heads=2).apply)
    for name in BLOCKS:
        block = params[name]
        x = x + np.asarray(attend({"params": block["attention"]}, layer_normalise(x, block["norm1"])))
        hidden = gelu(dense(layer_normalise(x, block["norm2"]), block["dense1"]))
        x = x + dense(hidden, block["dense2"])
    expected = dense(layer_normalise(x[:, 0], params["norm"]), params["head"])
    np.testing.assert_allclose(apply({"params": params}, images(3)), expected, rtol=1e-10)


def test_kernels_are_prunable_and_nothing_else_in_the_order_of_the_network():
    of_block = [f"['attention']['{name}']" for name in ("query", "key", "value", "out")]
    of_block += ["['dense1']", "['dense2']"]
    layers = [f"['{block}']{layer}" for block in BLOCKS for layer in of_block]
    layers = ["['patch_embedding']", *layers, "['head']"]
    assert layers_in_order(TINY, SHAPE) == [f"{layer}['kernel']" for layer in layers]


@pytest.mark.parametrize("shape", [(4, 5, 3), (3, 4, 3)])
def test_a_side_that_the_patch_does_not_divide_is_refused(shape):
    with pytest.raises(ValueError, match=f"multiples of the patch's 2 pixels, got {shape[0]}x{shape[1]}"):
        param_shapes(TINY, shape)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads that divide the width, got 3 and 8"):
        param_shapes(TINY.clone(heads=3), SHAPE)


def test_sides_may_differ():
    model = make_model("vit-tiny-4", num_classes=7)
    assert param_shapes(model, (8, 12, 1))["position_embedding"].shape == (1, 7, 192)


@pytest.mark.slow
def test_members_side_by_side_are_members_in_turn():
    members = [drawn(), initial()]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    apply = functools.partial(TINY.apply, train=True)
    found = jax.vmap(lambda params: apply({"params": params}, images(2)))(stacked)
    for params, logits in zip(members, found, strict=True):
        np.testing.assert_allclose(logits, apply({"params": params}, images(2)), rtol=1e-12)


@pytest.mark.slow
def test_the_softmax_of_a_network_in_bfloat16_is_in_float32():
    jaxpr = str(jax.make_jaxpr(TINY.clone(dtype=jnp.bfloat16).apply)({"params": initial()}, images(2)))
    assert ":f32[2,2,5,5] = exp" in jaxpr
    assert ":bf16[2,2,5,5] = exp" not in jaxpr


@pytest.mark.slow
def test_synflow_empties_no_layer_through_which_all_that_flows_must_go():
    """Query and key, which only move what flows between tokens, have no part in it, and may go."""
    prune = jax.jit(
        lambda params: pruning.iterative_masks(
            lambda masked: pruning.synflow_scores(output, masked), params, 0.9, rounds=100
        )
    )
    params = initial()
    kept = {row.path: row.kept for row in pruning.layer_report(params, prune(params))}
    assert sum(kept.values()) == 1656 - math.floor(0.9 * 1656)
    assert all(count for path, count in kept.items() if "query" not in path and "key" not in path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "score", [pruning.snip_scores, pytest.param(pruning.grasp_scores, marks=pytest.mark.slow)]
)
def test_scores_of_every_kernel_are_finite_and_not_zero(score):
    batch = images(6), jnp.arange(6) % 3
    scores = jax.jit(lambda params: score(loss, params, [batch]))(initial())
    assert jax.tree.structure(scores) == jax.tree.structure(pruning.magnitude_scores(initial()))
    for leaf in jax.tree.leaves(scores):
        assert bool(jnp.isfinite(leaf).all())
        assert bool((leaf != 0).any())


@pytest.mark.slow
def test_erdos_renyi_kernel_removes_what_was_asked_and_counts_attention_as_square_matrices():
    sparsities = pruning.erdos_renyi_kernel(initial(), 0.5)
    sizes = jax.tree.map(jnp.size, pruning.magnitude_scores(initial()))
    removed = jax.tree.map(lambda sparsity, size: sparsity * size, sparsities, sizes)
    assert sum(jax.tree.leaves(removed)) == pytest.approx(0.5 * sum(jax.tree.leaves(sizes)))
    attention = sparsities["block1"]["attention"]
    # (8 + 8) / 64 against (8 + 32) / 256, and (2 + 2 + 3 + 8) / 96 of the patches.
    density = 1 - attention["query"]["kernel"]
    assert 1 - attention["out"]["kernel"] == pytest.approx(density)
    assert 1 - sparsities["block1"]["dense1"]["kernel"] == pytest.approx(density * (40 / 256) / (16 / 64))
    assert 1 - sparsities["patch_embedding"]["kernel"] == pytest.approx(density * (15 / 96) / (16 / 64))


@pytest.mark.slow
def test_two_of_four_lie_along_what_attentions_products_sum_over():
    scores = pruning.magnitude_scores(drawn(), prunable=pruning.prunable_except("patch_embedding"))
    attention = pruning.n_m_masks(scores, 2, 4)["block1"]["attention"]
    for name in ("query", "key", "value"):  # Of 8 inputs, for each head and dimension.
        assert (attention[name]["kernel"].reshape(2, 4, 2, 4).sum(axis=1) == 2).all()
    assert (attention["out"]["kernel"].reshape(2, 4, 8).sum(axis=1) == 2).all()  # Of 2 heads with 4.


def one_block():
    """A network with one block, for what is read from the program."""
    model = TINY.clone(layers=1)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)))["params"]
    return (lambda params: model.apply({"params": params}, jnp.ones((1, *SHAPE)))), params


@pytest.mark.slow
def test_operations_by_hand():
    output_fn, params = one_block()
    rows = pruning.network_report(output_fn, params, pruning.full_masks(params))
    found = {row.path: row.dense_flops for row in rows}
    for name in ("query", "key", "value", "out"):  # 2 for a multiply-add, 5 tokens, 8 to 8 units.
        assert found.pop(f"['block1']['attention']['{name}']['kernel']") == 2 * 5 * 8 * 8
    assert found == {
        "['block1']['dense1']['kernel']": 2 * 5 * 8 * 32,
        "['block1']['dense2']['kernel']": 2 * 5 * 32 * 8,
        "['head']['kernel']": 2 * 8 * 3,
        "['patch_embedding']['kernel']": 2 * 4 * 12 * 8,
    }
    assert all(row.effective_kept == row.size for row in rows)


@pytest.mark.slow
def test_the_layout_that_is_read_from_the_network_is_flaxs():
    output_fn, params = one_block()
    read = pruning.network_layout(output_fn, params)
    kernels = pruning.full_masks(params)
    assert axes_of(read, kernels) == axes_of(pruning.flax_layout, kernels)


def without_head(params, head):
    """Params of a network that lacks a head of each block."""
    smaller = jax.tree.map(lambda leaf: leaf, params)
    for block in BLOCKS:
        attention = smaller[block]["attention"]
        for name in ("query", "key", "value"):
            layer = attention[name]
            layer["kernel"] = jnp.delete(layer["kernel"], head, axis=1)
            layer["bias"] = jnp.delete(layer["bias"], head, axis=0)
        attention["out"]["kernel"] = jnp.delete(attention["out"]["kernel"], head, axis=0)
    return smaller


def masks_without_head(params, head):
    masks = pruning.full_masks(params)
    for block in BLOCKS:
        attention = masks[block]["attention"]
        for name in ("query", "key", "value"):
            attention[name]["kernel"] = attention[name]["kernel"].at[:, head].set(False)
        attention["out"]["kernel"] = attention["out"]["kernel"].at[head].set(False)
    return masks


@pytest.mark.slow
def test_a_masked_head_is_no_head():
    params = drawn()
    expected = apply({"params": pruning.apply_masks(params, masks_without_head(params, 0))}, images(3))
    smaller = without_head(params, 0)
    model = resized(TINY, smaller)
    assert model.units["block1/attention/query"] == (1, 4)
    assert model.units["block1/attention/out"] == 8
    found = jax.jit(model.apply)({"params": smaller}, images(3))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def check_compaction(params, masks):
    """The compacted params, whose network and resized model compute what the masked one does."""

    small = compact(TINY.apply, {"params": params}, {"params": masks}, jnp.zeros((1, *SHAPE)))
    expected = apply({"params": pruning.apply_masks(params, masks)}, images(5))
    found = jax.jit(small.apply_fn)(small.variables, images(5))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    found = jax.jit(resized(TINY, small.variables["params"]).apply)(small.variables, images(5))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    return small.variables["params"]


@pytest.mark.slow
def test_compaction_removes_masked_heads_and_units_of_the_mlp():
    params = drawn()
    masks = masks_without_head(params, 1)
    for block in BLOCKS:
        masks[block]["dense1"]["kernel"] = masks[block]["dense1"]["kernel"].at[:, ::2].set(False)
    block = check_compaction(params, masks)["block2"]
    shapes = {name: block["attention"][name]["kernel"].shape for name in ("query", "value", "out")}
    assert shapes == {"query": (8, 1, 4), "value": (8, 1, 4), "out": (1, 4, 8)}
    assert block["dense1"]["kernel"].shape == (8, 16)
    assert block["dense2"]["kernel"].shape == (16, 8)


@pytest.mark.slow
def test_compaction_removes_masked_dimensions_of_heads_and_products_are_scaled_as_before():
    params, masks = drawn(), pruning.full_masks(drawn())
    for block in BLOCKS:
        for name in ("query", "key"):
            layer = params[block]["attention"][name]
            layer["bias"] = layer["bias"].at[:, 2].set(0)
            mask = masks[block]["attention"][name]
            mask["kernel"] = mask["kernel"].at[:, :, 2].set(False)
    attention = check_compaction(params, masks)["block1"]["attention"]
    assert attention["query"]["kernel"].shape == attention["key"]["kernel"].shape == (8, 2, 3)
    assert attention["value"]["kernel"].shape == (8, 2, 4)


def test_a_model_takes_the_width_of_other_params():
    other = param_shapes(TINY.clone(width=12, heads=3, mlp_ratio=2), SHAPE)
    assert param_shapes(resized(TINY, other), SHAPE) == other
