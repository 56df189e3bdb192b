"""The masks of scored methods: what they see, and that each is the library's method."""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from experiments.engine.untrained import Network
from experiments.layer_collapse import LayerCollapse
from experiments.methods import mask_maker
from experiments.methods.mask_maker import MaskMaker
from experiments.methods.ranking import Ranking
from experiments.methods.registry import scored
from train.data.augment import normalise
from train.data.datasets import load_dataset
from train.named_recipes import RECIPES

KEY = jax.random.key(0)
RANKINGS = {name: method.ranking for name, method in scored().items()}
ENTROPY = optax.softmax_cross_entropy_with_integer_labels


@pytest.fixture(scope="module")
def network():
    return Network(LayerCollapse(model="lenet-300-100"))


@pytest.fixture(scope="module")
def seen(network):
    """Two examples of each class: some scores look at one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_maker, "EXAMPLES_PER_CLASS", 2)
        return network.maker.seen(0, KEY, *network.initial(0), network.initial(1)[0])


@pytest.fixture(scope="module")
def masks(network, seen):
    """``masks(name, sparsity)``: as the network's maker makes them."""
    return lambda name, sparsity, **how: network.maker.masks(name, RANKINGS[name], seen, sparsity, **how)


def agreement(first, second):
    """The fraction of weights on which two masks agree."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return np.mean(np.concatenate([(np.asarray(a) == np.asarray(b)).ravel() for a, b in pairs]))


# Of many rounds, passes or draws: they compile long, and the library's own tests are of each.
LONG = (
    "force",
    "hutchinson-taylor",
    "ntk-sap",
    "phew",
    "prospr",
    "px",
    "snip-iterative",
    "synflow",
    "synflow-l2",
)
OTHER_ENDS = [name for name, ranking in RANKINGS.items() if isinstance(ranking, Ranking)]
ENDS = [
    *(pytest.param(name, False, marks=[pytest.mark.slow] * (name in LONG)) for name in RANKINGS),
    *(pytest.param(name, True, marks=pytest.mark.slow) for name in OTHER_ENDS),
]


@pytest.mark.parametrize(("name", "invert"), ENDS)
def test_every_method_keeps_the_exact_count(masks, name, invert):
    found = masks(name, 0.95, invert=invert)
    size = pruning.count_prunable(found)
    removed, allowed = size - pruning.count_kept(found), pruning.pruned_count(0.95, size)
    # An allocation is exact in each layer, and rounds down in each.
    by_layer = isinstance(RANKINGS[name], Ranking) and RANKINGS[name].allocation
    slack = len(jax.tree.leaves(found)) if by_layer else 0
    if name == "snip-channels":  # A channel of both hidden layers, and the last layer.
        slack = 64 + 300 + 100 * 10
    assert allowed - slack <= removed <= allowed


@pytest.mark.parametrize(
    ("name", "allocation"),
    [
        ("random-uniform", pruning.uniform),
        ("random-er", pruning.erdos_renyi),
        ("random-erk", pruning.erdos_renyi_kernel),
        ("random-igq", pruning.ideal_gas_quotas),
    ],
)
def test_allocations_are_the_librarys(masks, seen, name, allocation):
    expected = pruning.random_masks(KEY, seen.params, 0.95, allocation=allocation)
    chex.assert_trees_all_equal(masks(name, 0.95), expected)


@pytest.mark.slow
def test_phew_is_the_librarys_and_has_no_other_end(network, masks, seen):
    def output(params):
        return network.maker.model.apply(
            {"params": params}, jnp.ones((1, *seen.images.shape[1:])), train=False
        )

    expected = jax.jit(lambda: pruning.phew_masks(KEY, output, seen.params, 0.95))()
    chex.assert_trees_all_equal(masks("phew", 0.95), expected)
    with pytest.raises(ValueError, match="no other end of phew"):
        masks("phew", 0.95, invert=True)


def test_smart_ratios_keep_more_of_earlier_layers(masks):
    found = masks("random-smart-ratios", 0.9)
    first, second, last = (pruning.sparsity(found[layer]) for layer in ("dense1", "dense2", "dense3"))
    assert first < second
    np.testing.assert_allclose(last, 0.7, atol=1e-3)


def test_counts_are_exact_where_float32_is_too_short(masks, seen):
    """Of 50,200 weights: a float32 sparsity would remove one more."""
    size = sum(leaf.size for leaf in jax.tree.leaves(seen.params) if leaf.ndim >= 2)
    for sparsity in (0.5 - 1e-8, 0.9 - 1e-8):
        removed = size - pruning.count_kept(masks("magnitude", sparsity))
        assert removed == pruning.pruned_count(sparsity, size)
        assert removed + 1 == pruning.pruned_count(np.float32(sparsity), size)


def losses_of(apply):
    """The library's loss of a batch: mean cross-entropy, at a temperature."""

    def loss(params, batch, temperature=1):
        return ENTROPY(apply(params, batch[0]) / temperature, batch[1]).mean()

    return loss, lambda params, batch: loss(params, batch, 200)


@pytest.fixture(scope="module")
def written_out(network, seen):
    """Normalised images, mean cross-entropy, GraSP's temperature of 200."""
    batches = [
        (normalise(seen.images, network.maker.dataset.mean, network.maker.dataset.std), seen.labels)
    ]
    return *losses_of(lambda params, images: network.model.apply({"params": params}, images)), batches


@pytest.mark.slow
def test_scores_of_data_are_the_librarys(masks, seen, written_out):
    loss, cooled, batches = written_out
    (batch,) = batches

    @jax.jit
    def library(params, other_params):
        fisher = pruning.fisher_diagonal(loss, params, batch)
        curvature = pruning.hutchinson_diagonal(seen.key, cooled, params, batch)
        gradients, cooled_gradients = (jax.grad(f)(params, batch) for f in (loss, cooled))
        return {
            "snip": pruning.snip_scores(loss, params, batches),
            "snip-second-draw": pruning.snip_scores(loss, other_params, batches),
            "grasp": pruning.grasp_scores(cooled, params, batches),
            "grasp-absolute": pruning.grasp_absolute_scores(cooled, params, batches),
            "prospr": pruning.prospr_scores(loss, params, batches * 4, learning_rate=0.1),
            "fisher-taylor": pruning.taylor_scores(params, gradients, fisher),
            "hutchinson-taylor": pruning.taylor_scores(params, cooled_gradients, curvature),
        }

    for name, scores in library(seen.params, seen.other_params).items():
        assert agreement(masks(name, 0.9), pruning.global_masks(scores, 0.9)) > 0.9995, name
        opposite = pruning.global_masks(pruning.invert_scores(scores), 0.9)
        assert agreement(masks(name, 0.9, invert=True), opposite) > 0.9995, name


@pytest.mark.slow
def test_synflow_is_the_librarys_in_float64(network, masks, seen):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), seen.params)
        output = lambda params: network.model.apply({"params": params}, jnp.ones((1, 8, 8, 1)))  # noqa: E731
        score = lambda masked: pruning.synflow_scores(output, masked)  # noqa: E731
        expected = pruning.iterative_masks(score, params, 0.9, rounds=100)
    assert agreement(masks("synflow", 0.9), expected) == 1


@pytest.mark.slow
def test_path_exclusion_is_the_librarys(masks, seen, written_out):
    """On a network written out, with its activation as an argument."""
    ((images, _),) = written_out[2]

    def by_hand(params, inputs, activation):
        x = inputs.reshape(len(inputs), -1)
        for name in ("dense1", "dense2"):
            x = activation(x @ params[name]["kernel"] + params[name]["bias"][None])
        return x @ params["dense3"]["kernel"] + params["dense3"]["bias"][None]

    with jax.enable_x64(True):
        params, inputs = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), t) for t in (seen.params, images)
        )
        score = lambda masked: pruning.path_exclusion_scores(by_hand, masked, [inputs])  # noqa: E731
        expected = pruning.iterative_masks(score, params, 0.9, rounds=100)
    assert agreement(masks("px", 0.9), expected) > 0.9995


def test_a_model_whose_activation_cannot_be_replaced_is_refused(normalised):
    maker, seen = normalised(RECIPES["digits"])
    with pytest.raises(ValueError, match=r"a field `activation`.*got SmallNormalised without one"):
        maker.masks("px", RANKINGS["px"], seen, 0.9)


@pytest.mark.slow
def test_ntk_sap_looks_at_no_weights(network, masks, seen):
    """Its key alone decides; each round has other draws, so that rounds of one draw would differ."""
    found = masks("ntk-sap", 0.9)
    others = seen._replace(params=seen.other_params)
    ranking = RANKINGS["ntk-sap"]
    chex.assert_trees_all_equal(network.maker.masks("ntk-sap", ranking, others, 0.9), found)
    other_key = network.maker.masks("ntk-sap", ranking, seen._replace(key=jax.random.key(7)), 0.9)
    assert 0.8 < agreement(found, other_key) < 1


@pytest.mark.slow
def test_iterative_snip_and_force_are_the_librarys(masks, seen, written_out):
    """100 rounds; FORCE takes the gradient of the pruned network and the weights of the dense one."""
    loss, _, batches = written_out

    def in_rounds(score, **how):
        def masks(params):
            of_network = lambda masked: score(params, masked)  # noqa: E731
            return pruning.iterative_masks(of_network, params, 0.8, rounds=100, **how)

        return jax.jit(masks)(seen.params)

    found = [masks(name, 0.8) for name in ("snip-iterative", "force")]
    snip = in_rounds(lambda _, masked: pruning.snip_scores(loss, masked, batches))
    force = in_rounds(
        lambda params, masked: pruning.force_scores(loss, params, masked, batches), may_return=True
    )
    # A near-tie in a late round goes either way, and what follows with it.
    assert agreement(found[0], snip) > 0.97
    assert agreement(found[1], force) > 0.97
    assert agreement(*found) < 0.9


class SmallNormalised(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.Dense(20)(images.reshape(len(images), -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(10)(nn.relu(x))


@pytest.fixture(scope="module")
def normalised():
    """``normalised(recipe)``: a maker of a small network, and what it sees."""
    dataset, model = load_dataset("digits"), SmallNormalised()
    variables = jax.jit(model.init)(KEY, jnp.ones((1, 8, 8, 1)))
    params, stats = variables["params"], variables["batch_stats"]

    def make(recipe):
        maker = MaskMaker(model, dataset, recipe)
        return maker, maker.seen(0, KEY, params, stats, params)

    return make


@pytest.mark.slow
def test_scores_in_batches_are_the_librarys_over_the_same_batches(normalised):
    """Each batch is normalised by its own statistics, so which batches there are shows."""
    maker, seen = normalised(dataclasses.replace(RECIPES["digits"], score_batch_size=40))
    assert len(np.unique(seen.labels[:34])) > 4  # Not class by class.
    assert seen.images.dtype == jnp.uint8  # Normalised a batch at a time.
    images = normalise(seen.images, maker.dataset.mean, maker.dataset.std)

    def apply(params, images):
        variables = {"params": params, "batch_stats": seen.batch_stats}
        return maker.model.apply(variables, images, train=True, mutable=True)[0]

    loss, cooled = losses_of(apply)

    @jax.jit
    def library(params, batches):
        return pruning.snip_scores(loss, params, batches), pruning.grasp_scores(cooled, params, batches)

    parts = [slice(0, 34), slice(34, 67), slice(67, 100)]
    in_parts = library(seen.params, [(images[part], seen.labels[part]) for part in parts])
    at_once = library(seen.params, [(images, seen.labels)])
    for name, right, other in zip(("snip", "grasp"), in_parts, at_once, strict=True):
        found = maker.masks(name, RANKINGS[name], seen, 0.9)
        assert agreement(found, pruning.global_masks(right, 0.9)) > 0.999
        assert agreement(found, pruning.global_masks(other, 0.9)) < 0.999


@pytest.mark.slow
def test_batch_normalisation_is_in_the_recipes_mode(normalised):
    """In training mode a batch's own statistics count, in inference mode the running ones."""

    def snip(name):
        maker, seen = normalised(dataclasses.replace(RECIPES[name], mean=None, std=None))
        return maker.masks("snip", RANKINGS["snip"], seen, 0.9)

    assert 0.5 < agreement(snip("assessed-cifar"), snip("assessed-cifar-eval-scores")) < 0.999


def test_statistics_may_see_the_training_images_first(normalised):
    """Once, in batches of the recipe's size; the weights stay."""
    recipe = dataclasses.replace(RECIPES["digits"], batch_size=400)
    _, cold = normalised(recipe)
    maker, seen = normalised(dataclasses.replace(recipe, score_after_warm_up=True))
    chex.assert_trees_all_equal(seen.params, cold.params)
    stats, images = cold.batch_stats, maker.dataset.train.images
    for first in (0, 400, 800):  # 1,437 images: the last batch is not a whole one.
        batch = normalise(images[first : first + 400], maker.dataset.mean, maker.dataset.std)
        variables = {"params": seen.params, "batch_stats": stats}
        stats = maker.model.apply(variables, batch, train=True, mutable=["batch_stats"])[1]["batch_stats"]
    chex.assert_trees_all_close(seen.batch_stats, stats, rtol=1e-5)


@pytest.mark.slow
def test_scores_that_cannot_be_ranked_name_method_and_place(network):
    params, stats = network.initial(0)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    seen = network.maker.seen(0, KEY, broken, stats, params)
    whole = network.maker.seen(0, KEY, params, stats, params)

    def zeros(params):
        return sum(jnp.sum(leaf == 0) for leaf in jax.tree.leaves(params))

    def late(losses, seen, params):
        magnitudes = pruning.magnitude_scores(params)
        return jax.tree.map(lambda s: jnp.where(zeros(params) > 30_000, jnp.nan, s), magnitudes)

    for name, ranking, what, says in (
        ("synflow", RANKINGS["synflow"], seen, "scores of synflow are NaN in round 1 of 100"),
        ("snip", RANKINGS["snip"], seen, r"scores of snip are not finite at \['dense1'\]\['kernel'\]"),
        ("late", Ranking(scores=late, rounds=5), whole, r"scores of late are NaN in round [2-5] of 5"),
    ):
        with pytest.raises(ValueError, match=says):
            network.maker.masks(name, ranking, what, 0.9)


def test_scores_are_of_the_network_that_is_seen(network, seen, masks):
    """The scores kept from the call before are not those of another network."""
    first = masks("magnitude", 0.9)
    other = network.maker.seen(0, KEY, *network.initial(2), seen.other_params)
    second = network.maker.masks("magnitude", RANKINGS["magnitude"], other, 0.9)
    assert agreement(first, masks("magnitude", 0.9)) == 1
    assert agreement(first, second) < 0.95


def test_smart_ratios_leave_something_to_every_layer_where_hardly_anything_is_kept(masks):
    """Of 50,200 weights 50 are kept; 30 % of the classifier would be 300."""
    found = masks("random-smart-ratios", 0.999)
    assert all(pruning.count_kept(found[layer]) > 0 for layer in ("dense1", "dense2", "dense3"))
