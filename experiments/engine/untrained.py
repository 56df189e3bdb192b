"""Masks of untrained networks: every mask is one row of the result, stored as soon as it is made."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

import pruning
from experiments.engine.experiment import Facts, Fill
from experiments.engine.processes import is_first, share, wait_for_all
from experiments.engine.run_folder import Row, RunFolder
from experiments.methods.mask_maker import MaskMaker
from experiments.methods.point import Point, point_of
from experiments.methods.registry import scored
from experiments.methods.seeds import seed_keys
from experiments.options.untrained import UntrainedOptions
from train.data.datasets import Dataset
from train.evaluation import apply_model
from train.recipes import build_model

PyTree = Any


class Look(Protocol):
    """What is noted of a mask: ``look(params, masks)`` is columns of its row."""

    def __call__(self, params: PyTree, masks: PyTree) -> Row:
        """The columns."""
        ...


class Network:
    """An untrained model on a data set, and the masks that methods give it."""

    def __init__(self, options: UntrainedOptions) -> None:
        """Reads the data; compiles nothing yet.

        Raises:
            ValueError: If the data set cannot be read, or has more classes than the logits asked for.
        """
        self.options, recipe = options, options.resolved_recipe()
        dataset: Dataset = options.load()
        classes = dataset.num_classes if options.classes is None else options.classes
        if classes < dataset.num_classes:
            raise ValueError(
                f"expected --classes of at least the data set's {dataset.num_classes}, got {classes}"
            )
        exact = dataclasses.replace(recipe, compute_dtype="float32")
        self.model = build_model(options.model, exact, num_classes=classes)
        self.maker = MaskMaker(self.model, dataset, recipe)
        self.ones = jnp.ones((1, *dataset.train.images.shape[1:]))
        self._variables = jax.jit(lambda key: self.model.init(key, self.ones))

    def initial(self, seed: int, draw: str = "init") -> tuple[PyTree, PyTree]:
        """Params and running statistics, the params drawn with one of the seed's keys."""
        variables = self._variables(getattr(seed_keys(seed), draw))
        return variables["params"], variables.get("batch_stats", {})

    def output(self, params: PyTree, batch_stats: PyTree) -> jax.Array:
        """The logits of one input of ones, in inference mode."""
        return apply_model(self.model, params, batch_stats, self.ones, train=False)[0]


def looking(
    sparsities: Callable[[Any, Network], Sequence[float]], look: Callable[[Network], Look]
) -> Callable[[Any], Fill]:
    """``Experiment.prepare`` of one that makes masks and trains nothing.

    Args:
        sparsities: ``sparsities(options, network)`` are the fractions removed.
        look: ``look(network)`` says what is noted of each mask.
    """

    def prepare(options: Any) -> Fill:
        network = Network(options)
        removed = sparsities(options, network)

        def fill(folder: RunFolder) -> Facts:
            _make_masks(network, options.methods, removed, look(network), folder)
            return {"layers": network.maker.layers}

        return fill

    return prepare


def _make_masks(
    network: Network,
    methods: Sequence[str],
    sparsities: Sequence[float],
    look: Look,
    folder: RunFolder,
) -> None:
    """Makes the masks that are not stored yet, and stores a row of each."""
    definitions = scored()
    done = {point_of(row) for row in folder.rows()}
    wait_for_all()  # All have seen what is finished before one stores more.
    total = len(methods) * len(sparsities) * network.options.seeds
    if is_first():
        folder.announce(len(done), total, "masks")
    for seed in network.options.all_seeds():
        params, batch_stats = network.initial(seed)
        second_draw, _ = network.initial(seed, "second_draw")
        key = seed_keys(seed).scores
        seen = network.maker.seen(seed, key, params, batch_stats, second_draw)
        for name, sparsity in share([*itertools.product(methods, sparsities)]):
            point = Point(name, sparsity_target=sparsity, seed=seed)
            if point in done:
                continue
            start = time.perf_counter()
            masks = network.maker.masks(name, definitions[name].ranking, seen, sparsity)
            jax.block_until_ready(masks)
            row = {
                "member": point.name,
                **point._asdict(),
                "sparsity": pruning.sparsity(masks),
                "epoch": 0,
                "test_accuracy": None,
                "test_loss": None,
                "failed": False,
                "seconds": time.perf_counter() - start,
            }
            folder.save_part([row | look(params, masks)])
    wait_for_all()
