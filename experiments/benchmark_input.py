"""Benchmark rows of input: a prepared set, read whole to arrays on the device."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import jax

from experiments.benchmark_comparison import Comparison, Unavailable
from experiments.benchmark_programs import tree_bytes
from train.data.datasets import load_dataset


def reading(name: str) -> Comparison:
    """Reading the decoded copy in the user's cache folder against decoding the prepared set.

    Both end with the splits on the device; the other way also stores a copy, as it does in use.

    Args:
        name: Of a TFDS set, prepared in its usual folder or in TFDS_DATA_DIR.

    Returns:
        The comparison.

    Raises:
        Unavailable: If the set is not there.
    """

    def read() -> tuple:
        dataset = load_dataset(name)
        return jax.block_until_ready(jax.device_put((dataset.train, dataset.test)))

    def decode() -> None:
        with _empty_cache_folder():
            read()

    try:
        size = tree_bytes(read())
    except ValueError as error:
        raise Unavailable(str(error)) from error
    return Comparison(
        ours=read,
        theirs=decode,
        against="decoding the prepared set",
        unit="data sets",
        amount=1,
        bytes=2 * size,  # read from the file, written to the device
    )


@contextmanager
def _empty_cache_folder() -> Iterator[None]:
    """As for a user who has none; on Windows, which has other variables, nothing changes."""
    before = os.environ.get("XDG_CACHE_HOME")
    with TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["XDG_CACHE_HOME"]
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before
