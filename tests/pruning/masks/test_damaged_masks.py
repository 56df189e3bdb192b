"""A damaged or foreign file of masks: the right masks, or one line that names it; never other masks."""

import errno
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import pruning
from pruning.files import sealed
from pruning.masks import saving
from tests.damage import cut, flipped, mutated

MASKS = {"a": {"w": np.eye(4, 5) > 0, "b": None}, "c": np.ones((3, 3), bool)}
METADATA = {"method": "k-starts", "seed": 3}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "masks.safetensors"


def refused(read, path):
    """Whether a file is refused as it should be; another error than the promised one is a failure."""
    try:
        read(path)
    except ValueError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return True
    return False


def stored(path):
    """What is in a file, as another program sees it."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return safetensors.numpy.load_file(path), file.metadata()


def test_no_flipped_bit_anywhere_is_read(path):
    pruning.save_masks(path, MASKS, METADATA)
    for content in [*flipped(path.read_bytes()), *cut(path.read_bytes())]:
        path.write_bytes(content)
        assert refused(pruning.load_masks, path)
        assert refused(pruning.load_metadata, path)


def test_two_files_do_not_mix(path):
    """The tensors of one under the metadata of another, as after a copy that was interrupted."""
    pruning.save_masks(path, {"w": np.eye(4) > 0})
    _, header = stored(path)
    pruning.save_masks(path, {"w": np.eye(4) < 1})
    tensors, _ = stored(path)
    safetensors.numpy.save_file(tensors, path, header)
    with pytest.raises(ValueError, match=r"masks\.safetensors is damaged: its checksum is .{8}, where"):
        pruning.load_masks(path)


def test_a_file_from_before_there_were_checksums_is_read(path):
    pruning.save_masks(path, MASKS, METADATA)
    tensors, header = stored(path)
    del header[sealed.CHECKSUM]
    safetensors.numpy.save_file(tensors, path, header)
    jax.tree.map(np.testing.assert_array_equal, pruning.load_masks(path, MASKS), MASKS)
    assert pruning.load_metadata(path) == METADATA


def test_a_damaged_name_of_the_checksum_is_no_way_around_it(path):
    pruning.save_masks(path, MASKS, METADATA)
    tensors, header = stored(path)
    header["crc33"] = header.pop(sealed.CHECKSUM)
    safetensors.numpy.save_file(tensors, path, header)
    assert refused(pruning.load_masks, path)


def test_no_header_of_whatever_kind_is_a_crash(path):
    """Of files without a checksum: each value of the JSON replaced, each key left out."""
    pruning.save_masks(path, MASKS, METADATA)
    tensors, header = stored(path)
    del header[sealed.CHECKSUM]
    leaves = json.loads(header["leaves"])
    del leaves["['a']['b']"]  # Of no consequence; the other two are enough.
    headers = [header | {"leaves": json.dumps(other)} for other in mutated(leaves)]
    headers += [header | {"metadata": json.dumps(other)} for other in (None, 1, [], [[1]], "text")]
    deep = "[" * 100_000 + "]" * 100_000
    headers += [header | {"leaves": deep}, header | {"metadata": deep}, header | {"leaves": "9" * 5000}]
    headers += [{k: v for k, v in header.items() if k != name} for name in header]
    outcomes = []
    for other in headers:
        safetensors.numpy.save_file(tensors, path, other)
        for like in (None, MASKS):
            outcomes.append(refused(lambda p, like=like: pruning.load_masks(p, like), path))
        outcomes.append(refused(pruning.load_metadata, path))
    assert sum(outcomes) > 0.8 * len(outcomes)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.float32, np.complex64])
def test_tensors_of_any_dtype_in_a_foreign_file(dtype, path):
    safetensors.numpy.save_file({"['w']": np.ones((2, 2), dtype)}, path)
    assert refused(pruning.load_masks, path)
    header = {"format": saving.FORMAT, "metadata": "{}"}
    header["leaves"] = json.dumps({"['w']": {"keys": ["w"], "shape": [2, 2]}})
    safetensors.numpy.save_file({"['w']": np.ones((2, 2), dtype)}, path, header)
    assert refused(pruning.load_masks, path)


def test_a_foreign_file_is_refused_before_its_tensors_are_read(path, monkeypatch):
    safetensors.numpy.save_file({"w": np.ones((2, 2), np.float32)}, path)
    monkeypatch.setattr(saving, "unseal", lambda *_: pytest.fail("read"))
    for read in (pruning.load_masks, pruning.load_metadata):
        with pytest.raises(ValueError, match="holds no masks of this library"):
            read(path)


@jax.tree_util.register_pytree_with_keys_class
class Both:
    """A container that has an attribute and a key of one name."""

    def __init__(self, attribute, key):
        self.children = attribute, key

    def tree_flatten_with_keys(self):
        keys = jax.tree_util.GetAttrKey("x"), jax.tree_util.DictKey("x")
        return list(zip(keys, self.children, strict=True)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


MASK, OTHER = np.ones((2, 2), bool), np.zeros((2, 2), bool)


@pytest.mark.parametrize(
    "masks",
    [
        Both(MASK, OTHER),
        Both(MASK, None),
        Both(MASK, {"y": OTHER}),
        Both({"y": OTHER}, MASK),
        {"(1, 2)": MASK, "n": Both({"y": OTHER}, None)},
    ],
)
def test_no_mask_is_lost_where_two_leaves_are_one_key(masks, path):
    pruning.save_masks(path, masks)
    with pytest.raises(ValueError, match=r"one key in a dict, at .*: give `like`"):
        pruning.load_masks(path)
    found = pruning.load_masks(path, like=masks)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(masks), strict=True):
        np.testing.assert_array_equal(one, other)


@jax.tree_util.register_pytree_with_keys_class
class Twice(Both):
    """Two leaves at one path."""

    def tree_flatten_with_keys(self):
        key = jax.tree_util.DictKey("x")
        return [(key, child) for child in self.children], None


def test_two_leaves_of_like_at_one_path_do_not_share_a_mask(path):
    pruning.save_masks(path, {"x": MASK})
    with pytest.raises(ValueError, match=r"two leaves of `like` have the path \['x'\]"):
        pruning.load_masks(path, like=Twice(MASK, OTHER))


def test_like_may_have_functions_among_its_leaves(path):
    pruning.save_masks(path, {"act": None, "w": MASK})
    found = pruning.load_masks(path, like={"act": jnp.tanh, "w": np.ones((2, 2))})
    np.testing.assert_array_equal(found["w"], MASK)


def test_a_name_that_is_too_long_is_no_file():
    with pytest.raises(ValueError, match="there is no file at"):
        pruning.load_masks(Path("x" * 300))


def test_a_file_in_a_folder_of_another_user_is_not_called_missing(path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "stat", denied)
    with pytest.raises(ValueError, match=r"cannot read .*: Permission denied"):
        pruning.load_masks(path)
