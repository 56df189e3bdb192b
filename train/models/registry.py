"""The models by name, and how one is made from its name."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from train.models.initializers import KAIMING_NORMAL, ONES
from train.models.mixer import Mixer
from train.models.plain import ConvNet, LeNet5, LeNet300100
from train.models.resnet import Bottleneck, ResNet, large_stem
from train.models.vgg import VGG, VGG_11, VGG_13, VGG_16, VGG_19
from train.models.vit import VisionTransformer
from train.models.wide_resnet import WideResNet, check_size

Constructor = Callable[..., nn.Module]
"""A model's class with its size bound; called with the remaining fields as keywords."""


def _cifar_resnet(depth: int) -> Constructor:
    return functools.partial(ResNet, blocks=((depth - 2) // 6,) * 3, channels=(16, 32, 64))


_IMAGENET_RESNET = functools.partial(ResNet, channels=(64, 128, 256, 512))

_WITHOUT_BATCH_NORM: dict[str, Constructor] = {
    "lenet-300-100": LeNet300100,
    "lenet-5": LeNet5,
    "conv-2": functools.partial(ConvNet, widths=(64,)),
    "conv-4": functools.partial(ConvNet, widths=(64, 128)),
    "conv-6": functools.partial(ConvNet, widths=(64, 128, 256)),
    "mixer-small": functools.partial(
        Mixer, patch=16, width=512, layers=8, tokens_width=256, channels_width=2048
    ),
    "vit-tiny": functools.partial(VisionTransformer, patch=16, width=192, heads=3),
    "vit-small": functools.partial(VisionTransformer, patch=16, width=384, heads=6),
    "vit-tiny-4": functools.partial(
        VisionTransformer, patch=4, width=192, heads=12, layers=9, mlp_ratio=2
    ),
}
_WITH_BATCH_NORM: dict[str, Constructor] = {
    "resnet-20": _cifar_resnet(20),
    "resnet-32": _cifar_resnet(32),
    "resnet-44": _cifar_resnet(44),
    "resnet-56": _cifar_resnet(56),
    "resnet-110": _cifar_resnet(110),
    "resnet-18": functools.partial(_IMAGENET_RESNET, blocks=(2, 2, 2, 2), stem=large_stem),
    "resnet-18-cifar": functools.partial(_IMAGENET_RESNET, blocks=(2, 2, 2, 2)),
    "resnet-50": functools.partial(
        _IMAGENET_RESNET, blocks=(3, 4, 6, 3), block=Bottleneck, stem=large_stem
    ),
    "vgg-11": functools.partial(VGG, channels=VGG_11),
    "vgg-13": functools.partial(VGG, channels=VGG_13),
    "vgg-16": functools.partial(VGG, channels=VGG_16),
    "vgg-19": functools.partial(VGG, channels=VGG_19),
}
_WIDE_RESNET = re.compile(r"wide-resnet-(0|[1-9]\d*)-(0|[1-9]\d*)")

MODELS: dict[str, Constructor] = _WITHOUT_BATCH_NORM | _WITH_BATCH_NORM
"""Models by the name that a command line takes. Wide residual networks have one for each depth and
width and are not listed; `find_model` knows them too."""


def find_model(name: str) -> Constructor:
    """Find a model by its name, for instance to check one given on a command line.

    Args:
        name: A key of `MODELS`, or wide-resnet-DEPTH-WIDTH such as wide-resnet-28-10.

    Raises:
        ValueError: If there is no model of that name; lists the valid names. If a wide residual
            network's depth is not 6n + 4.
    """
    if name in MODELS:
        return MODELS[name]
    if wide := _WIDE_RESNET.fullmatch(name):
        depth, width = map(int, wide.groups())
        check_size(depth, width)
        return functools.partial(WideResNet, depth=depth, width=width)
    valid = ", ".join([*MODELS, "wide-resnet-DEPTH-WIDTH (depth 6n + 4)"])
    raise ValueError(f"unknown model {name!r}; the valid names are: {valid}")


def make_model(
    name: str,
    *,
    num_classes: int,
    kernel_init: Initializer = KAIMING_NORMAL,
    scale_init: Initializer = ONES,
    dtype: Any = None,
) -> nn.Module:
    """Build a model by its name.

    Args:
        num_classes: Number of logits, at least 1.
        kernel_init: Initializer of the kernels, such as one of `INITIALIZERS`.
        scale_init: Initializer of BatchNorm's scales, such as one of `SCALE_INITIALIZERS`; models
            without BatchNorm have no use for it.
        dtype: Dtype of the computation; None for that of images and parameters.

    Returns:
        The module: `module.init(key, images)` gives `{"params": ...}`, with BatchNorm
        `"batch_stats"` too; `module.apply(variables, images)` gives the logits, and
        `module.apply(variables, images, train=True, mutable=["batch_stats"])` logits and new
        statistics.

    Raises:
        ValueError: As in `find_model`.
    """
    options: dict[str, Any] = {"kernel_init": kernel_init, "dtype": dtype}
    if name not in _WITHOUT_BATCH_NORM:
        options["scale_init"] = scale_init
    return find_model(name)(num_classes=num_classes, **options)


def param_shapes(model: nn.Module, image_shape: Sequence[int]) -> Any:
    """The shapes of a model's params; computes nothing.

    Args:
        image_shape: (H, W, C) of an image.

    Returns:
        The params, as ``jax.ShapeDtypeStruct``.
    """
    image = jnp.zeros((1, *image_shape))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image)["params"])
