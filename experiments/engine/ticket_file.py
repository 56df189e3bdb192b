"""What a ticket's file says of its training, if a ticket search wrote it."""

import math
import re
import types
import typing
from pathlib import Path
from typing import Any, NamedTuple

import pruning
from train.models import find_model
from train.recipes import Recipe, recipe_from

_LARGEST_SEED = 2**32 - 1
_MOST_EPOCHS = 100_000  # what is above it would not end
_SNAPSHOT = re.compile(r"[\w+-][\w.+-]*", re.ASCII)


class Start(NamedTuple):
    """Where a network begins: the weights of a snapshot, and a place in the schedule.

    Attributes:
        snapshot: Its name.
        snapshot_step: And its step.
        step: The step of the training at which they begin.
    """

    snapshot: str
    snapshot_step: int
    step: int


class Ticket(NamedTuple):
    """How a ticket is trained.

    Attributes:
        dataset: The data set's name.
        model: The model's name.
        recipe: The training, with the learning rate and weight decay of a sweep if it was in one.
        seed: Of its search.
        start: Where its weights are.
        chunk_size: With how many networks it was trained.
    """

    dataset: str
    model: str
    recipe: Recipe
    seed: int
    start: Start
    chunk_size: int


def read_ticket(path: Path) -> Ticket:
    """Reads what a ticket's file says, but for the masks.

    Raises:
        ValueError: If the file is missing, damaged or none of a ticket.
    """
    metadata = pruning.load_metadata(path)
    try:
        settings = _part(metadata, "settings", dict)
        start = _part(metadata, "start", dict)
        if set(start) != set(Start._fields):
            raise ValueError(f"expected {list(Start._fields)} in 'start', got {sorted(start)}")
        snapshot = _part(start, "snapshot", str)
        if not _SNAPSHOT.fullmatch(snapshot):
            raise ValueError(f"expected the name of a snapshot, got {snapshot!r}")
        network = _part(metadata, "network", dict)
        seed = _number(network, "seed", 0, _LARGEST_SEED)
        rates = {n: network[n] for n in ("learning_rate", "weight_decay") if network.get(n) is not None}
        if not snapshot.endswith(f"-seed-{seed}"):
            raise ValueError(f"expected a snapshot of seed {seed}, got {snapshot!r}")
        model = _part(settings, "model", str)
        find_model(model)
        return Ticket(
            dataset=_part(settings, "dataset", str),
            model=model,
            recipe=_recipe(_part(settings, "recipe", dict) | rates),
            seed=seed,
            start=Start(snapshot, _number(start, "snapshot_step", 0), _number(start, "step", 0)),
            chunk_size=_number(metadata, "chunk_size", 1),
        )
    except ValueError as error:
        raise ValueError(
            f"expected the ticket of a ticket_search, {path} holds other masks ({error})"
        ) from error


def _part(values: dict[str, Any], name: str, kind: type) -> Any:
    found = values.get(name)
    if type(found) is not kind:
        raise ValueError(f"expected {name!r} to be of type {kind.__name__}, got {str(found)[:40]!r}")
    return found


def _number(values: dict[str, Any], name: str, least: int, most: float = math.inf) -> int:
    found = _part(values, name, int)
    if not least <= found <= most:
        raise ValueError(f"expected {name!r} from {least} to {most}, got {found}")
    return found


def _recipe(fields: dict[str, Any]) -> Recipe:
    recipe = recipe_from(fields)
    for name, hint in typing.get_type_hints(Recipe).items():
        if not _is_of(getattr(recipe, name), hint):
            raise ValueError(
                f"expected {name!r} of the recipe to be {hint}, got {getattr(recipe, name)!r}"
            )
    for epochs in (recipe.epochs, recipe.warmup_epochs, *recipe.drop_epochs):
        if not 0 <= epochs <= _MOST_EPOCHS:
            raise ValueError(f"expected epochs of the recipe from 0 to {_MOST_EPOCHS}, got {epochs}")
    return recipe


def _is_of(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_of(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return type(value) is tuple and all(_is_of(one, typing.get_args(hint)[0]) for one in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint
