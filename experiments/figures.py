"""How the experiments' figures are written."""

from collections.abc import Mapping

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.run_folder import RunFolder


def save_figures(folder: RunFolder, figures: Mapping[str, Figure]) -> None:
    """Writes figures as PNG and SVG, and closes them.

    Args:
        folder: Of the run.
        figures: By the name of their files.
    """
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            figure.savefig(folder.path / f"{name}.{suffix}", dpi=150)
        plt.close(figure)
