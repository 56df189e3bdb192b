"""Stacked layers are layers: a stack gets what the same network unrolled gets, everywhere."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import DictKey

import pruning

KEY, LAYERS = jax.random.key(0), 3
LAYOUT = pruning.stacked_layout("blocks")
BLOCKS = jax.random.normal(KEY, (LAYERS, 8, 16))
HEAD = jax.random.normal(jax.random.key(1), (16, 4))
STACK = {"blocks": {"kernel": BLOCKS, "bias": jnp.ones((LAYERS, 16))}, "head": {"kernel": HEAD}}
UNROLLED = {
    **{f"block_{i}": {"kernel": BLOCKS[i], "bias": jnp.ones(16)} for i in range(LAYERS)},
    "head": {"kernel": HEAD},
}
# The third block is the smallest of all: ranked with the others it loses everything.
UNEVEN = jax.tree.map(jnp.asarray, STACK)
UNEVEN["blocks"]["kernel"] = BLOCKS * jnp.array([1.0, 1.0, 1e-3])[:, None, None]


def layers(tree):
    """The blocks and the head of either network, as one list."""
    if "blocks" in tree:
        return [*tree["blocks"]["kernel"], tree["head"]["kernel"]]
    return [tree[f"block_{i}"]["kernel"] for i in range(LAYERS)] + [tree["head"]["kernel"]]


def counts(masks):
    return [int(jnp.sum(mask)) for mask in layers(masks)]


PATHS = [f"['blocks']['kernel'][{i}]" for i in range(LAYERS)] + ["['head']['kernel']"]
UNROLLED_PATHS = [f"['block_{i}']['kernel']" for i in range(LAYERS)] + ["['head']['kernel']"]
ALLOCATIONS = {
    "uniform": (pruning.uniform, {}, {}),
    "erdos_renyi": (pruning.erdos_renyi, {}, {}),
    "erdos_renyi_kernel": (pruning.erdos_renyi_kernel, {}, {}),
    "ideal_gas_quotas": (pruning.ideal_gas_quotas, {}, {}),
    "smart_ratios": (pruning.smart_ratios, {"layers": PATHS}, {"layers": UNROLLED_PATHS}),
}


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_an_allocation_gives_a_stack_what_it_gives_the_unrolled_network(name):
    allocation, of_stack, of_unrolled = ALLOCATIONS[name]
    found = allocation(STACK, 0.8, layout=LAYOUT, **of_stack)
    expected = allocation(UNROLLED, 0.8, **of_unrolled)
    np.testing.assert_allclose(layers(found), layers(expected), rtol=1e-12)
    scores = pruning.magnitude_scores
    kept = counts(pruning.layerwise_masks(scores(STACK), found))
    assert kept == counts(pruning.layerwise_masks(scores(UNROLLED), expected))


@pytest.mark.parametrize("traced", [False, True])
def test_selection_by_layer_ranks_each_layer_of_a_stack(traced):
    scores = pruning.magnitude_scores(UNEVEN)

    def select(sparsity):
        everywhere = jax.tree.map(lambda _: sparsity, scores)
        return pruning.layerwise_masks(scores, everywhere, layout=LAYOUT)

    masks = jax.jit(select)(0.5) if traced else select(0.5)
    expected = pruning.layerwise_masks(
        pruning.magnitude_scores(UNROLLED),
        jax.tree.map(lambda _: 0.5, pruning.magnitude_scores(UNROLLED)),
    )
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), layers(masks), layers(expected)))
    fewer = pruning.prune_remaining_by_layer(
        scores, masks, jax.tree.map(lambda _: 0.25, masks), layout=LAYOUT
    )
    assert counts(fewer) == [48, 48, 48, 24]


@pytest.mark.slow
def test_random_masks_and_their_relatives_keep_the_counts_of_each_layer():
    allocation = functools.partial(pruning.ideal_gas_quotas, layout=LAYOUT)
    masks = pruning.random_masks(KEY, STACK, 0.8, allocation=allocation)
    other = pruning.random_masks(jax.random.key(3), STACK, 0.8, allocation=allocation)
    kept = counts(masks)
    assert kept == counts(pruning.shuffle_masks(KEY, masks, layout=LAYOUT))
    assert kept == counts(pruning.mutate_masks(KEY, masks, 0.5, layout=LAYOUT))
    assert kept == counts(pruning.crossover_masks(KEY, masks, other, layout=LAYOUT))
    again = pruning.layerwise_masks(
        pruning.random_scores(KEY, STACK), pruning.layer_sparsities(masks, layout=LAYOUT)
    )
    assert kept == counts(again)
    scaled = pruning.rescaled_masks(jax.tree.map(jnp.float32, masks), layout=LAYOUT)
    np.testing.assert_allclose([layer.mean() for layer in layers(scaled)], 1, rtol=1e-6)


@pytest.mark.slow
def test_reports_have_a_row_for_each_layer():
    masks = pruning.full_masks(STACK)
    masks["blocks"]["kernel"] = masks["blocks"]["kernel"].at[1].set(False)
    rows = pruning.layer_report(STACK, masks, layout=LAYOUT)
    assert [(row.path, row.shape, row.kept) for row in rows] == [
        (PATHS[0], (8, 16), 128),
        (PATHS[1], (8, 16), 0),
        (PATHS[2], (8, 16), 128),
        (PATHS[3], (16, 4), 64),
    ]
    assert pruning.collapsed_layers(masks) == ()
    assert pruning.collapsed_layers(masks, layout=LAYOUT) == (PATHS[1],)

    def output_fn(p):
        def block(x, kernel):
            return x + (x @ kernel)[:, :8], None

        x, _ = jax.lax.scan(block, jnp.ones((1, 8)), p["blocks"]["kernel"])
        return jnp.concatenate([x, x], -1) @ p["head"]["kernel"]

    found = pruning.network_report(output_fn, STACK, masks, layout=LAYOUT)
    assert [(row.path, row.size, row.kept, row.dense_flops) for row in found] == [
        (PATHS[0], 128, 128, 256),
        (PATHS[1], 128, 0, 256),
        (PATHS[2], 128, 128, 256),
        (PATHS[3], 64, 64, 128),
    ]


@pytest.mark.parametrize(
    "prune",
    [
        functools.partial(pruning.dissipate, 1e9, stop_after=1),
        functools.partial(pruning.dissipate_settled, 1e9, stop_after=1),
        functools.partial(pruning.dissipate_to, [0.99]),
    ],
)
def test_no_layer_of_a_stack_is_emptied(prune):
    for layout, kept in ((LAYOUT, True), (None, False)):
        tx = prune(check_every=1, layout=layout)
        state = tx.init(UNEVEN)
        moved = jax.tree.map(lambda leaf: leaf * 0.1, UNEVEN)
        _, state = jax.jit(tx.update)(moved, state, UNEVEN)
        assert all(n > 0 for n in counts(pruning.get_masks(state))) == kept


def test_gradual_pruning_by_layer_counts_in_each_layer_of_a_stack():
    allocation = functools.partial(pruning.uniform, layout=LAYOUT)
    tx = optax.chain(
        optax.sgd(0.0), pruning.gradual_magnitude([0.5], check_every=1, allocation=allocation)
    )
    zeros = jax.tree.map(jnp.zeros_like, UNEVEN)
    _, state = tx.update(zeros, tx.init(UNEVEN), UNEVEN)
    assert counts(pruning.get_masks(state)) == [64, 64, 64, 32]


def test_dense_general_is_one_matrix_and_attention_is_known():
    """(64, 8, 8) for query, key and value, and (8, 8, 64) behind them, count as (64, 64)."""
    x = jnp.ones((1, 5, 64))
    attention = jax.jit(nn.MultiHeadDotProductAttention(8).init)(KEY, x, x)["params"]
    flat = jax.tree.map(lambda leaf: leaf.reshape(64, 64) if leaf.ndim == 3 else leaf, attention)
    rest = {"first": jnp.ones((64, 512)), "last": jnp.ones((512, 64))}
    for allocation in (pruning.erdos_renyi, pruning.erdos_renyi_kernel):
        found = allocation({"attention": attention, **rest}, 0.9)
        expected = allocation({"attention": flat, **rest}, 0.9)
        np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(expected), rtol=1e-12)


def test_equinox_s_axes_are_turned():
    conv = eqx.nn.Conv2d(3, 16, 5, key=KEY)
    kernel = {"kernel": jnp.transpose(conv.weight, (2, 3, 1, 0))}
    rest = {"rest": jnp.ones((40, 40))}
    layout = pruning.equinox_layout
    for allocation in (pruning.erdos_renyi, pruning.erdos_renyi_kernel):
        found = allocation({"a": conv, **rest}, 0.5, layout=layout)["a"].weight
        assert found == pytest.approx(allocation({"a": kernel, **rest}, 0.5)["a"]["kernel"])
    stack = eqx.filter_vmap(lambda key: eqx.nn.Linear(8, 16, key=key))(jax.random.split(KEY, LAYERS))
    found = pruning.erdos_renyi(
        {"stack": stack, **rest}, 0.5, layout=pruning.stacked_layout("stack", layout=layout)
    )
    assert found["stack"].weight.shape == (LAYERS,)


def test_dead_units_by_layout():
    masks = {"blocks": jnp.zeros((2, 3, 4), bool).at[1, 0, 2].set(True)}
    dead = pruning.dead_units(masks, layout=LAYOUT)["blocks"]
    assert dead.shape == (2, 4)
    assert np.argwhere(~dead).tolist() == [[1, 2]]
    turned = {"weight": jnp.array([[True, False], [False, False]])}
    assert pruning.dead_units(turned, layout=pruning.equinox_layout)["weight"].tolist() == [False, True]


@pytest.mark.parametrize(
    "axes",
    [
        pruning.Axes(stacked=4),
        pruning.Axes(stacked=-1),
        pruning.Axes(inputs=(5,)),
        pruning.Axes(inputs=(2,), outputs=(-1,)),
        (0, 1, 2),
        pruning.Axes(0, 0, 1),
        pruning.Axes(0, (0.0,), (1.0,)),
        pruning.Axes(stacked=None),
        pruning.Axes(stacked=1.0),
    ],
)
def test_axes_that_do_not_fit_are_named(axes):
    with pytest.raises(ValueError, match=r"expected .*\(3, 8, 16\) at \['blocks'\]\['kernel'\]"):
        pruning.erdos_renyi(STACK, 0.5, layout=lambda path, leaf: axes)


def test_a_stack_of_another_length_than_its_sparsities_is_named():
    scores = pruning.magnitude_scores(STACK)
    sparsities = {"blocks": {"kernel": np.full(2, 0.5), "bias": None}, "head": {"kernel": 0.5}}
    with pytest.raises(ValueError, match=r"\['blocks'\]\['kernel'\].*got shape \(2,\) for \(3, 8, 16\)"):
        pruning.layerwise_masks(scores, sparsities)


def test_layouts_by_hand():
    assert pruning.stacked_layout(axes=2)((), jnp.ones((2, 3, 4, 5))).stacked == 2
    assert LAYOUT((DictKey("head"),), HEAD) == pruning.Axes()
    with pytest.raises(ValueError, match="expected axes >= 1"):
        pruning.stacked_layout("blocks", axes=0)


@pytest.mark.parametrize("name", [("blocks",), None, ["blocks"], ""])
def test_what_is_no_name_of_a_stack_is_refused(name):
    with pytest.raises(ValueError, match="expected names of modules or leaves"):
        pruning.stacked_layout(name)


def test_a_stack_may_be_named_by_all_of_its_key():
    params = {"dec/~/blocks": {"w": BLOCKS}, "enc/~/blocks": {"w": BLOCKS}}
    for name in ("dec/blocks", "dec/~/blocks"):
        found = pruning.uniform(params, 0.5, layout=pruning.stacked_layout(name))
        assert [np.shape(found[key]["w"]) for key in params] == [(LAYERS,), ()]


@pytest.mark.parametrize(
    ("path", "leaf", "inputs"),
    [
        ("embedding/weight", (50, 8), 0),
        ("token_embed/weight", (50, 8), 0),
        ("embed_tokens/weight", (50, 8), 0),
        ("embed/weight", (8, 50), 1),
        ("transformer/wte/weight", (50, 8), 0),
        ("patch_embed/weight", (8, 50), 1),
        ("embedding/weight", (8, 50, 2, 2), 1),
        ("embedding/linear/weight", (8, 50), 1),
    ],
)
def test_embeddings_of_equinox_lead_from_tokens_to_features(path, leaf, inputs):
    found = pruning.equinox_layout((DictKey(path),), jax.ShapeDtypeStruct(leaf, jnp.float32))
    assert (found.inputs, found.outputs) == ((inputs,), (1 - inputs,))


def test_no_token_is_a_dead_unit():
    params = {"embedding": eqx.nn.Embedding(5, 3, key=KEY)}
    masks = pruning.full_masks(params)
    masks = jax.tree.map(lambda mask: mask.at[1].set(False), masks)
    assert not pruning.dead_units(masks, layout=pruning.equinox_layout)["embedding"].weight.any()
