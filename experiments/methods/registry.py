"""All methods, in the order of tables and legends. To add one: its definition here, nothing elsewhere.

Colours are Okabe and Ito's, told apart by colour-blind readers, and a few more.
"""

from collections.abc import Iterable

import pruning
from experiments.methods.after_training import FineTuned, PrunedTrained, Rewound
from experiments.methods.dissipating import (
    Dissipating,
    InBand,
    RandomAndDissipating,
    SearchedAndDissipating,
)
from experiments.methods.gated import WithDrawnGates, WithGates
from experiments.methods.gated_tickets import SEARCH, GateSearch, Parallel, Sequential
from experiments.methods.gradual import Gradual
from experiments.methods.iterative import Iterative, RateRewound, Reinitialised
from experiments.methods.mask_maker import Losses, PyTree, Ranking, Seen
from experiments.methods.method import Dense, Look, Method, When
from experiments.methods.point import DENSE
from experiments.methods.scored import ABLATIONS, Scored
from experiments.methods.searched import KStarts
from experiments.options.training import TrainingOptions
from train.lookup import lookup

FRANKLE = "Frankle et al. 2021 (arXiv 2009.08576)"
HAROON = "Haroon 2022 (arXiv 2209.02201)"
SAVARESE = "Savarese et al. 2020 (arXiv 1912.04427)"
RENDA = "Renda et al. 2020 (arXiv 2003.02389)"
LOTTERY = "Frankle and Carbin 2019 (arXiv 1803.03635)"


def _random(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    del losses
    return pruning.random_scores(seen.key, params)


def _batches(seen: Seen) -> list[tuple]:
    return [(seen.images, seen.labels)]


def _snip(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    return pruning.snip_scores(losses.loss, params, _batches(seen))


_BEFORE = (
    Scored(
        name="random",
        look=Look("Random", "#999999", "o"),
        when=When.BEFORE,
        functions=("random_scores", "global_masks"),
        source=FRANKLE,
        ranking=Ranking(scores=_random),
    ),
    Scored(
        name="magnitude",
        look=Look("Magnitude", "#E69F00", "s"),
        when=When.BEFORE,
        functions=("magnitude_scores", "global_masks"),
        source=FRANKLE,
        ablations=ABLATIONS,
        ranking=Ranking(scores=lambda losses, seen, params: pruning.magnitude_scores(params)),
    ),
    Scored(
        name="snip",
        look=Look("SNIP", "#56B4E9", "^"),
        when=When.BEFORE,
        functions=("snip_scores", "global_masks"),
        source="Lee et al. 2019 (arXiv 1810.02340)",
        ablations=ABLATIONS,
        ranking=Ranking(scores=_snip),
    ),
    # Lee et al. score one draw of weights and train another.
    Scored(
        name="snip-second-draw",
        look=Look("SNIP (second draw)", "#88CCEE", "<"),
        when=When.BEFORE,
        functions=("snip_scores", "global_masks"),
        source="Lee et al. 2019 (arXiv 1810.02340)",
        ablations=ABLATIONS,
        at_init_only=True,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.snip_scores(
                losses.loss, seen.other_params, _batches(seen)
            )
        ),
    ),
    Scored(
        name="snip-iterative",
        look=Look("Iterative SNIP", "#004488", ">"),
        when=When.BEFORE,
        functions=("snip_scores", "iterative_masks"),
        source="de Jorge et al. 2021 (arXiv 2006.09081)",
        ablations=ABLATIONS,
        ranking=Ranking(scores=_snip, rounds=100),
    ),
    Scored(
        name="force",
        look=Look("FORCE", "#332288", "1"),
        when=When.BEFORE,
        functions=("force_scores", "iterative_masks"),
        source="de Jorge et al. 2021 (arXiv 2006.09081)",
        ablations=ABLATIONS,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.force_scores(
                losses.loss, seen.params, params, _batches(seen)
            ),
            rounds=100,
            may_return=True,
        ),
    ),
    Scored(
        name="grasp",
        look=Look("GraSP", "#CC79A7", "v"),
        when=When.BEFORE,
        functions=("grasp_scores", "global_masks"),
        source="Wang et al. 2020 (arXiv 2002.07376)",
        ablations=ABLATIONS,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.grasp_scores(
                losses.cooled_loss, params, _batches(seen)
            )
        ),
    ),
    Scored(
        name="grasp-absolute",
        look=Look("GraSP (absolute)", "#882255", "x"),
        when=When.BEFORE,
        functions=("grasp_absolute_scores", "global_masks"),
        source=FRANKLE,
        ablations=ABLATIONS,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.grasp_absolute_scores(
                losses.cooled_loss, params, _batches(seen)
            )
        ),
    ),
    Scored(
        name="synflow",
        look=Look("SynFlow", "#009E73", "D"),
        when=When.BEFORE,
        functions=("synflow_scores", "iterative_masks"),
        source="Tanaka et al. 2020 (arXiv 2006.05467)",
        ablations=ABLATIONS,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.synflow_scores(losses.output, params),
            rounds=100,
            in_float64=True,
        ),
    ),
    Scored(
        name="random-uniform",
        look=Look("Random, uniform", "#666666", "2"),
        when=When.BEFORE,
        functions=("random_scores", "uniform", "layerwise_masks"),
        source=FRANKLE,
        ranking=Ranking(scores=_random, allocation=lambda params, s, _: pruning.uniform(params, s)),
    ),
    Scored(
        name="random-er",
        look=Look("Random, ER", "#AAAA00", "3"),
        when=When.BEFORE,
        functions=("random_scores", "erdos_renyi", "layerwise_masks"),
        source="Mocanu et al. 2018 (arXiv 1707.04780)",
        ranking=Ranking(scores=_random, allocation=lambda params, s, _: pruning.erdos_renyi(params, s)),
    ),
    Scored(
        name="random-erk",
        look=Look("Random, ERK", "#EEDD88", "4"),
        when=When.BEFORE,
        functions=("random_scores", "erdos_renyi_kernel", "layerwise_masks"),
        source="Evci et al. 2020 (arXiv 1911.11134)",
        ranking=Ranking(
            scores=_random, allocation=lambda params, s, _: pruning.erdos_renyi_kernel(params, s)
        ),
    ),
    Scored(
        name="random-igq",
        look=Look("Random, IGQ", "#BBCC33", "8"),
        when=When.BEFORE,
        functions=("random_scores", "ideal_gas_quotas", "layerwise_masks"),
        source="Vysogorets and Kempe 2021 (arXiv 2107.02306)",
        ranking=Ranking(
            scores=_random, allocation=lambda params, s, _: pruning.ideal_gas_quotas(params, s)
        ),
    ),
    Scored(
        name="random-smart-ratios",
        look=Look("Random, smart ratios", "#FFAABB", "d"),
        when=When.BEFORE,
        functions=("random_scores", "smart_ratios", "layerwise_masks"),
        source="Su et al. 2020 (arXiv 2009.11094)",
        ranking=Ranking(
            scores=_random,
            allocation=lambda params, s, layers: pruning.smart_ratios(params, s, layers=layers),
        ),
    ),
    KStarts(
        name="k-starts",
        look=Look("K-starts", "#806000", "P"),
        when=When.BEFORE,
        functions=("k_starts", "combined_fitness"),
        source=HAROON,
        ablations=("retrained",),
    ),
)
_DURING = (
    Dissipating(
        name="dissipating-gradients",
        look=Look("Dissipating gradients", "#D55E00", "*"),
        when=When.DURING,
        functions=("dissipate_to", "exponential_sparsities"),
        source=HAROON,
    ),
    RandomAndDissipating(
        name="random+dissipating-gradients",
        look=Look("Random + dissipating gradients", "#CC6677", "X"),
        when=When.DURING,
        functions=("random_masks", "dissipate_to"),
        source=HAROON,
    ),
    SearchedAndDissipating(
        name="k-starts+dissipating-gradients",
        look=Look("K-starts + dissipating gradients", "#661100", "p"),
        when=When.DURING,
        functions=("k_starts", "dissipate_to"),
        source=HAROON,
    ),
    InBand(
        name="dissipating-band",
        look=Look("Dissipating gradients, band", "#DDAA33", "h"),
        when=When.DURING,
        functions=("dissipate",),
        source=HAROON,
    ),
    Gradual(
        name="gradual-magnitude",
        look=Look("Gradual magnitude", "#0072B2", "p"),
        when=When.DURING,
        functions=("gradual_magnitude", "cubic_sparsities"),
        source="Zhu and Gupta 2017 (arXiv 1710.01878)",
    ),
    FineTuned(
        name="magnitude-fine-tuned",
        look=Look("Magnitude, fine-tuned", "#117733", "H"),
        when=When.DURING,
        functions=("magnitude_scores", "global_masks"),
        source=RENDA,
    ),
    WithGates(
        name="continuous-sparsification",
        look=Look("Continuous Sparsification", "#AA3377", "X"),
        when=When.DURING,
        functions=("soft_masks", "soft_masked_optimizer", "ticket_masks"),
        source=SAVARESE,
        weights_learn=True,
    ),
    WithGates(
        name="supermask",
        look=Look("Supermask", "#44AA99", "d"),
        when=When.DURING,
        functions=("soft_masks", "ticket_masks"),
        source=f"{SAVARESE}, section 5",
        weights_learn=False,
    ),
    WithDrawnGates(
        name="stochastic-supermask",
        look=Look("Stochastic supermask", "#AA4499", "<"),
        when=When.DURING,
        functions=("sampled_masks", "ticket_masks"),
        source="Zhou et al. 2019 (arXiv 1905.01067)",
        weights_learn=False,
    ),
)
_AFTER = (
    PrunedTrained(
        name="magnitude-after-training",
        look=Look("Magnitude after training", "#000000", "h"),
        when=When.AFTER,
        functions=("magnitude_scores", "global_masks"),
        source=FRANKLE,
        ablations=("shuffle", "reinit"),
    ),
    Rewound(
        name="lottery-ticket-rewinding",
        look=Look("Lottery-ticket rewinding", "#4477AA", "p"),
        when=When.AFTER,
        functions=("magnitude_scores", "global_masks"),
        source=f"{FRANKLE}; {LOTTERY}",
        ablations=("shuffle", "reinit"),
    ),
    Iterative(
        name="imp",
        look=Look("IMP", "#0072B2", "o"),
        when=When.AFTER,
        functions=("prune_remaining", "prune_remaining_by_layer"),
        source=LOTTERY,
        chain="imp",
    ),
    Iterative(
        name="imp-continued",
        look=Look("IMP-Continued", "#56B4E9", "s"),
        when=When.AFTER,
        functions=("prune_remaining", "prune_remaining_by_layer"),
        source=SAVARESE,
        chain="learning-rate-rewinding",
    ),
    RateRewound(
        name="learning-rate-rewinding",
        look=Look("Learning-rate rewinding", "#009E73", "^"),
        when=When.AFTER,
        functions=("prune_remaining", "prune_remaining_by_layer"),
        source=RENDA,
        chain="learning-rate-rewinding",
    ),
    Reinitialised(
        name="imp-reinit",
        look=Look("IMP, other weights", "#999999", "v"),
        when=When.AFTER,
        functions=("prune_remaining", "reinitialise"),
        source=LOTTERY,
        chain="imp",
    ),
    Parallel(
        name="cs-parallel",
        look=Look("CS, parallel", "#D55E00", "D"),
        when=When.AFTER,
        functions=("soft_masks", "ticket_masks"),
        source=SAVARESE,
    ),
    Sequential(
        name="cs-sequential",
        look=Look("CS, sequential", "#CC79A7", "P"),
        when=When.AFTER,
        functions=("soft_masks", "ticket_masks", "next_round"),
        source=SAVARESE,
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in (*_BEFORE, *_DURING, *_AFTER)}
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
        source=SAVARESE,
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


def check_methods(options: TrainingOptions, names: Iterable[str]) -> None:
    """Raises a ValueError that names the option that is wrong for one of the methods."""
    for name in names:
        find_method(name).check(options)
