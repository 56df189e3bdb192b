"""Image-classification sets as uint8 arrays: whole on the host, or left on disk where they are large.

Small sets (digits, MNIST, CIFAR) fit on the device whole: the caller puts the arrays there once, and
shuffling, augmentation and normalisation happen inside the compiled step (`augment.py`). Of larger
ones the labels and moments are read once and kept; the images are read while a network trains
(`stored_images.py`). 'digits' is embedded in scikit-learn and needs no file; every other name is a
prepared TFDS set: `train.prepare` makes it, `tfds_source.py` reads it, `decoded.py` keeps it for
the next time.
"""

import importlib.metadata
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from train.data import decoded, tfds_source
from train.data.stored_images import StoredImages

# A property of the data set, not of a run: everybody's digits have the same test images.
_DIGITS_TEST_SIZE = 360
_DIGITS_SPLIT_SEED = 0

_IMAGES_PER_COUNT = 512

_WHOLE = ("train_images", "train_labels", "test_images", "test_labels", "num_classes")

STREAM_ABOVE = 2**33
"""Bytes of images; larger sets stay on disk."""


class Split(NamedTuple):
    """Images with their labels.

    Attributes:
        images: Uint8 of shape (n, height, width, channels): an array, or `StoredImages`.
        labels: Int32 of shape (n,), from 0 to num_classes - 1.
    """

    images: Any
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set on the host.

    Attributes:
        name: The name it was loaded by.
        train: The training split.
        test: The test split.
        num_classes: The number of classes.
        mean: For each channel, the mean of pixel / 255 over the training split.
        std: For each channel, the (population) standard deviation of pixel / 255, likewise.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_dataset(
    name: str, *, data_dir: Path | None = None, stream: bool = False, image_size: int | None = None
) -> Dataset:
    """Loads a data set: whole, or its labels and moments alone if its images stay on disk.

    Args:
        name: 'digits' (scikit-learn's 1797 grey 8x8 images: a fixed stratified split of 1437 for
            training and 360 for testing), or a TFDS image-classification set: 'mnist', 'cifar10',
            'cifar10:3.0.2', 'emnist/letters', ... Its test split is 'test', else
            'validation', whichever has labels.
        data_dir: The folder that holds the prepared TFDS sets; by default the environment variable
            TFDS_DATA_DIR, else ~/tensorflow_datasets. Not used for 'digits'.
        stream: Whether the images stay on disk, as they do in any case where they take more than
            ``STREAM_ABOVE`` bytes. Digits have none there.
        image_size: Side of the squares that images of different sizes are cropped to; such sets stay on
            disk. None for sets of one size.

    Raises:
        ValueError: If the name is unknown, or the set is missing, half-copied, corrupt, or not one of
            labelled uint8 images of one size. The message says what to do.
    """
    if name == "digits":
        train, test, num_classes = _digits()
        return _with_moments(name, train, test, num_classes)
    data_dir = tfds_source.resolve_data_dir(data_dir)
    try:
        folder = tfds_source.find_folder(name, data_dir)
        if not stream and image_size is None:
            whole = decoded.read(folder, "images", _WHOLE)
            if whole is not None:
                return _whole(name, whole)
        found = tfds_source.open_set(name, data_dir)
        size = None if tfds_source.image_shape(found) else image_size
        if stream or size is not None or tfds_source.image_bytes(name, found) > STREAM_ABOVE:
            return _stored(name, folder, found, size)
        train = Split(*tfds_source.read_split(name, found.builder, found.train))
        test = Split(*tfds_source.read_split(name, found.builder, found.test))
    except OSError as error:
        raise ValueError(
            f"data set {name!r} in {data_dir} cannot be read: {error}. Check the folder's permissions, "
            "or copy or prepare the set again."
        ) from error
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"data set {name!r} has images of different sizes: {train.images.shape[1:]} in "
            f"'train', {test.images.shape[1:]} in {found.test!r}."
        )
    num_classes = found.builder.info.features["label"].num_classes
    arrays = {"train_images": train.images, "train_labels": train.labels}
    arrays |= {"test_images": test.images, "test_labels": test.labels}
    decoded.keep(folder, "images", arrays | {"num_classes": np.array(num_classes)})
    return _with_moments(name, train, test, num_classes)


def hold_out(split: Split, size: int, *, seed: int = 0) -> tuple[Split, Split]:
    """Takes a stratified validation set out of a split.

    Every class gives its share of `size`, rounded by largest remainder (ties to the lower class);
    which of its images go is drawn with the seed. Both parts keep the order of the split.

    Args:
        size: The number of images to hold out, in [1, n - 1].

    Returns:
        (rest, validation), of n - size and size images.

    Raises:
        ValueError: If size is out of range.
    """
    n = len(split.labels)
    if not 1 <= size < n:
        raise ValueError(f"size: expected 1 to {n - 1} of the split's {n} images, got {size}.")
    counts = np.bincount(split.labels)
    shares, remainders = np.divmod(counts.astype(np.int64) * size, n)
    most_remaining = np.argsort(-remainders, kind="stable")
    shares[most_remaining[: size - shares.sum()]] += 1

    rng = np.random.default_rng(seed)
    held = np.zeros((n,), bool)
    for label, share in enumerate(shares):
        held[rng.permutation(np.flatnonzero(split.labels == label))[:share]] = True
    rest = Split(split.images[~held], split.labels[~held])
    return rest, Split(split.images[held], split.labels[held])


def _digits() -> tuple[Split, Split, int]:
    # Importing scikit-learn takes ten times as long as reading its file, and a run needs no more of it.
    listed = importlib.metadata.files("scikit-learn") or ()
    file = next((file for file in listed if file.name == "digits.csv.gz"), None)
    if file is None or not Path(str(file.locate())).exists():  # It was installed in another way.
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
    else:
        numbers = np.loadtxt(file.locate(), delimiter=",")
        pixels, labels = numbers[:, :-1], numbers[:, -1]
    # Grey levels 0 to 16, spread over a byte.
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    whole = Split(images, np.asarray(labels, np.int32))
    return *hold_out(whole, _DIGITS_TEST_SIZE, seed=_DIGITS_SPLIT_SEED), 10


def _whole(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    """A data set from its kept arrays."""
    train = Split(arrays["train_images"], arrays["train_labels"])
    test = Split(arrays["test_images"], arrays["test_labels"])
    return _with_moments(name, train, test, int(arrays["num_classes"]))


def _stored(name: str, folder: Path, found: tfds_source.OpenSet, size: int | None) -> Dataset:
    """A data set whose images stay on disk; the first time all of them are read, for their moments."""
    train = tfds_source.stored_images(name, found, found.train, size)
    test = tfds_source.stored_images(name, found, found.test, size)
    copy = "moments" if size is None else f"moments-of-{size}"
    kept = decoded.read(folder, copy, ("mean", "std", "train_labels", "test_labels"))
    if kept is None:
        # The smaller one first: what is wrong with it is known before all of the other is read.
        test_labels, chunks = _noting_labels(test)
        deque(chunks, maxlen=0)
        tfds_source.check_labels(name, found.builder, found.test, np.concatenate(test_labels))
        train_labels, chunks = _noting_labels(train)
        mean, std = _moments(chunks)
        tfds_source.check_labels(name, found.builder, found.train, np.concatenate(train_labels))
        kept = {"mean": np.array(mean), "std": np.array(std)}
        kept |= {"train_labels": np.concatenate(train_labels)}
        kept |= {"test_labels": np.concatenate(test_labels)}
        decoded.keep(folder, copy, kept)
    return Dataset(
        name=name,
        train=Split(train, kept["train_labels"]),
        test=Split(test, kept["test_labels"]),
        num_classes=found.builder.info.features["label"].num_classes,
        mean=tuple(kept["mean"].tolist()),
        std=tuple(kept["std"].tolist()),
    )


def _noting_labels(images: StoredImages) -> tuple[list[np.ndarray], Iterator[np.ndarray]]:
    """The labels of images, complete when the images are read; and the images, to be read in chunks."""
    labels: list[np.ndarray] = []

    def chunks() -> Iterator[np.ndarray]:
        for chunk, found in images.read_with_labels(_IMAGES_PER_COUNT):
            labels.append(found)
            yield chunk

    return labels, chunks()


def _with_moments(name: str, train: Split, test: Split, num_classes: int) -> Dataset:
    size = _IMAGES_PER_COUNT
    chunks = (train.images[first : first + size] for first in range(0, len(train.labels), size))
    mean, std = _moments(chunks)
    return Dataset(name=name, train=train, test=test, num_classes=num_classes, mean=mean, std=std)


def _moments(chunks: Iterable[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixel / 255 by channel, from exact counts of the 256 levels.

    Counting in chunks keeps the memory small where a float copy of the images would not.
    """
    counts = np.zeros((1, 256), np.int64)
    for chunk in chunks:
        channels = [np.bincount(chunk[..., c].ravel(), minlength=256) for c in range(chunk.shape[-1])]
        counts = counts + np.stack(channels)
    levels = np.arange(256) / 255
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    mean = frequencies @ levels
    variance = np.sum(frequencies * (levels[None, :] - mean[:, None]) ** 2, axis=1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())
