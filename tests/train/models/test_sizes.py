"""Numbers of weights and parameters against the literature's, and the names of the parameters."""

import jax
import pytest

from .by_hand import abstract_variables


def leaves(name, image, num_classes):
    """The parameters; no statistics."""
    return jax.tree.leaves_with_path(abstract_variables(name, image, num_classes)[1]["params"])


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet-20", 270_896),
        ("resnet-32", 464_432),
        ("resnet-44", 657_968),
        ("resnet-56", 851_504),
        ("resnet-110", 1_722_416),
        ("vgg-11", 9_222_848),
        ("vgg-13", 9_407_168),
        ("vgg-16", 14_715_584),
        ("vgg-19", 20_024_000),
        ("wide-resnet-28-10", 36_461_232),
    ],
)
def test_prunable_weights_on_cifar_10(name, weights):
    assert sum(leaf.size for _, leaf in leaves(name, (32, 32, 3), 10) if leaf.ndim >= 2) == weights


@pytest.mark.parametrize(
    ("name", "image", "num_classes", "parameters"),
    [
        ("resnet-18", (224, 224, 3), 1000, 11_689_512),  # torchvision's
        ("resnet-50", (224, 224, 3), 1000, 25_557_032),  # torchvision's
        # Without the stem's 147 - 27 weights for each of 64 channels, and 800 classes of 513 each.
        ("resnet-18-cifar", (64, 64, 3), 200, 11_689_512 - 64 * 120 - 800 * 513),
        ("wide-resnet-28-10", (32, 32, 3), 10, 36_479_194),  # the paper says 36.5M
        ("wide-resnet-16-8", (32, 32, 3), 10, 10_961_370),  # 11.0M
        ("wide-resnet-40-4", (32, 32, 3), 10, 8_949_210),  # 8.9M
    ],
)
def test_all_parameters(name, image, num_classes, parameters):
    assert sum(leaf.size for _, leaf in leaves(name, image, num_classes)) == parameters


@pytest.mark.parametrize(
    ("name", "some"),
    [
        (
            "resnet-20",
            {
                "conv1/kernel": (3, 3, 3, 16),
                "bn1/scale": (16,),
                "stage1/block3/conv2/kernel": (3, 3, 16, 16),
                "stage2/block1/conv1/kernel": (3, 3, 16, 32),
                "stage2/block1/shortcut_conv/kernel": (1, 1, 16, 32),
                "stage3/block1/shortcut_bn/bias": (64,),
                "dense/kernel": (64, 10),
                "dense/bias": (10,),
            },
        ),
        (
            "resnet-50",
            {
                "conv1/kernel": (7, 7, 3, 64),
                "stage1/block1/shortcut_conv/kernel": (1, 1, 64, 256),
                "stage3/block6/conv2/kernel": (3, 3, 256, 256),
                "stage4/block3/conv3/kernel": (1, 1, 512, 2048),
            },
        ),
        (
            "vgg-16",
            {"conv1/kernel": (3, 3, 3, 64), "conv13/bias": (512,), "bn13/scale": (512,)},
        ),
        (
            "wide-resnet-16-8",
            {
                "conv1/kernel": (3, 3, 3, 16),
                "stage1/block1/shortcut_conv/kernel": (1, 1, 16, 128),
                "stage3/block2/bn1/scale": (512,),
                "bn/bias": (512,),
            },
        ),
    ],
)
def test_parameter_names(name, some):
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in leaves(name, (32, 32, 3), 10)
    }
    assert some.items() <= found.items()


@pytest.mark.parametrize("name", ["resnet-20", "wide-resnet-10-1"])
def test_shortcuts_without_a_change_of_shape_are_the_identity(name):
    paths = [jax.tree_util.keystr(path) for path, _ in leaves(name, (32, 32, 3), 10)]
    blocks = {path.split("['shortcut")[0] for path in paths if "shortcut_conv" in path}
    assert blocks == {"['stage2']['block1']", "['stage3']['block1']"}
