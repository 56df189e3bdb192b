"""Names, and what every model of that name has in common. Nothing here computes a network."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.layers.convolution import conv_general_dilated
from train.models import MODELS, find_model, make_model
from train.models.initializers import KAIMING_NORMAL, ONES
from train.models.wide_resnet import WideResNet

from .by_hand import abstract_variables

# One of each family, whose others are deeper or wider.
FAMILIES = ["lenet-300-100", "lenet-5", "conv-2", "resnet-20", "resnet-50", "vgg-11", "wide-resnet-16-8"]
NORMALISED = {name for name in FAMILIES if name.startswith(("resnet", "vgg", "wide"))}
MARKED = [pytest.param(name, marks=[pytest.mark.slow] * (name == "resnet-50")) for name in FAMILIES]
every_family = pytest.mark.parametrize("name", MARKED)


@pytest.mark.parametrize("image", [(1, 3, 1), (37, 21, 2)])
@every_family
def test_any_image_size(name, image):
    logits, _ = abstract_variables(name, image, num_classes=7)
    assert logits.shape == (5, 7)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("options", [{"train": True}, {}], ids=["train", "default"])
@pytest.mark.parametrize("name", [*MARKED, "vit-tiny-4"])
def test_every_layer_has_the_options(name, options):
    """Convolutions have fast gradients, all compute in the dtype, BatchNorm hears of training.

    Kernels and scales of BatchNorm come from their initializers; biases begin at zero.
    """
    called = []

    def note(next_call, args, kwargs, context):
        called.append(context.module)
        return next_call(*args, **kwargs)

    twos, threes = jax.nn.initializers.constant(2.0), jax.nn.initializers.constant(3.0)
    model = make_model(name, num_classes=3, dtype=jnp.bfloat16, kernel_init=threes, scale_init=twos)
    variables = abstract_variables(name, (8, 8, 3), num_classes=3)[1]
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    apply = functools.partial(model.apply, mutable=["batch_stats"], **options)
    with nn.intercept_methods(note):
        logits, changed = jax.eval_shape(apply, variables, images)

    convs, norms, layer_norms, denses = (
        [layer for layer in called if isinstance(layer, kind)]
        for kind in (nn.Conv, nn.BatchNorm, nn.LayerNorm, (nn.Dense, nn.DenseGeneral))
    )
    assert denses
    assert all(layer.dtype == jnp.bfloat16 for layer in convs + norms + layer_norms + denses)
    assert all(layer.kernel_init is threes for layer in convs + denses)
    assert all(layer.scale_init is twos for layer in norms)
    assert all(layer.bias_init is nn.initializers.zeros for layer in convs + norms + denses)
    assert all(conv.conv_general_dilated is conv_general_dilated for conv in convs)
    assert all(norm.use_running_average is not options.get("train", False) for norm in norms)
    assert bool(norms) == bool(changed) == (name in NORMALISED)

    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves([variables, changed])} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", [*MODELS, "wide-resnet-16-8"])
def test_default_initializers(name):
    models = [make_model(name, num_classes=3), find_model(name)(num_classes=3)]
    for model in models:
        assert model.kernel_init is KAIMING_NORMAL
        assert getattr(model, "scale_init", ONES) is ONES


def test_wide_networks_by_name():
    model = make_model("wide-resnet-22-3", num_classes=5, dtype=jnp.float32)
    assert model == WideResNet(num_classes=5, depth=22, width=3, dtype=jnp.float32)


@pytest.mark.parametrize(
    "name", ["lenet", "", "wide-resnet", "wide-resnet-28", "wide-resnet-28-1.5", "wide-resnet-28-010"]
)
def test_an_unknown_name_lists_the_known_ones(name):
    known = "lenet-300-100, lenet-5, .*resnet-20, .*vgg-19, wide-resnet-DEPTH-WIDTH"
    for find in (find_model, lambda name: make_model(name, num_classes=10)):
        with pytest.raises(ValueError, match=f"unknown model '{name}'.*{known}"):
            find(name)


@pytest.mark.parametrize("depth", [0, 4, 9, 11, 27])
def test_a_bad_depth_is_named(depth):
    with pytest.raises(ValueError, match=rf"depth of 6n \+ 4 \(10, 16, .*, got {depth}"):
        find_model(f"wide-resnet-{depth}-2")
    with pytest.raises(ValueError, match=rf"got {depth}"):
        WideResNet(10, depth, 2).init(jax.random.key(0), np.zeros((1, 8, 8, 3)))


def test_a_bad_width_is_named():
    with pytest.raises(ValueError, match="width >= 1, got 0"):
        make_model("wide-resnet-28-0", num_classes=10)
