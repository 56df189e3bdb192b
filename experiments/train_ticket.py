"""Trains a ticket again, from its files alone, and prints its accuracy.

    python -m experiments.train_ticket RUN/tickets/NAME.safetensors

A run of ``experiments.ticket_search`` stores each ticket: masks and settings in this file, the weights it
begins with in RUN/snapshots. On the same machine and versions, with the run's own ``--lowering`` and
``--devices-per-network``, the accuracy is the run's to the digit.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import tyro

import pruning
from experiments.option_checks import check_stored
from experiments.options import run_command
from experiments.programs import begun_at, held_masks, param_shapes
from experiments.snapshots import read_snapshot, snapshot_file
from experiments.ticket_plan import Start, ticket_keys
from train.data import load_dataset
from train.devices import device_mesh
from train.population import Member, Population, stack_members
from train.recipes import build_model, recipe_from


@dataclass(frozen=True, kw_only=True)
class TrainTicket:
    """Train a ticket again."""

    ticket: Annotated[Path, tyro.conf.Positional]
    """its file, in the folder tickets of a run"""
    data_dir: Path | None = None
    """where TFDS sets are prepared; by default $TFDS_DATA_DIR, then ~/tensorflow_datasets"""
    stream: bool = False
    """read images from disk while the network trains, as the run did or not"""
    devices_per_network: int = 1
    """devices that its batches are divided over"""
    lowering: str | None = None
    """how it is computed, a name in train.lowering.LOWERINGS; by default as suits the platform"""


def main() -> None:
    """Runs what the command line asks for."""
    run_command(TrainTicket, run, __doc__)


def run(config: TrainTicket) -> float:
    """Trains the ticket and prints its final test accuracy.

    Args:
        config: Which ticket.

    Returns:
        The accuracy, a fraction.

    Raises:
        ValueError: If a file is missing or is none of a ticket, or the data set cannot be read.
    """
    metadata = pruning.load_metadata(config.ticket)
    if not {"settings", "network", "start", "chunk_size"} <= set(metadata):
        raise ValueError(f"expected the ticket of a ticket_search, {config.ticket} holds other masks")
    settings, seed = metadata["settings"], metadata["network"]["seed"]
    recipe, place = recipe_from(settings["recipe"]), Start(**metadata["start"])
    check_stored(settings["dataset"], stream=config.stream)
    mesh = device_mesh(devices_per_member=config.devices_per_network)
    dataset = load_dataset(
        settings["dataset"],
        data_dir=config.data_dir,
        stream=config.stream,
        image_size=recipe.image_size,
    )
    model = build_model(settings["model"], recipe, num_classes=dataset.num_classes)
    shapes = param_shapes(model, dataset)
    population = Population(
        model=model, dataset=dataset, recipe=recipe, method=held_masks(shapes), mesh=mesh
    )
    keys = ticket_keys(seed)
    rate, decay = jnp.float32(recipe.learning_rate), jnp.float32(recipe.weight_decay)
    # As many as in the search, so that an accelerator computes in the same shapes; one of them counts.
    count = metadata["chunk_size"]
    members = stack_members([Member(keys.init, keys.order, rate, decay, ())] * count)
    template = jax.tree.map(lambda leaf: leaf[0], population.start(members))
    weights = read_snapshot(
        snapshot_file(config.ticket.resolve().parents[1], place.snapshot, place.snapshot_step), template
    )
    masks = pruning.load_masks(config.ticket, shapes)
    states = stack_members([begun_at(template, weights, place.step, masks)] * count)
    accuracy = float("nan")
    for result in population.train(members, states=states, first_step=place.step, size=1):
        accuracy = float(result.metrics["test_accuracy"][0])
    print(f"{config.ticket.stem}: sparsity {pruning.sparsity(masks):.4f}, test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
