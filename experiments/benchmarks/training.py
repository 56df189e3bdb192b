"""Rows of training: one network against plain loops, several against one, and ways of executing them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.benchmarks.measuring import Row
from experiments.benchmarks.populations import (
    RECIPE,
    epochs_of,
    make_network,
    random_masks,
    synthetic_dataset,
    synthetic_population,
    training_flops,
    training_steps,
)
from experiments.benchmarks.pytorch import training_loop
from experiments.benchmarks.sizes import MLP, Sizes
from experiments.engine.timing import alternating
from experiments.methods.gated import SOFT, Gated
from experiments.methods.study import Study
from experiments.options.knobs import Knobs
from experiments.options.training import Grid
from train.data.augment import normalise
from train.evaluation import apply_model
from train.lowering import LOWERINGS, Lowering, lowered
from train.populations.members import in_turn, side_by_side
from train.recipes import make_optimizer

Execute = Callable[..., Any]
"""As ``train.members.side_by_side``: from a function, how many members count, and the stacked members."""


def in_chunks_of(size: int) -> Execute:
    """Members vmapped a few at a time, in a loop; every member has keys of its own."""

    def execute(function: Callable[..., Any], count: jax.Array, *stacked: Any) -> Any:
        del count
        return jax.lax.map(lambda member: function(*member), stacked, batch_size=size)

    return execute


def with_own_gradients(function: Callable[..., Any], count: jax.Array, *stacked: Any) -> Any:
    """Members vmapped, with the gradients that are written for CPUs."""
    with lowered(Lowering(in_turn=False, own_gradients=True)):
        return side_by_side(function, count, *stacked)


def in_three_passes(function: Callable[..., Any], count: jax.Array, *stacked: Any) -> Any:
    """Members vmapped, with the convolutions that a TPU's compiler makes of three passes."""
    with lowered(LOWERINGS["accelerator"]):
        return side_by_side(function, count, *stacked)


WAYS: dict[str, tuple[Execute, str]] = {
    "in-turn": (in_turn, "float32"),
    "own-gradients": (with_own_gradients, "float32"),
    "three-passes": (in_three_passes, "float32"),
    "in-chunks-of-4": (in_chunks_of(4), "float32"),
    "in-chunks-of-16": (in_chunks_of(16), "float32"),
    "bfloat16": (side_by_side, "bfloat16"),
}
"""How members are executed, and what they compute in."""


def against_flax(sizes: Sizes, model_name: str) -> Row:
    """Training steps of a masked population member, against a plain Flax and optax loop.

    The plain loop is what most code does: one jitted step a Python iteration, the batch indexed on
    the host, the mask applied to the params after the update, the compiler's gradients. Network, batches,
    optimizer and mask are the same. The population's epoch also shuffles and evaluates one batch.
    """
    population = synthetic_population(sizes, model_name)
    recipe, dataset, steps = population.recipe, population.dataset, population.steps_per_epoch
    masks, rng = random_masks(sizes, model_name, 0.9), np.random.default_rng(0)
    network = make_network(model_name, sizes.shapes[model_name], 1)
    optimizer = make_optimizer(recipe, recipe.learning_rate, 0.0, steps)

    @jax.jit
    def plain_step(params: Any, stats: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            images_in = normalise(images, dataset.mean, dataset.std)
            logits, updated = apply_model(network.model, params, stats, images_in, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

        gradients, stats_after = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return pruning.apply_masks(optax.apply_updates(params, updates), masks), stats_after, state

    def theirs() -> None:
        params, stats, state = network.params, network.stats, optimizer.init(network.params)
        for batch in rng.permutation(len(dataset.train.labels)).reshape(steps, -1):
            images, labels = dataset.train.images[batch], dataset.train.labels[batch]
            with lowered(LOWERINGS["accelerator"]):
                params, stats, state = plain_step(params, stats, state, images, labels)
        jax.block_until_ready(params)

    ours, against = epochs_of(population), "a plain Flax + optax loop"
    return training_steps(sizes, model_name, ours, theirs, against, steps)


def against_torch(sizes: Sizes, model_name: str, form: str) -> Row:
    """Training steps of a masked population member, against a PyTorch loop without a mask."""
    theirs, steps = training_loop(sizes, model_name, form), sizes.steps(model_name)
    ours, against = epochs_of(synthetic_population(sizes, model_name)), f"a {form} PyTorch loop"
    return training_steps(sizes, model_name, ours, theirs, against, steps)


def against_one(sizes: Sizes, model_name: str, members: int) -> Row:
    """Training steps of members together as the platform executes them, against one member alone."""
    members = sizes.together(members)
    together = synthetic_population(sizes, model_name, members)
    ours, theirs = epochs_of(together, [()] * members), epochs_of(synthetic_population(sizes, model_name))
    amounts = members * together.steps_per_epoch, sizes.steps(model_name)
    return training_steps(sizes, model_name, ours, theirs, "one member alone", *amounts)


def against_vmapped(sizes: Sizes, model_name: str, members: int, way: str) -> Row:
    """Training steps of members executed in another way, against the members vmapped, in float32."""
    members = sizes.together(members)
    populations = (
        synthetic_population(sizes, model_name, members, execute=execute, compute_dtype=dtype)
        for execute, dtype in (WAYS[way], (side_by_side, "float32"))
    )
    ours, theirs = (epochs_of(population, [()] * members) for population in populations)
    amount = members * sizes.steps(model_name, members)
    return training_steps(sizes, model_name, ours, theirs, "the members vmapped", amount)


def grid(sizes: Sizes, together: int, form: str | None = None) -> Row:
    """Trainings of LeNet-300-100 on as much as MNIST, many together, against one network at a time.

    That is one network here, or in PyTorch if a form of it is given. The grid of ``missing_the_mark`` is
    1,800 trainings: it takes 1,800 over the rate.
    """
    together, alone = sizes.together(together), synthetic_population(sizes, MLP)
    dataset = synthetic_dataset(sizes.shapes[MLP], *sizes.grid_images)
    ours = epochs_of(replace(alone, dataset=dataset), [()] * together)
    theirs = training_loop(sizes, MLP, form) if form else epochs_of(alone)
    steps = RECIPE.epochs * RECIPE.steps_per_epoch(len(dataset.train.labels))  # of a training
    return Row(
        alternating(ours, theirs),
        against=f"a {form} PyTorch loop" if form else "one network alone",
        unit=f"networks trained for {RECIPE.epochs} epochs",
        amount=together / RECIPE.epochs,
        their_amount=alone.steps_per_epoch / steps,
        flops=steps * training_flops(MLP, sizes.shapes[MLP], RECIPE.batch_size),
    )


def parallel_search(sizes: Sizes, model_name: str, starts: int) -> Row:
    """Continuous Sparsification from several starts of the gates together, against one by one."""
    starts = sizes.together(starts)
    plain = synthetic_population(sizes, model_name, starts)
    steps = plain.steps_per_epoch
    study = Study(
        recipe=RECIPE,
        steps_per_epoch=steps,
        knobs=Knobs(),
        prune_epochs=1,
        gate_learning_rate=RECIPE.learning_rate,
        grid=Grid(),
    )
    population = replace(
        plain, method=SOFT.method(study, None), reparametrization=SOFT.reparametrization(study)
    )
    penalty, rate = jnp.float32(1e-8), jnp.float32(RECIPE.learning_rate)
    gates = [Gated(start, penalty, rate, jnp.float32(1)) for start in jnp.linspace(-0.1, 0.0, starts)]
    ours, alone = epochs_of(population, gates), [epochs_of(population, [one]) for one in gates]
    ways = ours, lambda: [train() for train in alone]
    return training_steps(sizes, model_name, *ways, "the starts one by one", starts * steps)
