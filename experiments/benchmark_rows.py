"""The rows of ``experiments.benchmarks``: each does the same work in two ways.

To add a row: write a function that returns a ``Comparison``, or a ``OnePair`` where a repetition would
take minutes, and name it in ``ROWS``.
"""

from collections.abc import Callable
from functools import partial

import pruning
from experiments.benchmark_comparison import Comparison, Row
from experiments.benchmark_compiling import PROGRAMS, compiling
from experiments.benchmark_input import reading
from experiments.benchmark_overhead import dissipation, optimizer_step
from experiments.benchmark_scores import (
    selection,
    sensitivity,
    sensitivity_against_torch,
    synflow,
    synflow_against_torch,
)
from experiments.benchmark_search import candidates
from experiments.benchmark_startup import startup
from experiments.benchmark_training import (
    against_flax,
    against_torch,
    execution,
    parallel_search,
    population_against_one,
)

MLP, LENET, CONV, RESNET, VGG = "lenet-300-100", "lenet-5", "conv-2", "resnet-20", "vgg-16"
GREY, COLOUR = (28, 28, 1), (32, 32, 3)
SHAPES = {MLP: GREY, LENET: GREY, CONV: COLOUR, RESNET: COLOUR, VGG: COLOUR}
# Steps of one member that take a tenth of a second to a second on two CPU cores.
STEPS = {MLP: 200, LENET: 20, CONV: 4, RESNET: 2}


def _against(row: Callable[..., Comparison], model: str, **options: bool) -> Callable[[], Comparison]:
    return partial(row, model, SHAPES[model], STEPS[model], **options)


ROWS: dict[str, Callable[[], Row]] = {
    **{f"train-{model}": _against(against_flax, model) for model in STEPS},
    **{f"torch-{model}": _against(against_torch, model) for model in STEPS},
    **{
        f"torch-channels-last-{model}": _against(against_torch, model, channels_last=True)
        for model in (LENET, CONV, RESNET)
    },
    "population-lenet-300-100": lambda: population_against_one(MLP, GREY, 16, 50),
    "population-lenet-5": lambda: population_against_one(LENET, GREY, 8, 4),
    "population-resnet-20": lambda: population_against_one(RESNET, COLOUR, 8, 1),
    "members-lenet-300-100": lambda: execution(MLP, GREY, 8, 100),
    "members-lenet-5": lambda: execution(LENET, GREY, 4, 4),
    "parallel-search-lenet-300-100": lambda: parallel_search(MLP, GREY, 8, 50),
    "dissipate-resnet-20": lambda: dissipation(RESNET, COLOUR, 4),
    "dissipate-step": lambda: optimizer_step(
        15_000_000,
        lambda masks: pruning.dissipate(0.1, check_every=2**30, stop_after=2**30, masks=masks),
    ),
    "hold-masks-step": lambda: optimizer_step(15_000_000, pruning.hold_masks),
    "selection": lambda: selection(25_600_000),
    **{f"compile-{name}-100": partial(compiling, name, 100) for name in PROGRAMS},
    **{
        f"compile-global-masks-{leaves}": partial(compiling, "global-masks", leaves)
        for leaves in (25, 400)
    },
    **{
        f"{method}-{model}": partial(sensitivity, method, model, COLOUR, 100)
        for method in ("snip", "grasp")
        for model in (RESNET, VGG)
    },
    "synflow-resnet-20": lambda: synflow(RESNET, COLOUR, 100, "float32"),
    "synflow-vgg-16": lambda: synflow(VGG, COLOUR, 100, "float32"),
    "synflow-vgg-16-float64": lambda: synflow(VGG, COLOUR, 100, "float64"),
    "torch-snip-resnet-20": lambda: sensitivity_against_torch("snip", RESNET, COLOUR, 100),
    "torch-grasp-resnet-20": lambda: sensitivity_against_torch("grasp", RESNET, COLOUR, 100),
    "torch-synflow-resnet-20": lambda: synflow_against_torch(RESNET, COLOUR, 100),
    **{f"k-starts-{k}": partial(candidates, k, 20) for k in (1, 2, 4, 8, 16, 32, 64)},
    **{f"k-starts-{k}-in-chunks-of-8": partial(candidates, k, 20, 8) for k in (16, 32, 64)},
    **{f"input-{name}": partial(reading, name) for name in ("mnist", "cifar10")},
    **{f"startup-{name}": partial(startup, name) for name in ("compare", "missing_the_mark")},
}
