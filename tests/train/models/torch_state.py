"""The oracle's ResNet-20: from a PyTorch state dict to Linen variables and back to its names.

A state dict names its tensors like blocks.3.bn1.running_mean; Linen has stage2/block1/bn1/mean.
Kernels change their layout, convolutions from OIHW to HWIO and linear ones from (out, in) to (in, out).
"""

from pathlib import Path

import numpy as np
import pytest

ORACLES = Path(__file__).parents[3].parent / "shared" / "oracles"
needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason=f"no oracle arrays at {ORACLES}")


def load_resnet20_bn():
    """The case resnet20_bn: `x`, `y`, `logits64`, ..., and `state/NAME`.

    Its own file holds what differs from the case without random BatchNorm.
    """
    arrays = {}
    for file in ("resnet20_state.npz", "resnet20_bn_state.npz"):
        with np.load(ORACLES / file) as found:
            arrays |= dict(found)
    return arrays


def state_dict(arrays):
    """The tensors by their names, without what else the file holds."""
    return {name.removeprefix("state/"): x for name, x in arrays.items() if name.startswith("state/")}


def nhwc(images):
    return images.transpose(0, 2, 3, 1)


def torch_names():
    """Name in the state dict -> path in Linen's params, of every parameter."""
    names = {"conv": ("conv1",), "bn": ("bn1",), "fc": ("dense",)}
    for block in range(9):
        stage = (f"stage{block // 3 + 1}", f"block{block % 3 + 1}")
        for layer in ("conv1", "bn1", "conv2", "bn2"):
            names[f"blocks.{block}.{layer}"] = (*stage, layer)
        if block in (3, 6):
            names[f"blocks.{block}.shortcut.0"] = (*stage, "shortcut_conv")
            names[f"blocks.{block}.shortcut.1"] = (*stage, "shortcut_bn")
    paths = {}
    for name, layer in names.items():
        if "bn" in layer[-1]:
            paths[f"{name}.weight"] = (*layer, "scale")
            paths[f"{name}.bias"] = (*layer, "bias")
        else:
            paths[f"{name}.weight"] = (*layer, "kernel")
    return paths | {"fc.bias": ("dense", "bias")}


def linen_variables(state):
    """The variables of "resnet-20" that a state dict holds, in its dtypes.

    The reference has a scale of ones on its identity shortcuts and counts its batches; neither
    is a variable here.
    """
    state = {name: x for name, x in state.items() if not name.endswith(".num_batches_tracked")}
    variables = {"params": {}, "batch_stats": {}}
    for name, path in torch_names().items():
        _put(variables["params"], path, to_linen(state.pop(name)))
        if path[-1] == "scale":
            layer = name.removesuffix(".weight")
            for statistic, leaf in (("running_mean", "mean"), ("running_var", "var")):
                _put(variables["batch_stats"], (*path[:-1], leaf), state.pop(f"{layer}.{statistic}"))
    for name, ones in state.items():
        assert name.endswith(".shortcut.weight"), f"{name} has no place"
        assert np.all(ones == 1), f"{name} is not the identity"
    return variables


def by_torch_name(tree):
    """Scores, masks or params of "resnet-20" by their names in the state dict, in PyTorch's layout.

    Leaves that are None, such as those that are not prunable, are left out.
    """
    leaves = {name: _get(tree, path) for name, path in torch_names().items()}
    return {name: to_torch(np.asarray(leaf)) for name, leaf in leaves.items() if leaf is not None}


def to_linen(array):
    """A convolution's OIHW to HWIO, a linear layer's (out, in) to (in, out)."""
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim])


def to_torch(array):
    """The inverse of `to_linen`."""
    return array.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim])


def _put(tree, path, leaf):
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = leaf


def _get(tree, path):
    for key in path:
        tree = tree[key]
    return tree
