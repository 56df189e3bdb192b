import importlib.metadata
import io
import json
import resource
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from train.data import datasets, tfds_source
from train.data.datasets import Split, hold_out, load_dataset

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def needs_shared(name):
    return pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"no prepared {name} in {SHARED}")


def some_images(n, seed, *, shape=(5, 4, 3)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_set(
    data_dir,
    *,
    name="toy/1.0.0",
    tests=("test",),
    sizes=(7, 4),
    shape=(5, 4, 3),
    features=None,
    unlabelled=(),
):
    """Writes a prepared TFDS set with two shards to a split; returns its images and labels."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    folder = data_dir / name
    folder.mkdir(parents=True)
    features = features or {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    features = tfds.features.FeaturesDict(features)
    features.save_config(str(folder))
    splits, written = [], {}
    for split, n in zip(("train", *tests), sizes, strict=True):
        images, labels = (
            some_images(n, seed=n, shape=shape),
            np.full(n, -1) if split in unlabelled else np.arange(n) % 3,
        )
        shards = np.array_split(np.arange(n), 2)
        for shard, indices in enumerate(shards):
            writer = ArrayRecordWriter(
                str(folder / f"toy-{split}.array_record-0000{shard}-of-00002"), "group_size:1"
            )
            for i in indices:
                _, png = cv2.imencode(".png", images[i][..., ::-1])
                example = {"image": io.BytesIO(png.tobytes()), "label": labels[i]}
                example |= {key: 0 for key in features if key not in example}
                writer.write(features.serialize_example({k: example[k] for k in features}))
            writer.close()
        splits.append(
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "shardLengths": [str(len(indices)) for indices in shards],
                "numBytes": "1000",
            }
        )
        written[split] = Split(images, labels.astype(np.int32))
    version = name.rsplit("/", 1)[1]
    info = {"name": "toy", "version": version, "fileFormat": "array_record", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return written


def replace_features(folder, features):
    import tensorflow_datasets as tfds

    tfds.features.FeaturesDict(features).save_config(str(folder))


def edit_info(folder, edit):
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))


def error_of(name, data_dir):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the caller checks the message.
        load_dataset(name, data_dir=data_dir)
    return str(caught.value)


# --- digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
def test_digits_are_the_scikit_learn_ones_on_a_fixed_split(listed, monkeypatch):
    from sklearn.datasets import load_digits

    if not listed:
        monkeypatch.setattr(importlib.metadata, "files", lambda _: None)
    digits = load_dataset("digits")
    assert (digits.name, digits.num_classes) == ("digits", 10)
    for split, n in ((digits.train, 1437), (digits.test, 360)):
        assert (split.images.shape, split.images.dtype) == ((n, 8, 8, 1), np.uint8)
        assert (split.labels.shape, split.labels.dtype) == ((n,), np.int32)
        # 16 grey levels above black, spread over the byte: 16 -> 255, 8 -> round(127.5) = 128.
        assert set(np.unique(split.images)) == {round(255 * v / 16) for v in range(17)}
    both = np.concatenate([digits.train.images, digits.test.images])[..., 0] / 255 * 16
    rows = lambda images: sorted(map(tuple, np.rint(images).reshape(-1, 64).astype(int)))  # noqa: E731
    assert rows(both) == rows(load_digits().images)
    # The split is part of the data set: these are the same images for ever.
    assert np.bincount(digits.test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert zlib.crc32(digits.test.images.tobytes()) == 656393567
    pixels = digits.train.images / 255
    np.testing.assert_allclose(digits.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(digits.std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)


@pytest.mark.slow
def test_digits_need_no_import_of_scikit_learn():
    """It would take a fifth of the time to the first result."""
    code = (
        "import sys; from train.data.datasets import load_dataset; load_dataset('digits'); "
        "print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- a prepared TFDS set --------------------------------------------------------------------------


def test_reads_every_record_in_order(tmp_path, monkeypatch):
    # 3 records to a read: the 7 records of 'train' cross both reads and shards.
    monkeypatch.setattr("train.data.tfds_source._RECORDS_PER_READ", 3)
    monkeypatch.setattr("train.data.datasets._IMAGES_PER_COUNT", 2)
    written = write_set(tmp_path)
    toy = load_dataset("toy", data_dir=tmp_path)
    assert toy.num_classes == 3
    for split, expected in ((toy.train, written["train"]), (toy.test, written["test"])):
        np.testing.assert_array_equal(split.images, expected.images)
        np.testing.assert_array_equal(split.labels, expected.labels)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
    # By channel, of the training split alone.
    pixels = written["train"].images / 255
    np.testing.assert_allclose(toy.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(toy.std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)
    assert all(type(value) is float for value in toy.mean + toy.std)


def test_validation_stands_in_for_test(tmp_path):
    written = write_set(tmp_path, tests=("validation",))
    toy = load_dataset("toy", data_dir=tmp_path)
    np.testing.assert_array_equal(toy.test.images, written["validation"].images)


def test_the_test_split_is_one_with_labels(tmp_path):
    both = {"tests": ("test", "validation"), "sizes": (7, 4, 5)}
    write_set(tmp_path / "labelled", **both)
    assert len(load_dataset("toy", data_dir=tmp_path / "labelled").test.labels) == 4
    # As ImageNet's.
    write_set(tmp_path / "partly", unlabelled=("test",), **both)
    assert len(load_dataset("toy", data_dir=tmp_path / "partly").test.labels) == 5
    write_set(tmp_path / "un", unlabelled=("test", "validation"), **both)
    assert "none of the splits ['test', 'validation'] has labels" in error_of("toy", tmp_path / "un")


def test_highest_version_unless_asked_and_configurations(tmp_path):
    for size, version in ((4, "2.0.0"), (5, "10.0.0"), (6, "9.1.0")):
        write_set(tmp_path, name=f"toy/{version}", sizes=(size, 2))
    write_set(tmp_path, name="toy/small/1.0.0", sizes=(3, 2))
    count = lambda name: len(load_dataset(name, data_dir=tmp_path).train.labels)  # noqa: E731
    assert count("toy") == 5
    assert count("toy:2.0.0") == 4
    assert count("toy/small") == 3
    assert count("toy/small:1.0.0") == 3


def test_folder_from_the_environment(tmp_path, monkeypatch):
    write_set(tmp_path / "env")
    write_set(tmp_path / "home" / "tensorflow_datasets", sizes=(5, 2))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "env"))
    assert len(load_dataset("toy").train.labels) == 7
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert len(load_dataset("toy").train.labels) == 5


# --- what can be wrong ----------------------------------------------------------------------------


def test_folder_missing(tmp_path):
    message = error_of("mnist", tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'} does not exist" in message
    assert f"python -m train.prepare mnist --data-dir {tmp_path / 'nowhere'}" in message
    assert "TFDS_DATA_DIR" in message


def test_set_missing_lists_what_is_there(tmp_path):
    assert "holds no prepared set" in error_of("mnist", tmp_path)
    write_set(tmp_path)
    write_set(tmp_path, name="toy/small/2.0.0")
    message = error_of("mnist:3.0.1", tmp_path)
    assert "'mnist:3.0.1' is not in" in message
    assert "holds 'toy/small:2.0.0', 'toy:1.0.0'." in message
    assert "python -m train.prepare mnist:3.0.1 --data-dir" in message


def test_version_missing(tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    assert "'mnist:3.0.2' is not in" in error_of("mnist:3.0.2", tmp_path)


def test_version_written_as_a_configuration(tmp_path):
    assert "write 'mnist:3.0.1'" in error_of("mnist/3.0.1", tmp_path)
    assert error_of("digits:1.0.0", tmp_path).endswith("no versions or configurations: write 'digits'.")


def test_unknown_names(tmp_path):
    message = error_of("minst", tmp_path)
    assert "neither 'digits' nor in TFDS" in message
    assert "'mnist'" in message
    assert "'digits'" in error_of("digit", tmp_path)
    assert "is no data set name" in error_of("mnist:latest", tmp_path)
    assert "is no data set name" in error_of("../mnist", tmp_path)


def without(file):
    return lambda folder: (folder / file).unlink()


def cut_short(file):
    return lambda folder: (folder / file).write_text((folder / file).read_text()[:30])


def rewritten(damage):
    """The last shard of 'train', from its two halves."""

    def rewrite(folder):
        data = (folder / TRAIN_1).read_bytes()
        (folder / TRAIN_1).write_bytes(damage(data[: len(data) // 2], data[len(data) // 2 :]))

    return rewrite


def described(edit):
    return lambda folder: edit_info(folder, edit)


INFO, FEATURES = "dataset_info.json", "features.json"
TRAIN_0, TRAIN_1, TEST_1 = (
    f"toy-{shard}-of-00002"
    for shard in ("train.array_record-00000", "train.array_record-00001", "test.array_record-00001")
)
UNREADABLE = f"{TRAIN_1} cannot be read (.*damaged or half-copied"
WRONG = {
    "info cut": (cut_short(INFO), "cannot read its description"),
    "features cut": (cut_short(FEATURES), "cannot read its description"),
    "no info": (without(INFO), f"half-copied: {INFO} is missing. Copy the folder again"),
    "no features": (without(FEATURES), f"half-copied: {FEATURES} is missing. Copy the folder again"),
    "no shard": (without(TEST_1), f"1 of 2 files of 'test' are missing: {TEST_1}"),
    "another count": (
        lambda folder: shutil.copy(folder / TRAIN_1, folder / TRAIN_0),
        f"00000-of-00002 has 20 records where {INFO} says 21",
    ),
    "empty": (rewritten(lambda first, last: b""), UNREADABLE),
    "cut": (rewritten(lambda first, last: first), UNREADABLE),
    "garbage": (
        rewritten(lambda first, last: bytes(range(256)) * 900),
        UNREADABLE,
    ),
    "record": (
        rewritten(lambda first, last: first + bytes(200) + last[200:]),
        "records 0 to 40 of 'train' cannot be read (.*damaged or half-copied",
    ),
    "no records": (
        described(lambda info: info["splits"][1].update(shardLengths=[])),
        "no records in split 'test'",
    ),
    "no test": (described(lambda info: info["splits"][1].update(name="extra")), "got ['extra', 'train']"),
    "file format": (described(lambda info: info.update(fileFormat="tfrecord")), "is stored as tfrecord"),
}


@pytest.mark.parametrize(("damage", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_set_is_said(tmp_path, damage, said):
    write_set(tmp_path, sizes=(41, 4), shape=(64, 64, 3))  # Shards above the 64 kB of a block.
    damage(tmp_path / "toy" / "1.0.0")
    message = error_of("toy", tmp_path)
    assert all(part in message for part in said.split(".*")), message


def test_other_features(tmp_path):
    import tensorflow_datasets as tfds

    folder = tmp_path / "toy" / "1.0.0"
    image, label = tfds.features.Image(shape=(5, 4, 3)), tfds.features.ClassLabel(num_classes=3)
    number = tfds.features.Scalar(np.int64)
    write_set(tmp_path, features={"image": image, "label": label, "number": number})
    assert load_dataset("toy", data_dir=tmp_path).num_classes == 3
    replace_features(folder, {"image": image, "label": number})
    assert "got {'image': 'Image', 'label': 'Scalar'}" in error_of("toy", tmp_path)
    replace_features(folder, {"picture": image, "label": label})
    assert "got {'label': 'ClassLabel', 'picture': 'Image'}" in error_of("toy", tmp_path)
    deep = tfds.features.Image(shape=(5, 4, 3), dtype=np.uint16, encoding_format="png")
    replace_features(folder, {"image": deep, "label": label})
    assert "expected uint8 images, got uint16" in error_of("toy", tmp_path)


def test_images_of_different_sizes(tmp_path):
    write_set(tmp_path)
    write_set(tmp_path, name="toy/2.0.0", shape=(6, 4, 3))
    old, new = tmp_path / "toy" / "1.0.0", tmp_path / "toy" / "2.0.0"
    shard = "toy-train.array_record-00001-of-00002"
    shutil.copy(old / shard, new / shard)
    message = error_of("toy", tmp_path)
    assert "different sizes: (6, 4, 3) and, at record 4 of 'train', (5, 4, 3)" in message
    for file in old.glob("toy-train*"):
        shutil.copy(file, new / file.name)
    assert "(5, 4, 3) in 'train', (6, 4, 3) in 'test'" in error_of("toy", tmp_path)


def test_images_of_no_stated_size_are_not_all_held(tmp_path, monkeypatch):
    # Photographs: nobody says how large, and arrays for all of them would not fit.
    write_set(tmp_path / "small")
    write_set(tmp_path / "large", sizes=(8, 4))
    monkeypatch.setattr(datasets, "STREAM_ABOVE", 11 * 5 * 4 * 3)
    assert len(load_dataset("toy", data_dir=tmp_path / "small").train.labels) == 7
    assert "images of different sizes" in error_of("toy", tmp_path / "large")


def test_labels_out_of_range(tmp_path):
    import tensorflow_datasets as tfds

    write_set(tmp_path)
    image, label = tfds.features.Image(shape=(5, 4, 3)), tfds.features.ClassLabel(num_classes=2)
    replace_features(tmp_path / "toy" / "1.0.0", {"image": image, "label": label})
    assert "expected labels from 0 to 1, got 0 to 2" in error_of("toy", tmp_path)
    write_set(tmp_path / "unlabelled", unlabelled=("train",))
    message = error_of("toy", tmp_path / "unlabelled")
    assert "expected labels from 0 to 2, got -1 to -1" in message


# --- hold_out -------------------------------------------------------------------------------------


def numbered(labels):
    """A split whose images carry their index."""
    labels = np.asarray(labels, np.int32)
    return Split(np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1), labels)


def test_hold_out_is_a_stratified_partition_in_order():
    # 20 of class 0, 12 of class 1, 8 of class 2; a quarter of each.
    split = numbered([0] * 20 + [1] * 12 + [2] * 8)
    rest, held = hold_out(split, 10, seed=3)
    assert np.bincount(held.labels).tolist() == [5, 3, 2]
    assert np.bincount(rest.labels).tolist() == [15, 9, 6]
    indices = [part.images.ravel().tolist() for part in (rest, held)]
    assert indices[0] == sorted(indices[0])
    assert indices[1] == sorted(indices[1])
    assert sorted(indices[0] + indices[1]) == list(range(40))
    for part in (rest, held):
        np.testing.assert_array_equal(part.labels, split.labels[part.images.ravel()])


def test_hold_out_rounds_by_largest_remainder():
    # Shares of 4 out of 10 with classes of 5, 3, 2: 2.0, 1.2, 0.8 -> 2, 1, 1.
    _, held = hold_out(numbered([0] * 5 + [1] * 3 + [2] * 2), 4)
    assert np.bincount(held.labels).tolist() == [2, 1, 1]
    # Equal remainders: the lower classes first.
    _, held = hold_out(numbered([0, 1, 2, 3]), 2)
    assert held.labels.tolist() == [0, 1]


def test_hold_out_is_drawn_by_the_seed():
    split = numbered([0, 1] * 50)
    again = [hold_out(split, 20, seed=seed)[1].images.ravel().tolist() for seed in (0, 0, 1)]
    assert again[0] == again[1]
    assert again[0] != again[2]


@pytest.mark.parametrize("size", [-1, 0, 4, 5])
def test_hold_out_size_out_of_range(size):
    with pytest.raises(ValueError, match=f"expected 1 to 3 of the split's 4 images, got {size}"):
        hold_out(numbered([0, 1, 0, 1]), size)


# --- the real sets --------------------------------------------------------------------------------


@pytest.mark.slow
@needs_shared("mnist")
def test_mnist():
    mnist = load_dataset("mnist", data_dir=SHARED)
    assert mnist.train.images.shape == (60000, 28, 28, 1)
    assert mnist.test.images.shape == (10000, 28, 28, 1)
    assert mnist.num_classes == 10
    assert np.round(mnist.mean, 4).tolist() == [0.1307]
    assert np.round(mnist.std, 4).tolist() == [0.3081]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.test.labels).tolist() == counts


@pytest.mark.slow
@needs_shared("cifar10")
def test_cifar10():
    cifar = load_dataset("cifar10:3.0.2", data_dir=SHARED)
    assert cifar.train.images.shape == (50000, 32, 32, 3)
    assert cifar.test.images.shape == (10000, 32, 32, 3)
    # The customary constants, in red, green, blue order.
    assert np.round(cifar.mean, 4).tolist() == [0.4914, 0.4822, 0.4465]
    assert np.round(cifar.std, 4).tolist() == [0.2470, 0.2435, 0.2616]
    assert np.bincount(cifar.train.labels).tolist() == [5000] * 10


def test_a_folder_that_may_not_be_read(monkeypatch, tmp_path):
    def refused(name, data_dir):
        raise PermissionError(13, "Permission denied", str(data_dir))

    monkeypatch.setattr("train.data.tfds_source.find_folder", refused)
    with pytest.raises(ValueError, match=r"'mnist' in .* cannot be read: .*Permission denied"):
        load_dataset("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ((1024, 4096), [(4096, 4096)]),
        ((1024, resource.RLIM_INFINITY), [(10_240, resource.RLIM_INFINITY)]),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
        ((4096, 4096), []),
    ],
)
def test_more_files_may_be_open_as_far_as_the_system_lets(limits, asked, monkeypatch):
    found = []

    def refused(kind, wanted):
        found.append(wanted)
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", refused)
    tfds_source._allow_many_open_files()
    assert found == asked
