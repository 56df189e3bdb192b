"""SNIP, GraSP and SynFlow in PyTorch compute what the library's do: like is compared with like."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from experiments import benchmark_torch_scores
from experiments.benchmark_torch import networks
from experiments.benchmark_torch_scores import synflow_rounds
from train.evaluation import apply_model, cross_entropy
from train.models import make_model

torch = pytest.importorskip("torch", reason="PyTorch is an extra of the benchmarks alone")
BATCH = 6


@pytest.fixture(scope="module")
def both():
    """LeNet-300-100 for 4x4 images, with the same weights in PyTorch and here."""
    theirs = networks(torch.nn, (4, 4, 1))["lenet-300-100"]()
    ours = make_model("lenet-300-100", num_classes=10)
    params = ours.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]
    layers = sorted(params, key=lambda name: -params[name]["kernel"].size)
    linear = [module for module in theirs if isinstance(module, torch.nn.Linear)]
    order = sorted(linear, key=lambda module: -module.weight.numel())
    for name, module in zip(layers, order, strict=True):
        params[name]["kernel"] = jnp.asarray(module.weight.detach().numpy().T)
        params[name]["bias"] = jnp.asarray(module.bias.detach().numpy())
    names = [f"{list(theirs).index(module)}.weight" for module in order]
    return theirs, ours, params, dict(zip(names, layers, strict=True))


def check(found, expected, names):
    assert set(found) == set(names)
    for name, layer in names.items():
        ours = np.asarray(expected[layer]["kernel"]).T
        np.testing.assert_allclose(found[name].numpy(), ours, rtol=1e-3, atol=1e-6 * np.abs(ours).max())


@pytest.mark.parametrize("method", ["snip", "grasp"])
def test_scores_of_a_batch(both, method):
    theirs, ours, params, names = both
    images = np.random.default_rng(0).normal(size=(BATCH, 4, 4, 1)).astype(np.float32)
    labels = np.arange(BATCH) % 10

    def loss(params, batch):
        return cross_entropy(apply_model(ours, params, {}, batch, train=True)[0], labels).mean()

    expected = getattr(pruning, f"{method}_scores")(loss, params, [jnp.asarray(images)])
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2)), torch.from_numpy(labels)
    found = getattr(benchmark_torch_scores, f"{method}_scores")(torch, theirs, *inputs)
    check(found, expected, names)


def test_synflow_scores_under_a_mask(both):
    theirs, ours, params, names = both
    masks = pruning.random_masks(jax.random.key(1), params, 0.5)
    kept = {
        name: torch.tensor(np.asarray(masks[layer]["kernel"]).T.astype(np.float32))
        for name, layer in names.items()
    }
    found = benchmark_torch_scores.synflow_scores(torch, theirs.eval(), kept, torch.ones(1, 1, 4, 4))
    ones = jnp.ones((1, 4, 4, 1))
    expected = pruning.synflow_scores(
        lambda params: apply_model(ours, params, {}, ones, train=False)[0],
        pruning.apply_masks(params, masks),
    )
    check(found, expected, names)


def test_rounds_of_synflow_prune_to_the_sparsity(monkeypatch):
    seen = []

    def score(torch, model, masks, ones):
        seen.append(sum(float(mask.sum()) for mask in masks.values()))
        return {name: torch.rand(mask.shape) * mask for name, mask in masks.items()}

    monkeypatch.setattr(benchmark_torch_scores, "synflow_scores", score)
    synflow_rounds("lenet-300-100", (4, 4, 1), rounds=3, sparsity=0.875)()
    size = 16 * 300 + 300 * 100 + 100 * 10
    assert seen == [size, size / 2, size / 4]
