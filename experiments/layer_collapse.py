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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

import pruning
from experiments.collapse_report import KEPT, SIZE, read_published, write_results
from experiments.option_checks import check_above_zero, check_file
from experiments.options import counted, run_command, run_in_folder
from experiments.run_folder import Row, RunFolder
from experiments.untrained import Network, Untrained, measure
from train.models import depth_order
from train.populations.population import MemberState

PyTree = Any
MOST_COMPRESSIONS = 1000


@dataclass(frozen=True, kw_only=True)
class LayerCollapse(Untrained):
    """Find out which layers methods empty, and at which compression."""

    experiment = "layer_collapse"
    # Published fractions decide no mask, only what the summary says.
    without_effect = (*Untrained.without_effect, "reference")

    model: str = "resnet-20"
    """a name of train.models, such as resnet-20 or vgg-16"""
    step: float = 0.25
    """distance of compressions on the grid, in powers of ten; it begins at 0"""
    reference: Path | None = None
    """a CSV of published fractions (pruner, log10_compression, L0_keep, L1_keep, ...) to set beside"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_above_zero(self, "step")
        check_file(self, "reference")


def main() -> None:
    """Runs what the command line asks for."""
    run_command(LayerCollapse, run, __doc__)


def run(config: LayerCollapse) -> Path:
    """Makes the masks, writes the results and prints the summary.

    Args:
        config: What to look at.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the config is no good.
    """

    def prepare() -> Callable[[RunFolder], None]:
        network = Network(config)
        masks = pruning.full_masks(network.initial(0).params)
        published = config.reference and read_published(
            config.reference, layers=len(jax.tree.leaves(masks))
        )
        powers = compression_grid(masks, config.step)
        sparsities = tuple(1 - 10.0**-power for power in powers)

        def fill(folder: RunFolder) -> None:
            rows = measure(network, sparsities, folder, layer_columns)
            title = f"{config.model}, {config.dataset}, {counted(config.seeds, 'seed')}"
            write_results(rows, config.methods, powers, published, title, folder)

        return fill

    return run_in_folder(config, prepare, rewrite=config.reference is not None)


def compression_grid(masks: PyTree, step: float) -> list[float]:
    """Powers of ten from 0 to the maximal compression N / L, which is the last one.

    Args:
        masks: Of the dense network.
        step: Distance on the grid.

    Returns:
        Base-10 logarithms of compressions.

    Raises:
        ValueError: If there are more than anybody waits for.
    """
    largest = math.log10(pruning.count_prunable(masks) / len(jax.tree.leaves(masks)))
    if largest / step > MOST_COMPRESSIONS:
        raise ValueError(
            f"expected --step of at least {largest / MOST_COMPRESSIONS:.3g}, for {MOST_COMPRESSIONS} "
            f"compressions up to the maximal one, got {step}"
        )
    powers = [round(step * index, 6) for index in range(math.floor(largest / step + 1e-9) + 1)]
    return powers if math.isclose(powers[-1], largest) else [*powers, largest]


def layer_columns(network: Network, state: MemberState, masks: PyTree) -> Row:
    """What a row says of a mask: each layer's kept weights and size, in order from input to output.

    Args:
        network: Not looked at.
        state: The network's weights.
        masks: Its masks.
    """
    del network
    report = sorted(pruning.layer_report(state.params, masks), key=lambda row: depth_order(row.path))
    return {f"{KEPT}{row.path}": row.kept for row in report} | {
        f"{SIZE}{row.path}": row.size for row in report
    }


if __name__ == "__main__":
    main()
