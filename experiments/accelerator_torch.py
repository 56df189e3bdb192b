"""PyTorch, one network at a time on the same card: as it is written first, and in its best form."""

import statistics
from collections.abc import Callable
from typing import Any

from experiments.accelerator_checks import Finding
from experiments.benchmark_comparison import Unavailable, seconds
from experiments.benchmark_populations import RECIPE, ImageShape
from experiments.benchmark_torch import find_torch, networks
from train.recipes import RECIPES

REPETITIONS = 3


def eager(model_name: str, image_shape: ImageShape, steps: int, *, device: str = "cuda") -> Finding:
    """Training steps per second of a plain loop; the data lie on the device.

    Args:
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of synthetic images.
        steps: Of one measurement.
        device: PyTorch's name of it.

    Returns:
        The rate.

    Raises:
        Unavailable: If PyTorch or the device is missing.
    """
    torch = find_device(device)
    model = networks(torch.nn, image_shape)[model_name]().to(device)
    return _rate(torch, model, model, _images(torch, image_shape, steps, device), steps)


def best_form(model_name: str, image_shape: ImageShape, steps: int, *, device: str = "cuda") -> Finding:
    """The same with channels last, bfloat16 by autocast, compiled networks and CUDA graphs.

    Args:
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of synthetic images.
        steps: Of one measurement.
        device: PyTorch's name of it.

    Returns:
        The rate.

    Raises:
        Unavailable: If PyTorch or the device is missing.
    """
    torch = find_device(device)
    layout = torch.channels_last
    model = networks(torch.nn, image_shape)[model_name]().to(device, memory_format=layout)
    compiled = torch.compile(model, mode="reduce-overhead")

    def forward(images: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16):
            return compiled(images)

    images = _images(torch, image_shape, steps, device).contiguous(memory_format=layout)
    return _rate(torch, model, forward, images, steps)


def find_device(device: str) -> Any:
    """The module ``torch``, if it has a device.

    Args:
        device: PyTorch's name of it.

    Raises:
        Unavailable: If PyTorch or the device is missing.
    """
    torch = find_torch()
    if device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("PyTorch finds no CUDA here")
    return torch


def _images(torch: Any, image_shape: ImageShape, steps: int, device: str) -> Any:
    height, width, channels = image_shape
    examples = steps * RECIPES[RECIPE].batch_size
    return torch.randn(examples, channels, height, width, device=device)


def _rate(torch: Any, model: Any, forward: Callable[[Any], Any], images: Any, steps: int) -> Finding:
    recipe, device = RECIPES[RECIPE], images.device
    labels = torch.randint(0, 10, (len(images),), device=device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )

    def loop() -> None:
        for batch in torch.randperm(len(images), device=device).reshape(steps, -1):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(forward(images[batch]), labels[batch]).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    first = seconds(loop)
    median = statistics.median(seconds(loop) for _ in range(REPETITIONS))
    return {"steps/s": steps / median, "seconds to compile": first - median}
