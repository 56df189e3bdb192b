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
from experiments.engine.experiment import run_command
from experiments.engine.snapshots import read_weights
from experiments.engine.ticket_file import Ticket, read_ticket
from experiments.methods.programs import held_masks
from experiments.methods.seeds import seed_keys
from experiments.options.checks import check_stored
from train.data.datasets import Dataset, load_dataset
from train.models import param_shapes
from train.populations.capacity import members_that_fit
from train.populations.devices import device_mesh
from train.populations.population import Member, Population, stack_members
from train.recipes import build_model

_LARGEST_BATCH = 4096  # of a data set that has fewer examples


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
    """Trains the ticket, prints its final test accuracy, and returns it as a fraction.

    Raises:
        ValueError: If a file is missing or is none of a ticket, or the data set cannot be read.
    """
    ticket = read_ticket(config.ticket)
    recipe, start, count = ticket.recipe, ticket.start, ticket.chunk_size
    check_stored(ticket.dataset, stream=config.stream)
    mesh = device_mesh(devices_per_member=config.devices_per_network)
    try:
        dataset = load_dataset(
            ticket.dataset, data_dir=config.data_dir, stream=config.stream, image_size=recipe.image_size
        )
    except ValueError as error:
        raise ValueError(f"the ticket {config.ticket} cannot be trained here: {error}") from error
    _check_fits(config.ticket, ticket, dataset)
    model = build_model(ticket.model, recipe, num_classes=dataset.num_classes)
    shapes = param_shapes(model, dataset.train.images.shape[1:])
    masks = pruning.load_masks(config.ticket, shapes)
    if jax.tree.structure(masks) != jax.tree.structure(pruning.full_masks(shapes)):
        raise ValueError(f"the ticket {config.ticket} lacks the mask of a layer of {ticket.model}")
    population = Population(
        model=model, dataset=dataset, recipe=recipe, method=held_masks(shapes), mesh=mesh
    )
    keys = seed_keys(ticket.seed)
    rate, decay = jnp.float32(recipe.learning_rate), jnp.float32(recipe.weight_decay)
    member = Member(keys.init, keys.order, rate, decay, ())
    # As many as in the search, so that an accelerator computes in the same shapes; one of them counts.
    if (fit := members_that_fit(population, member, most=count)) < count:
        raise ValueError(
            f"the ticket {config.ticket} was trained with {count} networks at a time, of which {fit} fit "
            "into the memory here: train it on a machine like that of its search"
        )
    members = stack_members([member] * count)
    template = jax.tree.map(lambda leaf: leaf[0], population.start(members))
    folder = config.ticket.resolve().parent.parent
    params, stats = read_weights(folder, start.snapshot, start.snapshot_step, template)
    state = population.begin(member, params, stats, masks=masks, step=start.step)
    states = stack_members([state] * count)
    accuracy = float("nan")
    for result in population.train(members, states=states, first_step=start.step, size=1):
        accuracy = float(result.metrics["test_accuracy"][0])
    print(f"{config.ticket.stem}: sparsity {pruning.sparsity(masks):.4f}, test accuracy {accuracy:.4f}")
    return accuracy


def _check_fits(path: Path, ticket: Ticket, dataset: Dataset) -> None:
    """Raises a ValueError if a ticket's training is none of its data set."""
    recipe, examples = ticket.recipe, len(dataset.train.labels)
    channels = dataset.train.images.shape[-1]
    if any(moments is not None and len(moments) != channels for moments in (recipe.mean, recipe.std)):
        raise ValueError(f"the ticket {path} normalises other channels than the {channels} of its images")
    if recipe.validation_examples >= examples or recipe.batch_size > max(examples, _LARGEST_BATCH):
        raise ValueError(
            f"the ticket {path} holds out {recipe.validation_examples} examples and trains in batches of "
            f"{recipe.batch_size}, its data set has {examples}"
        )
    last = recipe.epochs * recipe.steps_per_epoch(examples - recipe.validation_examples)
    if not ticket.start.step < last:
        raise ValueError(
            f"the ticket {path} begins at step {ticket.start.step}, its training ends at step {last}"
        )


if __name__ == "__main__":
    main()
