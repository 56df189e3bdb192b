"""How fast an accelerator trains populations: each way of executing them, and a whole grid."""

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from experiments.accelerator_checks import Finding
from experiments.benchmark_comparison import Ceilings, seconds
from experiments.benchmark_populations import (
    ImageShape,
    epochs_of,
    random_masks_of,
    synthetic_dataset,
    synthetic_population,
    training_flops,
)
from experiments.programs import held_masks, param_shapes
from train.populations.population import Population
from train.recipes import build_model

Execute = Callable[..., Any]
MOST_STEPS = 500
REPETITIONS = 3


def in_chunks(size: int) -> Execute:
    """Members vmapped a few at a time, in a loop: a way for ``Population.execute``.

    Args:
        size: Members that are vmapped.

    Returns:
        As ``train.populations.members.side_by_side``; every member has keys of its own.
    """

    def execute(function: Callable[..., Any], count: jax.Array, *stacked: Any) -> Any:
        del count
        return jax.lax.map(lambda member: function(*member), stacked, batch_size=size)

    return execute


def training_rate(
    model_name: str,
    image_shape: ImageShape,
    members: int,
    *,
    execute: Execute,
    member_steps: int,
    compute_dtype: str,
    ceilings: Ceilings,
) -> Finding:
    """Training steps of a population's members per second.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of synthetic images.
        members: How many train together.
        execute: How.
        member_steps: About how many one call does, of all members.
        compute_dtype: A name in ``train.recipes.COMPUTE_DTYPES``.
        ceilings: Of the machine.

    Returns:
        The rate, what it is of the ceiling, and the time to compile.
    """
    steps = max(1, min(MOST_STEPS, member_steps // members))
    population = synthetic_population(model_name, image_shape, steps, execute)
    recipe = replace(population.recipe, compute_dtype=compute_dtype)
    model = build_model(model_name, recipe, num_classes=10)
    population = replace(population, recipe=recipe, model=model)
    median, compiling = _epoch_seconds(epochs_of(population, members, random_masks_of(population)))
    rate = members * steps / median
    return {"member-steps/s": rate} | _of_ceiling(
        population, model_name, image_shape, rate, ceilings, compiling
    )


def grid(
    model_name: str,
    image_shape: ImageShape,
    networks: int,
    *,
    chunk_size: int,
    train: int,
    test: int,
    ceilings: Ceilings,
) -> Finding:
    """A grid of networks, all that ``missing_the_mark`` trains from static masks: an epoch is measured.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of synthetic images.
        networks: In all.
        chunk_size: How many train together.
        train: Images to train on.
        test: Images to test on, after each epoch.
        ceilings: Of the machine.

    Returns:
        Seconds of an epoch of a chunk, and of all epochs of all chunks.
    """
    population = synthetic_population(model_name, image_shape, 1)
    dataset = synthetic_dataset(image_shape, train, test)
    method = held_masks(param_shapes(population.model, dataset))
    population = replace(population, dataset=dataset, method=method)
    epoch, compiling = _epoch_seconds(epochs_of(population, chunk_size, ()))
    steps = population.recipe.steps_per_epoch(train)
    rate = chunk_size * steps / epoch
    return {
        "networks": networks,
        "trained together": chunk_size,
        "seconds an epoch": epoch,
        "seconds in all": epoch * population.recipe.epochs * math.ceil(networks / chunk_size),
        "member-steps/s": rate,
    } | _of_ceiling(population, model_name, image_shape, rate, ceilings, compiling)


def _epoch_seconds(epoch: Callable[[], None]) -> tuple[float, float]:
    """The median of some epochs, and what the first one took longer: to compile."""
    first = seconds(epoch)
    median = statistics.median(seconds(epoch) for _ in range(REPETITIONS))
    return median, first - median


def _of_ceiling(
    population: Population,
    model_name: str,
    image_shape: ImageShape,
    rate: float,
    ceilings: Ceilings,
    compiling: float,
) -> Finding:
    flops = rate * training_flops(model_name, image_shape, population.recipe.batch_size)
    return {
        "GFLOP/s": flops / 1e9,
        "of the matrix product's ceiling": flops / ceilings.flops,
        "seconds to compile": compiling,
    }
