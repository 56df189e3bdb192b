"""What is prunable by default: kernels, whatever the library that named them."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import pruning

# Written as the libraries write them; every leaf here has two axes or more.
KERNELS = [
    {"query": {"kernel": (16, 4, 4)}},
    {"value": {"kernel": (16, 4, 4)}},
    {"Embed_0": {"embedding": (7, 4)}},
    {"linear": {"w": (3, 4, 4)}},
    {"a": (4, 4), "b": (4, 4)},
    {"w": (4, 4), "a": (4, 2), "b": (2, 4)},  # LoRA
    {"lora_a": (4, 2), "lora_b": (2, 4)},
    {"dense/kernel": (4, 4)},
    {"bias_network": {"kernel": (4, 4)}},
    {"position_mlp": {"weight": (4, 4)}},
    {"weight_norm": {"weight": (4, 4)}},
    {"normal_head": {"weight": (4, 4)}},
    {"mean": {"kernel": (4, 4)}},
    {"decoder": {"mean": (4, 4), "var": (4, 4)}},
    {"hidden": (4, 4), "alpha": (4, 4)},
    {"schema": {"hidden": (4, 4)}},
    *(
        {name: {"w": (4, 4)}}
        for name in ("gnn", "my_gnn", "GNN", "normal", "Normal", "lnet", "bnet", "normed")
    ),
]
OTHERS = [
    {"query": {"bias": (4, 4)}},
    {"ScanBlock_0": {"LayerNorm_0": {"scale": (3, 16), "bias": (3, 16)}}},
    {"layers": {"norm": {"weight": (3, 16)}}},
    {"BatchNorm2d_0": {"weight": (3, 16)}},
    *(
        {name: {"weight": (3, 16)}}
        for name in (
            "ln_1",
            "ln_f",
            "ln1",
            "bn2a",
            "norm1",
            "norm_12",
            "norms_0",
            "q_norm",
            "LayerNorm_10",
        )
    ),
    {"norms": [{"weight": (3, 16)}]},
    {"linear/~/layer_norm": {"scale": (3, 4), "offset": (3, 4)}},
    {"batch_normalization": {"gamma": (3, 4), "beta": (3, 4)}},
    {"layer_instance/kernel/scale": (3, 4)},
    {"cls": (1, 1, 8)},
    {"cls_token": (1, 1, 8)},
    {"register_tokens": (1, 4, 8)},
    {"class_embedding": (1, 8)},
    {"pos_embedding": (1, 5, 8)},
    {"posEmbed": (1, 5, 8)},
    {"positional_embedding": (5, 8)},
    {"position_embeddings": {"embedding": (5, 8)}},
    {"wpe": {"weight": (5, 8)}},
    {"relative_position_bias_table": (9, 4)},
    {"in_proj_bias": (3, 8)},
    {"net/~/batch_norm/~/mean_ema": {"average": (1, 8), "hidden": (1, 8)}},
    {"batch_stats": {"ScanBlock_0": {"BatchNorm_0": {"mean": (3, 16), "var": (3, 16)}}}},
    {"batch_stats": {"spectral_norm": {"Dense_0/kernel/u": (1, 8)}}},
    {"norm": {"mean": (3, 16), "var": (3, 16)}},
    {"batch_normalization/moving_mean": (3, 8), "batch_normalization/moving_variance": (3, 8)},
    {"norm": {"running_mean": (3, 8), "running_var": (3, 8)}},
    {"p_re_lu_1/alpha": (6, 4)},
    {"prelu": {"alpha": (6, 4)}},
]


def names_of_prunable(shapes):
    params = jax.tree.map(jnp.ones, shapes, is_leaf=lambda node: isinstance(node, tuple))
    params = {"kernel": jnp.ones((1, 2)), "beside": params}
    return len(jax.tree.leaves(pruning.full_masks(params)["beside"])), len(jax.tree.leaves(params)) - 1


@pytest.mark.parametrize("shapes", KERNELS, ids=str)
def test_kernels_are_prunable(shapes):
    found, leaves = names_of_prunable(shapes)
    assert found == leaves


@pytest.mark.parametrize("shapes", OTHERS, ids=str)
def test_what_is_no_kernel_is_not(shapes):
    assert names_of_prunable(shapes)[0] == 0


@pytest.mark.parametrize(
    ("weight", "bias", "shapes"),
    [("w", "b", ((3, 8, 4), (3, 4))), ("W1", "b1", ((4, 4), (1, 4))), ("w_h", "b", ((2, 4, 4), (2, 4)))],
)
def test_b_is_a_bias_beside_a_w(weight, bias, shapes):
    masks = pruning.full_masks({"cell": {weight: jnp.ones(shapes[0]), bias: jnp.ones(shapes[1])}})
    assert masks["cell"][bias] is None
    assert masks["cell"][weight] is not None


@pytest.mark.slow
def test_attention_s_biases_are_left_out_in_linen_and_nnx():
    x = jnp.ones((1, 5, 16))
    linen = jax.jit(nn.MultiHeadDotProductAttention(4).init)(jax.random.key(0), x, x)["params"]
    module = nnx.MultiHeadAttention(num_heads=4, in_features=16, decode=False, rngs=nnx.Rngs(0))
    for params in (linen, nnx.state(module, nnx.Param), nnx.to_pure_dict(nnx.state(module, nnx.Param))):
        masks = pruning.global_masks(pruning.magnitude_scores(params), 0.1)
        sizes = sorted(mask.size for mask in jax.tree.leaves(masks))
        assert sizes == [256] * 4  # the kernels of query, key, value and out


def test_equinox_s_biases_are_left_out_in_stacks_too():
    conv = eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0))

    class Block(eqx.Module):
        linear: eqx.nn.Linear
        norm: eqx.nn.LayerNorm

        def __init__(self, key):
            self.linear = eqx.nn.Linear(4, 4, key=key)
            self.norm = eqx.nn.LayerNorm(4)

    stack = eqx.filter_vmap(Block)(jax.random.split(jax.random.key(1), 3))
    masks = pruning.full_masks((conv, stack))
    assert [mask.shape for mask in jax.tree.leaves(masks)] == [(4, 3, 3, 3), (3, 4, 4)]


def test_other_predicates_see_what_stands_beside_a_leaf():
    params = {"cell": {"w": jnp.ones((2, 4, 4)), "b": jnp.ones((2, 4))}, "head": {"w": jnp.ones((4, 2))}}
    masks = pruning.full_masks(params, prunable=pruning.prunable_except("head"))
    assert (masks["cell"]["b"], masks["head"]["w"]) == (None, None)
    masks = pruning.full_masks(params, prunable=pruning.prunable_under("head"))
    assert len(jax.tree.leaves(masks)) == 1
    assert pruning.count_prunable(pruning.full_masks(params, prunable=pruning.prunable_by_shape)) == 48


@pytest.mark.parametrize("predicate", [pruning.prunable_except, pruning.prunable_under])
def test_predicates_of_names_want_names(predicate):
    with pytest.raises(ValueError, match=r"expected names of modules or leaves, .*got \(\)"):
        predicate()


HAIKU = {f"mlp/~/linear_{i}": {"w": jnp.ones((2, 2))} for i in (0, 1, 10)}


@pytest.mark.parametrize(
    ("params", "name", "kept"),
    [
        (HAIKU, "mlp/~/linear_1", 1),
        (HAIKU, "mlp/linear_1", 1),
        (HAIKU, "mlp", 3),
        (HAIKU, "linear_1/mlp", 0),
        ({"enc.layers.1.weight": jnp.ones((2, 2)), "dec.1": jnp.ones((2, 2))}, "layers.1", 1),
        ({"mlp": {"linear": {"w": jnp.ones((2, 2))}}, "w": jnp.ones((2, 2))}, "mlp/linear", 1),
    ],
)
def test_a_name_of_several_parts_is_one_run_in_the_path(params, name, kept):
    scores = pruning.magnitude_scores(params | {"kernel": jnp.ones((1, 1))})
    dense = pruning.full_masks(scores, prunable=pruning.prunable_except(name))
    assert len(jax.tree.leaves(dense)) == len(params) + 1 - kept
    either = pruning.prunable_under(name, "kernel")
    assert len(jax.tree.leaves(pruning.full_masks(scores, prunable=either))) == kept + 1


@pytest.mark.parametrize("predicate", [pruning.prunable_except, pruning.prunable_under])
@pytest.mark.parametrize("name", ["", "/", "~", ("head",), None])
def test_what_is_no_name_is_refused(predicate, name):
    with pytest.raises(ValueError, match="expected names of modules or leaves"):
        predicate("head", name)


class Attention(eqx.Module):
    query: jax.Array
    key: jax.Array
    value: jax.Array


def test_a_field_called_value_is_no_box_beside_others():
    params = {"attention": Attention(*jnp.ones((3, 2, 2)))}
    masks = pruning.full_masks(params, prunable=pruning.prunable_except("value"))["attention"]
    assert (masks.value is None, masks.query is None, masks.key is None) == (True, False, False)
    box = {"w": nn.Partitioned(jnp.ones((2, 2)), (None, None)), "b": jnp.ones((2, 2))}
    assert pruning.full_masks(box, prunable=pruning.prunable_under("w"))["b"] is None
