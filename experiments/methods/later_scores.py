"""Scores and walks that came after: flows of squares, path kernels, meta-gradients, second order."""

import jax
import jax.numpy as jnp

import pruning
from experiments.methods.method import Look, When
from experiments.methods.ranking import Losses, PyTree, Ranking, Seen, Walks
from experiments.methods.scored import ABLATIONS, Scored
from experiments.methods.scored_methods import batches
from pruning.search.path_weighted import walked_masks


def _fisher_taylor(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    batch, loss = (seen.images, seen.labels), losses.loss_by_example
    diagonal = pruning.fisher_diagonal(loss, params, batch)
    return pruning.taylor_scores(params, jax.grad(loss)(params, batch), diagonal)


def _hutchinson_taylor(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    batch, loss = (seen.images, seen.labels), losses.cooled_loss_by_example
    diagonal = pruning.hutchinson_diagonal(seen.key, loss, params, batch)
    return pruning.taylor_scores(params, jax.grad(loss)(params, batch), diagonal)


def _ntk_sap(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    kept = jax.tree.map(lambda mask, leaf: mask & (leaf != 0), *_prunable(params))
    count = sum(jnp.sum(mask, dtype=jnp.int32) for mask in jax.tree.leaves(kept))
    return pruning.ntk_sap_scores(
        jax.random.fold_in(seen.key, count),
        losses.draw,
        losses.logits,
        losses.inputs,
        kept,
        draws=5,
        statistics_fn=losses.statistics,
    )


def _prunable(params: PyTree) -> tuple[PyTree, PyTree]:
    """Full masks, and a tree like them of what they mask."""
    masks = pruning.full_masks(params)
    return masks, jax.tree.map(
        lambda mask, leaf: None if mask is None else leaf,
        masks,
        params,
        is_leaf=lambda leaf: leaf is None,
    )


METHODS = (
    Scored(
        name="synflow-l2",
        look=Look("SynFlow-L2", "#66CCAA", "D"),
        when=When.BEFORE,
        functions=("synflow_l2_scores", "iterative_masks"),
        source="Patil and Dovrolis 2021 (arXiv 2010.11354)",
        choices=(
            "The factor is `|w|`, as in three released codes; with `w ** 2`, which the paper's "
            "argument suggests, every layer's scores add up to the same number. Params are "
            "squared, running statistics are made positive."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(
            passes=1,
            sees_data=False,
            scores=lambda losses, seen, params: pruning.synflow_l2_scores(losses.output, params),
            rounds=100,
            in_float64=True,
        ),
    ),
    Scored(
        name="px",
        look=Look("PX", "#6699CC", "P"),
        when=When.BEFORE,
        functions=("path_exclusion_scores", "iterative_masks"),
        source="Iurada et al. 2024 (arXiv 2406.01820)",
        choices=(
            "Gradients are summed over batches before the absolute value, as in the newest commit "
            "of the released code; an older one squares those of each batch. Batch normalisation "
            "has the statistics of an untrained network, 0 and 1, where that code runs it in training "
            "mode, and its scales and offsets are params like others; the rule to leave a classifier "
            "called `fc` alone is not followed."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(
            passes=5 / 3,
            scores=lambda losses, seen, params: pruning.path_exclusion_scores(
                losses.network, params, [losses.inputs]
            ),
            rounds=100,
            in_float64=True,
        ),
    ),
    # The released script's choices for CIFAR: 5 draws in each of 20 rounds, every round with others.
    Scored(
        name="ntk-sap",
        look=Look("NTK-SAP", "#DDCC77", "*"),
        when=When.BEFORE,
        functions=("ntk_sap_scores", "iterative_masks"),
        source="Wang et al. 2023 (arXiv 2304.02840)",
        choices=(
            "5 draws in each of 20 rounds, the released script's for CIFAR; one batch of as many "
            "random inputs as the other methods see examples. That code goes on to train the "
            "weights of the last draw; here the network's own are trained. The statistics of "
            "batch normalisation are those of each draw's batch."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(scores=_ntk_sap, rounds=20, passes=5 * 7 / 3),
    ),
    # Biased random walks look at no data.
    Scored(
        name="phew",
        look=Look("PHEW", "#6A8E2F", "P"),
        when=When.BEFORE,
        functions=("phew_masks",),
        source="Patil and Dovrolis 2021 (arXiv 2010.11354)",
        choices=(
            "Exactly as many weights stay as asked for; the reference ends after the walk that reaches "
            "the number; biases stay, where it keeps those of visited units alone."
        ),
        ablations=tuple(ablation for ablation in ABLATIONS if ablation != "invert"),
        ranking=Walks(
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
        choices=(
            "The released code's defaults: three inner steps of SGD at 0.1 without momentum, on "
            "the batch of the outer loss. With momentum its first step lacks the second-order "
            "term (its buffer is detached); `prospr_scores` differentiates it as the paper writes "
            "it. The paper's rounds of new data are `batches` of the function."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(
            passes=4 + 3 * 2,
            scores=lambda losses, seen, params: pruning.prospr_scores(
                losses.loss, params, 4 * batches(seen), learning_rate=0.1
            ),
        ),
    ),
    Scored(
        name="fisher-taylor",
        look=Look("Fisher-Taylor", "#009988", "p"),
        when=When.BEFORE,
        functions=("fisher_diagonal", "taylor_scores", "global_masks"),
        source="CPAL 2026 (arXiv 2502.11450)",
        choices=(
            "The released code scores batches of one example in inference mode and leaves biases, "
            "normalisation and the classifier dense; here the classifier is pruned as everywhere, "
            "and normalisation is not warmed up by a pass over the data."
        ),
        ablations=ABLATIONS,
        ranking=Ranking(scores=_fisher_taylor, passes=2),
    ),
    Scored(
        name="hutchinson-taylor",
        look=Look("Hutchinson-Taylor", "#33BBEE", "h"),
        when=When.BEFORE,
        functions=("hutchinson_diagonal", "taylor_scores", "global_masks"),
        source="CPAL 2026 (arXiv 2502.11450)",
        choices="As `fisher-taylor`; 10 Rademacher probes of each example, and a temperature of 200.",
        ablations=ABLATIONS,
        ranking=Ranking(scores=_hutchinson_taylor, passes=10 * 3 + 1),
    ),
    Scored(
        name="lamp",
        look=Look("LAMP", "#CCBB44", "X"),
        when=When.BEFORE,
        functions=("layer_adaptive_magnitude_scores", "global_masks"),
        source="Lee et al. 2021 (arXiv 2010.07611)",
        choices="At initialization and without rounds; the paper prunes trained networks.",
        ablations=ABLATIONS,
        ranking=Ranking(
            scores=lambda losses, seen, params: pruning.layer_adaptive_magnitude_scores(params)
        ),
    ),
)
