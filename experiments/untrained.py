"""Masks of untrained networks: what ``layer_collapse`` and ``effective_sparsity`` look at.

Every mask is one row of the result, stored as soon as it is made, so an interrupted run goes on.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import pruning
from experiments.mark_masks import MaskMaker
from experiments.option_checks import MOST_CLASSES, check_counts, check_names
from experiments.options import Options
from experiments.processes import share, wait_for_all
from experiments.run_folder import Row, RunFolder
from experiments.score_methods import SCORE_METHODS
from train.data.datasets import Dataset
from train.evaluation import apply_model
from train.populations.population import MemberState
from train.recipes import build_model

PyTree = Any


@dataclass(frozen=True, kw_only=True)
class Untrained(Options):
    """The options of experiments on untrained networks."""

    classes: int | None = None
    """number of logits; by default the data set's classes"""
    methods: tuple[str, ...] = ("random", "magnitude", "snip", "grasp", "synflow")
    """who prunes"""
    seeds: int = 3
    """independent draws of weights and examples"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_names("methods", self.methods, SCORE_METHODS)
        check_counts(self, "seeds")
        check_counts(self, "classes", most=MOST_CLASSES)


class Network:
    """An untrained model on a data set, and the masks that methods give it."""

    def __init__(self, options: Untrained) -> None:
        """Reads the data; compiles nothing yet.

        Args:
            options: Which model and data set.

        Raises:
            ValueError: If the data set cannot be read, or has more classes than the logits asked for.
        """
        self.options, self.recipe = options, options.resolved_recipe()
        self.dataset: Dataset = options.load()
        classes = self.dataset.num_classes if options.classes is None else options.classes
        if classes < self.dataset.num_classes:
            raise ValueError(
                f"expected --classes of at least the data set's {self.dataset.num_classes}, got {classes}"
            )
        exact = dataclasses.replace(self.recipe, compute_dtype="float32")
        self.model = build_model(options.model, exact, num_classes=classes)
        self.maker = MaskMaker(self.model, self.dataset, self.recipe)
        self.ones = jnp.ones((1, *self.dataset.train.images.shape[1:]))
        self._variables = jax.jit(lambda key: self.model.init(key, self.ones))

    def initial(self, seed: int) -> MemberState:
        """The network of one seed; it has no optimizer.

        Args:
            seed: Counting from 0.
        """
        variables = self._variables(jax.random.key(seed))
        stats = variables.get("batch_stats", {})
        return MemberState(variables["params"], stats, opt_state=(), step=jnp.int32(0))

    def output(self, params: PyTree, batch_stats: PyTree) -> jax.Array:
        """The logits of one input of ones, in inference mode.

        Args:
            params: The model's.
            batch_stats: Running statistics.
        """
        return apply_model(self.model, params, batch_stats, self.ones, train=False)[0]


def measure(
    network: Network,
    sparsities: tuple[float, ...],
    folder: RunFolder,
    columns: Callable[[Network, MemberState, PyTree], Row],
) -> list[Row]:
    """Makes the masks that are not stored yet and describes each in a row.

    Args:
        network: What is pruned.
        sparsities: Fractions removed.
        folder: Where rows are kept.
        columns: ``columns(network, state, masks)`` says what to note of a mask.

    Returns:
        All rows, by method, sparsity and seed.
    """
    options, done = network.options, folder.done()
    wait_for_all()  # All have seen what is finished before one stores more.
    for seed in range(options.seeds):
        state = network.initial(seed)
        other = network.initial(options.seeds + seed).params
        seen = network.maker.seen(seed, jax.random.key(seed), state, other)
        for method, sparsity in share([*itertools.product(options.methods, sparsities)]):
            member = f"{method}/{sparsity}/{seed}"
            if member in done:
                continue
            start = time.perf_counter()
            masks = jax.block_until_ready(network.maker.masks(method, seen, sparsity))
            seconds = time.perf_counter() - start
            row = {
                "member": member,
                "experiment": options.experiment,
                "dataset": options.dataset,
                "model": options.model,
                "method": method,
                "variant": "none",
                "sparsity_target": sparsity,
                "sparsity": pruning.sparsity(masks),
                "seed": seed,
                "epoch": 0,
                "test_accuracy": None,
                "test_loss": None,
                "seconds": seconds,
            }
            folder.save_part([row | columns(network, state, masks)])
    wait_for_all()
    order = {name: place for place, name in enumerate(options.methods)}
    return sorted(
        folder.rows(), key=lambda row: (order[row["method"]], row["sparsity_target"], row["seed"])
    )
