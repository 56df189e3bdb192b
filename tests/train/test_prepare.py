import importlib.util
import sys

import numpy as np
import pytest

from train.data.datasets import load_dataset
from train.prepare import main, prepare

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


@pytest.fixture
def no_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)


@pytest.fixture
def any_tensorflow(monkeypatch):
    """Takes the check for TensorFlow out, for what happens before TensorFlow is used."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tensorflow" or find_spec(name))


def exit_message(name, data_dir):
    with pytest.raises(SystemExit) as caught:
        main(name, data_dir)
    message = caught.value.code  # A string: printed to stderr, and status 1.
    assert isinstance(message, str)
    assert "\n" not in message
    return message


@pytest.mark.usefixtures("no_tensorflow")
def test_without_tensorflow_one_line_says_what_to_install(tmp_path):
    assert exit_message("mnist", tmp_path) == (
        "error: preparing a data set needs TensorFlow: pip install -e '.[prepare]' in the checkout"
    )
    assert list(tmp_path.iterdir()) == []
    # A name that will never do is said to be so before anything is installed for it.
    assert "write 'mnist:3.0.1'" in exit_message("mnist/3.0.1", tmp_path)


@pytest.mark.usefixtures("any_tensorflow")
def test_names_that_cannot_be_prepared(tmp_path):
    assert "nothing to prepare" in exit_message("digits", tmp_path)
    assert "write 'mnist:3.0.1'" in exit_message("mnist/3.0.1", tmp_path)
    assert "'mnist'" in exit_message("minst", tmp_path)


class FakeBuilder:
    """Stands in for the TFDS builder of a set; records what was asked of it."""

    def __init__(self, features):
        self.info = self
        self.features = features
        self.calls = []

    def __call__(self, name, **options):
        self.calls.append((name, options))
        return self

    def download_and_prepare(self):
        self.calls.append("download_and_prepare")


@pytest.mark.usefixtures("any_tensorflow")
def test_other_features_are_refused_before_the_download(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    builder = FakeBuilder({"text": tfds.features.Text()})
    monkeypatch.setattr(tfds, "builder", builder)
    with pytest.raises(ValueError, match=r"got \{'text': 'Text'\}"):
        prepare("mnist", data_dir=tmp_path)
    assert builder.calls == [("mnist", {"data_dir": tmp_path, "file_format": "array_record"})]


@pytest.mark.usefixtures("any_tensorflow")
@pytest.mark.parametrize("name", ["mnist:9.9.9", "emnist/foo"])
def test_versions_and_configurations_that_tfds_has_not_are_named(name, tmp_path):
    assert f"TFDS has no '{name}': " in exit_message(name, tmp_path)


@pytest.mark.usefixtures("any_tensorflow")
def test_what_was_prepared_is_checked(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    builder = FakeBuilder(features)
    monkeypatch.setattr(tfds, "builder", builder)
    # This builder writes nothing, so the set is still missing afterwards.
    with pytest.raises(ValueError, match="'mnist' is not in"):
        prepare("mnist", data_dir=tmp_path)
    assert builder.calls[1:] == ["download_and_prepare"]


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="needs TensorFlow: the extra 'prepare'")
@pytest.mark.filterwarnings("default")  # TensorFlow's own imports warn.
def test_a_prepared_set_loads(tmp_path, monkeypatch, capsys):
    import tensorflow_datasets as tfds

    builder = lambda name, **options: tfds.testing.DummyMnist(**options)  # noqa: E731
    monkeypatch.setattr(tfds, "builder", builder)
    monkeypatch.setattr("train.data.tfds_source.require_known", lambda name: None)
    main("dummy_mnist", tmp_path)
    assert f"ready in {tmp_path / 'dummy_mnist' / '3.0.1'}" in capsys.readouterr().out
    dataset = load_dataset("dummy_mnist", data_dir=tmp_path)
    assert dataset.train.images.shape == dataset.test.images.shape == (20, 28, 28, 1)
    assert np.all(dataset.train.images == 1)
    assert np.bincount(dataset.train.labels).tolist() == [2] * 10
