"""ProsPr, NTK-SAP, PX and SynFlow-L2 against arrays that their reference implementations produced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from tests.pruning.oracles import NETWORKS, OPTIMISED, Arrays, cross_entropy, load, needs_oracles

CONV = pytest.param("conv", marks=pytest.mark.slow)  # Without optimisation its products take long.
pytestmark = [needs_oracles, pytest.mark.parametrize("case", ["mlp", CONV])]


def without_biases(params):
    return {name: leaf for name, leaf in params.items() if not name.endswith("bias")}


def selected(scores, kept):
    """Masks of one round: a density, or a sparsity with an s before it."""
    return pruning.global_masks(scores, 1 - float(kept[1:]) if kept[0] == "d" else float(kept[1:]))


# --- ProsPr ---------------------------------------------------------------------------------------

RATES = {"lr0.1": (0.1, 0.0), "lr0.5_m0.9": (0.5, 0.9), "lr0.02_m0.9": (0.02, 0.9)}
KINDS = {"full": pruning.prospr_scores, "first_order": pruning.prospr_first_order_scores}


@pytest.mark.parametrize("kind", [pytest.param("full", marks=pytest.mark.slow), "first_order"])
def test_prospr(case, kind):
    """With and without momentum, one step and three, new data in each step or the same."""
    arrays, network = Arrays(case, "prospr"), NETWORKS[case]

    def loss(params, batch):
        return cross_entropy(network(params, batch[0]), batch[1])

    def scores(params, batches, learning_rate, momentum):
        return KINDS[kind](loss, params, batches, learning_rate=learning_rate, momentum=momentum)

    variants = {
        "/".join(name.split("/")[1:5])
        for name in arrays.arrays
        if "score64/" in name and f"/{kind}/" in name
    }
    assert len(variants) == 8
    with jax.enable_x64(True):
        params, x, y = load(case)
        for variant in sorted(variants):
            _, rate, steps, data = variant.split("/")
            count = int(steps.removeprefix("steps")) + 1
            new = [(x[10 * i : 10 * i + 10], y[10 * i : 10 * i + 10]) for i in range(count)]
            batches = new if data == "new" else [(x, y)] * count
            found = jax.jit(scores)(params, batches, *RATES[rate])
            arrays.check_scores(variant, found)
            for kept in {name.split("/")[0] for name in arrays.under(f"maskbits64/{variant}")}:
                arrays.check_masks(f"{variant}/{kept}", selected(found, kept))


# --- NTK-SAP --------------------------------------------------------------------------------------


def draws(case, arrays, params):
    """The ten draws: weights, inputs and noise; biases are those of the params."""
    names = without_biases(params)
    for k in range(10):
        if case == "conv":
            weights, noise = (
                {n: arrays[f"draw{k}/{what}/{n}"] for n in names} for what in ("weight", "noise")
            )
            x = arrays[f"draw{k}/x"]
        else:
            random = np.random.RandomState(int(arrays["seed"]) + k)
            shapes = {n: params[n].shape for n in names}
            weights = {
                n: (random.standard_normal(s) * np.sqrt(2 / s[1])).astype(np.float32)
                for n, s in shapes.items()
            }
            x = random.standard_normal((10, 784)).astype(np.float32)
            noise = {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        in64 = lambda tree: {n: jnp.asarray(leaf, jnp.float64) for n, leaf in tree.items()}  # noqa: E731
        perturbation = {n: None for n in params} | in64(noise)
        yield params | in64(weights), jnp.asarray(x, jnp.float64), perturbation


def test_ntk_sap(case):
    """One draw, two, and five rounds of two each under the masks so far."""
    arrays, network = Arrays(case, "ntksap"), NETWORKS[case]
    with jax.enable_x64(True):
        params, *_ = load(case)
        drawn = [*draws(case, arrays, params)]
        full = pruning.full_masks(params)
        score = jax.jit(lambda drawn, masks: pruning.ntk_sap_draws(network, drawn, masks, 0.01))
        for variant, some in (("one_draw", drawn[:1]), ("rounds1", drawn[:2])):
            found = score(some, full)
            arrays.check_scores(variant, found)
            for kept in ("d0.2", "d0.05"):
                arrays.check_masks(f"{variant}/{kept}", selected(found, kept))
        for kept in ("d0.2", "d0.05"):
            masks = full
            for round in range(5):
                found = score(drawn[2 * round : 2 * round + 2], masks)
                masks = selected(found, f"d{float(kept[1:]) ** ((round + 1) / 5)}")
            arrays.check_scores(f"rounds5_last/{kept}", found)
            arrays.check_masks(f"rounds5/{kept}", masks)


# --- PX and SynFlow-L2 ----------------------------------------------------------------------------


def check_masks(arrays, head, score, params, found, rounds=(1, 100)):
    """After one round, of the scores found, and after a hundred."""
    prune = jax.jit(
        lambda p, s: pruning.iterative_masks(score, p, s, rounds=100), compiler_options=OPTIMISED
    )
    for density in ("0.2", "0.05"):
        arrays.check_masks(f"{head}rounds1/d{density}", selected(found, f"d{density}"))
        if 100 in rounds:
            arrays.check_masks(f"{head}rounds100/d{density}", prune(params, 1 - float(density)))


@pytest.mark.parametrize("variant", [pytest.param("all", marks=pytest.mark.slow), "no_bias"])
def test_path_exclusion(case, variant):
    arrays, network = Arrays(case, "px"), NETWORKS[case]
    with jax.enable_x64(True):
        params, x, _ = load(case)
        params = params if variant == "all" else without_biases(params)
        score = lambda params: pruning.path_exclusion_scores(network, params, [x])  # noqa: E731
        halves = lambda params: pruning.path_exclusion_scores(network, params, [x[:20], x[20:]])  # noqa: E731
        for batched in (halves, score):
            found = jax.jit(batched)(params)
            arrays.check_scores(f"{variant}/one_batch40", found)
        # Without biases equal scores up to rounding decide in late rounds.
        check_masks(arrays, f"{variant}/", score, params, found, (1, 100)[: 1 + (variant == "all")])


@pytest.mark.slow
def test_synflow_l2(case):
    arrays, network = Arrays(case, "synflow_l2"), NETWORKS[case]
    with jax.enable_x64(True):
        params, x, _ = load(case)

        def score(params):
            return pruning.synflow_l2_scores(lambda p: network(p, jnp.ones_like(x[:1])), params)

        found = jax.jit(score)(params)
        arrays.check_scores("coded", found)
        if case == "conv":
            arrays.check_scores("no_bias", score(without_biases(params)))
        check_masks(arrays, "", score, params, found)
