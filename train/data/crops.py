"""Photographs of different sizes, cropped to squares of one size while they are read, on the host."""

import math

import numpy as np

AREA = 0.08, 1.0
ASPECT_RATIO = 3 / 4, 4 / 3
_TRIES = 10
_MARGIN = 256 / 224


def random_resized_crop(rng: np.random.Generator, image: np.ndarray, size: int) -> np.ndarray:
    """A random part of an image, resized to a square.

    Its area is uniform in ``AREA`` of the image's and the logarithm of its aspect ratio uniform in that
    of ``ASPECT_RATIO``, at a uniform place. If ten such draws do not fit into the image, the largest
    central part of a permitted ratio is taken.

    Args:
        image: Uint8, (height, width, channels).
        size: Side of the result, in pixels.

    Returns:
        Uint8, (size, size, channels).

    Source: Szegedy et al. 2015, arXiv 1409.4842, section 6, in the form of torchvision's
      `RandomResizedCrop`.
    """
    height, width = image.shape[:2]
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(*np.log(ASPECT_RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return _resized(image[top : top + h, left : left + w], size, size)
    lowest, highest = ASPECT_RATIO
    w, h = min(width, round(height * highest)), min(height, round(width / lowest))
    return _resized(_center(image, h, w), size, size)


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle of an image whose shorter side is first resized to 256 / 224 of the crop's.

    Args:
        image: Uint8, (height, width, channels).
        size: Side of the result, in pixels.

    Returns:
        Uint8, (size, size, channels).

    Source: Simonyan and Zisserman 2014, arXiv 1409.1556, section 3.2; the numbers of torchvision's
      ImageNet evaluation.
    """
    height, width = image.shape[:2]
    scale = round(size * _MARGIN) / min(height, width)
    resized = _resized(image, max(size, round(height * scale)), max(size, round(width * scale)))
    return _center(resized, size, size)


def _center(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages over pixels where the image shrinks, interpolates where it grows."""
    shrinks = height * width < image.shape[0] * image.shape[1]
    import cv2  # 20 ms of every start, for data sets of photographs alone.

    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=how)
    return resized.reshape(height, width, image.shape[2])  # OpenCV drops a single channel.
