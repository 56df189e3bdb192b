import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.augment import flip, normalise, padded_crop

KEY = jax.random.key(0)


def some_images(n=64, height=4, width=5, channels=2):
    # Never 0, so that padding shows.
    shape = (n, height, width, channels)
    return np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)


def windows(image, pad):
    """All crops of a padded image, by (row, column) offset."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return {
        (i, j): padded[i : i + height, j : j + width]
        for i in range(2 * pad + 1)
        for j in range(2 * pad + 1)
    }


# --- normalise ------------------------------------------------------------------------------------


def test_normalise_by_channel():
    images = np.array([[[[0, 255]], [[51, 102]]]], np.uint8)  # (1, 2, 1, 2)
    got = normalise(images, (0.5, 0.2), (0.25, 0.4))
    # (0 - .5) / .25, (1 - .2) / .4;  (.2 - .5) / .25, (.4 - .2) / .4
    np.testing.assert_allclose(got, [[[[-2, 2]], [[-1.2, 0.5]]]], rtol=1e-6)
    assert got.dtype == jnp.float32


def test_normalise_to_bfloat16_rounds_once():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    got = normalise(images, (0.1307,), (0.3081,), dtype=jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    want = normalise(images, (0.1307,), (0.3081,)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(got.astype(jnp.float32), want.astype(jnp.float32))


def test_normalise_errors():
    images = some_images(channels=1)
    with pytest.raises(ValueError, match="expected uint8 images, got float32"):
        normalise(images.astype(np.float32), (0.5,), (0.5,))
    with pytest.raises(ValueError, match="each of their 1 channels, got 3 and 3"):
        normalise(images, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match="each of their 1 channels, got 1 and 2"):
        normalise(images, (0.5,), (0.5,) * 2)
    with pytest.raises(ValueError, match="each of their 1 channels, got 2 and 1"):
        normalise(images, (0.5,) * 2, (0.5,))
    with pytest.raises(ValueError, match="every std above 0"):
        normalise(images, (0.5,), (0.0,))


# --- flip -----------------------------------------------------------------------------------------


def test_flip_mirrors_whole_images_left_to_right():
    images = some_images(n=200)
    got = np.asarray(flip(KEY, images))
    assert got.dtype == np.uint8
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(got, images, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(got, images, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 70 <= sum(mirrored) <= 130  # 100 +- 4 standard deviations.


# --- padded_crop ----------------------------------------------------------------------------------


def test_padded_crop_draws_every_window_and_no_other():
    images, pad = some_images(n=900), 1
    got = np.asarray(padded_crop(KEY, images, pad=pad))
    assert got.dtype == np.uint8
    assert got.shape == images.shape
    drawn = {offset: 0 for offset in windows(images[0], pad)}
    for crop, image in zip(got, images, strict=True):
        (offset,) = [o for o, w in windows(image, pad).items() if np.array_equal(w, crop)]
        drawn[offset] += 1
    assert len(drawn) == 9
    assert all(60 <= count <= 140 for count in drawn.values())  # 100 +- 4 standard deviations.


def test_padded_crop_pads_with_black_before_normalisation():
    images = np.full((50, 4, 4, 1), 255, np.uint8)
    crops = padded_crop(KEY, images, pad=2)
    assert set(np.unique(crops)) == {0, 255}
    # A black border normalises to -mean / std = -2, not to 0.
    levels = np.unique(normalise(crops, (0.5,), (0.25,)))
    np.testing.assert_allclose(levels, [-2, 2], rtol=1e-6)


def test_padded_crop_of_no_pad_is_the_image():
    images = some_images()
    np.testing.assert_array_equal(padded_crop(KEY, images, pad=0), images)


def test_padded_crop_errors():
    with pytest.raises(ValueError, match=r"padded_crop: expected uint8 images, got float32"):
        padded_crop(KEY, some_images().astype(np.float32), pad=1)
    with pytest.raises(ValueError, match="pad of at least 0 pixels, got -1"):
        padded_crop(KEY, some_images(), pad=-1)


# --- inside a compiled step -----------------------------------------------------------------------


def augment(key, images):
    crop_key, flip_key = jax.random.split(key)
    images = flip(flip_key, padded_crop(crop_key, images, pad=2))
    return normalise(images, (0.5, 0.4), (0.2, 0.3))


@pytest.mark.slow
def test_jit_scan_and_vmap_agree_with_eager():
    images = some_images(n=6)
    keys = jax.random.split(KEY, 3)
    eager = np.stack([augment(key, images) for key in keys])
    assert not np.array_equal(eager[0], eager[1])
    # jit contracts the multiply-add: equal up to rounding.
    close = lambda got: np.testing.assert_allclose(got, eager, rtol=1e-5, atol=1e-6)  # noqa: E731
    close(np.stack([jax.jit(augment)(key, images) for key in keys]))
    close(jax.jit(jax.vmap(augment, (0, None)))(keys, images))
    close(jax.jit(lambda: jax.lax.scan(lambda _, k: (None, augment(k, images)), None, keys)[1])())
    several = jnp.stack([images, images, images])
    close(jax.jit(jax.vmap(augment))(keys, several))


def test_the_key_decides():
    images = some_images()
    other = jax.random.key(1)
    for function in (flip, lambda key, images: padded_crop(key, images, pad=2)):
        np.testing.assert_array_equal(function(KEY, images), function(KEY, images))
        assert not np.array_equal(function(KEY, images), function(other, images))
