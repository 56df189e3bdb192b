"""Images that stay on disk: an array's shape and indexing, read through grain when they are needed.

A set that does not fit on a device is read while it trains (``train.populations.streamed_data``). Records
lie in random access, so any order, from any place in it, is read as asked: what is read for a step
depends on nothing but the step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.data.crops import center_crop, random_resized_crop

THREADS = 16
PREFETCHED = 512
"""Records that are read before they are asked for."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredImages:
    """Uint8 images of shape (n, height, width, channels), on disk.

    Indexing with a NumPy index of the first axis gives other images on disk; ``numpy.asarray`` reads.

    Attributes:
        records: In random access; each has an "image" and a "label".
        places: Of these images among the records, (n,).
        image_shape: Height, width, channels.
        cropped: Whether records have images of any size, cropped to that shape, a square
            (``crops.py``); otherwise all are of it.
        read_error: ``read_error(place, what)`` is what is raised for a record that is no good.
    """

    records: Sequence[Any]
    places: np.ndarray
    image_shape: tuple[int, int, int]
    cropped: bool = False
    read_error: Callable[[int, object], ValueError]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, height, width, channels)."""
        return (len(self.places), *self.image_shape)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.places)

    def __getitem__(self, which: Any) -> "StoredImages":
        """Some of the images, in some order; nothing is read.

        Args:
            which: A slice, a boolean mask, or places of shape (m,).
        """
        return replace(self, places=self.places[which])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The images, read, without augmentation."""
        del copy
        return next(self.read(np.arange(len(self))[None])).astype(dtype or np.uint8, copy=False)

    def read(self, rows: np.ndarray, crops: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Reads batches, in the background, in order.

        Args:
            rows: Of each batch, the places of its images among these, (batches, B).
            crops: Of each batch, what seeds its random crops, uint32 of shape (batches, any); None for
                crops of the middle. It plays no part where images are not cropped.

        Yields:
            Each batch, uint8 of shape (B, height, width, channels).

        Raises:
            ValueError: If a record cannot be read, or has an image of another shape or dtype.
        """
        batch, places = rows.shape[1], self.places[rows].ravel()

        def image(index: int) -> np.ndarray:
            if crops is None or not self.cropped:
                return self._read(places[index])[0]
            # One place in one epoch has one crop, whoever reads it and when.
            return self._read(
                places[index], np.random.default_rng((*crops[index // batch], places[index]))
            )[0]

        return _read_batches(image, len(places), batch)

    def read_with_labels(self, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Reads all, with their labels.

        Yields:
            Images, uint8 of shape (batch, height, width, channels), and labels, int32; the last ones
            may be fewer.

        Raises:
            ValueError: If a record cannot be read, or has an image of another shape or dtype.
        """
        return _read_batches(lambda index: self._read(self.places[index]), len(self), batch)

    def _read(self, place: Any, random: np.random.Generator | None = None) -> tuple[np.ndarray, np.int32]:
        try:
            record = self.records[int(place)]
        except Exception as error:  # The reader's, the decoder's: each library has its own.
            raise self.read_error(int(place), f"cannot be read ({error})") from error
        try:
            image, label = example_of(record)
        except ValueError as error:
            raise self.read_error(int(place), error) from error
        size = self.image_shape[0]
        if self.cropped:
            image = random_resized_crop(random, image, size) if random else center_crop(image, size)
        if image.shape != self.image_shape or image.dtype != np.uint8:
            found = f"is of shape {image.shape} and {image.dtype}, not {self.image_shape} and uint8"
            raise self.read_error(int(place), found)
        return image, np.int32(label)


def example_of(record: Any) -> tuple[np.ndarray, int]:
    """The image and the label of a record.

    Raises:
        ValueError: If it has no image, or no label that int32 can hold, in words that go on after its
            name.
    """
    image, label = (record.get(key) if isinstance(record, dict) else None for key in ("image", "label"))
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise ValueError("has no image of height, width and channels")
    number = np.asarray(label)
    if number.shape != () or number.dtype.kind not in "iu":
        raise ValueError(f"has no label that is a number, but {str(label)[:40]!r}")
    bounds = np.iinfo(np.int32)
    # NumPy would store the last 32 bits of a longer number without a word.
    if not bounds.min <= int(number) <= bounds.max:
        raise ValueError(f"has the label {label}, which is beyond int32")
    return image, int(number)


def is_stored(images: Any) -> bool:
    """Whether images stay on disk."""
    return isinstance(images, StoredImages)


def _read_batches(read: Callable[[int], Any], count: int, batch: int) -> Iterator[Any]:
    """Reads what threads can read before it is asked for, and stacks it in order."""
    import grain  # Slow to import; nothing that fits on the device needs it.

    if count == 0:
        return
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=PREFETCHED)
    # Batched last: threads and prefetching count records, not batches.
    yield from grain.MapDataset.range(count).map(read).to_iter_dataset(options).batch(batch)
