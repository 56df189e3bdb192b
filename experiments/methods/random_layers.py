"""Random masks with the layer sparsities of an allocation."""

import pruning
from experiments.methods.method import Look, When
from experiments.methods.ranking import Ranking
from experiments.methods.scored import Scored
from experiments.methods.scored_methods import by_erk, random_scores

METHODS = (
    Scored(
        name="random-uniform",
        look=Look("Random, uniform", "#666666", "2"),
        when=When.BEFORE,
        functions=("random_scores", "uniform", "layerwise_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576)",
        ranking=Ranking(scores=random_scores, allocation=lambda params, s, _: pruning.uniform(params, s)),
    ),
    Scored(
        name="random-er",
        look=Look("Random, ER", "#AAAA00", "3"),
        when=When.BEFORE,
        functions=("random_scores", "erdos_renyi", "layerwise_masks"),
        source="Mocanu et al. 2018 (arXiv 1707.04780)",
        ranking=Ranking(
            scores=random_scores, allocation=lambda params, s, _: pruning.erdos_renyi(params, s)
        ),
    ),
    Scored(
        name="random-erk",
        look=Look("Random, ERK", "#EEDD88", "4"),
        when=When.BEFORE,
        functions=("random_scores", "erdos_renyi_kernel", "layerwise_masks"),
        source="Evci et al. 2020 (arXiv 1911.11134)",
        ranking=Ranking(scores=random_scores, allocation=by_erk),
    ),
    Scored(
        name="random-igq",
        look=Look("Random, IGQ", "#BBCC33", "8"),
        when=When.BEFORE,
        functions=("random_scores", "ideal_gas_quotas", "layerwise_masks"),
        source="Vysogorets and Kempe 2021 (arXiv 2107.02306)",
        ranking=Ranking(
            scores=random_scores, allocation=lambda params, s, _: pruning.ideal_gas_quotas(params, s)
        ),
    ),
    Scored(
        name="random-smart-ratios",
        look=Look("Random, smart ratios", "#FFAABB", "d"),
        when=When.BEFORE,
        functions=("random_scores", "smart_ratios", "layerwise_masks"),
        source="Su et al. 2020 (arXiv 2009.11094)",
        choices=("Overflow of a layer above 1 passes to the layers after it; the classifier keeps 30 %."),
        ranking=Ranking(
            scores=random_scores,
            allocation=lambda params, s, layers: pruning.smart_ratios(params, s, layers=layers),
        ),
    ),
)
