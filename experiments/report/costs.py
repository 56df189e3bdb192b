"""What a method costs besides the training of its network, in epochs of that training and in seconds."""

from typing import Any, NamedTuple

import numpy as np

from experiments.methods.method import Method, When
from experiments.methods.point import Need, Point, point_of
from experiments.methods.registry import find_method
from experiments.methods.searched import Searching
from experiments.report.table import Results, as_rows, counted, label

K_STARTS = "k-starts"
"""How the names of methods begin that search as K-starts does."""


class Cost(NamedTuple):
    """What a method costs for one network.

    Attributes:
        epochs: Forward-backward passes over as many examples as that many epochs have.
        seconds: Of masks and of training more, on the run's machine; compilation is left out, and what a
            method adds to each step. NaN where the run has not measured it.
    """

    epochs: float
    seconds: float


class Costs:
    """The costs of a run's methods, from its rows and facts."""

    def __init__(self, results: Results) -> None:
        """Sorts the rows."""
        self.results, self.study = results, results.study
        self._rows: dict[Point, list[dict[str, Any]]] = {}
        for row in as_rows(results.table):
            if row["epoch"] > 0:
                self._rows.setdefault(point_of(row), []).append(row)

    def of(self, name: str) -> Cost:
        """The cost of a method: what its networks need of others, more training, and scores.

        The mean over its networks that were trained.
        """
        method = find_method(name)
        points = [p for p in self._rows if p.method == name and p.candidate is None]
        found = [self._training(method, point) for point in points if point.variant == "none"]
        if not found:
            return Cost(float("nan"), float("nan"))
        epochs, seconds = np.mean(found, axis=0)
        examples = self.study.steps_per_epoch * self.study.recipe.batch_size
        masks, facts = method.masks_by, self.results.facts
        scores = masks.passes(facts.get("scored_examples", 0)) / examples
        measured = facts.get("mask_seconds", {}).get(masks.name, 0.0 if not scores else float("nan"))
        return Cost(epochs + scores, seconds + measured)

    def _training(self, method: Method, point: Point) -> tuple[float, float]:
        """Epochs and seconds of training beyond that of one dense network."""
        epochs = seconds = 0.0
        for other, step in self._needs(method, point).items():
            count = len(self._rows[other]) if step is None else step / self.study.steps_per_epoch
            epochs += count
            seconds += count * self._seconds(other)
        more = len(self._rows[point]) - self.study.epochs
        return epochs + more, seconds + more * self._seconds(point)

    def _needs(self, method: Method, point: Point) -> dict[Point, int | None]:
        """All networks that it needs, those that these need included, and up to which step."""
        found: dict[Point, int | None] = {}

        def add(need: Need) -> None:
            if need.point not in self._rows:  # There was no use in training it.
                return
            is_new, before = need.point not in found, found.get(need.point, 0)
            found[need.point] = None if before is None or need.step is None else max(before, need.step)
            if not is_new:
                return
            for further in find_method(need.point.method).needs(need.point, self.study):
                add(further)

        for need in method.needs(point, self.study):
            add(need)
        return found

    def _seconds(self, point: Point) -> float:
        """Of one epoch; the first of a chunk may have compiled."""
        return float(np.median([row["seconds"] for row in self._rows[point]]))


def on_top(results: Results) -> str:
    """What is trained besides the networks that methods are judged by: sentences, each after a space."""
    methods = {name: find_method(name) for name in results.methods}
    searching = [name for name, method in methods.items() if isinstance(method, Searching)]
    k_starts = [name for name in searching if name.startswith(K_STARTS)]
    after = [name for name, method in methods.items() if method.when is When.AFTER]
    said = ""
    if k_starts:
        knobs = results.study.knobs.search
        said += (
            f" A search comes on top ({_names(k_starts)}): {counted(knobs.k, 'candidate')} for "
            f"{counted(knobs.search_epochs, 'epoch')}."
        )
    for name in (name for name in searching if name not in k_starts):
        epochs = Costs(results).of(name).epochs
        length = (
            "" if np.isnan(epochs) else f": its candidates are trained for {epochs:.4g} epochs in all"
        )
        said += f" A search comes on top ({label(name)}){length}."
    if after:
        said += f" The training of the dense network comes on top ({_names(after)})."
    return said


def _names(methods: list[str]) -> str:
    return "; ".join(label(method) for method in methods)
