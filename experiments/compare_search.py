"""Who wins the searches of ``experiments.compare``: from stored fitnesses to the chosen candidates."""

import jax.numpy as jnp
import numpy as np

from experiments.engine.run_folder import Row
from pruning import add_standardised

FITNESSES = ("weight", "gradient", "combined")


def fitted(rows: list[Row], method: str, search_epochs: int) -> list[tuple[tuple, list[Row]]]:
    """The searches' candidates with their fitness, by (seed, sparsity), in order of the candidates.

    Args:
        rows: All rows of the run.
        method: candidate or search.
        search_epochs: The epoch whose fitness counts.

    Returns:
        Pairs of (seed, sparsity) and the k rows.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["method"] == method and row["epoch"] == search_epochs:
            groups.setdefault((row["seed"], row["sparsity_target"]), []).append(row)
    return [
        (key, _add_combined(sorted(found, key=lambda row: row["candidate"])))
        for key, found in sorted(groups.items())
    ]


def winner(rows: list[Row], fitness: str) -> int:
    """The candidate of the highest finite fitness; ties go to the lower index.

    Args:
        rows: Rows with their fitness, one a candidate, in order.
        fitness: weight, gradient or combined.

    Returns:
        Its index.
    """
    values = np.array([row[f"fitness_{fitness}"] for row in rows])
    return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))


def _add_combined(rows: list[Row]) -> list[Row]:
    """Gives candidates their combined fitness, which needs all k of a search.

    Args:
        rows: Rows of one search at its last epoch, one a candidate, in order.

    Returns:
        The same rows with ``fitness_combined``.
    """
    weight, gradient = (
        jnp.array([row[f"fitness_{name}"] for row in rows], jnp.float32)
        for name in ("weight", "gradient")
    )
    combined = np.asarray(add_standardised(weight, gradient))
    return [{**row, "fitness_combined": float(value)} for row, value in zip(rows, combined, strict=True)]
