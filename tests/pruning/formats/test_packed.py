"""Files of kept weights: what was written is read, it is as small as it says, and damage is named."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import pruning
from pruning.files.sealed import CHECKSUM, seal
from tests.damage import mutated

PARAMS = {"a": {"kernel": jax.random.normal(jax.random.key(0), (64, 100)), "bias": jnp.ones(100)}}
MASKS = pruning.random_masks(jax.random.key(1), PARAMS, 0.95)


def stored(path):
    """The tensors of a file, and its header without the checksum."""
    with safe_open(path, "numpy") as file:
        return load_file(path), {key: value for key, value in file.metadata().items() if key != CHECKSUM}


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
    tensors, header = stored(path)
    values = next(name for name in tensors if name.endswith("values"))
    tensors[values] = tensors[values][:-1]
    path.write_bytes(seal(tensors, header))
    with pytest.raises(ValueError, match=r"319 weights at .*, where its mask keeps 320"):
        pruning.load_masked_params(path)


@pytest.mark.parametrize(("sealed", "leaf"), [(True, "['w']"), (True, "['b']"), (False, "['w']")])
def test_no_header_of_whatever_kind_is_a_crash(sealed, leaf, tmp_path):
    """Each value of a leaf's JSON replaced, each key left out; without the checksum nothing is read."""
    path = tmp_path / "net.safetensors"
    pruning.save_masked_params(path, {"w": np.eye(2), "b": np.ones(2)}, {"w": np.eye(2) > 0, "b": None})
    tensors, header = stored(path)
    leaves = json.loads(header["leaves"])
    headers = [header | {"leaves": json.dumps(leaves | {leaf: other})} for other in mutated(leaves[leaf])]
    headers += [header | {"leaves": other} for other in ("[]", "1", "[" * 100_000, "{}", "")]
    headers += [header | {"metadata": "[]"}, header]
    read = []
    for other in headers:
        path.write_bytes(seal(tensors, other)) if sealed else save_file(tensors, path, other)
        try:
            with jax.enable_x64(True):
                pruning.load_masked_params(path)
            read.append(other)
        except ValueError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert len(headers) > 80
    assert (header in read) == sealed
    assert len(read) < (0.2 * len(headers) if sealed else 1)


def test_long_dtypes_are_refused_where_jax_would_shorten_them(tmp_path):
    path = tmp_path / "net.safetensors"
    with jax.enable_x64(True):
        params = {"n": jnp.int64(2**40), "w": jnp.full((1, 2), 1 / 3), "z": jnp.full(2, 1j)}
        pruning.save_masked_params(path, params, {"n": None, "w": np.array([[True, False]]), "z": None})
        found, _ = pruning.load_masked_params(path)
        expected = params | {"w": jnp.array([[1 / 3, 0]])}
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert [leaf.dtype for leaf in found.values()] == [np.int64, np.float64, np.complex128]
    with pytest.raises(
        ValueError, match=r"holds int64 at \['n'\], .* int32: load it under jax\.enable_x64"
    ):
        pruning.load_masked_params(path)


def test_the_byte_order_of_another_machine_is_turned(tmp_path):
    params = {"w": np.arange(6, dtype=">f4").reshape(2, 3), "n": np.array([1, 2], ">i2")}
    pruning.save_masked_params(tmp_path / "f", params, {"w": params["w"] > 2, "n": None})
    found, _ = pruning.load_masked_params(tmp_path / "f")
    assert found["w"].tolist() == [[0, 0, 0], [3, 4, 5]]
    assert found["n"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "leaf",
    [
        np.array(["a", "b"]),
        np.array([1, None], object),
        np.ones(2, np.longdouble),
        np.ones(2, ml_dtypes.float6_e2m3fn),
    ],
    ids=lambda leaf: str(leaf.dtype),
)
def test_what_jax_cannot_hold_is_named_before_it_is_written(leaf, tmp_path):
    with pytest.raises(ValueError, match=r"numbers that JAX can hold at \['l'\], got") as caught:
        pruning.save_masked_params(
            tmp_path / "f", {"l": leaf, "w": np.eye(2)}, {"l": None, "w": np.eye(2) > 0}
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "f").exists()


def test_weights_without_a_zero_are_stored_where_they_have_no_mask(tmp_path):
    scales, path = np.array([[0.5, 2.0]], ml_dtypes.float8_e8m0fnu), tmp_path / "f"
    pruning.save_masked_params(path, {"s": scales, "w": np.eye(2)}, {"s": None, "w": np.eye(2) > 0})
    with jax.enable_x64(True):
        np.testing.assert_array_equal(pruning.load_masked_params(path)[0]["s"], scales)
    with pytest.raises(ValueError, match=r"dtype that has a zero, .* at \['s'\], got float8_e8m0fnu"):
        pruning.save_masked_params(path, {"s": scales}, {"s": np.array([[True, False]])})


def test_long_numbers_that_are_short_come_back_short(tmp_path):
    params = {"w": np.array([[0.5, 0.25]]), "n": np.arange(3)}
    pruning.save_masked_params(tmp_path / "f", params, {"w": params["w"] > 0.3, "n": None})
    found, _ = pruning.load_masked_params(tmp_path / "f")
    assert (found["w"].dtype, found["n"].dtype) == (np.float32, np.int32)
    assert found["w"].tolist() == [[0.5, 0]]
