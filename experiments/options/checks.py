"""Checks of what was given on a command line: each raises a ValueError that names the option."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pruning.masks.counting import check_sparsity
from train.lookup import lookup
from train.recipes import Recipe

MOST = 10_000
"""Of what is counted on a command line, one by one: seeds, candidates, rounds, networks side by side."""
MOST_EPOCHS = 100_000
MOST_CLASSES = 1_000_000
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def check_counts(options: Any, *names: str, most: int = MOST) -> None:
    """Raises a ValueError if one of these options is given and is below 1 or above a bound."""
    for name in names:
        value = getattr(options, name)
        if value is not None:
            check_count(option_of(name), value, most=most)


def check_finite(options: Any, *names: str) -> None:
    """Raises a ValueError if one of these options, or of its values, is no number of float32."""
    for name in names:
        for value in _values(options, name):
            if not abs(value) <= LARGEST:
                raise ValueError(
                    f"expected finite {option_of(name)}, up to {LARGEST:.3g} as float32 is, got {value}"
                )


def check_above_zero(options: Any, *names: str) -> None:
    """Raises a ValueError if one of these options, or of its values, is no number of float32 above 0."""
    for name in names:
        for value in _values(options, name):
            if value is not None and not SMALLEST <= value <= LARGEST:
                raise ValueError(f"expected a finite {option_of(name)} > 0 (in float32), got {value}")


def check_file(options: Any, name: str) -> None:
    """Raises a ValueError if an option is given and is no file."""
    path = getattr(options, name)
    try:
        found = path is None or path.is_file()
    except OSError as error:  # A name that is too long, a folder that is not ours.
        raise ValueError(f"cannot read {option_of(name)} {path}: {error.strerror}") from error
    if not found:
        raise ValueError(f"expected {option_of(name)} to be a file, got {path}")


def check_sparsities(options: Any, name: str) -> None:
    """Raises a ValueError if an option's sparsities lie outside [0, 1), or repeat."""
    option = option_of(name)
    for sparsity in getattr(options, name):
        check_sparsity(sparsity, f"every one of {option}")
    check_different(option, getattr(options, name))


def check_steps_within(recipe: Recipe, steps_per_epoch: int, **steps: Sequence[int]) -> None:
    """Raises a ValueError if steps of a training lie outside it."""
    last = recipe.epochs * steps_per_epoch
    for name, values in steps.items():
        for step in values:
            if not 0 <= step < last:
                raise ValueError(
                    f"expected {option_of(name)} from 0 to below the end of the training, step {last} "
                    f"({recipe.epochs} epochs of {steps_per_epoch} steps), got {step}"
                )


def check_held_out(recipe: Recipe, examples: int) -> None:
    """Raises a ValueError if a recipe holds out so many training examples that no batch is left.

    Args:
        examples: Of the data set's training split.
    """
    held, most = recipe.validation_examples, max(0, examples - recipe.batch_size)
    if held > most:
        raise ValueError(
            f"expected --recipe.validation-examples <= {most}, so that of the {examples} training "
            f"examples one batch of {recipe.batch_size} is left, got {held}"
        )


def option_of(name: str) -> str:
    """A field as it is called on the command line: "search_epochs" is "--search-epochs"."""
    return f"--{name.replace('_', '-')}"


def check_count(option: str, value: int, *, most: int = MOST) -> None:
    """Raises a ValueError if a count is below 1, or more than anybody waits for."""
    if value < 1:
        raise ValueError(f"expected {option} >= 1, got {value}")
    if value > most:
        raise ValueError(f"expected {option} <= {most}, got {value}")


def check_stored(dataset: str, *, stream: bool) -> None:
    """Raises a ValueError if images are to be read from disk that are not there."""
    if stream and dataset == "digits":
        raise ValueError(
            "--stream reads images from disk, and those of digits are not there: leave it out"
        )


def check_different(option: str, values: Sequence[Any]) -> None:
    """Raises a ValueError if an option has no value, or one twice."""
    if not values:
        raise ValueError(f"expected at least one value of {option}")
    if len(set(values)) < len(values):
        raise ValueError(f"expected different {option}, got {', '.join(map(str, values))}")


def check_names(option: str, names: Sequence[str], valid: Iterable[str]) -> None:
    """Raises a ValueError if an option has no value, one twice, or one that is unknown."""
    for name in names:
        lookup(dict.fromkeys(valid), name, option.removesuffix("s"))
    check_different(f"--{option}", names)


def check_writable(option: str, path: Path) -> None:
    """Finds out whether a file can be written, before what takes long.

    Args:
        path: The file; its folder is made if need be.

    Raises:
        ValueError: If it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            if path.exists() and not path.is_file():
                raise FileExistsError("it is a folder, a device or a pipe")
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error}): choose another file with {option}") from error


def _values(options: Any, name: str) -> tuple[Any, ...]:
    """The values of an option, which may have one or several."""
    values = getattr(options, name)
    return values if isinstance(values, tuple) else (values,)
