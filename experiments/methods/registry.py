"""All methods, in the order of tables and legends, and what can be done with a name.

To add a method: its definition in ``METHODS`` of a file of this folder, and that file here if it is new.
Colours are Okabe and Ito's, told apart by colour-blind readers, and a few more.
"""

from collections.abc import Iterable, Sequence

from experiments.methods import (
    after_training,
    dissipating,
    dynamic,
    elimination,
    evolving,
    gated,
    gated_tickets,
    gradual,
    iterative,
    later_scores,
    random_layers,
    rare_gems,
    scored_methods,
    searched,
    straight_through,
)
from experiments.methods.gated_tickets import SEARCH, GateSearch
from experiments.methods.method import Dense, Look, Method, When
from experiments.methods.point import DENSE
from experiments.methods.scored import Scored
from experiments.options.checks import check_names
from experiments.options.training import TrainingOptions
from train.lookup import lookup

METHODS: dict[str, Method] = {
    method.name: method
    for family in (
        scored_methods,
        later_scores,
        random_layers,
        searched,
        elimination,
        evolving,
        dissipating,
        gradual,
        straight_through,
        rare_gems,
        dynamic,
        gated,
        after_training,
        iterative,
        gated_tickets,
    )
    for method in family.METHODS
}
"""What a command line may name."""

_OTHERS = (
    Dense(
        name=DENSE,
        look=Look("Dense", "#000000", ""),
        when=When.AFTER,
        functions=(),
        source="",
    ),
    GateSearch(
        name=SEARCH,
        look=Look("CS, search", "#888888", ""),
        when=When.DURING,
        functions=("soft_masks",),
        source="Savarese et al. 2020 (arXiv 1912.04427)",
        weights_learn=True,
    ),
)
_ALL = METHODS | {method.name: method for method in _OTHERS}


def find_method(name: str) -> Method:
    """The definition of a method, or of a network that methods need (the dense one)."""
    return lookup(_ALL, name, "method")


def to_sparsities() -> tuple[str, ...]:
    """Names of methods that give a network for each sparsity, or for each of their own settings."""
    return tuple(name for name, method in METHODS.items() if not method.in_rounds)


def in_rounds() -> tuple[str, ...]:
    """Names of methods that search for tickets in rounds."""
    return tuple(name for name, method in METHODS.items() if method.in_rounds)


def scored() -> dict[str, Scored]:
    """Methods whose masks are known before anything is trained."""
    return {name: method for name, method in METHODS.items() if isinstance(method, Scored)}


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of tables and legends."""
    asked = set(names)
    return [name for name in _ALL if name in asked]


def check_for(names: Sequence[str], valid: Iterable[str], others: str) -> None:
    """Finds out whether an experiment can take these methods.

    Args:
        valid: Those that it takes.
        others: What keeps the others out, said of one of them: "has no sparsity to choose".

    Raises:
        ValueError: If a method is unknown, or one of the others, or there is none, or one twice.
    """
    valid = tuple(valid)
    for name in names:
        if name in METHODS and name not in valid:
            raise ValueError(
                f"the method {name!r} {others}, so it is not for this experiment; the valid names are: "
                f"{', '.join(valid)}"
            )
    check_names("methods", names, valid)


def check_methods(
    options: TrainingOptions, names: Sequence[str], valid: Iterable[str], others: str
) -> None:
    """Raises a ValueError as ``check_for`` does, or one that names the option wrong for a method."""
    check_for(names, valid, others)
    for name in names:
        find_method(name).check(options)
