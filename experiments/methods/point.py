"""Points, the networks that figures and tables are made of, and what a point needs of other networks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

DENSE = "dense"


class Point(NamedTuple):
    """One network of a run; the fields are columns of its rows, and together they are its name.

    Attributes:
        method: The name of a method, or ``DENSE``.
        variant: An ablation of the method; "none" for the method itself.
        pruned_at_step: The training step at which it is pruned, for methods of one moment.
        sparsity_target: The sparsity that was asked for; None where the method finds its own.
        setting: What such a method is given instead: where gates begin, the fraction of a band.
        round: Of rounds of pruning, from 1.
        candidate: Of a search, from 0; None for the network that a method is judged by.
        seed: Counting from 0.
        learning_rate: Of a sweep; None for the recipe's.
        weight_decay: Of a sweep; None for the recipe's.
    """

    method: str
    variant: str = "none"
    pruned_at_step: int = 0
    sparsity_target: float | None = None
    setting: float | None = None
    round: int | None = None
    candidate: int | None = None
    seed: int = 0
    learning_rate: float | None = None
    weight_decay: float | None = None

    @property
    def name(self) -> str:
        """Its name in a run's folder: "synflow/shuffle/step-30/sparsity-0.9/seed-0"."""
        parts = {
            "step": self.pruned_at_step or None,
            "sparsity": self.sparsity_target,
            "setting": None if self.setting is None else self.setting + 0.0,  # -0.0 is 0.0
            "round": self.round,
            "candidate": self.candidate,
            "learning-rate": self.learning_rate,
            "weight-decay": self.weight_decay,
            "seed": self.seed,
        }
        variant = () if self.variant == "none" else (self.variant,)
        told = (f"{what}-{value}" for what, value in parts.items() if value is not None)
        return "/".join((self.method, *variant, *told))

    @property
    def file_name(self) -> str:
        """Its name as a part of a file's name."""
        return self.name.replace("/", "-")

    def of_same_seed(self, method: str, **fields: Any) -> "Point":
        """Another network of the same seed and sweep, so of the same initial weights and data order."""
        point = Point(
            method, seed=self.seed, learning_rate=self.learning_rate, weight_decay=self.weight_decay
        )
        return point._replace(**fields)


def point_of(row: Mapping[str, Any]) -> Point:
    """The network that a row is of."""
    defaults = Point("")._asdict()
    return Point(**{name: row.get(name, default) for name, default in defaults.items()})


def dense(point: Point) -> Point:
    """The dense network of the same seed and sweep."""
    return point.of_same_seed(DENSE, sparsity_target=0.0)


class Need(NamedTuple):
    """What a network needs of another before it can begin.

    Attributes:
        point: The other network.
        step: The training step whose state it begins from or is pruned by; None where only the rows of
            the finished network count.
    """

    point: Point
    step: int | None = None
