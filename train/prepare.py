"""Prepares a TFDS image-classification set: `python -m train.prepare NAME --data-dir DIR`.

Run it once, on a machine with network: TFDS downloads the set and writes it to DIR as ArrayRecord
files, which `train.data.datasets.load_dataset` then reads anywhere, without TensorFlow and without
network (copy the folder). Only this command needs TensorFlow: `pip install -e '.[prepare]'`.
"""

import importlib.util
import sys
from pathlib import Path

import tyro

from train.data import tfds_source


def prepare(name: str, *, data_dir: Path | None = None) -> Path:
    """Downloads a set and writes it as ArrayRecord files; a set that is there already stays.

    Args:
        name: A TFDS name: 'mnist', 'cifar10:3.0.2', 'emnist/letters', ...
        data_dir: The folder to write to; by default the environment variable TFDS_DATA_DIR, else
            ~/tensorflow_datasets.

    Returns:
        The folder of the prepared set, checked as `load_dataset` checks it.

    Raises:
        ValueError: If the set, its configuration or its version is unknown, is 'digits', or is not one
            for image classification.
        ModuleNotFoundError: If TensorFlow is not installed.
    """
    tfds_source.parse_name(name)
    if name == "digits":
        raise ValueError("'digits' comes with scikit-learn: there is nothing to prepare.")
    # Not an import: TensorFlow takes seconds, and a broken one should show its own error.
    if importlib.util.find_spec("tensorflow") is None:
        raise ModuleNotFoundError(
            "preparing a data set needs TensorFlow: pip install -e '.[prepare]' in the checkout"
        )
    tfds_source.require_known(name)
    import tensorflow_datasets as tfds

    data_dir = tfds_source.resolve_data_dir(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except (AssertionError, ValueError) as error:  # So TFDS says that it has not the version asked for.
        raise ValueError(f"TFDS has no {name!r}: {' '.join(str(error).split())}") from error
    tfds_source.check_features(builder.info.features, name)
    builder.download_and_prepare()
    return Path(tfds_source.open_set(name, data_dir).builder.data_dir)


def main(name: tyro.conf.Positional[str], data_dir: Path | None = None) -> None:
    """Prepares a TFDS image-classification set for `train.data.datasets.load_dataset`.

    Args:
        name: A TFDS name: mnist, cifar10:3.0.2, emnist/letters, ...
        data_dir: The folder to write to; by default the environment variable TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
    """
    try:
        folder = prepare(name, data_dir=data_dir)
    except (ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(f"{name} is ready in {folder}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m train.prepare")
