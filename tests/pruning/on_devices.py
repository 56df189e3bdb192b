"""Selects among scores that are divided over four devices; run by test_selection_on_devices.

XLA makes several devices of one CPU only before JAX starts, so this is a process of its own.
"""

import json

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pruning.selection import keep_highest

SHAPES = (64, 32), (3, 3, 16, 32)
PARTITIONS = {
    "first axes": (PartitionSpec("x"), PartitionSpec(None, None, "x")),
    "last axes": (PartitionSpec(None, "x"), PartitionSpec(None, None, None, "x")),
}


def main():
    """Prints whether the masks are right, and divided as the scores are."""
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    select = jax.jit(lambda scores: keep_highest(scores, 3000))
    random, found = np.random.default_rng(0), {}
    scores = {
        "no two alike": [random.normal(size=shape).astype(np.float32) for shape in SHAPES],
        "many ties": [random.integers(0, 50, shape).astype(np.float32) for shape in SHAPES],
    }
    for kind, whole in scores.items():
        expected = select(whole)
        for place, specs in PARTITIONS.items():
            shardings = [NamedSharding(mesh, spec) for spec in specs]
            masks = select(jax.device_put(whole, shardings))
            equal = all(map(np.array_equal, masks, expected))
            divided = all(
                m.sharding.is_equivalent_to(s, m.ndim) for m, s in zip(masks, shardings, strict=True)
            )
            found[f"{kind}, {place}"] = [bool(equal), bool(divided)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
