"""What one front end's trees are to another's masks: errors that say what differs, and where."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import pruning


class Network(eqx.Module):
    hidden: eqx.nn.Linear
    head: eqx.nn.Linear


FIRST, LAST = jax.random.split(jax.random.key(0))
EQUINOX = eqx.filter(
    Network(eqx.nn.Linear(8, 16, key=FIRST), eqx.nn.Linear(16, 4, key=LAST)), eqx.is_inexact_array
)
SHAPES = {"hidden": {"kernel": (8, 16), "bias": (16,)}, "head": {"kernel": (16, 4), "bias": (4,)}}
LINEN = {module: {name: jnp.ones(shape) for name, shape in of.items()} for module, of in SHAPES.items()}
KERAS = {f"{module}/{name}": leaf for module, of in LINEN.items() for name, leaf in of.items()}
HAIKU = {f"net/~/{module}": {"w": of["kernel"], "b": of["bias"]} for module, of in LINEN.items()}
TREES = {"equinox": EQUINOX, "linen": LINEN, "keras": KERAS, "haiku": HAIKU}
PAIRS = [(params, masks) for params in TREES for masks in TREES if params != masks]


def held(params, masks):
    tx = pruning.hold_masks(masks)
    return tx.update(params, tx.init(params), params)


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
@pytest.mark.parametrize("function", [pruning.apply_masks, held, pruning.layer_report])
def test_masks_of_another_front_end_are_refused(names, function):
    params, masks = (TREES[name] for name in names)
    with pytest.raises(ValueError, match=r"structure of the params, got .*(against|at the top)"):
        function(params, pruning.full_masks(masks))


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_a_file_of_another_front_end_s_masks_says_which_paths_differ(names, tmp_path):
    params, masks = (TREES[name] for name in names)
    pruning.save_masks(tmp_path / "masks.safetensors", pruning.full_masks(masks))
    with pytest.raises(ValueError, match=r"another network: only in the file .*hidden.*only in `like`"):
        pruning.load_masks(tmp_path / "masks.safetensors", like=params)


def test_masks_that_were_not_transposed_name_the_first_kernel():
    transposed = jax.tree.map(jnp.transpose, pruning.full_masks(LINEN))
    with pytest.raises(ValueError, match=r"shape \(16, 4\) at \['head'\]\['kernel'\], got \(4, 16\)"):
        pruning.apply_masks(LINEN, transposed)


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        others = {"tensorflow", "torch"} - set(sys.modules)
        import keras
    yield keras
    assert not others & set(sys.modules)  # Keras on JAX needs neither


@pytest.mark.slow
def test_keras_s_own_names_tell_kernels_from_the_rest(keras):
    with jax.numpy_rank_promotion("allow"):  # Keras adds arrays of different rank itself
        inputs = keras.Input((6, 8))
        x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
        x = keras.layers.PReLU()(keras.layers.LayerNormalization()(x))
        model = keras.Model(inputs, keras.layers.GRU(3)(x))
    masks = pruning.full_masks({v.path: v.value for v in model.trainable_variables})
    kept = {path.partition("/")[2] for path, mask in masks.items() if mask is not None}
    attention = {f"{name}/kernel" for name in ("query", "key", "value", "attention_output")}
    assert kept == attention | {"gru_cell/kernel", "gru_cell/recurrent_kernel"}
    nameless = pruning.full_masks([v.value for v in model.trainable_variables])
    assert len(jax.tree.leaves(nameless)) == len(kept) + 5  # biases of attention and GRU, slopes


@pytest.mark.parametrize(
    "function",
    [
        pruning.full_masks,
        pruning.magnitude_scores,
        lambda params: pruning.apply_masks(params, {"d/kernel": jnp.ones((2, 2), bool)}),
        lambda params: optax.chain(pruning.dissipate(0.1, check_every=1, stop_after=1)).init(params),
    ],
)
def test_a_variable_in_the_place_of_its_value_is_named(function, keras):
    with pytest.raises(ValueError, match=r"expected an array at \['d/kernel'\], got a Variable.*\.value"):
        function({"d/kernel": keras.Variable(jnp.ones((2, 2)))})
