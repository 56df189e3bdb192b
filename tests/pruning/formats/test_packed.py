"""Files of kept weights: what was written is read, it is as small as it says, and damage is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import pruning
from pruning.files.sealed import CHECKSUM

PARAMS = {"a": {"kernel": jax.random.normal(jax.random.key(0), (64, 100)), "bias": jnp.ones(100)}}
MASKS = pruning.random_masks(jax.random.key(1), PARAMS, 0.95)


@pytest.fixture
def path(tmp_path):
    pruning.save_masked_params(tmp_path / "net.safetensors", PARAMS, MASKS, {"method": "random"})
    return tmp_path / "net.safetensors"


def test_nested_dicts_come_back_without_a_tree(path):
    params, masks = pruning.load_masked_params(path)
    expected = pruning.apply_masks(PARAMS, MASKS)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    jax.tree.map(np.testing.assert_array_equal, masks, MASKS)


def test_a_weight_takes_its_bytes_if_it_is_kept_and_a_bit(path):
    content = sum(tensor.nbytes for tensor in load_file(path).values())
    assert content == 6400 / 8 + 320 * 4 + 100 * 4


def test_short_dtypes_and_integers_keep_theirs(tmp_path):
    params = {"w": jnp.linspace(0, 1, 6, dtype=jnp.bfloat16).reshape(2, 3), "count": jnp.int32(7)}
    masks = {"w": jnp.array([[True, False, True], [False, True, True]]), "count": None}
    pruning.save_masked_params(tmp_path / "f", params, masks)
    found, _ = pruning.load_masked_params(tmp_path / "f", like=params)
    jax.tree.map(np.testing.assert_array_equal, found, pruning.apply_masks(params, masks))
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, params)


def test_what_does_not_fit_is_named(path, tmp_path):
    with pytest.raises(
        ValueError, match=r"weights at .*kernel.* have shape \(64, 100\), `like` has \(2, 2\)"
    ):
        pruning.load_masked_params(path, like={"a": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(100)}})
    with pytest.raises(ValueError, match="of another network"):
        pruning.load_masked_params(path, like={"b": jnp.ones(2)})
    with pytest.raises(ValueError, match="no file at"):
        pruning.load_masked_params(tmp_path / "other")
    pruning.save_masks(tmp_path / "masks", MASKS)
    with pytest.raises(ValueError, match="holds no masked params"):
        pruning.load_masked_params(tmp_path / "masks")
    with pytest.raises(ValueError, match=r"concrete array at \['f'\], got builtin_function"):
        pruning.save_masked_params(
            path, {"w": jnp.ones((1, 1)), "f": len}, {"w": jnp.ones((1, 1), bool), "f": None}
        )


def test_damage_is_found(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.safetensors is damaged: its checksum"):
        pruning.load_masked_params(path)


def test_too_few_weights_are_found(path):
    tensors = load_file(path)
    values = next(name for name in tensors if name.endswith("values"))
    tensors[values] = tensors[values][:-1]
    with safe_open(path, "numpy") as file:
        header = {key: value for key, value in file.metadata().items() if key != CHECKSUM}
    save_file(tensors, path, header)
    with pytest.raises(ValueError, match=r"319 weights at .*, where its mask keeps 320"):
        pruning.load_masked_params(path)
