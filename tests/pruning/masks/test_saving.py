import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import pruning

MASKS = {"dense": {"kernel": jnp.array([[True, False, True], [False, False, True]]), "bias": None}}
CIRCULAR = {}
CIRCULAR["itself"] = CIRCULAR


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == bool
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "masks.safetensors"


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_any_number_of_bits_in_a_bit_each(size, path):
    mask = np.random.default_rng(size).random((1, size)) < 0.5
    pruning.save_masks(path, {"w": mask})
    assert_same(pruning.load_masks(path), {"w": jnp.asarray(mask)})
    stored = safetensors.numpy.load_file(path)
    assert [(leaf.dtype, leaf.nbytes) for leaf in stored.values()] == [(np.uint8, -(-size // 8))]


def test_without_like_nested_dicts_come_back(path):
    pruning.save_masks(path, {"layers": [MASKS["dense"], MASKS["dense"]]})
    assert_same(pruning.load_masks(path), {"layers": {0: MASKS["dense"], 1: MASKS["dense"]}})


def test_a_single_array_comes_back(path):
    pruning.save_masks(path, MASKS["dense"]["kernel"])
    assert_same(pruning.load_masks(path), MASKS["dense"]["kernel"])


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


@pytest.mark.parametrize("content", [b"", b"\0", b"hello, world, this is text", b"\xff" * 64, b"{}" * 30])
def test_a_file_that_is_something_else_is_an_error(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        pruning.load_masks(path)


@pytest.mark.parametrize("read", [pruning.load_masks, pruning.load_metadata])
def test_a_missing_file_is_named(read, path):
    with pytest.raises(ValueError, match=r"no file at .*masks\.safetensors"):
        read(path)
    with pytest.raises(ValueError, match="no file at"):
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
        (MASKS, {(1, 2): 3}, "metadata that JSON can hold"),
        (MASKS, "channels", "expected metadata as a dict of what JSON can hold, got 'channels'"),
        (MASKS, ["channels"], "expected metadata as a dict of what JSON can hold"),
        (MASKS, CIRCULAR, "expected metadata that JSON can hold: Circular reference"),
    ],
)
def test_what_cannot_be_saved_is_an_error_and_writes_nothing(masks, metadata, message, path):
    with pytest.raises(ValueError, match=message):
        pruning.save_masks(path, masks, metadata)
    assert not path.exists()


def test_traced_masks_cannot_be_saved(path):
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda masks: pruning.save_masks(path, masks))(MASKS)


def test_metadata_of_masked_params_comes_back(path):
    params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
    pruning.save_masked_params(path, params, MASKS, {"method": "channels"})
    assert pruning.load_metadata(path) == {"method": "channels"}
    with pytest.raises(ValueError, match="holds no masks of this library"):
        pruning.load_masks(path)


def test_containers_without_leaves_come_back_by_like(path):
    tree = {**MASKS, "drop": {}, "t": ()}
    pruning.save_masks(path, tree)
    assert_same(pruning.load_masks(path), MASKS)
    assert_same(pruning.load_masks(path, like=tree), tree)
