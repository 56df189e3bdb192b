"""Recipes: all that defines a training run except the pruning method.

Lengths are in epochs and scale with the data set; ``dataclasses.replace`` varies any field.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from pruning.trees.counts import is_whole
from train.lookup import lookup
from train.models import INITIALIZERS, SCALE_INITIALIZERS, make_model

Mean = tuple[float, ...]

# None computes in the dtype of images and params.
COMPUTE_DTYPES: dict[str, Any] = {"float32": None, "bfloat16": jnp.bfloat16}

MATMUL_PRECISIONS = ("bfloat16", "tensorfloat32", "float32")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run, but for the model, the data and the pruning method.

    Attributes:
        epochs: Length of the run.
        batch_size: Examples in a step. The last batch of an epoch is filled up from its first.
        optimizer: A name in ``OPTIMIZERS``.
        learning_rate: At the start (after warm-up), or at the peak of one cycle.
        momentum: Of SGD.
        nesterov: Whether SGD's momentum is Nesterov's.
        weight_decay: Coupled (added to the gradient) for sgd and adam, decoupled for adamw; on all
            params.
        label_smoothing: Fraction of each label that all classes share evenly, in the loss that trains
            and in no other.
        schedule: A name in ``SCHEDULES``: what the learning rate does after its rise. "drops" is constant
            but for its drops; "cosine" falls to 0 by half a cosine until the end of the run;
            "one-cycle" and "one-cycle-cosine" rise until ``peak_fraction`` and fall to 0, linearly or by
            half a cosine.
        drop_epochs: After these epochs the learning rate of the schedule "drops" drops.
        drop_factor: What it is multiplied by then.
        warmup_epochs: The learning rate rises linearly over these, from 1 / (their steps) of itself.
        peak_fraction: Of the run's steps, over which the learning rate of one cycle rises linearly, from
            1 / (their number) of itself; 0 for the other schedules.
        initializer: A name in ``INITIALIZERS``, for every kernel; biases start at 0.
        scale_initializer: A name in ``SCALE_INITIALIZERS``, for the scales of batch normalisation.
        compute_dtype: A name in ``COMPUTE_DTYPES``: what the network computes in. Params, statistics
            and the optimizer stay float32.
        matmul_precision: A name in ``MATMUL_PRECISIONS``: how products and convolutions of float32
            numbers are computed on accelerators, in JAX's words. "tensorfloat32" is three passes in
            bfloat16 on TPUs, "bfloat16" is one pass there and TensorFloat-32 on GPUs; CPUs compute in
            float32 whatever it is.
        score_in_train_mode: Whether a pruning score that sees data normalises batches as training does
            (by their own statistics) or as inference does.
        score_batch_size: Examples of a pruning score that sees data that are computed at a time, for sets
            whose examples would not fit into memory at once; None for all. In training mode these are the
            batches that are normalised.
        score_after_warm_up: Whether the running statistics first see the training images once, in
            training mode and without learning, for scores in inference mode.
        flip: Whether training images are flipped horizontally at random.
        crop_padding: Pixels of zero padding from which training images are cropped at random.
        image_size: Side of the squares that images of different sizes are cropped to, at random where
            they train (``train.data.crops``). Images of one size stay as they are.
        mean: Per channel, of pixel / 255; None for the data set's own.
        std: Per channel, of pixel / 255; None for the data set's own.
        validation_examples: How many training examples are held out.
    """

    epochs: int
    batch_size: int
    optimizer: str = "sgd"
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    schedule: str = "drops"
    drop_epochs: tuple[int, ...] = ()
    drop_factor: float = 0.1
    warmup_epochs: int = 0
    peak_fraction: float = 0.0
    initializer: str = "kaiming-normal"
    scale_initializer: str = "ones"
    compute_dtype: str = "float32"
    matmul_precision: str = "tensorfloat32"
    score_in_train_mode: bool = True
    score_batch_size: int | None = None
    score_after_warm_up: bool = False
    flip: bool = False
    crop_padding: int = 0
    image_size: int | None = None
    mean: Mean | None = None
    std: Mean | None = None
    validation_examples: int = 0

    def __post_init__(self) -> None:
        """Raises a ValueError that names the field that is wrong."""
        lookup(OPTIMIZERS, self.optimizer, "optimizer")
        lookup(SCHEDULES, self.schedule, "schedule")
        lookup(INITIALIZERS, self.initializer, "initializer")
        lookup(SCALE_INITIALIZERS, self.scale_initializer, "scale initializer")
        lookup(COMPUTE_DTYPES, self.compute_dtype, "compute dtype")
        lookup(dict.fromkeys(MATMUL_PRECISIONS), self.matmul_precision, "matmul precision")
        for name in ("epochs", "batch_size", "warmup_epochs", "crop_padding", "validation_examples"):
            if not is_whole(getattr(self, name)):
                raise ValueError(f"expected a whole number of {name}, got {getattr(self, name)!r}")
        positive = {"epochs": self.epochs, "batch_size": self.batch_size}
        positive |= {"learning_rate": self.learning_rate, "drop_factor": self.drop_factor}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(f"expected finite {name} > 0, got {value}")
        natural = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        natural |= {"warmup_epochs": self.warmup_epochs, "crop_padding": self.crop_padding}
        natural |= {"validation_examples": self.validation_examples}
        for name, value in natural.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"expected finite {name} >= 0, got {value}")
        if not all(math.isfinite(value) for value in self.mean or ()):
            raise ValueError(f"expected a finite mean of every channel, got {self.mean}")
        if not all(0 < value < math.inf for value in self.std or ()):
            raise ValueError(f"expected a finite std > 0 of every channel, got {self.std}")
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise ValueError(f"expected a mean and a std of every channel, got {self.mean}, {self.std}")
        for name in ("image_size", "score_batch_size"):
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and value > 0):
                raise ValueError(f"expected {name} > 0, a whole number, got {value}")
        if not all(is_whole(epoch) and epoch > 0 for epoch in self.drop_epochs):
            raise ValueError(f"expected drop_epochs > 0, whole numbers, got {self.drop_epochs}")
        if list(self.drop_epochs) != sorted(set(self.drop_epochs)):
            raise ValueError(f"expected drop_epochs in rising order, got {self.drop_epochs}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"expected label_smoothing in [0, 1), got {self.label_smoothing}")
        self._check_schedule()

    def _check_schedule(self) -> None:
        """What belongs to one schedule contradicts the others."""
        where = f"with the schedule {self.schedule!r}"
        if self.drop_epochs and self.schedule != "drops":
            raise ValueError(f"expected no drop_epochs {where}, got {self.drop_epochs}")
        if self._is_one_cycle():
            if not 0 < self.peak_fraction < 1:
                raise ValueError(f"expected peak_fraction in (0, 1) {where}, got {self.peak_fraction}")
            if self.warmup_epochs:
                raise ValueError(f"expected no warmup_epochs {where}, got {self.warmup_epochs}")
        elif self.peak_fraction:
            raise ValueError(f"expected peak_fraction 0 {where}, got {self.peak_fraction}")
        if self.schedule == "cosine" and not self.warmup_epochs < self.epochs:
            raise ValueError(
                f"expected warmup_epochs < epochs {where}, got {self.warmup_epochs} and {self.epochs}"
            )

    def _is_one_cycle(self) -> bool:
        return self.schedule in ("one-cycle", "one-cycle-cosine")

    def of_length(self, epochs: int) -> "Recipe":
        """The same recipe, longer or shorter: drops, warm-up and peak keep their place in proportion.

        Places are rounded to whole epochs. Drops that fall on one epoch then are one drop, and what falls
        on the beginning is none.
        """
        scaled = tuple(round(epoch * epochs / self.epochs) for epoch in self.drop_epochs)
        warmup = round(self.warmup_epochs * epochs / self.epochs)
        if self.schedule == "cosine":
            warmup = min(warmup, epochs - 1)
        drops = tuple(sorted({epoch for epoch in scaled if epoch > 0}))
        return replace(self, epochs=epochs, drop_epochs=drops, warmup_epochs=warmup)

    def steps_per_epoch(self, examples: int) -> int:
        """Steps in which an epoch sees every one of ``examples`` at least once."""
        return math.ceil(examples / self.batch_size)


def build_model(name: str, recipe: Recipe, *, num_classes: int) -> nn.Module:
    """A model as a recipe initializes and computes it.

    Args:
        name: A model's name (``train.models.find_model``).
        recipe: Says how its weights are drawn and in which dtype it computes.

    Raises:
        ValueError: If there is no model of that name.
    """
    return make_model(
        name,
        num_classes=num_classes,
        kernel_init=INITIALIZERS[recipe.initializer],
        scale_init=SCALE_INITIALIZERS[recipe.scale_initializer],
        dtype=COMPUTE_DTYPES[recipe.compute_dtype],
    )


def recipe_from(fields: Mapping[str, Any]) -> Recipe:
    """A recipe as ``dataclasses.asdict`` and JSON have left it.

    Args:
        fields: By name; lists stand for tuples.

    Raises:
        ValueError: If a field is unknown, missing or wrong.
    """
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return Recipe(**values)
    except TypeError as error:
        raise ValueError(f"expected the fields of a recipe: {error}") from error


def make_schedule(recipe: Recipe, learning_rate: Any, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of every step: a linear rise, then what the recipe's schedule says.

    Args:
        learning_rate: Its first value after the rise, the highest; may be traced.

    Returns:
        ``schedule(step)``, steps counting from 0. A schedule that falls to 0 is there at the step after
        the run's last, and stays there.
    """
    steps = recipe.epochs * steps_per_epoch
    # Either is 0.
    rise = recipe.warmup_epochs * steps_per_epoch + int(recipe.peak_fraction * steps)
    fall = lookup(SCHEDULES, recipe.schedule, "schedule")(recipe, steps, rise)

    def schedule(step: Any) -> Any:
        rate = learning_rate * fall(step)
        return rate * optax.linear_schedule(0.0, 1.0, rise)(step + 1) if rise else rate

    return schedule


def make_optimizer(
    recipe: Recipe, learning_rate: Any, weight_decay: Any, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """The recipe's optimizer, with a member's own learning rate and weight decay.

    Args:
        learning_rate: Scalar, may be traced.
        weight_decay: Scalar, may be traced.
    """
    schedule = make_schedule(recipe, learning_rate, steps_per_epoch)
    return lookup(OPTIMIZERS, recipe.optimizer, "optimizer")(recipe, schedule, weight_decay)


def with_schedules_at(opt_state: Any, step: Any) -> Any:
    """A new optimizer state, of ``make_optimizer`` or a chain with it, whose schedule is at a later step.

    Returns:
        The state; momentum and moments, and their own counts, are as new.
    """

    def is_of_schedule(path: Any, _: Any) -> bool:
        return getattr(path[-1], "tuple_name", None) == optax.ScaleByScheduleState.__name__

    return optax.tree.set(opt_state, is_of_schedule, count=step)


def _drops(recipe: Recipe, steps: int, rise: int) -> optax.Schedule:
    del rise
    every = steps // recipe.epochs
    return optax.piecewise_constant_schedule(
        1.0, {epoch * every: recipe.drop_factor for epoch in recipe.drop_epochs}
    )


def _linear(recipe: Recipe, steps: int, rise: int) -> optax.Schedule:
    del recipe
    return optax.linear_schedule(1.0, 0.0, steps - rise, transition_begin=rise)


def _cosine(recipe: Recipe, steps: int, rise: int) -> optax.Schedule:
    del recipe
    cosine = optax.cosine_decay_schedule(1.0, steps - rise)
    return lambda step: cosine(jnp.maximum(step - rise, 0))


SCHEDULES: dict[str, Callable[[Recipe, int, int], optax.Schedule]] = {
    "drops": _drops,
    "cosine": _cosine,
    "one-cycle": _linear,
    "one-cycle-cosine": _cosine,
}
"""The fraction of the learning rate that is left at a step after the rise: from the recipe, the steps of
the run, and those of the rise."""


def _sgd(recipe: Recipe, schedule: optax.Schedule, weight_decay: Any) -> Any:
    momentum = recipe.momentum or None
    return _decayed(recipe, weight_decay, optax.sgd(schedule, momentum, recipe.nesterov))


def _adam(recipe: Recipe, schedule: optax.Schedule, weight_decay: Any) -> Any:
    return _decayed(recipe, weight_decay, optax.adam(schedule))


def _adamw(recipe: Recipe, schedule: optax.Schedule, weight_decay: Any) -> Any:
    return optax.adamw(schedule, weight_decay=weight_decay if recipe.weight_decay else 0.0)


def _decayed(recipe: Recipe, weight_decay: Any, optimizer: Any) -> Any:
    # The choice is the recipe's, not the member's: without decay the step does not pay for it.
    if not recipe.weight_decay:
        return optimizer
    return optax.chain(optax.add_decayed_weights(weight_decay), optimizer)


OPTIMIZERS: dict[str, Callable[[Recipe, optax.Schedule, Any], Any]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
}
