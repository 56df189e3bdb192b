"""Prepared TFDS image-classification sets, without TensorFlow and without network.

TensorFlow Datasets keeps a prepared set in `DATA_DIR/NAME[/CONFIG]/VERSION/`: ArrayRecord shards,
`features.json` and `dataset_info.json`. A folder that lacks the set, or holds half of it, gets from
TFDS itself a download or a complaint about TFRECORD files; here the folder is checked first, and
each error says what is wrong, where, and how to mend it. Because the folder is found here, the set
opens with `tfds.builder_from_directory`, which (unlike `tfds.data_source`) needs neither a
registered name nor the version that the installed TFDS happens to know.

TFDS and array_record are imported inside the functions: they are slow to import, and a program
that runs on digits needs neither.
"""

import contextlib
import difflib
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from train.data.stored_images import StoredImages, example_of

# Decoded records held at a time, on top of the arrays that are filled.
_RECORDS_PER_READ = 1000

_NO_LABEL = -1  # TFDS's mark.

_MANY_FILES = 10_240  # What macOS lets a process keep open.

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NAME = re.compile(rf"(?P<set>\w+)(/(?P<config>[\w.-]+))?(:(?P<version>{_VERSION.pattern}))?")


class SetName(NamedTuple):
    """The parts of `set[/config][:version]`."""

    set: str
    config: str | None
    version: str | None


def parse_name(name: str) -> SetName:
    """Splits a TFDS name such as 'mnist', 'cifar10:3.0.2' or 'emnist/letters:3.1.0'.

    Raises:
        ValueError: If the name has another form; for 'mnist/3.0.1', which TFDS would read as a
            configuration called '3.0.1', the error says to write 'mnist:3.0.1'; or is one of digits.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is no data set name: write 'digits', or a TFDS name such as 'mnist', "
            "'mnist:3.0.1', 'emnist/letters' or 'emnist/letters:3.1.0'."
        )
    parts = SetName(match["set"], match["config"], match["version"])
    if parts.set == "digits" and name != "digits":
        raise ValueError(f"{name!r}: digits have no versions or configurations: write 'digits'.")
    if parts.config is not None and _VERSION.fullmatch(parts.config):
        raise ValueError(
            f"{name!r} puts the version where TFDS expects a configuration: "
            f"write '{parts.set}:{parts.config}'."
        )
    return parts


def resolve_data_dir(data_dir: Path | None) -> Path:
    """Returns `data_dir`, else the environment variable TFDS_DATA_DIR, else TFDS's default."""
    if data_dir is None:
        data_dir = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    return Path(data_dir).expanduser()


def require_known(name: str) -> None:
    """Raises a ValueError, with the nearest names, unless the installed TFDS knows the set."""
    import tensorflow_datasets as tfds

    # The community sets are listed from the network: leave them out.
    known = tfds.list_builders(with_community_datasets=False)
    part = parse_name(name).set
    if part not in known:
        near = [repr(other) for other in difflib.get_close_matches(part, ["digits", *known])]
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown data set {part!r}: it is neither 'digits' nor in TFDS.{hint}")


def find_folder(name: str, data_dir: Path) -> Path:
    """Finds the version folder of a prepared set.

    Args:
        name: A TFDS name; without a version the highest one in the folder is taken.

    Raises:
        ValueError: If the folder or the set is missing, or if the name is unknown.
    """
    parts = parse_name(name)
    parent = data_dir / parts.set / (parts.config or "")
    versions = [path for path in parent.glob("*.*.*") if _VERSION.fullmatch(path.name)]
    if parts.version is not None:
        versions = [path for path in versions if path.name == parts.version]
    if versions:
        return max(versions, key=lambda path: tuple(int(part) for part in path.name.split(".")))

    require_known(name)
    mend = (
        f"Prepare it on a connected machine with `python -m train.prepare {name} --data-dir "
        f"{data_dir}`, or point data_dir or the environment variable TFDS_DATA_DIR at the folder "
        "that holds it."
    )
    if not data_dir.is_dir():
        raise ValueError(f"data set {name!r}: the data folder {data_dir} does not exist. {mend}")
    there = ", ".join(_prepared_sets(data_dir)) or "no prepared set"
    raise ValueError(f"data set {name!r} is not in {data_dir}, which holds {there}. {mend}")


def check_features(features: Any, name: str) -> None:
    """Raises a ValueError that lists the features unless they are of image classification."""
    listed = {key: type(value).__name__ for key, value in sorted(dict(features or {}).items())}
    if listed.get("image") != "Image" or listed.get("label") != "ClassLabel":
        raise ValueError(
            f"data set {name!r} is not an image-classification set: expected the features 'image' "
            f"(Image) and 'label' (ClassLabel), got {listed}."
        )
    dtype = np.dtype(features["image"].np_dtype)
    if dtype != np.uint8:
        raise ValueError(f"data set {name!r}: expected uint8 images, got {dtype}.")


class OpenSet(NamedTuple):
    """A TFDS builder with the names of the two splits to read."""

    builder: Any
    train: str
    test: str


def open_set(name: str, data_dir: Path) -> OpenSet:
    """Opens a prepared set after checking that its training and test splits are there whole.

    Returns:
        The builder, and the names of the splits: 'train', and 'test', else 'validation', whichever has
        labels (the test split of some sets, such as ImageNet, has none).

    Raises:
        ValueError: If the set is missing, half-copied, corrupt, not in the ArrayRecord format, not
            for image classification or without such splits.
    """
    import tensorflow_datasets as tfds

    folder = find_folder(name, data_dir)
    for file in ("dataset_info.json", "features.json"):
        if not (folder / file).is_file():
            raise _damaged(name, folder, f"{file} is missing")
    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:
        raise _damaged(name, folder, f"TFDS cannot read its description ({error})") from error
    check_features(builder.info.features, name)
    stored = builder.info.file_format.value if builder.info.file_format else "no known format"
    if stored != "array_record":
        raise ValueError(
            f"data set {name!r} in {folder} is stored as {stored}, which cannot be read without "
            "TensorFlow: prepare it as array_record in another folder, with "
            f"`python -m train.prepare {name} --data-dir OTHER_DIR`."
        )
    splits = builder.info.splits
    tests = [split for split in ("test", "validation") if split in splits]
    if "train" not in splits or not tests:
        raise ValueError(
            f"data set {name!r}: expected the splits 'train' and 'test' (or 'validation'), "
            f"got {sorted(splits)}."
        )
    _check_shards(name, folder, splits["train"])
    for test in tests:
        _check_shards(name, folder, splits[test])
        if _read_example(name, builder, test, 0)[1] != _NO_LABEL:
            return OpenSet(builder, "train", test)
    raise ValueError(
        f"data set {name!r}: none of the splits {tests} has labels, so nothing can be tested on them."
    )


def read_split(name: str, builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads one split whole.

    Args:
        name: The set's name, for the errors.

    Returns:
        images, uint8 of shape (n, height, width, channels), and labels, int32 of shape (n,).

    Raises:
        ValueError: If a record cannot be read, the images differ in size, or a label is out of range.
    """
    count = builder.info.splits[split].num_examples
    source = builder.as_data_source(split=split)
    images, labels = np.empty((0,), np.uint8), np.empty((count,), np.int32)
    for start in range(0, count, _RECORDS_PER_READ):
        stop = min(start + _RECORDS_PER_READ, count)
        try:
            records = source.__getitems__(list(range(start, stop)))
        except Exception as error:  # The reader's, the decoder's: each library has its own.
            what = f"records {start} to {stop - 1} of {split!r} cannot be read ({error})"
            raise _damaged(name, builder.data_dir, what) from error
        for index, record in enumerate(records, start):
            try:
                image, label = example_of(record)
            except ValueError as error:
                raise _damaged(name, builder.data_dir, f"record {index} of {split!r} {error}") from error
            if index == 0:
                images = np.empty((count, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f"data set {name!r} has images of different sizes: {images.shape[1:]} and, at "
                    f"record {index} of {split!r}, {image.shape}. Choose a set of one size, such "
                    "as a resized variant, or a recipe with an image_size, such as assessed-imagenet."
                )
            images[index] = image
            labels[index] = label
    check_labels(name, builder, split, labels)
    return images, labels


def check_labels(name: str, builder: Any, split: str, labels: np.ndarray) -> None:
    """Raises a ValueError unless all labels of a split are of the set's classes."""
    classes = builder.info.features["label"].num_classes
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"data set {name!r}, split {split!r}: expected labels from 0 to {classes - 1}, got "
            f"{labels.min()} to {labels.max()} ({_NO_LABEL} is TFDS's mark for no label)."
        )


def image_bytes(name: str, found: OpenSet) -> int:
    """Bytes that the images of an open set take, decoded, if all are of the first one's size."""
    splits = found.builder.info.splits
    images = splits[found.train].num_examples + splits[found.test].num_examples
    shape = image_shape(found) or _read_example(name, found.builder, found.train, 0)[0].shape
    return images * math.prod(shape)


def image_shape(found: OpenSet) -> tuple[int, int, int] | None:
    """Height, width and channels that an open set says its images have; None where they differ."""
    shape = found.builder.info.features["image"].shape
    return None if None in shape else shape


def stored_images(name: str, found: OpenSet, split: str, size: int | None) -> StoredImages:
    """The images of a split, left on disk.

    Args:
        name: The set's name, for the errors.
        size: Side of the squares that images of different sizes are cropped to; None for one size.

    Raises:
        ValueError: If the set says no size of its images, and they are not cropped.
    """
    shape = (
        image_shape(found)
        if size is None
        else (size, size, found.builder.info.features["image"].shape[2])
    )
    if shape is None:
        raise ValueError(
            f"data set {name!r} has images of different sizes. Choose a set of one size, such as a "
            "resized variant, or a recipe with an image_size, such as assessed-imagenet."
        )

    _allow_many_open_files()

    def read_error(place: int, what: object) -> ValueError:
        return _damaged(name, found.builder.data_dir, f"record {place} of {split!r} {what}")

    return StoredImages(
        records=found.builder.as_data_source(split=split),
        places=np.arange(found.builder.info.splits[split].num_examples),
        image_shape=shape,
        cropped=size is not None,
        read_error=read_error,
    )


def _allow_many_open_files() -> None:
    """The reader keeps every shard open, and ImageNet has more than the usual limit of 1,024 files."""
    if os.name == "posix":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # No limit is the usual hard one of macOS, where no process may ask for it.
        unlimited = resource.RLIM_INFINITY
        wanted = _MANY_FILES if hard == unlimited else hard
        if soft not in (unlimited, hard) and soft < wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _prepared_sets(data_dir: Path) -> list[str]:
    """Names of the prepared sets in a data folder, as they are written in `name`."""
    names = []
    for depth in ("*/*", "*/*/*"):
        for info in data_dir.glob(f"{depth}/dataset_info.json"):
            *parts, version = info.parent.relative_to(data_dir).parts
            names.append(f"'{'/'.join(parts)}:{version}'")
    return sorted(names)


def _check_shards(name: str, folder: Path, split: Any) -> None:
    """Compares the shards on disk with the counts in dataset_info.json."""
    from array_record.python.array_record_module import ArrayRecordReader

    if not split.num_examples:
        raise _damaged(name, folder, f"dataset_info.json has no records in split {split.name!r}")
    paths = [Path(path) for path in split.filepaths]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        what = f"{len(missing)} of {len(paths)} files of {split.name!r} are missing"
        raise _damaged(name, folder, f"{what}: {', '.join(missing[:8])}")
    for path, expected in zip(paths, split.shard_lengths, strict=True):
        try:
            reader = ArrayRecordReader(str(path))
            count = reader.num_records()
            reader.close()  # A broken file reports its damage here, after a count of 0.
        except Exception as error:
            raise _damaged(name, folder, f"{path.name} cannot be read ({error})") from error
        if count != expected:
            what = f"{path.name} has {count} records where dataset_info.json says {expected}"
            raise _damaged(name, folder, what)


def _read_example(name: str, builder: Any, split: str, place: int) -> tuple[np.ndarray, int]:
    try:
        return example_of(builder.as_data_source(split=split)[place])
    except Exception as error:  # The reader's, the decoder's: each library has its own.
        what = f"record {place} of {split!r} cannot be read ({error})"
        raise _damaged(name, builder.data_dir, what) from error


def _damaged(name: str, folder: Path | str, what: str) -> ValueError:
    line = " ".join(what.split())  # Some libraries' errors have many.
    return ValueError(
        f"data set {name!r} in {folder} is damaged or half-copied: {line}. Copy the folder again, "
        "or remove it and prepare the set again on a connected machine with "
        f"`python -m train.prepare {name} --data-dir DIR`."
    )
