"""Layer collapse: what each method leaves of each layer, up to the highest compression there is.

    python -m experiments.layer_collapse
    python -m experiments.layer_collapse --dataset cifar10 --model vgg-16 --data-dir DIR

Expected: the first in a few minutes on 2 CPU cores, digits with ResNet-20; the second in about ten
minutes a seed. Nothing is trained. Interrupted, the same command goes on.

Compression is N / kept. A network of L layers can at best be compressed N / L times without losing one
(maximal compression); a method's critical compression is the highest of the grid up to which no layer
is empty.

Source: Tanaka et al. 2020 (arXiv 2006.05467), section 3 and figure 2.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import pruning
from experiments.engine.experiment import Experiment, main
from experiments.engine.untrained import Look, Network, looking
from experiments.methods.registry import check_for, scored
from experiments.options.checks import check_above_zero, check_file
from experiments.options.options import own_first
from experiments.options.untrained import UntrainedOptions

if TYPE_CHECKING:
    from experiments.report.table import Results

MOST_COMPRESSIONS = 1000


@own_first
@dataclass(frozen=True, kw_only=True)
class LayerCollapse(UntrainedOptions):
    """Find out which layers methods empty, and at which compression."""

    experiment = "layer_collapse"
    # Published fractions decide no mask, only what the summary says.
    without_effect = (*UntrainedOptions.without_effect, "reference")

    methods: Annotated[tuple[str, ...], tyro.conf.arg(help=f"who prunes, of {', '.join(scored())}")] = (
        "random",
        "magnitude",
        "snip",
        "grasp",
        "synflow",
    )
    model: str = "resnet-20"
    """a name of train.models, such as resnet-20 or vgg-16"""
    step: float = 0.25
    """distance of compressions on the grid, in powers of ten; it begins at 0"""
    reference: Path | None = None
    """a CSV of published fractions (pruner, log10_compression, L0_keep, L1_keep, ...) to set beside"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_for(self.methods, scored(), "has no final mask before training")
        check_above_zero(self, "step")
        check_file(self, "reference")


def compression_grid(weights: int, layers: int, step: float) -> list[float]:
    """Powers of ten from 0 to the maximal compression N / L, which is the last one.

    Args:
        weights: N, of the dense network.
        layers: L.
        step: Distance on the grid.

    Raises:
        ValueError: If there are more than anybody waits for.
    """
    largest = math.log10(weights / layers)
    if largest / step > MOST_COMPRESSIONS:
        raise ValueError(
            f"expected --step of at least {largest / MOST_COMPRESSIONS:.3g}, for {MOST_COMPRESSIONS} "
            f"compressions up to the maximal one, got {step}"
        )
    powers = [round(step * index, 6) for index in range(math.floor(largest / step + 1e-9) + 1)]
    return powers if math.isclose(powers[-1], largest) else [*powers, largest]


def sparsities(options: LayerCollapse, network: Network) -> list[float]:
    """Those of the grid's compressions."""
    weights = pruning.count_prunable(pruning.full_masks(network.initial(0)[0]))
    grid = compression_grid(weights, len(network.maker.layers), options.step)
    return [1 - 10.0**-power for power in grid]


def look(network: Network) -> Look:
    """Each layer's kept weights and size, in order from input to output."""

    def columns(params: Any, masks: Any) -> dict[str, Any]:
        rows = {row.path: row for row in pruning.layer_report(params, masks)}
        ordered = [rows[path] for path in network.maker.layers]
        kept = {f"kept{row.path}": row.kept for row in ordered}
        return kept | {f"size{row.path}": row.size for row in ordered}

    return columns


def figures(results: "Results") -> dict[str, Any]:
    """What is kept of each layer."""
    from experiments.report.layers import layers_figure

    return {"layers": layers_figure(results)}


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Critical compressions, the layers that go first, and published fractions beside ours."""
    from experiments.report import layers, markdown
    from experiments.report.table import label

    powers = layers.powers(results)
    rows = []
    for method in results.methods:
        critical = ", ".join(f"{power:.2f}" for power in layers.critical_powers(results, method))
        rows.append([label(method), critical, ", ".join(layers.first_emptied(results, method)) or "none"])
    lines = [
        f"# layer_collapse: {results.title}",
        "",
        f"Base-10 logarithm of compression; maximal compression N / L is {powers[-1]:.3f}. Critical: the "
        "highest of the grid up to which no layer is empty.",
        "",
        *markdown.table(["method", "critical, a seed each", "first emptied layers"], rows),
    ]
    return lines + (layers.beside(reference, results) if reference is not None else [])


def check_reference(path: Path, settings: dict[str, Any]) -> None:
    """Raises a ValueError if a file has no fractions of compressions."""
    from experiments.report.layers import COLUMNS
    from experiments.report.reference_table import read_table

    read_table(path, COLUMNS)


EXPERIMENT = Experiment(
    options=LayerCollapse,
    help=__doc__,
    prepare=looking(sparsities, look),
    figures=figures,
    summary=summary,
    check_reference=check_reference,
)

if __name__ == "__main__":
    main(EXPERIMENT)
