"""Pruning in rounds: by hand, exact in every round, and SynFlow down to its last path."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.experimental import checkify

import pruning
from tests.compilations import compiled_programs

FOUR = {"w": jnp.array([[4.0, 3.0, 2.0, 1.0]]), "b": jnp.ones(4)}
SIXTEEN = {"u": jnp.arange(1.0, 9.0)[None], "v": jnp.arange(9.0, 17.0)[None], "b": jnp.ones(3)}


def kept(masks):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(masks)])


def pruned(masks):
    return int((~kept(masks)).sum())


def by_partner(params):
    """Magnitude, but the first weight works through the third: 4 * 2, or nothing without it."""
    w = params["w"]
    return {"w": w.at[0, 0].multiply(w[0, 2]), "b": None}


def test_each_round_scores_what_is_left():
    # Round 1 of 2 ranks 8, 3, 2, 1 and keeps two; then the first weight is worth nothing.
    assert kept(pruning.iterative_masks(by_partner, FOUR, 0.75, rounds=1)).tolist() == [1, 0, 0, 0]
    assert kept(pruning.iterative_masks(by_partner, FOUR, 0.75, rounds=2)).tolist() == [0, 1, 0, 0]


def longing(params):
    """A weight is worth most, infinitely much, where it is missing."""
    return {"w": jnp.where(params["w"] == 0, jnp.inf, params["w"]), "b": None}


@pytest.mark.parametrize(("may_return", "expected"), [(False, [1, 0, 0, 0]), (True, [0, 0, 1, 0])])
def test_a_pruned_weight_returns_only_where_it_may(may_return, expected):
    # Round 1 of 2 keeps the first two; round 2 ranks 4, 3, inf, inf and keeps one.
    masks = pruning.iterative_masks(longing, FOUR, 0.75, rounds=2, may_return=may_return)
    assert kept(masks).tolist() == expected


def crowded(params):
    """The scores of all change with what is left of each layer."""
    crowd = params["u"].sum() - params["v"].sum()
    return {"u": jnp.sin(3 * params["u"] + crowd), "v": jnp.sin(3 * params["v"] + crowd), "b": None}


def in_rounds(rounds, **knobs):
    """(params, sparsity) -> masks, compiled."""
    return jax.jit(
        lambda params, sparsity: pruning.iterative_masks(
            crowded, params, sparsity, rounds=rounds, **knobs
        )
    )


FIVE_ROUNDS = in_rounds(5)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1, exclude_max=True))
@example(0.7)
@example(0.95)
@example(1 - 1e-9)
def test_a_traced_float64_removes_the_same_weights_as_a_concrete_sparsity(sparsity):
    """The counts of all rounds are those of the concrete number, so the masks are too."""
    with jax.enable_x64(True):
        found = FIVE_ROUNDS(SIXTEEN, jnp.float64(sparsity))
    assert pruned(found) == min(math.floor(sparsity * 16 + 1e-6), 15)
    masks = pruning.full_masks(SIXTEEN)
    for each in pruning.exponential_sparsities(sparsity, 5):
        scores = crowded(pruning.apply_masks(SIXTEEN, masks))
        masks = pruning.global_masks(scores, each, masks=masks)
    assert kept(found).tolist() == kept(masks).tolist()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999))
@example(253)
@example(511)
def test_a_traced_float32_removes_the_exact_count(thousandths):
    """In float32 floor(0.253 * 1000) is 252."""
    weights = jnp.arange(500.0)[None]
    masks = FIVE_ROUNDS({"u": weights, "v": weights + 500, "b": None}, thousandths / 1000)
    assert pruned(masks) == thousandths


@pytest.mark.slow
@pytest.mark.parametrize("may_return", [False, True])
def test_sparsities_side_by_side_are_as_one_after_the_other(may_return):
    prune = in_rounds(3, may_return=may_return)
    sparsities = jnp.array([0.0, 0.3, 0.5, 0.75, 0.9])
    together = jax.vmap(prune, in_axes=(None, 0))(SIXTEEN, sparsities)
    for i, sparsity in enumerate(sparsities):
        alone = prune(SIXTEEN, sparsity)
        assert kept(alone).tolist() == kept(jax.tree.map(lambda leaf, i=i: leaf[i], together)).tolist()


@pytest.mark.parametrize("may_return", [False, True])
def test_of_equal_scores_the_first_are_kept(may_return):
    def score(masked):
        return {"u": jnp.ones((1, 8)), "v": jnp.ones((1, 8)), "b": None}

    masks = pruning.iterative_masks(score, SIXTEEN, 0.375, rounds=5, may_return=may_return)
    assert kept(masks).tolist() == [1] * 10 + [0] * 6


def test_a_predicate_of_the_caller_is_asked():
    def vectors(path, leaf):
        return leaf.ndim == 1

    masks = pruning.iterative_masks(
        lambda masked: pruning.magnitude_scores(masked, prunable=vectors),
        {"w": jnp.ones((2, 2)), "b": jnp.array([1.0, 3.0, 2.0, 4.0])},
        0.5,
        rounds=2,
        prunable=vectors,
    )
    assert masks["w"] is None
    assert masks["b"].tolist() == [0, 1, 0, 1]


# --- another selection in each round --------------------------------------------------------------

GROUPS = {"w": jnp.array([[8.0], [7.0], [6.0], [5.0], [4.0], [3.0], [2.0], [1.0]])}


def two_of_four(scores, sparsity):
    """By degrees: the two winners of every four stay as long as there is anything else."""
    winners = pruning.n_m_masks(scores, 2, 4)
    lifted = jax.tree.map(lambda won, score: score + 100 * won, winners, scores)
    return pruning.global_masks(lifted, sparsity)


def test_rounds_end_in_n_of_m_by_degrees():
    """Of 8, 7, 6, 5 and 4, 3, 2, 1 the winners are 8, 7, 4, 3; of the rest 6 and 5 outlive 2 and 1."""
    seen = []

    def score(masked):
        jax.debug.callback(lambda w: seen.append(np.flatnonzero(w).tolist()), masked["w"])
        return masked

    masks = pruning.iterative_masks(score, GROUPS, 0.5, rounds=2, select=two_of_four)
    jax.effects_barrier()
    assert kept(masks).tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert seen == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5]]  # 8 * (1 - 0.5 ** 0.5) = 2.3 go first.


def rotating(params):
    """Scores whose order changes with what is left."""
    w = params["w"]
    return {"w": jnp.sin(7 * jnp.arange(1.0, 9)[:, None] + jnp.sum(w != 0))}


@pytest.mark.slow
@pytest.mark.parametrize("may_return", [False, True])
def test_a_fixed_selection_is_the_first_rounds_unless_weights_may_return(may_return):
    masks = [
        pruning.iterative_masks(
            rotating,
            GROUPS,
            0.5,
            rounds=rounds,
            select=lambda scores, _: pruning.n_m_masks(scores, 2, 4),
            may_return=may_return,
        )["w"]
        for rounds in (1, 2)
    ]
    for found in masks:
        assert found.reshape(2, 4).sum(1).tolist() == [2, 2]
    assert bool((masks[0] != masks[1]).any()) == may_return


@pytest.mark.slow
@pytest.mark.parametrize("jitted", [False, True])
def test_rounds_in_which_every_layer_loses_its_share(jitted):
    """As one loop, which traces the selection once, and as rounds one by one; both nested."""
    traces = []

    def select(scores, sparsity):
        traces.append(sparsity)
        return pruning.layerwise_masks(scores, pruning.uniform(scores, sparsity))

    def prune(sparsity):
        return pruning.iterative_masks(crowded, SIXTEEN, sparsity, rounds=4, select=select)

    found = (jax.jit(prune) if jitted else prune)(0.75)
    assert len(traces) == 1
    masks = pruning.full_masks(SIXTEEN)
    for each in pruning.exponential_sparsities(0.75, 4):
        before, scores = masks, crowded(pruning.apply_masks(SIXTEEN, masks))
        masks = pruning.layerwise_masks(scores, pruning.uniform(scores, each), masks=before)
        assert not (kept(masks) & ~kept(before)).any()
    assert kept(found).tolist() == kept(masks).tolist()
    assert [int(found[name].sum()) for name in "uv"] == [2, 2]


def test_what_is_pruned_stays_so_whatever_a_selection_says():
    """This one keeps the lowest: in round 2 those that are pruned, of minus infinity."""

    def lowest(scores, sparsity):
        return pruning.layerwise_masks(pruning.invert_scores(scores), pruning.uniform(scores, sparsity))

    score = pruning.magnitude_scores
    masks = pruning.iterative_masks(score, FOUR, 0.75, rounds=2, select=lowest)
    assert pruned(masks) == 4
    masks = pruning.iterative_masks(score, FOUR, 0.75, rounds=2, select=lowest, may_return=True)
    assert kept(masks).tolist() == [1, 0, 0, 0]  # The first of those that round 1 has made zero.


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("may_return", [False, True])
def test_the_ranking_of_the_network_is_the_same_by_another_name(rounds, may_return):
    """Without the counts before the loop; at sizes that a float32 can say."""
    knobs = {"rounds": rounds, "may_return": may_return}
    expected = pruning.iterative_masks(crowded, SIXTEEN, 0.7, **knobs)
    found = pruning.iterative_masks(
        crowded, SIXTEEN, 0.7, **knobs, select=lambda *given: pruning.global_masks(*given)
    )
    assert kept(found).tolist() == kept(expected).tolist()


@pytest.mark.parametrize("may_return", [False, True])
@pytest.mark.parametrize(
    ("select", "says"),
    [
        (lambda scores, _: {"w": scores["w"] > 0}, r"\['b'\]"),
        (lambda scores, _: {"w": scores["w"][:, :2] > 0, "b": None}, r"shape \(1, 4\) at \['w'\]"),
        (lambda scores, _: scores, r"expected a bool mask at \['w'\], got float32"),
        (
            lambda scores, s: pruning.layerwise_masks(scores, pruning.erdos_renyi(scores, s)),
            "needs a concrete sparsity",
        ),
    ],
)
def test_what_a_selection_cannot_return_is_named(select, says, may_return):
    with pytest.raises(ValueError, match=says):
        pruning.iterative_masks(
            pruning.magnitude_scores, FOUR, 0.5, rounds=2, select=select, may_return=may_return
        )


def test_a_selection_among_scores_that_rank_nothing_is_refused():
    with pytest.raises(ValueError, match=r"nothing but 0 .* in round 1 of 2"):
        pruning.iterative_masks(
            lambda masked: {"w": jnp.zeros_like(masked["w"])},
            GROUPS,
            0.5,
            rounds=2,
            select=lambda scores, _: pruning.n_m_masks(scores, 2, 4),
        )


# --- down to the last path ------------------------------------------------------------------------

# A multilayer perceptron without biases, 1,040 weights in 4 layers.
LAYERS = [(8, 20), (20, 20), (20, 20), (20, 4)]
SIZE = sum(math.prod(shape) for shape in LAYERS)


def flow(params):
    activations = jnp.ones((1, 8), params[0].dtype)
    for weights in params:
        activations = jax.nn.relu(activations @ weights)
    return activations


def synflow(params):
    return pruning.synflow_scores(flow, params)


@jax.jit
def kept_in_each_layer(params, sparsity):
    """By SynFlow in 100 rounds, SynFlow in one, and magnitude."""
    several = [
        pruning.iterative_masks(synflow, params, sparsity, rounds=100),
        pruning.iterative_masks(synflow, params, sparsity, rounds=1),
        pruning.global_masks(pruning.magnitude_scores(params), sparsity),
    ]
    return [[jnp.sum(mask) for mask in masks] for masks in several]


def test_synflow_empties_no_layer_down_to_the_last_path():
    """The maximal compression is that of one weight in each layer (Tanaka et al. 2020)."""
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = [jnp.asarray(random.normal(size=shape)) for shape in LAYERS]
        for left in (4, 5, 6, 8):
            rounds, one_shot, magnitude = kept_in_each_layer(params, 1 - left / SIZE)
            assert sum(rounds) == sum(one_shot) == sum(magnitude) == left
            assert min(rounds) >= 1
            assert min(one_shot) == 0
            assert min(magnitude) == 0


def failing(params):
    """NaN as soon as a weight is gone."""
    scores = pruning.magnitude_scores(params)
    return jax.tree.map(lambda leaf: jnp.where(jnp.any(leaf == 0), jnp.nan, leaf), scores)


def test_a_traced_nan_among_others_ranks_lowest_and_counts_are_exact():
    def score(masked):
        return {"w": masked["w"].at[0, 0].set(jnp.nan), "b": None}

    masks = jax.jit(lambda s: pruning.iterative_masks(score, FOUR, s, rounds=4))(0.75)
    assert kept(masks).tolist() == [0, 1, 0, 0]


def constant(value):
    return lambda masked: {"w": jnp.full_like(masked["w"], value), "b": None}


@pytest.mark.parametrize(
    ("score", "rounds", "message"),
    [
        # Densities 0.71, 0.5, 0.35, 0.25: round 1 removes one of four, so the scores of round 2 fail.
        (failing, 4, r"NaN in round 2 of 4: score_fn is not finite there; .*float64"),
        (constant(0.0), 2, r"rank the weights, got nothing but 0 .* in round 1 of 2"),
        # The densities 0.93, 0.87, 0.81 and 0.76 of four weights remove none.
        (constant(0.0), 20, "in round 5 of 20"),
    ],
)
def test_the_first_round_whose_scores_rank_nothing_is_named(score, rounds, message):
    with pytest.raises(ValueError, match=message):
        pruning.iterative_masks(score, FOUR, 0.75, rounds=rounds)


@pytest.mark.parametrize(("score", "sparsity", "gone"), [(failing, 0.75, 3), (constant(0.0), 0.0, 0)])
def test_scores_that_nothing_is_ranked_by_may_be_anything(score, sparsity, gone):
    """After the last round, and where nothing is removed."""
    assert pruned(pruning.iterative_masks(score, FOUR, sparsity, rounds=1)) == gone


@pytest.mark.parametrize(
    "score",
    [*(pytest.param(constant(c), marks=pytest.mark.slow) for c in (0.0, -jnp.inf, jnp.nan)), failing],
)
def test_traced_scores_that_rank_nothing_leave_no_weight(score):
    """What no ranking gives; the flat index would decide otherwise, and nobody would see.

    Checkify makes an error of it.
    """
    prune = jax.jit(lambda s: pruning.iterative_masks(score, FOUR, s, rounds=4))
    assert kept(prune(0.75)).tolist() == [0, 0, 0, 0]
    error, _ = checkify.checkify(prune)(0.75)
    with pytest.raises(checkify.JaxRuntimeError, match="expected scores"):
        error.throw()


def test_checkify_lets_scores_pass_that_rank():
    checked = checkify.checkify(lambda s: pruning.iterative_masks(by_partner, FOUR, s, rounds=2))
    error, masks = checked(0.5)
    error.throw()
    assert pruned(masks) == 2


@pytest.mark.parametrize("jitted", [False, True])
def test_a_network_that_pruning_has_cut_scores_zero_and_is_no_error(jitted):
    """A collapsed flow in a late round: the counts are exact, and the first weights remain."""

    def score(masked):
        w = masked["w"]
        return {"w": w * jnp.prod(jnp.where(w == 0, 0, 1)), "b": None}

    def prune(sparsity):
        return pruning.iterative_masks(score, FOUR, sparsity, rounds=3)

    assert pruned((jax.jit(prune) if jitted else prune)(0.75)) == 3


def head_at_zero(params):
    return jax.nn.relu(jnp.ones((1, 3)) @ params["body"]) @ params["head"]


HEAD = {"body": jnp.arange(1.0, 13).reshape(3, 4), "head": jnp.zeros((4, 2))}


@pytest.mark.parametrize(
    "score",
    [
        lambda p: pruning.synflow_scores(head_at_zero, p),
        lambda p: pruning.snip_scores(
            lambda q, y: jnp.mean((head_at_zero(q) - y) ** 2), p, [jnp.ones((1, 2))]
        ),
    ],
)
@pytest.mark.slow
def test_a_head_that_begins_at_zero_ranks_nothing(score):
    """Eagerly, in rounds, and in both documented compiled calls."""
    with pytest.raises(ValueError, match=r"rank the weights, got 0 for all of them: .*'head'"):
        score(HEAD)
    with pytest.raises(ValueError, match="in round 1 of 2: a layer of params is zero everywhere"):
        pruning.iterative_masks(score, HEAD, 0.5, rounds=2)
    masks = jax.jit(lambda p: pruning.iterative_masks(score, p, 0.5, rounds=2))(HEAD)
    assert pruning.sparsity(masks) == 1
    scores = jax.jit(score)(HEAD)
    with pytest.raises(ValueError, match="got 0 for all 20 of them: a layer of the network is zero"):
        pruning.check_rankable(scores)


def test_compiled_with_a_traced_sparsity_it_compiles_once_and_traces_one_score():
    """As the docstring says; outside jit the loop is compiled at every call."""
    traces = []

    def score(masked):
        traces.append(masked)
        return {"w": masked["w"] + 0.125, "b": None}

    prune = jax.jit(lambda params, s: pruning.iterative_masks(score, params, s, rounds=7))
    sparsities = [jnp.float32(s) for s in (0.25, 0.5, 0.75)]
    with compiled_programs() as names:
        found = [jax.block_until_ready(prune(FOUR, sparsity)) for sparsity in sparsities]
    assert names == ["<lambda>"]
    assert len(traces) == 1
    assert [pruned(masks) for masks in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"rounds": 0}, ">= 1, a whole number, got 0"),
        ({"rounds": 2.5}, ">= 1, a whole number, got 2.5"),
        ({"sparsity": 1.0}, r"expected sparsity in \[0, 1\) .*, got 1.0"),
        ({"sparsity": -0.1}, r"expected sparsity in \[0, 1\) .*, got -0.1"),
        ({"sparsity": math.nan}, r"expected sparsity in \[0, 1\) .*, got nan"),
        ({"params": {"b": jnp.ones(3)}}, "at least one prunable leaf"),
        ({"score_fn": lambda masked: {"w": masked["w"]}}, r"\['b'\] against nothing"),
        ({"score_fn": lambda masked: masked}, r"expected a mask at \['b'\]"),
        (
            {"score_fn": lambda masked: {"w": masked["w"][:, :2], "b": None}},
            r"shape \(1, 2\) at \['w'\], got \(1, 4\)",
        ),
        (
            {"score_fn": lambda masked: {"w": masked["w"] > 0, "b": None}},
            r"float scores at \['w'\], got bool",
        ),
    ],
)
def test_what_cannot_be_is_named(knobs, message):
    call = {"score_fn": pruning.magnitude_scores, "params": FOUR, "sparsity": 0.5, "rounds": 2, **knobs}
    with pytest.raises(ValueError, match=message):
        pruning.iterative_masks(call.pop("score_fn"), call.pop("params"), call.pop("sparsity"), **call)
