"""Where the networks of ``experiments.ticket_search`` begin: their masks, and their weights."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.programs import begun_at
from experiments.run_folder import RunFolder, writing_to
from experiments.snapshots import Snapshots
from experiments.stages import NamedMember
from experiments.ticket_plan import (
    CRITERIA,
    DENSE,
    REINIT,
    SEARCH,
    Place,
    TicketPlan,
    mask_source,
    place_of,
    ticket_keys,
)
from train.models import depth_order
from train.populations.population import MemberState, Population, stack_members

PyTree = Any


class TicketStates:
    """Builds the states from which networks begin, and keeps those that others begin with."""

    def __init__(
        self,
        plan: TicketPlan,
        static: Population,
        soft: Population,
        folder: RunFolder,
        *,
        chunk_size: int,
    ) -> None:
        """Opens the run's snapshots; nothing is computed yet.

        Args:
            plan: What is trained.
            static: The program of networks with masks.
            soft: The program of networks with gates.
            folder: Of the run.
            chunk_size: Networks that train together; tickets remember it.
        """
        self.chunk_size = chunk_size
        self.plan, self.static, self.soft, self.folder = plan, static, soft, folder
        self.static_snapshots = Snapshots(folder, _shapes(static, plan.dense()[0]))
        self.soft_snapshots = Snapshots(folder, _shapes(soft, plan.gated(1, 0.0, 0)))
        self._template = lru_cache(maxsize=1)(lambda: _at_start(static, plan.dense()[0]))
        self.masks = lru_cache(maxsize=4 * plan.seeds)(self._compute_masks)
        self._prune = jax.jit(self._prune_a_round)

    def save_initial(self) -> None:
        """Stores the weights at step 0 that networks begin with."""
        for named in self.plan.dense():
            seed = named.columns["seed"]
            state = jax.device_get(_at_start(self.static, named))
            self.static_snapshots.save(Place(DENSE, 0, None, seed).name, 0, state)
            other = NamedMember(
                columns=named.columns,
                member=named.member._replace(init_key=ticket_keys(seed).other_init),
            )
            state = jax.device_get(_at_start(self.static, other))
            self.static_snapshots.save(Place(REINIT, 0, None, seed).name, 0, state)

    def keep(self, named: NamedMember, step: int, state: MemberState) -> None:
        """Stores the state of a network that others begin with.

        Args:
            named: Which.
            step: Training steps taken.
            state: With arrays that can be read.
        """
        place = place_of(named.columns)
        if not self.plan.is_needed(place, step):
            return
        if place.method != SEARCH:
            self.static_snapshots.save(place.name, step, state)
        elif step == self.plan.last_step:
            self.soft_snapshots.save(place.name, step, state)
        else:
            # What a ticket is rewound to: the weights without their gates.
            template = self._template()
            weights = template._replace(params=state.params.params, batch_stats=state.batch_stats)
            self.static_snapshots.save(place.name, step, jax.device_get(weights))

    def why_useless(self, named: NamedMember, ended: Collection[Place]) -> str | None:
        """Why there is no use in training a network: its chain has ended, or its mask empties a layer.

        Args:
            named: A network with masks, or with gates beyond the first round.
            ended: Networks that there was no use in training.

        Returns:
            The reason, or None.

        Raises:
            ValueError: If the snapshot of the network that its mask comes from is gone.
        """
        source = mask_source(place_of(named.columns))
        if source in ended:
            return "the rounds before have ended without a useful ticket"
        final = self._final(source)
        gated = source.method == SEARCH
        weights, gates = final.params if gated else (final.params, ())
        finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights))
        # A gate may be infinite: wide open, or closed.
        if not finite or any(np.isnan(leaf).any() for leaf in jax.tree.leaves(gates)):
            return "the training that the mask comes from has diverged"
        empty = pruning.collapsed_layers(self.masks(source))
        return f"the mask leaves nothing of {', '.join(empty)}" if empty else None

    def start(self, named: NamedMember) -> MemberState:
        """The state in which a network with masks begins; its ticket is stored.

        Args:
            named: Which.
        """
        columns = named.columns
        place = self.plan.start_of(named)
        masks = self.masks(mask_source(place_of(columns)))
        weights = self.static_snapshots.load(place.snapshot, place.snapshot_step)
        ticket = self.folder.path / "tickets" / f"{place_of(columns).name}.safetensors"
        metadata = {
            "settings": self.folder.settings,
            "network": columns,
            "start": place._asdict(),
            "chunk_size": self.chunk_size,
        }
        with writing_to(self.folder.path):
            pruning.save_masks(ticket, masks, metadata)
        return begun_at(self._template(), weights, place.step, masks)

    def soft_start(self, named: NamedMember) -> MemberState:
        """The state in which a network with gates begins a further round.

        Args:
            named: Of round 2 or later.
        """
        before = self._final(mask_source(place_of(named.columns)))
        both = pruning.SoftMasked(
            before.params.params,
            pruning.next_round(
                before.params.gates, self.plan.final_temperature, initial=named.columns["start"]
            ),
        )
        template = _at_start(self.soft, named)
        return template._replace(params=both, batch_stats=before.batch_stats)

    def _final(self, place: Place) -> MemberState:
        snapshots = self.soft_snapshots if place.method == SEARCH else self.static_snapshots
        return snapshots.load(place.name, self.plan.last_step)

    def _compute_masks(self, source: Place) -> PyTree:
        final = self._final(source)
        if source.method == SEARCH:
            return pruning.ticket_masks(jax.tree.map(jnp.asarray, final.params.gates))
        initial = self.static_snapshots.load(Place(DENSE, 0, None, source.seed).name, 0)
        key = jax.random.fold_in(ticket_keys(source.seed).scores, source.round)
        return self._prune(key, final.params, initial.params, _masks_of(final))

    def _prune_a_round(self, key: jax.Array, params: PyTree, initial: PyTree, masks: PyTree) -> PyTree:
        plan = self.plan
        scores = CRITERIA[plan.criterion](key, params, initial)
        if not plan.by_layer:
            return pruning.prune_remaining(scores, masks, plan.fraction)
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(masks)]
        output = max(paths, key=depth_order)
        fractions = jax.tree_util.tree_map_with_path(
            lambda path, _: (
                plan.output_fraction if jax.tree_util.keystr(path) == output else plan.fraction
            ),
            masks,
        )
        return pruning.prune_remaining_by_layer(scores, masks, fractions)


def _masks_of(state: MemberState) -> PyTree:
    return jax.tree.map(jnp.asarray, pruning.get_masks(state.opt_state))


def _shapes(population: Population, named: NamedMember) -> MemberState:
    return jax.eval_shape(population.start, stack_members([named.member]))


def _at_start(population: Population, named: NamedMember) -> MemberState:
    states = population.start(stack_members([named.member]))
    return jax.tree.map(lambda leaf: leaf[0], states)
