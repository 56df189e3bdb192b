"""What the masks of scored methods cost, measured where a run has trained."""

import time
from typing import Any

import jax

from experiments.engine.networks import Networks
from experiments.methods.point import Need, Point, dense
from experiments.methods.registry import scored


def mask_costs(networks: Networks) -> dict[str, Any]:
    """Facts for ``experiments.report.costs``.

    Returns:
        ``scored_examples``, how many examples a score sees, and ``mask_seconds``, for each scored method
        the seconds that its masks of one network take once it is compiled.
    """
    found: dict[str, Any] = {"mask_seconds": {}}
    seed = min(point.seed for point in networks.schedule.needs)
    points = [point for point in networks.schedule.needs if point.seed == seed]
    asked = {networks.method(point).masks_by.name: point for point in points}
    for name, method in scored().items():
        if name not in asked:
            continue
        seen = networks.seen(Need(dense(Point(name, seed=seed))))
        found["scored_examples"] = len(seen.labels)
        sparsity = asked[name].sparsity_target or 0.0
        for _ in range(2):  # The first one may compile.
            start = time.perf_counter()
            # Another tuple: scores of the same one are not computed again.
            fresh = seen._replace(key=seen.key)
            jax.block_until_ready(networks.maker.masks(name, method.ranking, fresh, sparsity))
            found["mask_seconds"][name] = time.perf_counter() - start
    return found
