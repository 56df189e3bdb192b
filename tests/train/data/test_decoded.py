"""A decoded copy stands for the set as it is, and for nothing else."""

import shutil

import numpy as np
import pytest

from tests.train.data.test_datasets import write_set
from train.data import decoded, tfds_source
from train.data.datasets import load_dataset


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch):
    """How often a split has been decoded."""
    read, found = tfds_source.read_split, []
    monkeypatch.setattr(tfds_source, "read_split", lambda *a: found.append(a) or read(*a))
    return found


def assert_same(first, second):
    for one, other in zip((*first.train, *first.test), (*second.train, *second.test), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert (first.num_classes, first.mean, first.std) == (second.num_classes, second.mean, second.std)


def test_the_second_time_nothing_is_decoded(tmp_path, cache, reads):
    write_set(tmp_path)
    first, second = (load_dataset("toy", data_dir=tmp_path) for _ in range(2))
    assert len(reads) == 2  # the two splits, once
    assert_same(first, second)


def test_a_set_prepared_again_is_decoded_again_in_the_place_of_the_old_copy(tmp_path, cache, reads):
    write_set(tmp_path)
    load_dataset("toy", data_dir=tmp_path)
    shutil.rmtree(tmp_path / "toy")
    write_set(tmp_path, sizes=(9, 4))
    assert len(load_dataset("toy", data_dir=tmp_path).train.labels) == 9
    assert len(reads) == 4
    assert len(list(cache.rglob("*.safetensors"))) == 1


def test_a_set_that_was_damaged_since_is_not_taken_from_the_copy(tmp_path, cache):
    write_set(tmp_path)
    load_dataset("toy", data_dir=tmp_path)
    shard = next((tmp_path / "toy").rglob("*train*"))
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged or half-copied"):
        load_dataset("toy", data_dir=tmp_path)


def test_a_broken_copy_is_made_again(tmp_path, cache, reads):
    write_set(tmp_path)
    first = load_dataset("toy", data_dir=tmp_path)
    (copy,) = cache.rglob("*.safetensors")
    copy.write_bytes(copy.read_bytes()[:50])
    assert_same(first, load_dataset("toy", data_dir=tmp_path))
    assert len(reads) == 4
    assert_same(first, load_dataset("toy", data_dir=tmp_path))
    assert len(reads) == 4


def test_no_copy_of_a_large_set_or_without_a_cache_folder(tmp_path, cache, reads, monkeypatch):
    write_set(tmp_path)
    monkeypatch.setattr(decoded, "MOST_BYTES", 100)
    load_dataset("toy", data_dir=tmp_path)
    assert not list(cache.rglob("*.safetensors"))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    assert load_dataset("toy", data_dir=tmp_path).num_classes == 3


def test_a_copy_that_may_not_be_looked_at_is_said_and_does_not_matter(
    tmp_path, cache, monkeypatch, capsys
):
    write_set(tmp_path)
    first = load_dataset("toy", data_dir=tmp_path)
    copy = next(cache.rglob("*.safetensors"))
    exists = type(copy).exists

    def refused(path, **options):
        if path.suffix == copy.suffix:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path, **options)

    monkeypatch.setattr(type(copy), "exists", refused)
    assert_same(load_dataset("toy", data_dir=tmp_path), first)
    assert "Permission denied" in capsys.readouterr().out
