"""Images and labels as scikit-learn hands them over: rows of numbers, and -1 for no label."""

import contextlib
import math
import warnings
from typing import Any

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import pixels

UNLABELED = (-1, "-1")  # the second is what NumPy makes of the first among strings


def flat(images: Any) -> tuple[Any, tuple[int, ...]]:
    """Returns images as rows `[N, D]`, and the shape of one; what is no array of images stays."""
    images = images if hasattr(images, "shape") else np.asarray(images)
    shape = images.shape
    return images if len(shape) < 3 else np.asarray(images).reshape(shape[0], -1), shape[1:]


def image_shape(
    given: tuple[int, ...], wanted: tuple[int, ...] | None = None
) -> tuple[int, int, int]:
    """Returns `(H, W, C)` of images.

    Args:
      given: the shape of one, or `(D,)` if they are flat.
      wanted: of flat ones, `(H, W)` or `(H, W, C)`, of which one may be -1; None for a square.

    Raises:
      InputError: these numbers are no such image.
    """
    if len(given) == 1:
        given = _unflattened(given[0], wanted)
    shape = given if len(given) == 3 else (*given, 1)
    if len(shape) != 3 or shape[2] not in pixels.CHANNELS:
        raise InputError(
            f"images have shape {given}; give height and width, and then 1, 3 or 4 channels"
        )
    return shape


def _unflattened(size: int, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    if wanted is not None:
        with contextlib.suppress(ValueError, TypeError):
            return np.empty(size, bool).reshape(wanted).shape
        raise InputError(
            f"image_shape is {wanted!r}, but flat images have {size} numbers each; give (H, W) or"
            " (H, W, C) with this product"
        )
    side = math.isqrt(size)
    if side * side != size:
        raise InputError(
            f"flat images have {size} numbers each, which is no square; give image_shape=(H, W) or"
            " (H, W, C), or the images as [N, H, W, C]"
        )
    return side, side


def range_of(rows: np.ndarray) -> tuple[float, float]:
    """Returns which numbers become 0 and 255: of uint8 these, else the least and the greatest."""
    return (0.0, 255.0) if rows.dtype == np.uint8 else (float(rows.min()), float(rows.max()))


def spread_of(rows: np.ndarray) -> float:
    """Returns the difference of the greatest and the least number."""
    return float(rows.max()) - float(rows.min())


def warn_of_scale(rows: np.ndarray, low: float, high: float, trained_spread: float) -> None:
    """Warns if images are on another scale than those of the training: they would all look alike.

    Args:
      rows: `[N, D]` numbers to predict.
      low, high: see `range_of`.
      trained_spread: of the images of the training, see `spread_of`.
    """
    spread, width = spread_of(rows), high - low
    is_far_less = 0 < spread <= width / 100 < trained_spread  # images of one colour are just that
    if is_far_less or spread >= 100 * width > 0:
        warnings.warn(
            f"the values of X are from {float(rows.min()):g} to {float(rows.max()):g}, but those of"
            f" fit counted from {low:g} to {high:g}: to the network these images look alike; scale"
            " X as those were",
            stacklevel=4,  # who calls `predict`
        )


def to_bytes(rows: np.ndarray, low: float, high: float) -> np.ndarray:
    """Makes numbers of any type uint8, 0 up to `low` and 255 from `high` on."""
    if rows.dtype == np.uint8 and (low, high) == (0, 255):
        return rows
    share = (rows.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(255 * share.clip(0, 1)).astype(np.uint8)


def is_bare(labels: np.ndarray) -> np.ndarray:
    """Marks what is no label, `[N]` bool."""
    return np.array([label in UNLABELED for label in labels.tolist()], bool)


def numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the classes `[K]`, sorted, and the number of each label `[N]`, -1 where none is.

    Raises:
      InputError: there are less than two classes, or what is no label is not -1.
    """
    bare, values = is_bare(labels), labels.tolist()
    if None in values:
        raise InputError("y holds None; mark images without label by -1")
    known = [value for value, is_none in zip(values, bare, strict=True) if not is_none]
    classes, found = np.unique(known, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"y has {len(classes)} class{'es' * (len(classes) != 1)}; give labels of at least two,"
            " and -1 for images without label"
        )
    numbers = np.full(len(labels), -1)
    numbers[~bare] = found
    return classes, numbers
