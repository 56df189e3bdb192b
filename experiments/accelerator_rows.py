"""The rows of ``experiments.accelerator_benchmarks``, the most decisive first.

To add a row: name what measures it in ``make_rows``; it returns names with units, and numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax.numpy as jnp

import pruning
from experiments import accelerator_checks
from experiments.accelerator_checks import Finding
from experiments.accelerator_populations import (
    REPETITIONS,
    Execute,
    grid,
    in_chunks,
    training_rate,
)
from experiments.accelerator_sizes import LENET, MLP, RESNET, Sizes
from experiments.accelerator_torch import best_form, eager
from experiments.benchmark_comparison import Ceilings, Row, measure, measure_ceilings, product_flops
from experiments.benchmark_overhead import dissipation, optimizer_step
from experiments.benchmark_populations import RECIPE
from experiments.benchmark_scores import selection
from experiments.benchmark_search import candidates
from train.lowering import Lowering, lowered
from train.populations.members import in_turn, side_by_side
from train.recipes import RECIPES

TORCH_FORMS = {"eager": eager, "best-form": best_form}


Rows = dict[str, Callable[[], Finding]]


def make_rows(sizes: Sizes) -> Rows:
    """The rows in their order.

    Args:
        sizes: How much is measured.

    Returns:
        Name -> what measures it.
    """
    ceilings = cache(lambda: measure_ceilings(side=sizes.side, length=sizes.length))
    # One population of convolutional networks shows which way to go; the others come after PyTorch.
    one = replace(sizes, populations=sizes.populations[:1])
    rows = _checks(sizes, ceilings) | _grid(sizes, ceilings) | _convolutional(one, ceilings)
    for part in (_perceptrons, _in_torch, _convolutional, _overheads, _in_bfloat16):
        rows |= part(sizes, ceilings)
    return rows


def _checks(sizes: Sizes, ceilings: Callable[[], Ceilings]) -> Rows:
    images, scores = sizes.checked

    def measured() -> Finding:
        return {
            "GFLOP/s, default precision": ceilings().flops / 1e9,
            "GFLOP/s, highest precision": product_flops(sizes.side, precision="highest") / 1e9,
            "GFLOP/s, bfloat16": product_flops(sizes.side, dtype=jnp.bfloat16) / 1e9,
            "GB/s": ceilings().bytes / 1e9,
        }

    return {
        "check-platform": accelerator_checks.matrix_vector_products,
        **{
            f"check-gradients-{model}": partial(
                accelerator_checks.gradients, model, sizes.shapes[model], images
            )
            for model in (LENET, RESNET)
        },
        "check-members-lenet-5": partial(
            accelerator_checks.members, LENET, sizes.shapes[LENET], images, 4
        ),
        "check-selection": partial(accelerator_checks.selection, scores),
        "ceilings": measured,
    }


def _grid(sizes: Sizes, ceilings: Callable[[], Ceilings]) -> Rows:
    """The headline: all that ``missing_the_mark`` trains from static masks, and PyTorch one by one."""
    train, test = sizes.images
    shape = sizes.shapes[MLP]
    recipe = RECIPES[RECIPE]
    steps = sizes.networks * recipe.epochs * recipe.steps_per_epoch(train)

    def ours(chunk: int) -> Finding:
        return grid(
            MLP,
            shape,
            sizes.networks,
            chunk_size=chunk,
            train=train,
            test=test,
            ceilings=ceilings(),
        )

    def theirs(form: Callable[..., Finding]) -> Finding:
        found = form(MLP, shape, sizes.torch_steps)
        return found | {"networks": sizes.networks, "seconds in all": steps / float(found["steps/s"])}

    return {
        **{f"grid-{chunk}-together": partial(ours, chunk) for chunk in sizes.grid_chunks},
        **{f"grid-torch-{name}": partial(theirs, form) for name, form in TORCH_FORMS.items()},
    }


def _convolutional(sizes: Sizes, ceilings: Callable[[], Ceilings]) -> Rows:
    rows: Rows = {}
    for members in sizes.populations:
        ways = {"vmapped": side_by_side, "in-turn": in_turn}
        ways |= {f"in-chunks-of-{size}": in_chunks(size) for size in sizes.chunks if size < members}
        for model in (LENET, RESNET):
            for way, execute in ways.items():
                row = partial(_population, sizes, ceilings, model, members, execute, "float32")
                rows[f"{model}-{members}-{way}"] = row
            row = partial(_population, sizes, ceilings, model, members, side_by_side, "float32")
            rows[f"{model}-{members}-vmapped-own-gradients"] = partial(_with_own_gradients, row)
    return rows


def _perceptrons(sizes: Sizes, ceilings: Callable[[], Ceilings]) -> Rows:
    ways = {"vmapped": side_by_side, "in-turn": in_turn}
    return {
        f"{MLP}-{members}-{way}": partial(_population, sizes, ceilings, MLP, members, execute, "float32")
        for members in sizes.mlp_populations
        for way, execute in ways.items()
        if way == "vmapped" or members == min(sizes.mlp_populations)
    }


def _in_torch(sizes: Sizes, ceilings: Callable[[], Ceilings]) -> Rows:
    del ceilings
    return {
        f"torch-{name}-{model}": partial(form, model, sizes.shapes[model], sizes.torch_steps)
        for model in (LENET, RESNET)
        for name, form in TORCH_FORMS.items()
    }


def _overheads(sizes: Sizes, ceilings: Callable[[], Ceilings]) -> Rows:
    """Rows of ``experiments.benchmarks``."""
    weights, scores = sizes.weights
    resnet_steps = max(2, sizes.member_steps[RESNET] // 16)

    def dissipate(masks: Any) -> Any:
        return pruning.dissipate(0.1, check_every=2**30, stop_after=2**30, masks=masks)

    made: dict[str, Callable[[], Row]] = {
        "selection": partial(selection, scores),
        "dissipate-step": partial(optimizer_step, weights, dissipate),
        "dissipate-resnet-20": partial(dissipation, RESNET, sizes.shapes[RESNET], resnet_steps),
        **{f"k-starts-{k}": partial(candidates, k, sizes.search_steps) for k in sizes.candidates},
    }

    def compared(name: str) -> Finding:
        found = measure(name, made[name](), REPETITIONS, ceilings())
        rates: Finding = {
            f"{found.unit}/s": found.ours,
            f"{found.unit}/s, {found.against}": found.theirs,
            "ratio": found.ratio,
            "lowest ratio": found.ratio_low,
            "highest ratio": found.ratio_high,
        }
        return rates | found.facts

    return {name: partial(compared, name) for name in made}


def _in_bfloat16(sizes: Sizes, ceilings: Callable[[], Ceilings]) -> Rows:
    """The largest populations in what PyTorch's best form computes in."""
    return {
        f"{model}-{members}-vmapped-bfloat16": partial(
            _population, sizes, ceilings, model, members, side_by_side, "bfloat16"
        )
        for model, members in (
            (LENET, max(sizes.populations)),
            (RESNET, max(sizes.populations)),
            (MLP, max(sizes.mlp_populations)),
        )
    }


def _with_own_gradients(row: Callable[[], Finding]) -> Finding:
    """A row with the gradients that are written for CPUs."""
    with lowered(Lowering(in_turn=False, own_gradients=True)):
        return row()


def _population(
    sizes: Sizes,
    ceilings: Callable[[], Ceilings],
    model: str,
    members: int,
    execute: Execute,
    compute_dtype: str,
) -> Finding:
    return training_rate(
        model,
        sizes.shapes[model],
        members,
        execute=execute,
        member_steps=sizes.member_steps[model],
        compute_dtype=compute_dtype,
        ceilings=ceilings(),
    )
