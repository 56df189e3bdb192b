"""Random masks with the layer sparsities of an allocation."""

from collections.abc import Sequence
from typing import Any

import jax

import pruning
from experiments.methods.method import Look, When
from experiments.methods.ranking import Ranking
from experiments.methods.scored import Scored
from experiments.methods.scored_methods import by_erk, random_scores

PyTree = Any
CLASSIFIER, MOST = 0.3, 0.9
"""What smart ratios keep of the last layer, and the most that this may be of all that is kept."""


def _smart_ratios(params: PyTree, sparsity: Any, layers: Sequence[str]) -> PyTree:
    leaves = jax.tree_util.tree_leaves_with_path(pruning.full_masks(params))
    sizes = {jax.tree_util.keystr(path): leaf.size for path, leaf in leaves}
    most = MOST * (1 - sparsity) * sum(sizes.values()) / sizes[layers[-1]]
    return pruning.smart_ratios(params, sparsity, layers=layers, last_density=min(CLASSIFIER, most))


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
        choices=(
            "A layer that would keep more than all is dense, and the others are solved again in "
            "proportion; the released code passes what is too much on to the layers that follow, and for "
            "networks that are not residual divides by the square of the layer's place. The classifier "
            "keeps 30 %, but at most nine tenths of all that is kept."
        ),
        ranking=Ranking(scores=random_scores, allocation=_smart_ratios),
    ),
)
