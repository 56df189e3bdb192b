"""The rows of ``python -m experiments.benchmarks``, those first that decide most on an accelerator.

To add one: write a function ``(sizes, ...)`` that returns a ``Row``, and name it in ``ROWS``. A row's
name ends with its arguments; ``--list`` shows the first line of its function's docstring.
"""

from collections.abc import Callable
from typing import NamedTuple

from experiments.benchmarks import checks, masks, overhead, training, walking, whole_runs
from experiments.benchmarks.measuring import Row
from experiments.benchmarks.sizes import CONV, LENET, MLP, RESNET, VGG, Sizes

CPU, ACCELERATOR = ("cpu",), ("accelerator",)
BOTH = CPU + ACCELERATOR


class Entry(NamedTuple):
    """What makes a row, and the platforms where it says something."""

    function: Callable[..., Row]
    arguments: tuple[object, ...]
    platforms: tuple[str, ...]

    def make(self, sizes: Sizes) -> Row:
        """The row, ready to be measured."""
        return self.function(sizes, *self.arguments)


def _rows(
    platforms: tuple[str, ...], name: str, function: Callable[..., Row], *arguments: tuple
) -> dict[str, Entry]:
    """A row for each of ``arguments``."""
    return {"-".join([name, *map(str, some)]): Entry(function, some, platforms) for some in arguments}


def _executed(members: int, *ways: str) -> dict[str, Entry]:
    """Ways of executing so many convolutional networks on an accelerator."""
    of_each = [(model, members, way) for way in ways for model in (LENET, RESNET)]
    return _rows(ACCELERATOR, "members", training.against_vmapped, *of_each)


ROWS: dict[str, Entry] = {
    **_rows(BOTH, "check-platform", checks.matrix_vector_products, ()),
    **_rows(ACCELERATOR, "check-gradients", checks.gradients, (LENET,), (RESNET,)),
    **_rows(BOTH, "check-vmapped-gradients", checks.vmapped_gradients, ()),
    **_rows(BOTH, "selection", masks.selection, ()),
    **_rows(ACCELERATOR, "grid", training.grid, (1800,), (256,), (256, "plain"), (256, "compiled")),
    # One population of convolutional networks shows which way to go; the others come after PyTorch.
    **_rows(ACCELERATOR, "population", training.against_one, (LENET, 16), (RESNET, 16)),
    **_executed(16, "in-turn", "three-passes", "in-chunks-of-4", "own-gradients"),
    **_rows(ACCELERATOR, "population", training.against_one, *((MLP, n) for n in (256, 1024, 64, 4))),
    **_rows(BOTH, "population", training.against_one, (MLP, 16)),
    **_rows(ACCELERATOR, "members", training.against_vmapped, (MLP, 1, "in-turn")),
    **_rows(BOTH, "torch", training.against_torch, *((m, "plain") for m in (MLP, LENET, CONV, RESNET))),
    **_rows(
        ACCELERATOR, "torch", training.against_torch, *((m, "compiled") for m in (MLP, LENET, RESNET))
    ),
    **_rows(CPU, "torch", training.against_torch, *((m, "channels-last") for m in (LENET, CONV, RESNET))),
    **_rows(ACCELERATOR, "population", training.against_one, (LENET, 64), (RESNET, 64)),
    **_executed(64, "in-turn", "in-chunks-of-4", "in-chunks-of-16", "own-gradients", "bfloat16"),
    **_rows(ACCELERATOR, "population", training.against_one, (LENET, 4), (RESNET, 4)),
    **_executed(4, "in-turn", "own-gradients"),
    **_executed(1, "in-turn", "own-gradients"),
    # What decides the way of executing on CPUs; the first of the two also stands among those of four.
    **_rows(BOTH, "members", training.against_vmapped, (LENET, 4, "in-turn")),
    **_rows(CPU, "members", training.against_vmapped, (MLP, 8, "in-turn")),
    **_rows(CPU, "population", training.against_one, (LENET, 8), (RESNET, 8)),
    **_rows(BOTH, "optimizer-step", overhead.optimizer_step, *((name,) for name in overhead.METHODS)),
    **_rows(BOTH, "dissipate", overhead.dissipation, (RESNET,)),
    **_rows(BOTH, "between-checks", overhead.between_checks, ("rigl", RESNET)),
    **_rows(BOTH, "against-holding", overhead.optimizer_step_against_holding, ("rigl", 1), ("rigl", 4)),
    **_rows(ACCELERATOR, "k-starts", masks.candidates, (256,)),
    **_rows(BOTH, "k-starts", masks.candidates, *((k,) for k in (64, 32, 16, 8, 4, 2, 1))),
    **_rows(CPU, "k-starts-in-chunks", masks.candidates, *((k, 8) for k in (64, 32, 16))),
    **_rows(ACCELERATOR, "members", training.against_vmapped, (MLP, 1024, "bfloat16")),
    **_rows(BOTH, "train", training.against_flax, (MLP,), (LENET,), (CONV,), (RESNET,)),
    **_rows(BOTH, "parallel-search", training.parallel_search, (MLP, 8)),
    **_rows(BOTH, "scores", masks.sensitivity, ("snip", RESNET), ("grasp", RESNET)),
    **_rows(BOTH, "scores", masks.sensitivity, ("snip", VGG), ("grasp", VGG)),
    **_rows(BOTH, "scores", masks.sensitivity, ("prospr", RESNET), ("prospr", VGG)),
    **_rows(BOTH, "path-exclusion", masks.path_exclusion, (VGG,)),
    **_rows(BOTH, "ntk-sap", masks.ntk_sap, (VGG,)),
    **_rows(BOTH, "phew", walking.phew, (VGG,)),
    **_rows(BOTH, "n-m-selection", masks.n_m_selection, ()),
    **_rows(BOTH, "synflow", masks.synflow, (RESNET,), (VGG,), (VGG, "float64")),
    **_rows(BOTH, "torch", masks.sensitivity_against_torch, ("snip", RESNET), ("grasp", RESNET)),
    **_rows(BOTH, "torch-synflow", masks.synflow_against_torch, (RESNET,)),
    **_rows(CPU, "compile", overhead.compiling, *((name, 100) for name in overhead.PROGRAMS)),
    **_rows(CPU, "compile", overhead.compiling, ("global-masks", 25), ("global-masks", 400)),
    **_rows(CPU, "input", whole_runs.reading, ("mnist",), ("cifar10",)),
    **_rows(CPU, "imports", whole_runs.imports, ("compare",)),
    **_rows(CPU, "startup", whole_runs.startup, ("compare",), ("missing_the_mark",)),
}
