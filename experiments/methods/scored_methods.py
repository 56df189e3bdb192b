"""The methods of the paper on missing the mark: random, magnitude, SNIP, GraSP, SynFlow and their kin."""

from typing import Any

import jax

import pruning
from experiments.methods.method import Look, When
from experiments.methods.ranking import Losses, PyTree, Ranking, Seen
from experiments.methods.scored import ABLATIONS, Scored


def random_scores(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    """Drawn with the key that is seen."""
    return pruning.random_scores(seen.key, params)


def by_erk(params: PyTree, sparsity: float, layers: list[str]) -> PyTree:
    """The layer sparsities of ERK."""
    return pruning.erdos_renyi_kernel(params, sparsity)


def channels_but_the_last(scores: PyTree, sparsity: float, layers: list[str]) -> PyTree:
    """Whole units of every layer but the last, whose units are the classes: it is kept."""

    def hidden(path: Any, leaf: Any) -> Any:
        return None if jax.tree_util.keystr(path) == layers[-1] else leaf

    masks = pruning.channel_masks(jax.tree_util.tree_map_with_path(hidden, scores), sparsity)
    whole = pruning.full_masks(scores)
    return jax.tree.map(
        lambda mask, kept: kept if mask is None else mask, masks, whole, is_leaf=lambda leaf: leaf is None
    )


def batches(seen: Seen) -> list[tuple]:
    """The examples that are seen, in one batch."""
    return [(seen.images, seen.labels)]


def _snip(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    return pruning.snip_scores(losses.loss, params, batches(seen))


def _grasp(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    return pruning.grasp_scores(losses.cooled_loss, params, batches(seen))


METHODS = (
    Scored(
        name="random",
        look=Look("Random", "#999999", "o"),
        when=When.BEFORE,
        functions=("random_scores", "global_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576)",
        ranking=Ranking(scores=random_scores),
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
        ranking=Ranking(scores=_snip, passes=1),
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
            passes=1,
            scores=lambda losses, seen, params: pruning.snip_scores(
                losses.loss, seen.other_params, batches(seen)
            ),
        ),
    ),
    # RigL's reference prunes by SNIP so, each layer by itself.
    Scored(
        name="snip-erk",
        look=Look("SNIP, ERK", "#77AADD", "^"),
        when=When.BEFORE,
        functions=("snip_scores", "erdos_renyi_kernel", "layerwise_masks"),
        source="Evci et al. 2020 (arXiv 1911.11134)",
        choices=(
            "RigL's reference ranks each layer by itself at the layer sparsities of ERK or of a "
            "uniform allocation, where Lee et al. rank all weights together; ERK is taken here."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(scores=_snip, allocation=by_erk, passes=1),
    ),
    Scored(
        name="snip-channels",
        look=Look("SNIP, channels", "#0B6E4F", "P"),
        when=When.BEFORE,
        functions=("snip_scores", "channel_masks"),
        source="Lee et al. 2019 (arXiv 1810.02340); whole channels: Li et al. 2017 (arXiv 1608.08710)",
        choices=(
            "A unit is judged by the sum of its weights' scores among those of its layer; the last layer "
            "is kept, so that fewer weights are removed than the sparsity says."
        ),
        ranking=Ranking(scores=_snip, select=channels_but_the_last, passes=1),
    ),
    Scored(
        name="snip-iterative",
        look=Look("Iterative SNIP", "#004488", ">"),
        when=When.BEFORE,
        functions=("snip_scores", "iterative_masks"),
        source="de Jorge et al. 2021 (arXiv 2006.09081)",
        choices=(
            "The released code of FORCE takes 10 rounds by default and keeps all weights that tie "
            "with the last; here 100 rounds and exact counts."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(scores=_snip, rounds=100, passes=1),
    ),
    Scored(
        name="force",
        look=Look("FORCE", "#332288", "1"),
        when=When.BEFORE,
        functions=("force_scores", "iterative_masks"),
        source="de Jorge et al. 2021 (arXiv 2006.09081)",
        choices=(
            "The released code keeps `int(n d)` weights a round, one fewer than here wherever "
            "that is not whole, which moves the counts of layers."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(
            passes=1,
            scores=lambda losses, seen, params: pruning.force_scores(
                losses.loss, seen.params, params, batches(seen)
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
        ranking=Ranking(scores=_grasp, passes=3),
    ),
    Scored(
        name="grasp-iterative",
        look=Look("Iterative GraSP", "#DD77BB", "v"),
        when=When.BEFORE,
        functions=("grasp_scores", "iterative_masks"),
        source="Wang et al. 2020 (arXiv 2002.07376); rounds: de Jorge et al. 2021 (arXiv 2006.09081)",
        choices=(
            "10 rounds, as many as the iterated methods of naver/force take by default. What that "
            "code calls GraSP-It ranks by the squared gradient; here it is `w * (H g)` of each "
            "round. In the loop of SynFlow's lineage pruned weights, which score 0, outrank all "
            "of negative score, so that these go at once; here a pruned weight does not return."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(scores=_grasp, rounds=10, passes=3),
    ),
    Scored(
        name="grasp-absolute",
        look=Look("GraSP (absolute)", "#882255", "x"),
        when=When.BEFORE,
        functions=("grasp_absolute_scores", "global_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576)",
        ablations=ABLATIONS,
        ranking=Ranking(
            passes=3,
            scores=lambda losses, seen, params: pruning.grasp_absolute_scores(
                losses.cooled_loss, params, batches(seen)
            ),
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
            passes=1,
            sees_data=False,
            scores=lambda losses, seen, params: pruning.synflow_scores(losses.output, params),
            rounds=100,
            in_float64=True,
        ),
    ),
)
