"""The networks of a run: the programs that train them, where they begin, and what others begin from."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import jax
import jax.numpy as jnp

import pruning
from experiments.engine.run_folder import Row, RunFolder, writing_to
from experiments.engine.schedule import Schedule
from experiments.engine.snapshots import Snapshots
from experiments.methods.mask_maker import MaskMaker
from experiments.methods.method import Method
from experiments.methods.point import Need, Point, point_of
from experiments.methods.programs import STATIC, Observe, Program
from experiments.methods.ranking import Seen
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study, study_of
from experiments.options.checks import check_held_out
from experiments.options.training import TrainingOptions
from train.data.datasets import Dataset
from train.models import layers_in_order, param_shapes
from train.populations.devices import dataset_on_every_device, device_mesh
from train.populations.population import Member, MemberState, Population, stack_members
from train.recipes import build_model

PyTree = Any


class Networks:
    """What ``experiments.methods.method.Given`` promises, for one run."""

    def __init__(
        self,
        options: TrainingOptions,
        dataset: Dataset,
        asked: Callable[[Study], Sequence[Point]],
        find_method: Callable[[str], Method],
    ) -> None:
        """Puts the data on the devices; nothing is compiled yet.

        Raises:
            ValueError: If the validation split leaves no batch, a pruning step lies outside the training,
                or the devices cannot be divided.
        """
        recipe = options.resolved_recipe()
        check_held_out(recipe, len(dataset.train.labels))
        examples = len(dataset.train.labels) - recipe.validation_examples
        self._model = build_model(options.model, recipe, num_classes=dataset.num_classes)
        shape = dataset.train.images.shape[1:]
        layers = layers_in_order(self._model, shape)
        self.study = study_of(options, recipe.steps_per_epoch(examples), layers)
        self.schedule = Schedule(asked(self.study), self.study, find_method)
        self._find_method = find_method
        self._mesh = device_mesh(devices_per_member=options.plumbing.devices_per_network)
        self._dataset = dataset_on_every_device(dataset, self._mesh)
        self._shapes = param_shapes(self._model, shape)
        self.population = lru_cache(maxsize=None)(self._make_population)
        # Scores are computed in full precision, from examples that are trained on.
        exact = build_model(
            options.model,
            dataclasses.replace(recipe, compute_dtype="float32"),
            num_classes=dataset.num_classes,
        )
        split = self.population(self._static).train_split
        self.maker = MaskMaker(exact, dataclasses.replace(dataset, train=split), recipe)
        self.initial = lru_cache(maxsize=4)(self._compute_initial)
        self.seen = lru_cache(maxsize=2)(self._compute_seen)
        # A variant that keeps the masks of another point comes a round of sparsities after it.
        self._masks: dict[Point, PyTree] = {}
        self._most_masks = len(self.study.grid.sparsities) + 4 * options.seeds
        self._rows: dict[Point, list[Row]] | None = None

    def open(self, folder: RunFolder, chunk_size: int | None) -> None:
        """Says where states are kept; before anything begins.

        Args:
            chunk_size: Networks that train together, if that is the same for all; tickets remember it.
        """
        self._folder, self._chunk_size = folder, chunk_size
        self._snapshots = lru_cache(maxsize=None)(self._open_snapshots)

    def method(self, point: Point) -> Method:
        """The definition of a point's method."""
        return self._find_method(point.method)

    def member(self, point: Point) -> Member:
        """What is trained, of a point."""
        keys, method = seed_keys(point.seed), self.method(point)
        order = getattr(keys, method.order(point))
        rates = jnp.float32(self.study.rate(point)), jnp.float32(self.study.decay(point))
        return Member(keys.init, order, *rates, method.data(point, self))

    def start(self, point: Point) -> MemberState:
        """The state of a point at its first step."""
        state = self.method(point).start(point, self)
        if state is not None:
            return state
        return self._first(self.schedule.program(point), self.member(point))

    def keep(self, point: Point, step: int, state: MemberState) -> None:
        """Stores the state of a point that others need."""
        self._snapshots(self.schedule.program(point)).save(point.file_name, step, state)

    def has(self, need: Need) -> bool:
        """Whether the state that is needed of a trained point is there."""
        program = self.schedule.program(need.point)
        return not need.step or self._snapshots(program).has(need.point.file_name, need.step)

    def state(self, need: Need) -> MemberState:
        """The state of another network at a step."""
        if not need.step:
            return self.initial(need.point.seed)
        program = self.schedule.program(need.point)
        return self._snapshots(program).load(need.point.file_name, need.step)

    def rows(self, point: Point) -> list[Row]:
        """The rows of a finished network, by epoch."""
        if self._rows is None:
            self._rows = {}
            for row in self._folder.rows():
                self._rows.setdefault(point_of(row), []).append(row)
        return self._rows[point]

    def forget_rows(self) -> None:
        """Reads the rows anew when they are next asked for: more have been stored."""
        self._rows = None

    def kept_masks(self, point: Point, make: Callable[[], PyTree]) -> PyTree:
        """The masks of a point; made once, where others use them soon after."""
        if point not in self._masks:
            if len(self._masks) >= self._most_masks:
                del self._masks[next(iter(self._masks))]
            self._masks[point] = make()
        return self._masks[point]

    def begin(
        self,
        point: Point,
        trained: PyTree,
        batch_stats: PyTree,
        masks: PyTree = None,
        step: int = 0,
    ) -> MemberState:
        """The state of a network that begins with given weights and a new optimizer, at a step."""
        population = self.population(self.schedule.program(point))
        return population.begin(self.member(point), trained, batch_stats, masks=masks, step=step)

    def save_ticket(self, point: Point, masks: PyTree, weights: Need | None, step: int) -> None:
        """Stores a mask, and where its weights are; None for other initial weights of the seed."""
        source = weights or Need(point.of_same_seed("other-init"), 0)
        if not source.step:
            state = self.initial(point.seed, "other_init") if weights is None else self.state(weights)
            self._snapshots(self._static).save(source.point.file_name, 0, jax.device_get(state))
        metadata = {
            "settings": self._folder.settings,
            "network": point._asdict(),
            "start": {
                "snapshot": source.point.file_name,
                "snapshot_step": source.step,
                "step": step,
            },
            "chunk_size": self._chunk_size,
        }
        with writing_to(self._folder.path):
            path = self._folder.path / "tickets" / f"{point.file_name}.safetensors"
            pruning.save_masks(path, masks, metadata)

    @cache  # noqa: B019 - the networks live as long as the run
    def observe_layers(self, program: Program) -> Observe:
        """What is read of every finished network of a program: how many weights each layer keeps."""
        population = self.population(program)

        @jax.jit
        def observe(states: MemberState) -> dict[str, jax.Array]:
            leaves = jax.tree_util.tree_leaves_with_path(jax.vmap(population.masks)(states))
            return {
                f"kept{jax.tree_util.keystr(path)}": mask.reshape(len(mask), -1).sum(axis=1)
                for path, mask in leaves
            }

        return observe

    def compilations(self) -> dict[str, int]:
        """How many training programs of each kind have been compiled."""
        programs = {self.schedule.program(point) for point in self.schedule.needs}
        return {p.name: self.population(p).compilations for p in programs}

    @property
    def _static(self) -> Program:
        """The program of dense networks and of those under static masks, in this run."""
        return self.schedule.serving(STATIC)

    def _make_population(self, program: Program) -> Population:
        return Population(
            model=self._model,
            dataset=self._dataset,
            recipe=self.study.recipe,
            method=program.method(self.study, self._shapes),
            reparametrization=program.reparametrization(self.study),
            mesh=self._mesh,
        )

    def _first(self, program: Program, member: Member) -> MemberState:
        states = self.population(program).start(stack_members([member]))
        return jax.tree.map(lambda leaf: leaf[0], states)

    def _compute_initial(self, seed: int, draw: str = "init") -> MemberState:
        keys, zero = seed_keys(seed), jnp.float32(0)
        return self._first(self._static, Member(getattr(keys, draw), keys.order, zero, zero, ()))

    def _compute_seen(self, need: Need) -> Seen:
        seed, state = need.point.seed, self.state(need)
        second_draw = self.initial(seed, "second_draw").params
        key = seed_keys(seed).scores
        return self.maker.seen(seed, key, state.params, state.batch_stats, second_draw)

    def _open_snapshots(self, program: Program) -> Snapshots:
        some = next(p for p in self.schedule.needs if self.schedule.program(p) == program)
        template = jax.eval_shape(self.population(program).start, stack_members([self.member(some)]))
        return Snapshots(self._folder, template)
