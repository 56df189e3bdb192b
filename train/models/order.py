"""The order of a model's layers, which a pytree does not know."""

import re


def depth_order(path: str) -> tuple:
    """Sorts the layers of a model of this package from input to output, as a key of ``sorted``.

    Numbers in names count as such, and the layer called ``dense`` is the classifier.

    Args:
        path: A leaf's path, as ``pruning.layer_report`` writes it.

    Returns:
        A sort key.
    """
    parts = re.split(r"(\d+)", path)
    return "['dense']" in path, [int(part) if part.isdigit() else part for part in parts]
