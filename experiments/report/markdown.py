"""Tables and lists of a summary, in Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np

from experiments.report.paired import at_sparsity, of_seeds, percent_cell
from experiments.report.table import KEPT, Results, label, layer_name


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def accuracies(results: Results, methods: Sequence[str]) -> list[str]:
    """Final test accuracies in percent, a line a sparsity, a column a method."""
    found = {method: results.accuracy(method) for method in methods}
    rows = [
        [f"{sparsity:g}", *(cell(at_sparsity(found[m], sparsity), results) for m in methods)]
        for sparsity in results.sparsities
    ]
    return table(["sparsity", *map(label, methods)], rows)


def accuracies_by_method(results: Results, networks: Sequence[tuple[str, str]]) -> list[str]:
    """The same, a line a method and variant, a column a sparsity."""
    rows = []
    for method, variant in networks:
        found = results.accuracy(method, variant)
        cells = (cell(at_sparsity(found, sparsity), results) for sparsity in results.sparsities)
        rows.append([label(method, variant), *cells])
    return table(["method", *(f"{sparsity:g}" for sparsity in results.sparsities)], rows)


def cell(accuracies: Iterable[float], results: Results) -> str:
    """Accuracies over seeds in percent, and how many seeds these are, where they are not all."""
    accuracies = np.array(list(accuracies))
    finite = int(np.isfinite(accuracies).sum())
    few = of_seeds(finite, results.seeds) if finite else ""
    return percent_cell(accuracies) + few


def diverged(results: Results) -> list[str]:
    """The networks whose training has failed, if any."""
    names = results.diverged()
    return ["", f"**Diverged** (left out of the means): {', '.join(names)}."] if names else []


def untrained(results: Results) -> list[str]:
    """The networks that were not trained, and why; candidates of searches aside."""
    if "untrained_because" not in results.table:
        return []
    rows = results.table[results.table["candidate"].isna() & results.table["untrained_because"].notna()]
    pairs = zip(rows["member"], rows["untrained_because"], strict=True)
    lines = [f"- {member}: {reason}" for member, reason in pairs]
    return ["", "## Not trained", "", *lines] if lines else []


def kept_otherwise(results: Results) -> list[str]:
    """Methods whose networks keep over 2 % more or fewer weights than asked, if any.

    What they keep is the mean over the networks that did not diverge.
    """
    found = []
    for method in results.at_sparsities:
        rows = results.of(method)
        rows = rows[~rows["failed"].astype(bool)]
        for sparsity, of_sparsity in rows.groupby("sparsity_target"):
            kept, asked = 1 - of_sparsity["sparsity"].mean(), 1 - sparsity
            if abs(kept - asked) > 0.02 * asked:
                found.append(f"{label(method)} {100 * kept:.3g} % in place of {100 * asked:.4g} %")
    return ["", f"Keeps more or fewer weights than asked: {'; '.join(found)}."] if found else []


def emptied_layers(results: Results) -> list[str]:
    """Where whole layers have been removed: the sparsities at which a layer is empty in some seed.

    Of methods that find their own sparsity, the settings.
    """
    final, lines = results.final, []
    layers = [name for name in final if name.startswith(KEPT)]
    by = ["method", "variant", "pruned_at_step"]
    for (method, variant, step), rows in final.groupby(by, sort=True):
        for layer in layers:
            for column, asked in (("sparsity_target", "sparsity"), ("setting", "setting")):
                empty = sorted(rows.loc[rows[layer] == 0, column].dropna().unique())
                if empty:
                    at = ", ".join(f"{value:g}" for value in empty)
                    who = label(method, variant)
                    when = f", pruned at step {step}" if step else ""
                    name = layer_name(layer.removeprefix(KEPT))
                    lines.append(f"- {who}{when}: {name} is empty at {asked} {at}")
    return lines


def own_sparsities(results: Results) -> list[list[str]]:
    """Methods that find their own sparsity: setting, mean sparsity and accuracy, a row a setting.

    Both are of the networks that did not diverge.
    """
    rows = []
    for method in results.of_own_sparsity:
        for setting, found in results.of(method).groupby("setting"):
            good = found[~found["failed"].astype(bool)]
            sparsity = f"{good['sparsity'].mean():.3f}" if len(good) else "diverged"
            accuracy = cell(good["test_accuracy"], results) if len(good) else "diverged"
            rows.append([f"{label(method)} {setting:g}", sparsity, accuracy])
    return rows
