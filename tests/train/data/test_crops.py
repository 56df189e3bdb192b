"""Crops show what they should of an image, at the size asked for."""

import numpy as np
import pytest

from train.data.crops import ASPECT_RATIO, center_crop, random_resized_crop


def ramp(height, width):
    """Red grows with the column, green with the row: a crop tells where it is from."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def test_the_middle_is_kept_without_scaling_where_the_margin_is_right():
    # The shorter side is 256: it stays as it is, and 16 pixels go on each side, 22 of the longer one.
    image = np.random.default_rng(0).integers(0, 256, (256, 268, 3)).astype(np.uint8)
    np.testing.assert_array_equal(center_crop(image, 224), image[16:240, 22:246])


def test_large_images_shrink_by_averaging():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 1)).astype(np.uint8)
    # 7 / 224 * 256 = 8: two pixels become one.
    expected = image.reshape(8, 2, 8, 2, 1).mean((1, 3))[:7, :7]
    np.testing.assert_allclose(center_crop(image, 7), expected, atol=1)


@pytest.mark.parametrize("shape", [(3, 40, 3), (40, 3, 3), (9, 9, 1), (500, 300, 3)])
def test_every_image_gets_the_size(shape):
    image, rng = np.zeros(shape, np.uint8), np.random.default_rng(0)
    for crop in (center_crop(image, 6), random_resized_crop(rng, image, 6)):
        assert (crop.shape, crop.dtype) == ((6, 6, shape[-1]), np.uint8)


def test_random_crops_have_the_areas_and_ratios_of_the_paper():
    rng, image = np.random.default_rng(0), ramp(200, 250)
    crops = [random_resized_crop(rng, image, 16).astype(float) for _ in range(400)]
    # From the slopes of the ramps: the part's width and height.
    width = np.array([(c[8, -1, 0] - c[8, 0, 0]) / 15 * 16 for c in crops])
    height = np.array([(c[-1, 8, 1] - c[0, 8, 1]) / 15 * 16 for c in crops])
    area, ratio = width * height / (200 * 250), width / height
    assert 0.06 < area.min() < 0.12
    assert area.max() > 0.8
    assert 0.42 < area.mean() < 0.56  # uniform, but for the largest that do not fit
    assert ASPECT_RATIO[0] - 0.05 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < ASPECT_RATIO[1] + 0.05
    left = np.array([c[8, 0, 0] for c in crops])
    assert left.min() < 5
    assert left.max() > 120


def test_an_image_too_narrow_for_any_draw_gives_its_middle():
    image = ramp(10, 200)
    crop = random_resized_crop(np.random.default_rng(0), image, 8)
    # The middle, of 10 x 4 / 3 columns.
    assert 92 <= crop[..., 0].min() <= 95
    assert 104 <= crop[..., 0].max() <= 107


def test_crops_are_those_of_the_generator():
    image = ramp(50, 50)
    first, again = (random_resized_crop(np.random.default_rng(3), image, 8) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != random_resized_crop(np.random.default_rng(4), image, 8)).any()
