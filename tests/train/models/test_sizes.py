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


@pytest.mark.slow
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
        ("mixer-small", (224, 224, 3), 1000, 18_528_264),  # the paper says 18M
        ("vit-tiny", (224, 224, 3), 1000, 5_717_416),  # DeiT's code; the paper says 5M
        ("vit-small", (224, 224, 3), 1000, 22_050_664),  # likewise, 22M
        # Patches, class token, positions; attention, MLP and norms of each block; norm and head.
        (
            "vit-tiny-4",
            (32, 32, 3),
            10,
            (48 + 1 + 1 + 65) * 192
            + 9 * (4 * 193 * 192 + (193 * 384 + 385 * 192) + 4 * 192)
            + (2 * 192 + 193 * 10),
        ),
    ],
)
def test_all_parameters(name, image, num_classes, parameters):
    assert sum(leaf.size for _, leaf in leaves(name, image, num_classes)) == parameters
