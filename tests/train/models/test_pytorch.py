"""A network that is handed over computes the same logits in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from train.models import make_model
from train.models.pytorch import to_pytorch


def drawn(name, shape):
    """Variables that are nowhere 0 or 1, and images."""
    images = jax.random.normal(jax.random.key(1), (2, *shape))
    model = make_model(name, num_classes=3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    keys = iter(jax.random.split(jax.random.key(2), 200))
    variables = jax.tree.map(lambda leaf: jax.random.uniform(next(keys), leaf.shape, minval=-0.2), shapes)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    return model, variables, images


@pytest.mark.slow
def test_names_and_layouts():
    model, variables, images = drawn("resnet-20", (8, 8, 3))
    state = to_pytorch(model.apply, variables, images)
    params = variables["params"]
    assert len(state) == len(jax.tree.leaves(variables))
    kernel = params["stage2"]["block1"]["conv1"]["kernel"]
    np.testing.assert_array_equal(state["stage2.block1.conv1.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(state["dense.weight"], params["dense"]["kernel"].T)
    np.testing.assert_array_equal(state["bn1.weight"], params["bn1"]["scale"])
    np.testing.assert_array_equal(state["bn1.running_var"], variables["batch_stats"]["bn1"]["var"])


@pytest.mark.slow
def test_rows_of_the_first_dense_layer_are_in_the_order_of_a_flattened_image_there():
    """By hand: PyTorch's logits of the pixels in its own order."""
    model, variables, images = drawn("lenet-300-100", (2, 3, 4))
    state = to_pytorch(model.apply, variables, images)
    x = np.asarray(images).transpose(0, 3, 1, 2).reshape(2, -1)
    for layer in ("dense1", "dense2", "dense3"):
        x = x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        x = x if layer == "dense3" else np.maximum(x, 0)
    np.testing.assert_allclose(x, model.apply(variables, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "function", [lambda x: 0.5 * x, lambda x: jnp.maximum(0, x - 1), lambda x: jnp.where(x > 0, x, 0)]
)
def test_functions_of_entries_leave_a_flattened_image_one(function):
    variables = {"params": {"dense": {"kernel": jnp.arange(24.0).reshape(12, 2)}}}

    def apply_fn(variables, images):
        return function(images.reshape(len(images), -1)) @ variables["params"]["dense"]["kernel"]

    state = to_pytorch(apply_fn, variables, jnp.ones((2, 2, 3, 2)))
    expected = np.arange(24.0).reshape(2, 3, 2, 2).transpose(2, 0, 1, 3).reshape(12, 2).T
    np.testing.assert_array_equal(state["dense.weight"], expected)


@pytest.mark.slow
def test_masks_are_handed_over_with_the_weights():
    model, variables, images = drawn("lenet-5", (16, 16, 3))
    masks = pruning.random_masks(jax.random.key(3), variables["params"], 0.9)
    masked = pruning.apply_masks(variables, {"params": masks})
    weights, kept = (
        to_pytorch(model.apply, masked, images),
        to_pytorch(model.apply, variables, images, {"params": masks}),
    )
    assert set(kept) == {name for name in weights if name.endswith("weight")}
    assert all(((weights[name] != 0) == mask).all() for name, mask in kept.items())


def test_what_has_no_layout_there_is_named():
    with pytest.raises(ValueError, match=r"at \['params'\]\['q'\]\['kernel'\], got shape \(2, 3, 4\)"):
        to_pytorch(lambda v, x: x, {"params": {"q": {"kernel": jnp.ones((2, 3, 4))}}}, jnp.ones((1, 2)))


def _lenet5(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(200, 500), nn.ReLU(), nn.Linear(500, 3),
    ), {"0": "conv1", "3": "conv2", "7": "dense1", "9": "dense2"}  # fmt: skip


def test_logits_in_pytorch_are_the_same():
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `benchmarks`")
    model, variables, images = drawn("lenet-5", (20, 20, 3))
    masked = pruning.apply_masks(
        variables, {"params": pruning.random_masks(jax.random.key(3), variables["params"], 0.8)}
    )
    state = to_pytorch(model.apply, masked, images)
    network, names = _lenet5(torch)
    there = {
        f"{place}.{leaf}": torch.from_numpy(state[f"{layer}.{leaf}"])
        for place, layer in names.items()
        for leaf in ("weight", "bias")
    }
    network.load_state_dict(there)
    with torch.no_grad():
        logits = network(torch.from_numpy(np.array(images).transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(logits, model.apply(masked, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "made",
    [
        lambda kernel: kernel.astype(jnp.bfloat16),
        lambda kernel: jnp.where(jnp.arange(24).reshape(12, 2) % 2 == 0, kernel, 0),
    ],
)
def test_a_kernel_may_be_cast_or_masked_in_the_network(made):
    variables = {"params": {"dense": {"kernel": jnp.arange(24.0).reshape(12, 2)}}}

    def apply_fn(variables, images):
        kernel = made(variables["params"]["dense"]["kernel"])
        return images.reshape(len(images), -1).astype(kernel.dtype) @ kernel

    state = to_pytorch(apply_fn, variables, jnp.ones((2, 2, 3, 2)))
    expected = np.arange(24.0).reshape(2, 3, 2, 2).transpose(2, 0, 1, 3).reshape(12, 2).T
    np.testing.assert_array_equal(state["dense.weight"], expected)


def test_a_kernel_that_is_computed_otherwise_is_refused():
    """The order of its rows cannot be told."""
    variables = {"params": {"u": {"kernel": jnp.ones((12, 1))}, "v": {"kernel": jnp.ones((1, 2))}}}

    def apply_fn(variables, images):
        first, second = (variables["params"][name]["kernel"] for name in "uv")
        return images.reshape(len(images), -1) @ (first @ second)

    with pytest.raises(
        ValueError, match=r"one kernel that the flattened image of \(2, 3, 2\) .* found none"
    ):
        to_pytorch(apply_fn, variables, jnp.ones((2, 2, 3, 2)))


def test_a_product_with_constants_has_no_order_to_restore():
    variables = {"params": {"v": {"kernel": jnp.arange(6.0).reshape(3, 2)}}}

    def apply_fn(variables, images):
        return images.reshape(len(images), -1) @ jnp.ones((12, 3)) @ variables["params"]["v"]["kernel"]

    state = to_pytorch(apply_fn, variables, jnp.ones((2, 2, 3, 2)))
    np.testing.assert_array_equal(state["v.weight"], np.arange(6.0).reshape(3, 2).T)
