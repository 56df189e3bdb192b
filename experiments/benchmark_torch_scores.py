"""SNIP, GraSP and SynFlow in plain PyTorch, written from their papers' formulas.

Each takes a network of ``experiments.benchmark_torch`` and scores its weights of two and more axes. The
weights are passed in through ``torch.func.functional_call``, so that a mask is a factor of them.
"""

from collections.abc import Callable
from typing import Any

import pruning
from experiments.benchmark_populations import ImageShape
from experiments.benchmark_torch import find_torch, networks


def snip(model_name: str, image_shape: ImageShape, batch: int) -> Callable[[], Any]:
    """SNIP's scores of one batch: the derivative of the loss by masks of ones.

    Args:
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of random images.
        batch: How many.

    Returns:
        What computes them.

    Raises:
        Unavailable: If PyTorch is not installed.

    Source: Lee et al. 2019 (arXiv 1810.02340), equation 5.
    """
    torch, model, images, labels = _network_and_batch(model_name, image_shape, batch)
    return lambda: snip_scores(torch, model, images, labels)


def snip_scores(torch: Any, model: Any, images: Any, labels: Any) -> dict[str, Any]:
    """SNIP's scores.

    Args:
        torch: The module.
        model: The network.
        images: A batch, (N, C, H, W).
        labels: Its labels.

    Returns:
        The weight's name -> its scores.
    """
    weights = _weights(model)
    masks = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    masked = {name: weights[name] * mask for name, mask in masks.items()}
    logits = torch.func.functional_call(model, masked, (images,))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(masks.values()))
    return {name: g.abs() for name, g in zip(masks, gradients, strict=True)}


def grasp(model_name: str, image_shape: ImageShape, batch: int) -> Callable[[], Any]:
    """GraSP's scores of one batch, by a backward pass through the backward pass.

    Args:
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of random images.
        batch: How many.

    Returns:
        What computes them.

    Raises:
        Unavailable: If PyTorch is not installed.

    Source: Wang et al. 2020 (arXiv 2002.07376), equation 8.
    """
    torch, model, images, labels = _network_and_batch(model_name, image_shape, batch)
    return lambda: grasp_scores(torch, model, images, labels)


def grasp_scores(torch: Any, model: Any, images: Any, labels: Any) -> dict[str, Any]:
    """GraSP's scores with the sign of ``pruning.grasp_scores``: the highest are kept.

    Args:
        torch: The module.
        model: The network.
        images: A batch, (N, C, H, W).
        labels: Its labels.

    Returns:
        The weight's name -> its scores.
    """
    weights = {name: weight.requires_grad_() for name, weight in _weights(model).items()}
    logits = torch.func.functional_call(model, weights, (images,))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    squared_norm = sum((g * g.detach()).sum() for g in gradients)
    products = torch.autograd.grad(squared_norm, list(weights.values()))
    pairs = zip(weights.items(), products, strict=True)
    return {name: weight.detach() * product for (name, weight), product in pairs}


def synflow_rounds(
    model_name: str, image_shape: ImageShape, rounds: int, sparsity: float
) -> Callable[[], None]:
    """SynFlow: rounds of scores, each with an exact threshold over all weights.

    Args:
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of the input of ones.
        rounds: How many.
        sparsity: At the end, a fraction.

    Returns:
        What computes the masks.

    Raises:
        Unavailable: If PyTorch is not installed.

    Source: Tanaka et al. 2020 (arXiv 2006.05467), equation 2 and algorithm 1.
    """
    torch = find_torch()
    model = networks(torch.nn, image_shape)[model_name]().eval()
    height, width, channels = image_shape
    ones = torch.ones(1, channels, height, width)
    size = sum(weight.numel() for weight in _weights(model).values())
    counts = [
        pruning.pruned_count(1 - (1 - sparsity) ** (i / rounds), size) for i in range(1, rounds + 1)
    ]

    def masks() -> None:
        kept = {name: torch.ones_like(weight) for name, weight in _weights(model).items()}
        for count in counts:
            scores = synflow_scores(torch, model, kept, ones)
            flat = torch.cat([score.flatten() for score in scores.values()])
            threshold = torch.kthvalue(flat, int(count)).values if count else -1.0
            kept = {name: (score > threshold).float() for name, score in scores.items()}

    return masks


def synflow_scores(torch: Any, model: Any, masks: dict[str, Any], ones: Any) -> dict[str, Any]:
    """SynFlow's scores of one round.

    Args:
        torch: The module.
        model: The network, in inference mode.
        masks: The weight's name -> 0 or 1.
        ones: An input of ones, (1, C, H, W).

    Returns:
        The weight's name -> its scores.
    """
    magnitudes = {name: param.detach().abs() for name, param in model.named_parameters()}
    masked = {name: (magnitudes[name] * mask).requires_grad_() for name, mask in masks.items()}
    flow = torch.func.functional_call(model, magnitudes | masked, (ones,)).sum()
    gradients = torch.autograd.grad(flow, list(masked.values()))
    pairs = zip(masked.items(), gradients, strict=True)
    return {name: weight.detach() * g for (name, weight), g in pairs}


def _network_and_batch(model_name: str, image_shape: ImageShape, batch: int) -> Any:
    torch = find_torch()
    height, width, channels = image_shape
    images = torch.randn(batch, channels, height, width)
    return torch, networks(torch.nn, image_shape)[model_name](), images, torch.arange(batch) % 10


def _weights(model: Any) -> dict[str, Any]:
    """Copies that share no graph with the model's own."""
    named = model.named_parameters()
    return {name: param.detach().clone() for name, param in named if param.ndim > 1}
