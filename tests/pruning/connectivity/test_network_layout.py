"""Axes are those that a network's own products contract, however its kernels lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import pruning
from pruning.trees.layout import axes_of
from train.models import make_model

IMAGES, PLACES = jnp.ones((1, 8, 8, 4)), ("NHWC", "HWIO", "NHWC")


def convolved(kernel, groups=1, places=PLACES):
    return lax.conv_general_dilated(
        IMAGES, kernel, (1, 1), "SAME", dimension_numbers=places, feature_group_count=groups
    )


ONES = jnp.ones
CASES = {  # a kernel, what is computed with it, and its axes: stacked, in, out
    "in first": (ONES((4, 6)), lambda w: IMAGES[:, 0, 0] @ w, (0, (0,), (1,))),
    "out first": (ONES((6, 4)), lambda w: IMAGES[:, 0, 0] @ w.T, (0, (1,), (0,))),
    "on the left": (ONES((6, 4)), lambda w: w @ IMAGES[0, 0, 0][:, None], (0, (1,), (0,))),
    "two axes out": (
        ONES((4, 2, 3)),
        lambda w: jnp.einsum("bi,ihd->bhd", IMAGES[:, 0, 0], w),
        (0, (0,), (1, 2)),
    ),
    "two axes in": (
        ONES((4, 4, 3)),
        lambda w: jnp.einsum("bij,ijo->bo", IMAGES[:, :4, 0], w),
        (0, (0, 1), (2,)),
    ),
    "each head its own": (
        ONES((8, 4, 3)),
        lambda w: jnp.einsum("bhi,hio->bho", IMAGES[:, 0], w),
        (1, (1,), (2,)),
    ),
    "a convolution, HWIO": (ONES((3, 3, 4, 6)), convolved, (0, (2,), (3,))),
    "a convolution, OIHW": (
        ONES((6, 4, 3, 3)),
        lambda w: convolved(w, places=("NHWC", "OIHW", "NHWC")),
        (0, (1,), (0,)),
    ),
    "in groups": (ONES((3, 3, 2, 6)), lambda w: convolved(w, 2), (0, (2,), (3,))),
    "each channel alone": (ONES((3, 3, 1, 4)), lambda w: convolved(w, 4), (0, (2,), (3,))),
    "a convolution of patches": (
        ONES((3, 3, 4, 6)),
        lambda w: jnp.ones((1, 8, 8, 36)) @ w.reshape(36, 6),
        (0, (2,), (3,)),
    ),
    "looked up": (ONES((7, 5)), lambda w: w[jnp.array([1, 3])], (0, (0,), (1,))),
    "looked up one by one": (
        ONES((7, 5)),
        lambda w: jax.vmap(lambda token: w[token])(jnp.array([1, 3])),
        (0, (0,), (1,)),
    ),
    "scaled and transposed": (ONES((6, 4)), lambda w: IMAGES[:, 0, 0] @ (0.5 * w).T, (0, (1,), (0,))),
    "an inner mask": (ONES((6, 4)), lambda w: IMAGES[:, 0, 0] @ (w * ONES((6, 4))).T, (0, (1,), (0,))),
    "a constant for each row": (
        ONES((6, 4)),
        lambda w: IMAGES[:, 0, 0] @ (w / ONES((6, 1))).T,
        (0, (1,), (0,)),
    ),
    "a convolution of an inner mask": (
        ONES((6, 4, 3, 3)),
        lambda w: convolved(w * ONES((1, 1, 3, 3)), places=("NHWC", "OIHW", "NHWC")),
        (0, (1,), (0,)),
    ),
    "of an input that is scaled by others": (
        ONES((6, 4)),
        lambda w: (IMAGES[:, 0, 0] * w[:1]) @ w.T,
        (0, (1,), (0,)),
    ),
    "named": (ONES((6, 4)), lambda w: IMAGES[:, 0, 0] @ checkpoint_name(w, "w").T, (0, (1,), (0,))),
    "put on a device": (
        ONES((6, 4)),
        lambda w: IMAGES[:, 0, 0] @ jax.device_put(w, jax.devices()[0]).T,
        (0, (1,), (0,)),
    ),
    "a function of each": (ONES((6, 4)), lambda w: IMAGES[:, 0, 0] @ jnp.tanh(w**2).T, (0, (1,), (0,))),
}


@pytest.mark.parametrize("case", CASES)
def test_axes_are_those_of_the_product(case):
    kernel, compute, (stacked, inputs, outputs) = CASES[case]
    params = {"kernel": kernel, "bias": jnp.ones(2)}
    read = pruning.network_layout(lambda params: compute(params["kernel"]), params)
    path, _ = jax.tree_util.tree_leaves_with_path(params)[1]
    assert read(path, kernel) == pruning.Axes(stacked, inputs, outputs)


@pytest.mark.parametrize("name", ["lenet-5", pytest.param("vgg-11", marks=pytest.mark.slow)])
def test_the_models_have_the_layout_of_flax(name):
    model, images = make_model(name, num_classes=10), jnp.ones((1, 32, 32, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    output = lambda params: model.apply({**zeros, "params": params}, images)  # noqa: E731
    params = zeros["params"]
    read = pruning.network_layout(output, params)
    kernels = jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else None, params)
    assert axes_of(read, kernels) == axes_of(pruning.flax_layout, kernels)


def test_groups_lie_along_what_is_contracted():
    """Of a kernel that is stored (out, in), which Flax's layout would group along its outputs."""
    scores = {"w": jnp.array([[4.0, 3, 2, 1], [1, 2, 3, 4]])}
    read = pruning.network_layout(lambda params: jnp.ones((1, 4)) @ params["w"].T, scores)
    masks = pruning.n_m_masks(scores, 2, 4, layout=read)
    np.testing.assert_array_equal(masks["w"], [[1, 1, 0, 0], [0, 0, 1, 1]])


def test_what_enters_no_product_has_the_other_layout():
    params = {"used": jnp.ones((4, 6)), "unused": jnp.ones((4, 6))}
    read = pruning.network_layout(
        lambda params: IMAGES[:, 0, 0] @ params["used"], params, layout=pruning.equinox_layout
    )
    (path, leaf), _ = jax.tree_util.tree_leaves_with_path(params)
    assert "unused" in str(path)
    assert read(path, leaf) == pruning.Axes(0, (1,), (0,))


@pytest.mark.parametrize(
    ("params", "compute", "says"),
    [
        (
            {"w": jnp.ones((4, 4))},
            lambda params: IMAGES[:, 0, 0] @ params["w"] @ params["w"].T,
            r"one use of \['w'\], or several alike",
        ),
        (
            {"a": jnp.ones((4, 2)), "b": jnp.ones((4, 3))},
            lambda params: IMAGES[:, 0, 0] @ jnp.concatenate([params["a"], params["b"]], axis=1),
            r"got \['a'\], \['b'\] put together",
        ),
        (
            {"w": jnp.ones((4, 8, 3))},
            lambda params: jnp.einsum("bhi,iho->bho", IMAGES[:, 0], params["w"]),
            r"the batched axes of \['w'\] to lead, got \[1\]",
        ),
        (
            {"w": jnp.ones((6, 4))},
            lambda params: IMAGES[:, 0, 0] @ jnp.exp(params["w"]).T,
            r"got \['w'\] combined with others, or a function of it",
        ),
        (
            {"v": jnp.ones((6, 4)), "w": jnp.ones((6, 4))},
            lambda params: IMAGES[:, 0, 0] @ (params["v"] * params["w"]).T,
            r"got \['v'\], \['w'\] combined with others",
        ),
    ],
)
def test_what_has_no_one_layout_is_refused(params, compute, says):
    with pytest.raises(ValueError, match=says):
        pruning.network_layout(compute, params)


def test_weights_are_read_beside_others_that_are_not():
    """A scale of units, weights that are frozen, and gates that are never 0 do not hide a kernel."""
    params = {"scale": jnp.ones(6), "frozen": jnp.ones((6, 4)), "gate": ONES((6, 4)), "w": ONES((6, 4))}

    def output_fn(params):
        kernel = params["frozen"] + params["w"] * params["scale"][:, None]
        return IMAGES[:, 0, 0] @ (kernel * jax.nn.sigmoid(params["gate"])).T

    read = pruning.network_layout(
        output_fn, params, prunable=lambda path, leaf: "frozen" not in str(path)
    )
    path, leaf = jax.tree_util.tree_leaves_with_path(params)[-1]
    assert read(path, leaf) == pruning.Axes(0, (1,), (0,))


@pytest.mark.parametrize("said", [pruning.flax_layout, pruning.stacked_layout()])
def test_layers_that_are_taken_one_after_another_are_stacked(said):
    params = {"w": jax.random.normal(jax.random.key(0), (3, 6, 6))}

    def scanned(params):
        return lax.scan(lambda x, w: (jnp.tanh(x @ w), None), jnp.ones((1, 6)), params["w"])[0]

    layout = pruning.network_layout(scanned, params, layout=said)
    assert layout((jax.tree_util.DictKey("w"),), params["w"]) == (1, (1,), (2,))
    masks = pruning.constant_fan_in_masks(pruning.magnitude_scores(params), 0.5, layout=layout)
    assert np.all(masks["w"].sum(axis=1) == 3)


def test_trees_of_another_network_are_refused_and_boxes_at_the_end_of_paths_are_not():
    params = {"params": {"w": jnp.ones((6, 4))}}
    layout = pruning.network_layout(lambda p: jnp.ones((1, 4)) @ p["params"]["w"].T, params)
    boxed = jax.tree_util.GetAttrKey("value")
    path = tuple(jax.tree_util.DictKey(word) for word in ("params", "w"))
    assert layout((*path, boxed), params["params"]["w"]) == layout(path, params["params"]["w"])
    with pytest.raises(ValueError, match=r"got \['w'\]: pass a tree like its params"):
        pruning.n_m_masks({"w": jnp.ones((6, 4))}, 1, 2, layout=layout)
