import json
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import pruning

MASKS = {"dense": {"kernel": jnp.array([[True, False, True], [False, False, True]]), "bias": None}}


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == bool
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "masks.safetensors"


def flax_params(dtype):
    return {"params": {"a": {"kernel": jnp.ones((3, 5), dtype), "bias": jnp.ones(5, dtype)}}}


def nnx_params(dtype):
    return nnx.State(
        {"a": {"kernel": nnx.Param(jnp.ones((3, 5), dtype)), "bias": nnx.Param(jnp.ones(5, dtype))}}
    )


def equinox_params(dtype):
    linear = eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), eqx.filter(linear, eqx.is_array))


def nested_params(dtype):
    return [jnp.ones((3, 3), dtype), (jnp.ones(2, dtype), {"c": jnp.ones((2, 2, 1, 2), dtype)})]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("make", [flax_params, nnx_params, equinox_params, nested_params])
def test_round_trip_in_every_container(make, dtype, path):
    params = make(dtype)
    masks = pruning.random_masks(jax.random.key(0), params, 0.4)
    pruning.save_masks(path, masks)
    assert_same(pruning.load_masks(path, like=params), masks)
    assert_same(pruning.load_masks(path, like=masks), masks)
    pruning.check_masks(pruning.load_masks(path, like=params), params)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_any_number_of_bits_in_a_bit_each(size, path):
    mask = np.random.default_rng(size).random((1, size)) < 0.5
    pruning.save_masks(path, {"w": mask})
    assert_same(pruning.load_masks(path), {"w": jnp.asarray(mask)})
    stored = safetensors.numpy.load_file(path)
    assert [(leaf.dtype, leaf.nbytes) for leaf in stored.values()] == [(np.uint8, -(-size // 8))]


def test_the_file_is_small(path):
    pruning.save_masks(path, {"w": jnp.ones((100, 800), bool)})
    assert path.stat().st_size < 10_000 + 1000


def test_without_like_nested_dicts_come_back(path):
    pruning.save_masks(path, {"layers": [MASKS["dense"], MASKS["dense"]]})
    assert_same(pruning.load_masks(path), {"layers": {0: MASKS["dense"], 1: MASKS["dense"]}})


def test_a_single_array_comes_back(path):
    pruning.save_masks(path, MASKS["dense"]["kernel"])
    assert_same(pruning.load_masks(path), MASKS["dense"]["kernel"])


def test_numpy_masks_are_masks(path):
    pruning.save_masks(path, jax.tree.map(np.asarray, MASKS))
    assert_same(pruning.load_masks(path, like=MASKS), MASKS)


def test_metadata_comes_back(path):
    metadata = {
        "method": "k-starts",
        "seed": np.int64(3),
        "sparsity": jnp.float32(0.5),
        "k": [1, 2],
        "none": None,
    }
    pruning.save_masks(path, MASKS, metadata)
    expected = {"method": "k-starts", "seed": 3, "sparsity": 0.5, "k": [1, 2], "none": None}
    assert pruning.load_metadata(path) == expected


def test_no_metadata_is_empty_metadata(path):
    pruning.save_masks(path, MASKS)
    assert pruning.load_metadata(path) == {}


def test_paths_and_shapes_can_be_read_without_this_library(path):
    pruning.save_masks(path, MASKS)
    with safetensors.safe_open(path, framework="numpy") as file:
        leaves = json.loads(file.metadata()["leaves"])
    assert leaves["['dense']['kernel']"]["shape"] == [2, 3]
    assert leaves["['dense']['bias']"]["shape"] is None


def test_a_path_may_be_a_string_in_a_folder_that_is_not_there_yet(tmp_path):
    path = str(tmp_path / "new" / "folder" / "masks.safetensors")
    pruning.save_masks(path, MASKS)
    assert_same(pruning.load_masks(path, like=MASKS), MASKS)


def test_saving_again_replaces(path):
    pruning.save_masks(path, MASKS, {"seed": 1})
    pruning.save_masks(path, MASKS, {"seed": 2})
    assert pruning.load_metadata(path) == {"seed": 2}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("interrupted", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(interrupted, error, path, monkeypatch):
    pruning.save_masks(path, MASKS, {"seed": 1})

    def interrupt(*args, **kwargs):
        raise error

    monkeypatch.setattr(os, interrupted, interrupt)
    with pytest.raises(error):
        pruning.save_masks(path, {"w": jnp.ones((2, 2), bool)})
    monkeypatch.undo()
    assert_same(pruning.load_masks(path), MASKS)
    assert pruning.load_metadata(path) == {"seed": 1}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_truncated_file_is_an_error_wherever_it_ends(path):
    pruning.save_masks(path, MASKS, {"seed": 1})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"masks\.safetensors is not a readable safetensors file"):
            pruning.load_masks(path)


@pytest.mark.parametrize("content", [b"", b"\0", b"hello, world, this is text", b"\xff" * 64, b"{}" * 30])
def test_a_file_that_is_something_else_is_an_error(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        pruning.load_masks(path)


def test_somebody_elses_safetensors_file_is_an_error(path):
    safetensors.numpy.save_file({"w": np.ones((2, 2), np.float32)}, path, {"format": "pt"})
    for read in (pruning.load_masks, pruning.load_metadata):
        with pytest.raises(ValueError, match="holds no masks of this library"):
            read(path)


@pytest.mark.parametrize(
    "tensor", [np.zeros(2, np.uint8), np.zeros(1, np.float32), np.zeros((1, 1), np.uint8), None]
)
def test_a_file_whose_parts_contradict_each_other_is_an_error(tensor, path):
    header = {
        "format": "pruning-masks-1",
        "leaves": json.dumps({"['w']": {"keys": ["w"], "shape": [2, 3]}}),
        "metadata": "{}",
    }
    tensors = {"['v']": np.zeros(1, np.uint8)} if tensor is None else {"['w']": tensor}
    safetensors.numpy.save_file(tensors, path, header)
    with pytest.raises(ValueError, match=r"save the masks again"):
        pruning.load_masks(path)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"leaves": "{}"},
        {"leaves": "not json", "metadata": "{}"},
        {"leaves": "[1, 2]", "metadata": "{}"},
        {"leaves": json.dumps({"['w']": {}}), "metadata": "{}"},
        {"leaves": json.dumps({"['w']": {"keys": ["w"], "shape": [8]}}), "metadata": "{"},
    ],
)
def test_a_damaged_header_is_an_error_that_names_the_file(header, path):
    tensors = {"['w']": np.zeros(1, np.uint8)}
    safetensors.numpy.save_file(tensors, path, {"format": "pruning-masks-1", **header})
    with pytest.raises(ValueError, match=r"masks\.safetensors"):
        pruning.load_masks(path)


@pytest.mark.parametrize("read", [pruning.load_masks, pruning.load_metadata])
def test_a_missing_file_is_named(read, path):
    with pytest.raises(ValueError, match=r"no file of masks at .*masks\.safetensors"):
        read(path)
    with pytest.raises(ValueError, match="no file of masks"):
        read(path.parent)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(3)}},
            r"shape \(2, 3\), `like` has \(3, 2\)",
        ),
        ({"dense": {"kernel": jnp.ones((2, 3))}}, r"only in the file \[.*bias"),
        ({"other": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}, "another network"),
        ({"dense": {"kernel": None, "bias": jnp.ones(3)}}, r"\['dense'\]\['kernel'\]"),
        ({}, "another network"),
    ],
)
def test_masks_of_another_network_are_an_error(like, message, path):
    pruning.save_masks(path, MASKS)
    with pytest.raises(ValueError, match=message):
        pruning.load_masks(path, like=like)


@pytest.mark.parametrize(
    ("masks", "metadata", "message"),
    [
        ({"w": jnp.ones((2, 2))}, None, r"bool mask at \['w'\], got float32"),
        ({"w": None}, None, "at least one mask"),
        ({}, None, "at least one mask"),
        (MASKS, {"method": print}, "metadata that JSON can hold"),
    ],
)
def test_what_cannot_be_saved_is_an_error_and_writes_nothing(masks, metadata, message, path):
    with pytest.raises(ValueError, match=message):
        pruning.save_masks(path, masks, metadata)
    assert not path.exists()


def test_traced_masks_cannot_be_saved(path):
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda masks: pruning.save_masks(path, masks))(MASKS)
