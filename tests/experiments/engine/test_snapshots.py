"""A snapshot is the state that was stored, or an error that names it; never another state."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save

from experiments.engine.snapshots import Snapshots, snapshot_file
from pruning.files.sealed import CHECKSUM, seal, unseal
from tests.damage import cut, flipped
from tests.experiments.made_up import folder
from train.populations.population import MemberState

STATE = MemberState(
    params={"w": np.arange(6, dtype=np.float32).reshape(2, 3)},
    batch_stats={},
    opt_state=(np.eye(2) > 0, np.int32(3)),
    step=np.int32(3),
)
NAMES = ("network", "step")


@pytest.fixture
def path(tmp_path):
    """Of a stored snapshot."""
    snapshots_in(tmp_path).save("seed-0", 3, STATE)
    return snapshot_file(tmp_path, "seed-0", 3)


def snapshots_in(path):
    return Snapshots(folder(path), STATE)


def load(path, name="seed-0", step=3):
    return snapshots_in(path.parents[1]).load(name, step)


def assert_refused(path, message, **which):
    with pytest.raises(ValueError, match=message) as caught:
        load(path, **which)
    assert "run the same command again, which trains its network" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_comes_back(path):
    assert snapshots_in(path.parents[1]).has("seed-0", 3)
    assert not snapshots_in(path.parents[1]).has("seed-0", 4)
    found = load(path)
    assert jax.tree.structure(found) == jax.tree.structure(STATE)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(STATE), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_no_flipped_bit_and_no_cut_is_read(path):
    content, snapshots = path.read_bytes(), snapshots_in(path.parents[1])
    for damaged in [*flipped(content), *cut(content)]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"the snapshot .*seed-0-step-3\.safetensors is "):
            snapshots.load("seed-0", 3)


def test_another_seed_s_and_another_step_s_are_refused(path):
    for name, step in (("seed-1", 3), ("seed-0", 4)):
        path.rename(other := snapshot_file(path.parents[1], name, step))
        assert_refused(other, "is of the network seed-0 at step 3", name=name, step=step)
        other.rename(path)


OTHERS = {
    "a dtype": (np.arange(6, dtype=np.float16).reshape(2, 3), "holds float16.* expected float32"),
    "a shape": (np.arange(6, dtype=np.float32).reshape(3, 2), r"\[3, 2\] at .params\['w'\], expected"),
    "NaN": (np.full((2, 3), np.nan, np.float32), "holds NaN"),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("what", OTHERS)
def test_states_of_another_form_are_refused(path, what, sealed):
    tensors, metadata, _ = unseal(path, NAMES)
    tensors[".params['w']"], message = OTHERS[what]
    path.write_bytes(seal(tensors, metadata) if sealed else save(tensors))
    if what == "NaN" and sealed:  # A network that has diverged is stored as it is.
        assert np.isnan(load(path).params["w"]).all()
    else:
        assert_refused(path, message)


def test_leaves_that_are_missing_are_refused(path):
    tensors, metadata, _ = unseal(path, NAMES)
    del tensors[".params['w']"]
    path.write_bytes(seal(tensors, metadata))
    assert_refused(path, r"differs at \[.*params")


def test_one_from_before_there_were_checksums_is_read(path):
    tensors, _, _ = unseal(path, NAMES)
    path.write_bytes(save(tensors))
    np.testing.assert_array_equal(load(path).params["w"], STATE.params["w"])


def test_without_its_checksum_alone_it_is_refused(path):
    tensors, metadata, _ = unseal(path, NAMES)
    path.write_bytes(save(tensors, metadata | {CHECKSUM.upper(): "00000000"}))
    assert_refused(path, "expected the metadata")


def test_a_folder_in_its_place(path):
    path.unlink()
    path.mkdir()
    assert_refused(path, "is a folder, where a file is expected")
    snapshots = snapshots_in(path.parents[1])
    with pytest.raises(ValueError, match="is a folder and should be a file: delete it"):
        snapshots.save("seed-0", 3, STATE)


def test_gone_since_a_fresh_start_is_said_as_that(path):
    snapshots = snapshots_in(path.parents[1])
    folder(path.parents[1], fresh=True)
    with pytest.raises(ValueError, match=r"another command has started the run"):
        snapshots.load("seed-0", 3)
