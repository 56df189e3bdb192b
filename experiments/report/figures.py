"""How the experiments' figures are written."""

from collections.abc import Mapping
from io import BytesIO

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.engine.run_folder import RunFolder


def save_figures(folder: RunFolder, figures: Mapping[str, Figure]) -> None:
    """Writes figures as PNG and SVG, each file whole or not at all, and closes them.

    Args:
        folder: Of the run.
        figures: By the name of their files.

    Raises:
        ValueError: If the folder cannot be written.
    """
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            drawn = BytesIO()
            figure.savefig(drawn, format=suffix, dpi=150)
            folder.write(f"{name}.{suffix}", drawn.getvalue())
        plt.close(figure)
