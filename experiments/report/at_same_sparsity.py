"""Methods that find their own sparsity, compared with others at the same one."""

from collections.abc import Sequence

from experiments.report.paired import Estimate, at_same_kept, estimate
from experiments.report.table import Results, Table


def over(results: Results, ours: Table, theirs: Sequence[str]) -> Estimate:
    """Accuracies minus those of other methods at the same sparsity, paired by seed.

    Args:
        results: The run's table, from which the other networks come.
        ours: The final rows of one method at one setting, one a seed.
        theirs: The methods whose networks make one curve a seed, interpolated linearly in the logarithm
            of what is kept; beyond its ends there is no comparison.
    """
    final, gaps = results.final, {}
    others = final[final["method"].isin(theirs) & ~final["failed"].astype(bool)]
    others = others[others["variant"] == "none"]
    for seed, sparsity, accuracy in zip(
        ours["seed"], ours["sparsity"], ours["test_accuracy"], strict=True
    ):
        of_seed = others[others["seed"] == seed]
        curve = zip(1 - of_seed["sparsity"], of_seed["test_accuracy"], strict=True)
        there = at_same_kept(curve, 1 - sparsity)
        if there is not None:
            gaps[int(seed), 0.0] = float(accuracy) - there
    return estimate(gaps)
