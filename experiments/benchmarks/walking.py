"""The row of PHEW's walks, against a loop in Python that takes one step after the other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.benchmarks.measuring import Row, compile_anew
from experiments.benchmarks.populations import Network, make_network
from experiments.benchmarks.sizes import ImageShape, Sizes
from experiments.engine.timing import alternating, waiting
from train.models import layers_in_order

MEASURED_WALKS = 200
"""Of the loop, which takes as long for each."""


def phew(sizes: Sizes, model_name: str) -> Row:
    """PHEW's masks of a network, against walks that NumPy chooses the steps of, one by one.

    Both are measured in walks. How many are needed the loop has found out beforehand; what it chooses by
    is made beforehand too. The network must be a chain of layers.
    """
    shape = sizes.shapes[model_name]
    network = make_network(model_name, shape, 1)

    def masks(key: jax.Array, params: object) -> object:
        output = lambda params: network.logits(params, jnp.ones_like(network.images), train=False)  # noqa: E731
        return pruning.phew_masks(key, output, params, sizes.walked_sparsity)

    compiled, seconds = compile_anew(jax.jit(masks), jax.random.key(0), network.params)
    loop = _Loop(network, shape)
    walks = loop.walks_to(sizes.walked_sparsity)
    return Row(
        alternating(waiting(compiled, jax.random.key(0), network.params), loop.walk_some),
        against="a loop of single steps in Python",
        unit="walks",
        amount=walks,
        their_amount=MEASURED_WALKS,
        facts={"seconds to trace and compile": seconds, "walks": walks},
    )


class _Loop:
    """One walk after the other through a chain of layers."""

    def __init__(self, network: Network, shape: ImageShape) -> None:
        """Makes what is chosen by."""
        paths = jax.tree_util.tree_leaves_with_path(network.params)
        kernels = {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in paths}
        found = [np.abs(kernels[name]) for name in layers_in_order(network.model, shape)]
        sizes = [kernel.reshape(-1, *kernel.shape[-2:]) for kernel in found]
        units = [size.sum(0) for size in sizes]
        self._forward = [unit / unit.sum(1, keepdims=True) for unit in units]
        self._backward = [(unit / unit.sum(0)).T for unit in units]
        self._position = [size / size.sum(0) for size in sizes]
        self._rng = np.random.default_rng(0)
        self._numbers = itertools.count()
        self._kept = [np.zeros(size.shape, bool) for size in sizes]

    def walks_to(self, sparsity: float) -> int:
        """How many walks it takes until no more than that fraction of the weights is pruned."""
        size = sum(kept.size for kept in self._kept)
        needed, kept, walks = size - pruning.pruned_count(sparsity, size), 0, 0
        while kept < needed:
            kept += self._walk(next(self._numbers))
            walks += 1
        return walks

    def walk_some(self) -> None:
        """What is measured."""
        for _ in range(MEASURED_WALKS):
            self._walk(next(self._numbers))

    def _walk(self, number: int) -> int:
        """Even ones forward from the input units in turn, odd ones back; returns what is new."""
        back = number % 2
        layers = range(len(self._kept))[:: -1 if back else 1]
        chances = self._backward if back else self._forward
        unit, new = (number // 2) % len(chances[layers[0]]), 0
        for layer in layers:
            chosen = self._rng.choice(chances[layer].shape[1], p=chances[layer][unit])
            ends = (chosen, unit) if back else (unit, chosen)
            position = self._position[layer][:, *ends]
            place = self._rng.choice(len(position), p=position) if len(position) > 1 else 0
            new += not self._kept[layer][place, *ends]
            self._kept[layer][place, *ends] = True
            unit = chosen
        return new
