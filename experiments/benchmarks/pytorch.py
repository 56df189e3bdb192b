"""The same work in PyTorch: plain training loops, and scores written from their papers' formulas.

PyTorch is an extra of the benchmarks alone (``pip install -e '.[benchmarks]'``); it computes where JAX
does. Weights go in through ``torch.func.functional_call``, so that a mask is a factor of them.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax

import pruning
from experiments.benchmarks.measuring import Unavailable
from experiments.benchmarks.populations import RECIPE
from experiments.benchmarks.sizes import ImageShape, Sizes
from experiments.engine.timing import Work

Torch = Any
"""The module ``torch``, which need not be installed."""
Prepared = tuple[Callable[[Any], Any], Any]
"""What computes the output of a network, and the images for it."""


def channels_last(torch: Torch, model: Any, images: Any) -> Prepared:
    """Both in PyTorch's own faster layout for convolutions."""
    layout = torch.channels_last
    return model.to(memory_format=layout), images.to(memory_format=layout)


def compiled(torch: Torch, model: Any, images: Any) -> Prepared:
    """Channels last, bfloat16 by autocast, compiled networks and CUDA graphs: the best form on a GPU."""
    model, images = channels_last(torch, model, images)
    fast = torch.compile(model, mode="reduce-overhead")

    def forward(batch: Any) -> Any:
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            return fast(batch)

    return forward, images


FORMS: dict[str, Callable[[Torch, Any, Any], Prepared]] = {
    "plain": lambda torch, model, images: (model, images),
    "channels-last": channels_last,
    "compiled": compiled,
}


def training_loop(sizes: Sizes, model_name: str, form: str) -> Work:
    """Training steps on data that lie on the device: SGD as our recipe's, in one of ``FORMS``."""
    steps = sizes.steps(model_name)
    examples = steps * RECIPE.batch_size
    torch, device, model, images, labels = _network(sizes, model_name, examples)
    forward, images = FORMS[form](torch, model, images)
    # The recipe has neither momentum nor weight decay.
    optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE.learning_rate)

    def loop() -> None:
        for batch in torch.randperm(examples, device=device).reshape(steps, -1):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(forward(images[batch]), labels[batch]).backward()
            optimizer.step()
        _wait_for(torch, device)

    return loop


def networks(nn: Any, image_shape: ImageShape) -> dict[str, Callable[[], Any]]:
    """What makes a network for 10 classes of ``torch.nn``, by its name in ``train.models``."""
    height, width, channels = image_shape

    def perceptron(*widths: int) -> tuple[Any, ...]:
        *hidden, last = [(nn.Linear(*pair), nn.ReLU()) for pair in itertools.pairwise(widths)]
        return nn.Flatten(), *itertools.chain(*hidden), last[0]

    def lenet_5() -> Any:
        def block(before: int, after: int) -> tuple[Any, ...]:
            return nn.Conv2d(before, after, 5), nn.ReLU(), nn.MaxPool2d(2)

        size = 50 * ((height - 4) // 2 // 2 - 2) * ((width - 4) // 2 // 2 - 2)
        return nn.Sequential(*block(channels, 20), *block(20, 50), *perceptron(size, 500, 10))

    def conv_2() -> Any:
        def convolution(before: int) -> tuple[Any, ...]:
            return nn.Conv2d(before, 64, 3, padding=1), nn.ReLU()

        top = perceptron(64 * (height // 2) * (width // 2), 256, 256, 10)
        return nn.Sequential(*convolution(channels), *convolution(64), nn.MaxPool2d(2), *top)

    def normalised(before: int, after: int, size: int, stride: int = 1) -> tuple[Any, ...]:
        convolution = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
        return convolution, nn.BatchNorm2d(after)

    class Block(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            stride = 1 if before == after else 2
            first, second = normalised(before, after, 3, stride), normalised(after, after, 3)
            self.inner = nn.Sequential(*first, nn.ReLU(), *second)
            shortcut = nn.Sequential(*normalised(before, after, 1, stride))
            self.shortcut = nn.Identity() if before == after else shortcut

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.inner(x) + self.shortcut(x))

    def resnet_20() -> Any:
        widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
        blocks = [Block(before, after) for before, after in itertools.pairwise(widths)]
        top = nn.AdaptiveAvgPool2d(1), *perceptron(64, 10)
        return nn.Sequential(*normalised(channels, 16, 3), nn.ReLU(), *blocks, *top)

    return {
        "lenet-300-100": lambda: nn.Sequential(*perceptron(height * width * channels, 300, 100, 10)),
        "lenet-5": lenet_5,
        "conv-2": conv_2,
        "resnet-20": resnet_20,
    }


def batch_scores(sizes: Sizes, model_name: str, scores: Callable[..., Any]) -> Work:
    """Computes ``snip_scores`` or ``grasp_scores`` of one batch."""
    torch, device, model, images, labels = _network(sizes, model_name, sizes.batch)

    def work() -> None:
        scores(torch, model, images, labels)
        _wait_for(torch, device)

    return work


def snip_scores(torch: Torch, model: Any, images: Any, labels: Any) -> dict[str, Any]:
    """SNIP's scores: the magnitude of the loss's derivative by masks of ones.

    Source: Lee et al. 2019 (arXiv 1810.02340), equation 5.
    """
    weights = _weights(model)
    masks = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    masked = {name: weights[name] * mask for name, mask in masks.items()}
    logits = torch.func.functional_call(model, masked, (images,))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(masks.values()))
    return {name: g.abs() for name, g in zip(masks, gradients, strict=True)}


def grasp_scores(torch: Torch, model: Any, images: Any, labels: Any) -> dict[str, Any]:
    """GraSP's scores, by a backward pass through the backward pass; the highest are kept, as here.

    Source: Wang et al. 2020 (arXiv 2002.07376), equation 8.
    """
    weights = {name: weight.requires_grad_() for name, weight in _weights(model).items()}
    logits = torch.func.functional_call(model, weights, (images,))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    squared_norm = sum((g * g.detach()).sum() for g in gradients)
    products = torch.autograd.grad(squared_norm, list(weights.values()))
    pairs = zip(weights.items(), products, strict=True)
    return {name: weight.detach() * product for (name, weight), product in pairs}


def synflow_rounds(sizes: Sizes, model_name: str, sparsity: float) -> Callable[[], dict[str, Any]]:
    """Computes SynFlow's masks: rounds of scores, each with an exact threshold over all weights.

    Source: Tanaka et al. 2020 (arXiv 2006.05467), equation 2 and algorithm 1.
    """
    torch, device, model, images, _ = _network(sizes, model_name, 1)
    model, ones, rounds = model.eval(), torch.ones_like(images), sizes.rounds
    size = sum(weight.numel() for weight in _weights(model).values())
    fractions = [1 - (1 - sparsity) ** (i / rounds) for i in range(1, rounds + 1)]
    counts = [pruning.pruned_count(fraction, size) for fraction in fractions]

    def masks() -> dict[str, Any]:
        kept = {name: torch.ones_like(weight) for name, weight in _weights(model).items()}
        for count in counts:
            scores = synflow_scores(torch, model, kept, ones)
            flat = torch.cat([score.flatten() for score in scores.values()])
            threshold = torch.kthvalue(flat, int(count)).values if count else -1.0
            kept = {name: (score > threshold).float() for name, score in scores.items()}
        _wait_for(torch, device)
        return kept

    return masks


def synflow_scores(torch: Torch, model: Any, masks: dict[str, Any], ones: Any) -> dict[str, Any]:
    """SynFlow's scores of one round, of a network in inference mode and masks of 0 and 1."""
    magnitudes = {name: param.detach().abs() for name, param in model.named_parameters()}
    masked = {name: (magnitudes[name] * mask).requires_grad_() for name, mask in masks.items()}
    flow = torch.func.functional_call(model, magnitudes | masked, (ones,)).sum()
    gradients = torch.autograd.grad(flow, list(masked.values()))
    pairs = zip(masked.items(), gradients, strict=True)
    return {name: weight.detach() * g for (name, weight), g in pairs}


def _network(sizes: Sizes, model_name: str, batch: int) -> tuple[Torch, Any, Any, Any, Any]:
    """PyTorch, its device where JAX computes, and on it a network with random images and labels."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Unavailable("PyTorch is not installed (pip install -e '.[benchmarks]')") from error
    platform = jax.default_backend()
    if platform != "cpu" and not (platform == "gpu" and torch.cuda.is_available()):
        raise Unavailable(f"PyTorch finds no such device as JAX does ({platform})")
    height, width, channels = sizes.shapes[model_name]
    with torch.device("cpu" if platform == "cpu" else "cuda") as device:
        model = networks(torch.nn, sizes.shapes[model_name])[model_name]()
        images, labels = torch.randn(batch, channels, height, width), torch.arange(batch) % 10
    return torch, device, model, images, labels


def _weights(model: Any) -> dict[str, Any]:
    """The weights of two and more axes, copies that share no graph with the model's own."""
    named = model.named_parameters()
    return {name: param.detach().clone() for name, param in named if param.ndim > 1}


def _wait_for(torch: Torch, device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
