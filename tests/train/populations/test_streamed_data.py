"""A set that is read while it trains gives the numbers of one that lies on the device."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.data.test_datasets import write_set
from tests.train.populations.test_population import hold, last, member
from tests.train.populations.test_population_states import SmallNormalised, read
from train.data import datasets, decoded, stored_images, tfds_source
from train.data.crops import center_crop
from train.data.datasets import Dataset, Split, load_dataset
from train.data.stored_images import StoredImages, is_stored
from train.populations import streamed_data
from train.populations.members import in_turn, side_by_side
from train.populations.population import Population, stack_members
from train.recipes import Recipe

RECIPE = Recipe(
    epochs=2,
    batch_size=5,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-3,
    flip=True,
    crop_padding=1,
    validation_examples=4,
)
TRAIN, TEST, STEPS = 22, 9, 4  # 18 are trained on, in steps of 5
IMAGE_BYTES = 5 * 4 * 3


def features(shape=(5, 4, 3)):
    import tensorflow_datasets as tfds

    return {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=3)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder, sizes=(TRAIN, TEST), features=features())
    return folder


@pytest.fixture
def both(folder, monkeypatch, tmp_path):
    """The same set whole and streamed; evaluated in batches of 4, read in blocks of 3 steps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("train.evaluation.EVALUATION_BATCH", 4)
    monkeypatch.setattr(streamed_data, "BLOCK_BYTES", 3 * RECIPE.batch_size * IMAGE_BYTES)
    return [load_dataset("toy", data_dir=folder, stream=stream) for stream in (False, True)]


def population(dataset, execute=in_turn, recipe=RECIPE):
    model = SmallNormalised()
    return Population(model=model, dataset=dataset, recipe=recipe, method=hold, execute=execute)


def members_of(pop, orders=(0, 1, 0)):
    """Members whose seeds differ, and whose orders do as asked."""
    members = [member(pop, seed) for seed in range(len(orders))]
    return stack_members(
        [
            one._replace(order_key=jax.random.key(order))
            for one, order in zip(members, orders, strict=True)
        ]
    )


def assert_equal(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), first, second)


def test_the_description_is_that_of_the_whole_set(both):
    whole, stored = both
    assert is_stored(stored.train.images)
    assert not is_stored(whole.train.images)
    assert (whole.mean, whole.std, whole.num_classes) == (stored.mean, stored.std, stored.num_classes)
    for split in ("train", "test"):
        one, other = getattr(whole, split), getattr(stored, split)
        assert one.images.shape == other.images.shape
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.images, np.asarray(other.images))
        np.testing.assert_array_equal(one.images[[3, 1, 3]], np.asarray(other.images[[3, 1, 3]]))


@pytest.mark.slow
@pytest.mark.parametrize("execute", [in_turn, pytest.param(side_by_side, marks=pytest.mark.slow)])
def test_the_numbers_are_those_of_the_whole_set(both, execute):
    """Members with two orders of the data; an epoch of four steps is read in two blocks."""
    found = []
    for dataset in both:
        pop = population(dataset, execute)
        results = [(read(r.states), r.metrics) for r in pop.train(members_of(pop), stops=(1, 6))]
        assert pop.compilations == 1  # Parts of an epoch are no other program.
        found.append(results)
    assert len(found[0]) == RECIPE.epochs + 2
    assert_equal(*found)


@pytest.mark.slow
def test_orders_that_all_members_share_need_no_axis(both):
    found = []
    for dataset in both:
        pop = population(dataset)
        shared = members_of(pop)._replace(order_key=jax.random.key(7))
        found.append(read(last(pop.train(shared, epochs=1)).states))
    assert_equal(*found)


@pytest.mark.slow
def test_what_is_read_is_read_once_for_all_with_the_same_order(both, monkeypatch):
    pop, read_rows = population(both[1]), []
    stored = type(both[1].train.images)
    original = stored.read

    def noted(self, rows, *crops):
        read_rows.append(rows.shape)
        return original(self, rows, *crops)

    monkeypatch.setattr(stored, "read", noted)
    last(pop.train(members_of(pop, orders=(0, 1, 0)), epochs=1))
    assert (2 * STEPS, RECIPE.batch_size) in read_rows


@pytest.mark.slow
def test_members_that_do_not_count_change_nothing(both):
    pop = population(both[1])
    members = members_of(pop)
    all_of_them = last(pop.train(members, epochs=1)).metrics["test_loss"]
    two = last(pop.train(members, epochs=1, size=2)).metrics["test_loss"]
    np.testing.assert_allclose(two[:2], all_of_them[:2], rtol=1e-6)


def test_large_sets_are_streamed_without_being_asked(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(datasets, "STREAM_ABOVE", (TRAIN + TEST) * IMAGE_BYTES)
    assert not is_stored(load_dataset("toy", data_dir=folder).train.images)
    decoded_copy = next(tmp_path.rglob("*.safetensors"))
    decoded_copy.unlink()
    monkeypatch.setattr(datasets, "STREAM_ABOVE", (TRAIN + TEST) * IMAGE_BYTES - 1)
    assert is_stored(load_dataset("toy", data_dir=folder).train.images)


def test_labels_and_moments_are_kept(both, folder, monkeypatch):
    monkeypatch.setattr(decoded, "keep", None)
    monkeypatch.setattr(type(both[1].train.images), "read_with_labels", None)
    again = load_dataset("toy", data_dir=folder, stream=True)
    assert again.mean == both[1].mean
    np.testing.assert_array_equal(again.train.labels, both[1].train.labels)


@pytest.mark.parametrize(
    ("shape", "says"),
    [(None, "different sizes"), ((5, 5, 3), r"record \d+ of 'test' is of shape \(5, 4, 3\)")],
)
def test_images_of_other_sizes_are_an_error(tmp_path, monkeypatch, shape, says):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_set(tmp_path, features=features((None, None, 3)))
    monkeypatch.setattr(tfds_source, "image_shape", lambda found: shape)
    with pytest.raises(ValueError, match=says):
        load_dataset("toy", data_dir=tmp_path, stream=True)


def test_a_record_that_cannot_be_read_is_named(both):
    class Broken:
        def __getitem__(self, place):
            raise OSError("disk on fire")

    images = dataclasses.replace(both[1].train.images, records=Broken())
    with pytest.raises(ValueError, match=r"record \d+ of 'train' cannot be read \(disk on fire\)"):
        np.asarray(images[:3])


def test_a_population_on_digits_has_nothing_to_stream():
    assert not is_stored(load_dataset("digits", stream=True).train.images)


SIZE = 6


@pytest.fixture
def photographs():
    """A data set of images of different sizes, cropped when they are read."""
    rng = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count, dtype=np.int32) % 3
        shapes = rng.integers(8, 20, (count, 2))
        records = [
            {"image": rng.integers(0, 256, (*shape, 3)).astype(np.uint8), "label": label}
            for shape, label in zip(shapes, labels, strict=True)
        ]
        places, shape = np.arange(count), (SIZE, SIZE, 3)
        stored = StoredImages(
            records=records, places=places, image_shape=shape, cropped=True, read_error=ValueError
        )
        return Split(stored, labels)

    moments = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return Dataset(name="photographs", train=split(TRAIN), test=split(TEST), num_classes=3, **moments)


def test_photographs_are_cropped_anew_in_every_epoch_and_order(photographs):
    images, places = photographs.train.images, np.arange(4)[None]
    seeds = [np.array([seed], np.uint32) for seed in ([1, 2, 0], [1, 2, 1], [1, 3, 0])]
    first, epoch, order = (next(images.read(places, seed)) for seed in seeds)
    np.testing.assert_array_equal(first, next(images.read(places, seeds[0])))
    assert (first != epoch).any()
    assert (first != order).any()
    # Alone, and in another batch, an image has the same crop.
    np.testing.assert_array_equal(next(images.read(np.array([[2]]), seeds[0]))[0], first[2])
    middle = np.stack([center_crop(images.records[i]["image"], SIZE) for i in range(4)])
    np.testing.assert_array_equal(np.asarray(images[:4]), middle)


@pytest.mark.slow
def test_every_epoch_of_every_order_seeds_its_crops_anew(photographs, monkeypatch):
    pop, seeds = population(photographs), []
    stored = type(photographs.train.images)
    original = stored.read

    def noted(self, rows, crops=None):
        if crops is not None:
            seeds.append({tuple(seed) for seed in np.asarray(crops)})
        return original(self, rows, crops)

    monkeypatch.setattr(stored, "read", noted)
    last(pop.train(members_of(pop, orders=(0, 1, 0)), epochs=2))
    assert [len(of_epoch) for of_epoch in seeds] == [2, 2]
    assert not seeds[0] & seeds[1]


@pytest.mark.slow
def test_training_on_photographs_goes_on_from_any_step(photographs):
    pop = population(photographs)
    members = members_of(pop)
    whole = read(last(pop.train(members)).states)
    at_5, *_ = (read(r.states) for r in pop.train(members, epochs=2, stops=(5,)) if r.step == 5)
    resumed = pop.train(members, states=jax.tree.map(jnp.asarray, at_5), first_step=5)
    assert_equal(read(last(resumed).states), whole)


def test_sets_of_different_sizes_are_cropped_and_stay_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    written = write_set(tmp_path, features=features((None, None, 3)))
    found = load_dataset("toy", data_dir=tmp_path, image_size=SIZE)
    assert found.train.images.shape == (7, SIZE, SIZE, 3)
    expected = np.stack([center_crop(image, SIZE) for image in written["test"].images])
    np.testing.assert_array_equal(np.asarray(found.test.images), expected)
    # Sets of one size are not cropped.
    write_set(tmp_path, name="even/1.0.0", features=features())
    assert load_dataset("even", data_dir=tmp_path, image_size=SIZE).train.images.shape == (7, 5, 4, 3)


def test_no_more_is_read_ahead_than_is_said(photographs, monkeypatch):
    monkeypatch.setattr(stored_images, "PREFETCHED", 2)
    monkeypatch.setattr(stored_images, "THREADS", 1)
    images, asked, too_many = photographs.train.images, [], threading.Event()
    most = 5 + 2 + 3  # the first batch, what waits, and some that are in hand

    class Counted:
        def __getitem__(self, place):
            asked.append(place)
            if len(asked) > most:
                too_many.set()
            return images.records[place]

    batches = dataclasses.replace(images, records=Counted()).read(np.arange(20).reshape(4, 5))
    next(batches)
    assert not too_many.wait(timeout=0.5)
    assert len(list(batches)) == 3
