"""Verdicts from rows made up so that the truth is known."""

import numpy as np

from experiments.compare_claims import Findings, claims
from experiments.compare_plan import Plan
from train.recipes import RECIPES

SEEDS, SPARSITIES, K = range(4), (0.5, 0.9), 4
PLAN = Plan(
    sparsities=SPARSITIES,
    seeds=4,
    k=K,
    search_epochs=1,
    fractions=(0.1,),
    dissipate_epochs=2,
    recipe=RECIPES["digits"],
)


def row(method, seed, sparsity, accuracy, variant=None, candidate=None, **more):
    return {
        "method": method,
        "variant": variant,
        "seed": seed,
        "sparsity_target": sparsity,
        "sparsity": sparsity,
        "candidate": candidate,
        "epoch": 2,
        "test_accuracy": accuracy,
        "failed": False,
        **more,
    }


def made_up():
    """K-starts beats random by 0.1, give or take 0.001; weight fitness is the accuracy itself."""
    rows = []
    for seed in SEEDS:
        wobble = 0.001 * seed
        for sparsity in SPARSITIES:
            rows.append(row("random", seed, sparsity, 0.5))
            rows += [row("k-starts", seed, sparsity, 0.6 + wobble, name) for name in ("weight", "gradient", "combined")]  # fmt: skip  # noqa: E501
            rows.append(row("retrained", seed, sparsity, 0.6 + wobble * (-1) ** seed))
            rows.append(row("dissipate-to", seed, sparsity, 0.7))
            rows.append(row("random+dissipate-to", seed, sparsity, 0.6 + 0.02 * sparsity + wobble))
            rows.append(row("k-starts+dissipate-to", seed, sparsity, 0.65 + wobble))
            for c in range(K):
                accuracy = 0.4 + 0.1 * c + wobble
                fitness = {"fitness_weight": accuracy, "fitness_gradient": -accuracy, "fitness_combined": 0.0}  # fmt: skip  # noqa: E501
                rows.append(row("candidate", seed, sparsity, accuracy, candidate=c, **fitness))
        rows.append(row("dissipate", seed, None, 0.6, "0.1") | {"sparsity": 0.8})
    return rows


def test_verdicts():
    text = "\n".join(claims(Findings(made_up(), epochs=2), PLAN))
    for line in (
        "K-starts (weight fitness) beats one random mask: **yes**; difference +0.1015",
        "(weight fitness) stays below the best of its k candidates after full training by +0.1000",
        "Weight fitness at search time predicts final accuracy: **yes**; rank correlation",
        "over the k candidates +1.0000",
        "Gradient fitness at search time predicts final accuracy: **no, it points the other way**",
        "The combination beats K-starts (combined fitness): **yes**; difference +0.0500",
        "The combination beats dissipating gradients to the same sparsity: **no, it is worse**",
        "in the same order it is the same run): **no difference that these seeds can tell**",
        "first 2 epochs, reach sparsity 0.5 2.0 epochs, 0.9 never; they end at 0.800",
        "better in 8 of 8 pairs (0.5: +0.1015 ± 0.0021, 0.9: +0.1015 ± 0.0021).",
        "The combination beats the same dissipation from one random mask: **yes**",
        "(0.5: +0.0400 ± 0.0000, 0.9: +0.0320 ± 0.0000)",
    ):
        assert line in text, line


def test_a_constant_fitness_predicts_nothing():
    correlations = Findings(made_up(), epochs=2).rank_correlations("combined")
    assert all(np.isnan(value) for value in correlations.values())


def test_failed_members_are_left_out():
    rows = made_up()
    rows[0]["failed"] = True
    assert np.isnan(Findings(rows, epochs=2).accuracy("random")[0, 0.5])
