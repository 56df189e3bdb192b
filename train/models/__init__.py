"""Models of the pruning literature, as Flax Linen modules.

Every model maps images (batch, H, W, C) of any size to logits (batch, num_classes), by
`model(images, *, train=False)`; a Vision Transformer's sides are multiples of its patch, and a Mixer has
the size of the images that it was begun with.
`train` makes BatchNorm normalise with the batch's statistics and move the running ones; without
BatchNorm it changes nothing.

A file a family: `plain` (LeNets, Conv-2/4/6), `resnet`, `wide_resnet`, `vgg`, `vit`, `mixer`; `layers`
and `initializers` are shared, `sized` gives layers other numbers of units, `registry` knows the names,
`order` the order of layers.
"""

from train.models.initializers import INITIALIZERS, SCALE_INITIALIZERS
from train.models.order import layers_in_order
from train.models.registry import MODELS, find_model, make_model, param_shapes

__all__ = [
    "INITIALIZERS",
    "MODELS",
    "SCALE_INITIALIZERS",
    "find_model",
    "layers_in_order",
    "make_model",
    "param_shapes",
]
