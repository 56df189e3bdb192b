"""The same networks in PyTorch, and a plain training loop: what many would write.

PyTorch is an extra of the benchmarks alone (``pip install -e '.[benchmarks]'``).
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmark_comparison import Unavailable
from experiments.benchmark_populations import RECIPE
from train.recipes import RECIPES


def training_loop(
    model_name: str, image_shape: tuple[int, int, int], steps: int, *, channels_last: bool
) -> Callable[[], None]:
    """A loop of training steps: plain SGD, as our recipe's, batches indexed on the host.

    Args:
        model_name: lenet-300-100, lenet-5, conv-2 or resnet-20.
        image_shape: Height, width, channels of synthetic images.
        steps: In one call.
        channels_last: PyTorch's own faster layout for convolutions.

    Returns:
        The loop.

    Raises:
        Unavailable: If PyTorch is not installed.
    """
    torch = find_torch()
    model = networks(torch.nn, image_shape)[model_name]()
    recipe, rng = RECIPES[RECIPE], np.random.default_rng(0)
    height, width, channels = image_shape
    examples = steps * recipe.batch_size
    images = rng.normal(size=(examples, channels, height, width)).astype(np.float32)
    images = torch.from_numpy(images)
    labels = torch.from_numpy(rng.integers(0, 10, examples))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )

    def loop() -> None:
        for batch in torch.randperm(examples).reshape(steps, -1):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()

    return loop


def find_torch() -> Any:
    """The module ``torch``.

    Raises:
        Unavailable: If PyTorch is not installed.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Unavailable("PyTorch is not installed (pip install -e '.[benchmarks]')") from error
    return torch


def networks(nn: Any, image_shape: tuple[int, int, int]) -> dict[str, Callable[[], Any]]:
    """The networks by the names of ``train.models``.

    Args:
        nn: The module ``torch.nn``.
        image_shape: Height, width, channels.

    Returns:
        Name -> what makes a network for 10 classes.
    """
    height, width, channels = image_shape

    def lenet_300_100() -> Any:
        size = height * width * channels
        hidden = nn.Linear(size, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU()
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 10))

    def lenet_5() -> Any:
        def block(before: int, after: int) -> tuple[Any, ...]:
            return nn.Conv2d(before, after, 5), nn.ReLU(), nn.MaxPool2d(2)

        size = 50 * ((height - 4) // 2 // 2 - 2) * ((width - 4) // 2 // 2 - 2)
        top = nn.Flatten(), nn.Linear(size, 500), nn.ReLU(), nn.Linear(500, 10)
        return nn.Sequential(*block(channels, 20), *block(20, 50), *top)

    def conv_2() -> Any:
        def convolution(before: int) -> tuple[Any, ...]:
            return nn.Conv2d(before, 64, 3, padding=1), nn.ReLU()

        size = 64 * (height // 2) * (width // 2)
        hidden = nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()
        bottom = *convolution(channels), *convolution(64), nn.MaxPool2d(2)
        return nn.Sequential(*bottom, nn.Flatten(), *hidden, nn.Linear(256, 10))

    def resnet_20() -> Any:
        def normalised(before: int, after: int, size: int, stride: int = 1) -> tuple[Any, ...]:
            convolution = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
            return convolution, nn.BatchNorm2d(after)

        class Block(nn.Module):
            def __init__(self, before: int, after: int) -> None:
                super().__init__()
                stride = 1 if before == after else 2
                self.inner = nn.Sequential(
                    *normalised(before, after, 3, stride), nn.ReLU(), *normalised(after, after, 3)
                )
                shortcut = nn.Sequential(*normalised(before, after, 1, stride))
                self.shortcut = nn.Identity() if before == after else shortcut

            def forward(self, x: Any) -> Any:
                return nn.functional.relu(self.inner(x) + self.shortcut(x))

        widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
        blocks = [Block(before, after) for before, after in itertools.pairwise(widths)]
        top = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
        return nn.Sequential(*normalised(channels, 16, 3), nn.ReLU(), *blocks, *top)

    return {
        "lenet-300-100": lenet_300_100,
        "lenet-5": lenet_5,
        "conv-2": conv_2,
        "resnet-20": resnet_20,
    }
