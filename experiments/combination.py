"""K-starts and dissipating gradients together: who removes how much, and when."""

import numpy as np

import pruning


def search_sparsity(sparsity: float) -> float:
    """Where the combination's K-starts searches: K-starts and dissipation remove equal fractions.

    Args:
        sparsity: The combination's final sparsity s.

    Returns:
        ``1 - sqrt(1 - s)``.
    """
    return 1 - (1 - sparsity) ** 0.5


def sparsities_after_search(sparsity: float, *, search_epochs: int, dissipate_epochs: int) -> np.ndarray:
    """The combination's sparsity after each check, one an epoch.

    Args:
        sparsity: At the end.
        search_epochs: Epochs of the search, in which nothing goes.
        dissipate_epochs: The epochs with a check, those of the search among them.

    Returns:
        Shape (dissipate_epochs,): 0 during the search (nothing goes beyond the mask), then rising
        from ``search_sparsity`` to the last.
    """
    start = search_sparsity(sparsity)
    left = 1 - (1 - sparsity) / (1 - start)
    rising = 1 - (1 - start) * (
        1 - pruning.exponential_sparsities(left, dissipate_epochs - search_epochs)
    )
    return np.concatenate([np.zeros(search_epochs), rising[:-1], [sparsity]])
