"""The methods that rank weights: each is a score, a number of rounds, or an allocation to layers."""

import jax

import pruning
from experiments.methods.mask_maker import Losses, PyTree, Ranking, Seen
from experiments.methods.method import Look, When
from experiments.methods.scored import ABLATIONS, Scored
from pruning.search.path_weighted import walked_masks


def _random(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    return pruning.random_scores(seen.key, params)


def _batches(seen: Seen) -> list[tuple]:
    return [(seen.images, seen.labels)]


def _snip(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    return pruning.snip_scores(losses.loss, params, _batches(seen))


def _fisher_taylor(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    batch, loss = (seen.images, seen.labels), losses.loss_by_example
    diagonal = pruning.fisher_diagonal(loss, params, batch)
    return pruning.taylor_scores(params, jax.grad(loss)(params, batch), diagonal)


def _hutchinson_taylor(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    batch, loss = (seen.images, seen.labels), losses.cooled_loss_by_example
    diagonal = pruning.hutchinson_diagonal(seen.key, loss, params, batch)
    return pruning.taylor_scores(params, jax.grad(loss)(params, batch), diagonal)


METHODS = (
    Scored(
        name="random",
        look=Look("Random", "#999999", "o"),
        when=When.BEFORE,
        functions=("random_scores", "global_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576)",
        ranking=Ranking(scores=_random),
    ),
    Scored(
        name="magnitude",
        look=Look("Magnitude", "#E69F00", "s"),
        when=When.BEFORE,
        functions=("magnitude_scores", "global_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576)",
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
        source="Frankle et al. 2021 (arXiv 2009.08576)",
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
    # Biased random walks look at no data.
    Scored(
        name="phew",
        look=Look("PHEW", "#6699CC", "P"),
        when=When.BEFORE,
        functions=("phew_masks",),
        source="Patil and Dovrolis 2021 (arXiv 2010.11354)",
        ablations=("shuffle", "reinit"),
        ranking=Ranking(
            masks=lambda losses, seen, pruned: walked_masks(seen.key, losses.output, seen.params, pruned)
        ),
    ),
    # The reference's choices: the same batch in three inner steps and in the loss after them.
    Scored(
        name="prospr",
        look=Look("ProsPr", "#EE3377", "<"),
        when=When.BEFORE,
        functions=("prospr_scores", "global_masks"),
        source="Alizadeh et al. 2022 (arXiv 2202.08132)",
        ablations=ABLATIONS,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.prospr_scores(
                losses.loss, params, 4 * _batches(seen), learning_rate=0.1
            )
        ),
    ),
    Scored(
        name="fisher-taylor",
        look=Look("Fisher-Taylor", "#009988", "p"),
        when=When.BEFORE,
        functions=("fisher_diagonal", "taylor_scores", "global_masks"),
        source="CPAL 2026 (arXiv 2502.11450)",
        ablations=ABLATIONS,
        ranking=Ranking(scores=_fisher_taylor),
    ),
    Scored(
        name="hutchinson-taylor",
        look=Look("Hutchinson-Taylor", "#33BBEE", "h"),
        when=When.BEFORE,
        functions=("hutchinson_diagonal", "taylor_scores", "global_masks"),
        source="CPAL 2026 (arXiv 2502.11450)",
        ablations=ABLATIONS,
        ranking=Ranking(scores=_hutchinson_taylor),
    ),
    Scored(
        name="lamp",
        look=Look("LAMP", "#CCBB44", "X"),
        when=When.BEFORE,
        functions=("layer_adaptive_magnitude_scores", "global_masks"),
        source="Lee et al. 2021 (arXiv 2010.07611)",
        ablations=ABLATIONS,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.layer_adaptive_magnitude_scores(params)
        ),
    ),
    Scored(
        name="random-uniform",
        look=Look("Random, uniform", "#666666", "2"),
        when=When.BEFORE,
        functions=("random_scores", "uniform", "layerwise_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576)",
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
)
