"""Image-classification sets as whole uint8 arrays on the host.

Sets of this size (digits, MNIST, CIFAR) fit on the device whole: the caller puts the arrays there
once, and shuffling, augmentation and normalisation happen inside the compiled step
(`train.augment`). 'digits' is embedded in scikit-learn and needs no file; every other name is a
prepared TFDS set: `train.prepare` makes it, `train.tfds_source` reads it, `train.decoded` keeps it for
the next time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train import decoded, tfds_source

# A property of the data set, not of a run: everybody's digits have the same test images.
_DIGITS_TEST_SIZE = 360
_DIGITS_SPLIT_SEED = 0

_IMAGES_PER_COUNT = 4096


class Split(NamedTuple):
    """Images with their labels.

    Attributes:
        images: Uint8 of shape (n, height, width, channels).
        labels: Int32 of shape (n,), from 0 to num_classes - 1.
    """

    images: np.ndarray
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


def load_dataset(name: str, *, data_dir: Path | None = None) -> Dataset:
    """Loads a data set whole.

    Args:
        name: 'digits' (scikit-learn's 1797 grey 8x8 images: a fixed stratified split of 1437 for
            training and 360 for testing), or a TFDS image-classification set: 'mnist', 'cifar10',
            'cifar10:3.0.2', 'emnist/letters', ... Its test split is 'test', else 'validation'.
        data_dir: The folder that holds the prepared TFDS sets; by default the environment variable
            TFDS_DATA_DIR, else ~/tensorflow_datasets. Not used for 'digits'.

    Returns:
        The data set, as NumPy arrays.

    Raises:
        ValueError: If the name is unknown, or the set is missing, half-copied, corrupt, or not one of
            labelled uint8 images of one size. The message says what to do.
    """
    if name == "digits":
        train, test, num_classes = _digits()
    else:
        train, test, num_classes = _tfds(name, tfds_source.resolve_data_dir(data_dir))
    mean, std = _moments(train.images)
    return Dataset(name=name, train=train, test=test, num_classes=num_classes, mean=mean, std=std)


def hold_out(split: Split, size: int, *, seed: int = 0) -> tuple[Split, Split]:
    """Takes a stratified validation set out of a split.

    Every class gives its share of `size`, rounded by largest remainder (ties to the lower class);
    which of its images go is drawn with the seed. Both parts keep the order of the split.

    Args:
        split: The split to divide, n images.
        size: The number of images to hold out, in [1, n - 1].
        seed: Seed of the draw.

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
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # Grey levels 0 to 16, spread over a byte.
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    whole = Split(images, np.asarray(labels, np.int32))
    return *hold_out(whole, _DIGITS_TEST_SIZE, seed=_DIGITS_SPLIT_SEED), 10


def _tfds(name: str, data_dir: Path) -> tuple[Split, Split, int]:
    try:
        folder = tfds_source.find_folder(name, data_dir)
        copy = decoded.read(folder)
        if copy is not None:
            train = Split(copy["train_images"], copy["train_labels"])
            test = Split(copy["test_images"], copy["test_labels"])
            return train, test, int(copy["num_classes"])
        builder, train_name, test_name = tfds_source.open_set(name, data_dir)
        train = Split(*tfds_source.read_split(name, builder, train_name))
        test = Split(*tfds_source.read_split(name, builder, test_name))
    except OSError as error:
        raise ValueError(
            f"data set {name!r} in {data_dir} cannot be read: {error}. Check the folder's permissions, "
            "or copy or prepare the set again."
        ) from error
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"data set {name!r} has images of different sizes: {train.images.shape[1:]} in "
            f"'train', {test.images.shape[1:]} in {test_name!r}."
        )
    num_classes = builder.info.features["label"].num_classes
    arrays = {"train_images": train.images, "train_labels": train.labels}
    arrays |= {"test_images": test.images, "test_labels": test.labels}
    decoded.keep(folder, arrays | {"num_classes": np.array(num_classes)})
    return train, test, num_classes


def _moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixel / 255 by channel, from exact counts of the 256 levels.

    Counting in chunks keeps the memory small where a float copy of the images would not.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), _IMAGES_PER_COUNT):
        chunk = images[start : start + _IMAGES_PER_COUNT]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    mean = frequencies @ levels
    variance = np.sum(frequencies * (levels[None, :] - mean[:, None]) ** 2, axis=1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())
