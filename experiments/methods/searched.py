"""K-starts: the fittest of k random masks, each trained for the epochs of a search.

Whoever searches, and at which sparsity, its candidates are networks of the run. Their fitness is observed
at the end of the search, and it alone chooses.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.methods import scored_methods
from experiments.methods.method import Given, Look, Method, When, variants
from experiments.methods.point import Need, Point, point_of
from experiments.methods.programs import SEARCHED, Observed, Program
from experiments.methods.scored import Scored, named
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from pruning.trees.layout import axes_of
from train.populations.population import MemberState

PyTree = Any
Row = dict[str, Any]
FITNESSES = ("weight", "gradient", "combined")


@dataclass(frozen=True, kw_only=True)
class Searching(Method):
    """A method that begins with a search. A subclass says what becomes of the winner."""

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if a search is longer than a training."""
        search, epochs = options.knobs.search.search_epochs, options.resolved_recipe().epochs
        if search > epochs:
            raise ValueError(f"expected --search-epochs <= --epochs ({epochs}), got {search}")

    def search_sparsity(self, sparsity: float) -> float:
        """Where a network that ends at a sparsity is searched for."""
        return sparsity

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """The search's candidates."""
        if point.candidate is not None:
            return ()
        return tuple(Need(candidate) for candidate in candidates_of(point, study))

    def program_of(self, point: Point) -> Program:
        """Candidates are observed."""
        return self.program if point.candidate is None else SEARCHED

    def epochs(self, point: Point, study: Study) -> int:
        """Candidates are trained for the length of the search, or to the end where all are looked at."""
        whole = point.candidate is None or self.name in study.whole_searches
        return study.epochs if whole else study.knobs.search.search_epochs

    def observes(self, point: Point, study: Study) -> Observed:
        """The fitness of candidates."""
        search_epochs = study.knobs.search.search_epochs
        return {} if point.candidate is None else {search_epochs: observe_fitness}

    def start(self, point: Point, given: Given) -> MemberState:
        """A candidate under its own mask, the method's network under the winner's."""
        network = given.initial(point.seed)
        return given.begin(point, network.params, network.batch_stats, self.masks(point, given))

    def masks(self, point: Point, given: Given) -> PyTree:
        """The mask of a candidate, or of the winner, as ``pruning.candidate_masks`` draws it."""
        candidate, k = point.candidate, given.study.knobs.search.k
        if candidate is None:
            rows = [given.rows(one) for one in candidates_of(point, given.study)]
            search_epochs = given.study.knobs.search.search_epochs
            candidate = Candidates(rows, search_epochs).fittest("combined")
        return self.draw(jax.random.split(seed_keys(point.seed).candidates, k)[candidate], point, given)

    def draw(self, key: jax.Array, point: Point, given: Given) -> PyTree:
        """The mask of one candidate: at random, every layer at the sparsity."""
        sparsity = jnp.float32(self.search_sparsity(point.sparsity_target or 0.0))
        return draw_masks(key, given.initial(point.seed).params, sparsity)


@dataclass(frozen=True, kw_only=True)
class KStarts(Searching):
    """The winner is trained, from its initial weights, to the end.

    The ablation ``retrained`` trains it in another order of the data.
    """

    def order(self, point: Point) -> str:
        """See the class."""
        return "other_order" if point.variant == "retrained" else "order"


@dataclass(frozen=True, kw_only=True)
class KStartsAllocated(KStarts):
    """Candidates are random masks with the layer sparsities of an allocation."""

    allocation: Callable[..., PyTree]

    def draw(self, key: jax.Array, point: Point, given: Given) -> PyTree:
        """See the class."""
        params, sparsity = given.initial(point.seed).params, point.sparsity_target or 0.0
        return pruning.random_masks(key, params, sparsity, allocation=self.allocation)


@dataclass(frozen=True, kw_only=True)
class KStartsLike(KStarts):
    """Candidates are the masks of a scored method, permuted within layers."""

    like: Scored

    @property
    def masks_by(self) -> Method:
        """Whose masks are permuted."""
        return self.like

    def draw(self, key: jax.Array, point: Point, given: Given) -> PyTree:
        """See the class."""
        permuted = point.of_same_seed(self.like.name, sparsity_target=point.sparsity_target)
        masks = given.kept_masks(permuted, lambda: self.like.masks(permuted, given))
        return pruning.shuffle_masks(key, masks)


@dataclass(frozen=True, kw_only=True)
class KStartsInGroups(KStarts):
    """Candidates are random N:M masks; a network for each N, which is its setting."""

    at_sparsities: bool = False

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a variant and N."""
        for variant in variants(self, study):
            for kept in study.knobs.search.kept_in_group:
                yield Point(self.name, variant, setting=float(kept), seed=seed)

    def draw(self, key: jax.Array, point: Point, given: Given) -> PyTree:
        """See ``draw_n_m_masks``."""
        n, m = int(point.setting or 0), given.study.knobs.search.group_size
        return draw_n_m_masks(key, given.initial(point.seed).params, n, m)


def candidates_of(point: Point, study: Study) -> list[Point]:
    """The candidates among which a network is searched for."""
    return [point._replace(variant="none", candidate=index) for index in range(study.knobs.search.k)]


class Candidates:
    """The rows of a search's candidates, and whom each fitness chooses."""

    def __init__(self, rows: Sequence[Sequence[Row]], search_epochs: int) -> None:
        """Reads their fitness."""
        self.rows = rows
        at = [next(row for row in found if row["epoch"] == search_epochs) for found in rows]
        weight, gradient = (
            jnp.asarray(np.asarray([row[f"fitness_{name}"] for row in at]), jnp.float32)
            for name in ("weight", "gradient")
        )
        # The combined one needs all candidates.
        both = pruning.add_standardised(weight, gradient)
        self.fitness: dict[str, np.ndarray] = {
            name: np.asarray(values)
            for name, values in zip(FITNESSES, (weight, gradient, both), strict=True)
        }

    def fittest(self, fitness: str) -> int:
        """The candidate of the highest fitness, by its name in ``FITNESSES``."""
        return int(pruning.fittest_candidate(jnp.asarray(self.fitness[fitness])))


def searches_of(rows: Iterable[Row], method: str, search_epochs: int) -> list[Candidates]:
    """All searches of a method, each with its candidates in order."""
    found: dict[Point, dict[int, list[Row]]] = {}
    for row in rows:
        point = point_of(row)
        if point.method == method and point.candidate is not None:
            search = found.setdefault(point._replace(candidate=None), {})
            search.setdefault(point.candidate, []).append(row)
    return [
        Candidates([of_search[index] for index in sorted(of_search)], search_epochs)
        for of_search in found.values()
    ]


@jax.jit
def observe_fitness(states: MemberState) -> dict[str, jax.Array]:
    """The two fitnesses of candidates at the end of a search, shape (N,) each."""
    masks = pruning.get_masks(states.opt_state)
    sums = optax.tree.get(states.opt_state, "gradient_sums")
    return {
        "fitness_weight": pruning.weight_fitness(states.params, sums, masks),
        "fitness_gradient": pruning.gradient_fitness(states.params, sums, masks),
    }


@jax.jit
def draw_masks(key: jax.Array, params: PyTree, sparsity: Any) -> PyTree:
    """A random mask, every layer at the sparsity, which is traced as a float32."""
    return pruning.random_masks(key, params, sparsity)


@partial(jax.jit, static_argnames=("n", "m"))
def draw_n_m_masks(key: jax.Array, params: PyTree, n: int, m: int) -> PyTree:
    """A random mask that keeps n of every m inputs; layers whose inputs m does not divide stay dense.

    Raises:
        ValueError: If there is no other layer.
    """
    full, scores = pruning.full_masks(params), pruning.random_scores(key, params)
    inputs = [axes.fan_in for axes in axes_of(pruning.flax_layout, full)]
    if all(count % m for count in inputs):
        raise ValueError(
            f"expected --group-size to divide the inputs of a layer, of which there are "
            f"{', '.join(map(str, inputs))}, got {m}"
        )
    fits = jax.tree.unflatten(jax.tree.structure(full), [count % m == 0 for count in inputs])
    chosen = jax.tree.map(lambda score, fits: score if fits else None, scores, fits)
    found = pruning.n_m_masks(chosen, n, m)
    return jax.tree.map(
        lambda dense, mask: dense if mask is None else mask, full, found, is_leaf=lambda x: x is None
    )


METHODS = (
    KStarts(
        name="k-starts",
        look=Look("K-starts", "#806000", "P"),
        when=When.BEFORE,
        functions=("k_starts", "combined_fitness"),
        source="Haroon 2022 (arXiv 2209.02201)",
        choices=(
            "The paper gives neither the layers' sparsities (uniform here) nor whether candidates "
            "share weights (they do)."
        ),
        ablations=("retrained",),
    ),
    KStartsAllocated(
        name="k-starts-erk",
        look=Look("K-starts, ERK", "#A06020", "P"),
        when=When.BEFORE,
        functions=("k_starts", "combined_fitness", "erdos_renyi_kernel"),
        source="Haroon 2022 (arXiv 2209.02201), with layers as Evci et al. 2020 (arXiv 1911.11134)",
        choices="The paper's search among masks with other layer sparsities.",
        ablations=("retrained",),
        allocation=pruning.erdos_renyi_kernel,
    ),
    KStartsAllocated(
        name="k-starts-igq",
        look=Look("K-starts, IGQ", "#C09050", "P"),
        when=When.BEFORE,
        functions=("k_starts", "combined_fitness", "ideal_gas_quotas"),
        source="Haroon 2022 (arXiv 2209.02201), with layers as Vysogorets et al. 2021 (arXiv 2107.02306)",
        ablations=("retrained",),
        allocation=pruning.ideal_gas_quotas,
    ),
    KStartsLike(
        name="k-starts-synflow",
        look=Look("K-starts, SynFlow's layers", "#406010", "P"),
        when=When.BEFORE,
        functions=("synflow_scores", "iterative_masks", "shuffle_masks", "combined_fitness"),
        source="Haroon 2022 (arXiv 2209.02201), with layers as Tanaka et al. 2020 (arXiv 2006.05467)",
        choices="Candidates are SynFlow's mask, permuted within layers.",
        ablations=("retrained",),
        like=named(scored_methods.METHODS, "synflow"),
    ),
    KStartsLike(
        name="k-starts-snip",
        look=Look("K-starts, SNIP's layers", "#205080", "P"),
        when=When.BEFORE,
        functions=("snip_scores", "global_masks", "shuffle_masks", "combined_fitness"),
        source="Haroon 2022 (arXiv 2209.02201), with layers as Lee et al. 2019 (arXiv 1810.02340)",
        choices="Candidates are SNIP's mask, permuted within layers.",
        ablations=("retrained",),
        like=named(scored_methods.METHODS, "snip"),
    ),
    KStartsInGroups(
        name="k-starts-n-m",
        look=Look("K-starts, N:M", "#B06A00", "P"),
        when=When.BEFORE,
        functions=("random_scores", "n_m_masks", "train_candidates", "fittest", "combined_fitness"),
        source="Haroon 2022 (arXiv 2209.02201), with groups as Zhou et al. 2021 (arXiv 2102.04010)",
        choices=(
            "The paper's search among masks that keep N of every M inputs of a unit, in convolutions "
            "at each position. N:M has the sparsities 1 - N/M alone, so the method is asked by "
            "`--kept-in-group` and `--group-size` (1:4 and 2:4 by default) and not by `--sparsities`; "
            "it stands beside methods that prune to sparsities at the sparsity that it has. A layer "
            "whose inputs M does not divide stays dense, as in the libraries of sparse hardware: the "
            "first convolution of colour images, say; the sparsity counts it."
        ),
        ablations=("retrained",),
    ),
)
