"""PyTorch does the same as the library: like is compared with like."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from experiments.benchmarks import pytorch
from experiments.benchmarks.measuring import Unavailable
from experiments.benchmarks.populations import make_network
from experiments.benchmarks.rows import ROWS
from experiments.benchmarks.sizes import CPU, SMALLEST


def test_a_row_without_pytorch_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Unavailable, match=r"pip install -e '\.\[benchmarks\]'"):
        ROWS["torch-lenet-5-plain"].make(SMALLEST)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is an extra of the benchmarks alone")


@pytest.fixture(scope="module")
def both(torch):
    """LeNet-300-100 for 4x4 images, with the same weights in PyTorch and here."""
    theirs = pytorch.networks(torch.nn, (4, 4, 1))["lenet-300-100"]()
    ours = make_network("lenet-300-100", (4, 4, 1), 6)
    layers = sorted(ours.params, key=lambda name: -ours.params[name]["kernel"].size)
    linear = {name: module for name, module in theirs.named_modules() if hasattr(module, "weight")}
    names = sorted(linear, key=lambda name: -linear[name].weight.numel())
    for name, layer in zip(names, layers, strict=True):
        ours.params[layer]["kernel"] = jnp.asarray(linear[name].weight.detach().numpy().T)
        ours.params[layer]["bias"] = jnp.asarray(linear[name].bias.detach().numpy())
    return theirs, ours, {f"{name}.weight": layer for name, layer in zip(names, layers, strict=True)}


def check(found, expected, names):
    assert set(found) == set(names)
    for name, layer in names.items():
        ours = np.asarray(expected[layer]["kernel"]).T
        np.testing.assert_allclose(found[name].numpy(), ours, rtol=1e-3, atol=1e-6 * np.abs(ours).max())


@pytest.mark.parametrize("method", ["snip", "grasp"])
@pytest.mark.slow
def test_scores_of_a_batch(torch, both, method):
    theirs, ours, names = both
    expected = getattr(pruning, f"{method}_scores")(ours.loss, ours.params, [ours.images])
    images = torch.from_numpy(np.asarray(ours.images).transpose(0, 3, 1, 2).copy())
    found = getattr(pytorch, f"{method}_scores")(torch, theirs, images, torch.arange(6) % 10)
    check(found, expected, names)


def test_synflow_scores_under_a_mask(torch, both):
    theirs, ours, names = both
    masks = pruning.random_masks(jax.random.key(1), ours.params, 0.5)
    kept = {
        name: np.asarray(masks[layer]["kernel"]).T.astype(np.float32) for name, layer in names.items()
    }
    kept = {name: torch.tensor(mask) for name, mask in kept.items()}
    found = pytorch.synflow_scores(torch, theirs.eval(), kept, torch.ones(1, 1, 4, 4))
    expected = pruning.synflow_scores(
        lambda params: ours.logits(params, jnp.ones((1, 4, 4, 1)), train=False),
        pruning.apply_masks(ours.params, masks),
    )
    check(found, expected, names)


def test_rounds_of_synflow_prune_to_the_sparsity(torch, monkeypatch):
    seen = []

    def score(torch, model, masks, ones):
        seen.append(sum(float(mask.sum()) for mask in masks.values()))
        return {name: torch.rand(mask.shape) * mask for name, mask in masks.items()}

    monkeypatch.setattr(pytorch, "synflow_scores", score)
    pytorch.synflow_rounds(replace(SMALLEST, rounds=3), "lenet-300-100", sparsity=0.875)()
    size = 16 * 300 + 300 * 100 + 100 * 10
    assert seen == [size, size / 2, size / 4]


@pytest.mark.parametrize("model", ["lenet-300-100", "lenet-5", "conv-2", "resnet-20"])
def test_networks_have_as_many_parameters_and_train(torch, model):
    theirs = pytorch.networks(torch.nn, CPU.shapes[model])[model]()
    params = jax.eval_shape(lambda: make_network(model, CPU.shapes[model], 1).params)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.size for p in jax.tree.leaves(params))
    for form in ("plain", "channels-last"):
        pytorch.training_loop(replace(SMALLEST, member_steps={model: 1}), model, form)()
