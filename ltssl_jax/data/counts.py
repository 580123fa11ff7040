"""How many images each class has: decaying counts, and the shapes that protocols give them."""

import math
import numbers
from typing import Any

import numpy as np

from ltssl_jax.core import InputError

SHAPES = ("consistent", "reversed", "middle", "head_tail", "uniform_max", "uniform_mean")


def long_tailed(num_max: float, imbalance_ratio: float, num_classes: int) -> np.ndarray:
    """Computes exponentially decaying class counts, most frequent class first.

    `int(num_max * imbalance_ratio ** (-k / (K - 1)))` for every class `k` but the last, which gets
    `int(num_max / imbalance_ratio)`; `int` truncates. This form, in float64, gives the integers of
    the released code of the field in every standard setting.

    Args:
      num_max: images of the most frequent class, at least 1; need not be whole.
      imbalance_ratio: largest over smallest count, at least 1; 1 gives equal counts.
      num_classes: `K`, at least 2.

    Returns:
      `[K]` int64.

    Raises:
      InputError: a value is out of its range.
    """
    check("num_max", num_max, 1)
    check("imbalance_ratio", imbalance_ratio, 1)
    check("num_classes", num_classes, 2, whole=True)
    last = num_classes - 1
    counts = [int(num_max * imbalance_ratio ** (-k / last)) for k in range(last)]
    return np.array([*counts, int(num_max / imbalance_ratio)], np.int64)


def shaped(shape: str, num_max: float, imbalance_ratio: float, num_classes: int) -> np.ndarray:
    """Computes the unlabeled counts of a shape, for the most labeled class first.

    Args:
      shape: one of `SHAPES`. "middle" has its peak at the classes of medium rank, "head_tail" at
        both ends; "uniform_max" is `num_max` for every class, "uniform_mean" `num_max / K`.
      num_max: images of the most frequent class.
      imbalance_ratio: largest over smallest count; not used by the uniform shapes.
      num_classes: `K`.

    Returns:
      `[K]` int64.

    Raises:
      InputError: an unknown shape, or a value out of its range.

    Source of "middle" and "head_tail": released code of SimPro (LeapLabTHU/SimPro).
    """
    check("unlabeled_imbalance_ratio", imbalance_ratio, 1)
    decaying = long_tailed(num_max, imbalance_ratio, num_classes)
    rising, falling = decaying[::2][::-1], decaying[1::2]  # each has every other count
    match shape:
        case "consistent":
            return decaying
        case "reversed":
            return decaying[::-1]
        case "middle":
            return np.concatenate([rising, falling])
        case "head_tail":
            return np.concatenate([falling, rising])
        case "uniform_max":
            return np.full(num_classes, int(num_max), np.int64)
        case "uniform_mean":
            return np.full(num_classes, int(num_max / num_classes), np.int64)
    raise InputError.unknown("unlabeled_shape", shape, SHAPES)


def check(name: str, value: Any, low: int, *, whole: bool = False) -> None:
    """Raises InputError unless `value` is a finite number, or a whole one, of at least `low`."""
    kind = numbers.Integral if whole else numbers.Real
    number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < low:
        what = "a whole number" if whole else "a number"
        raise InputError(f"{name} is {value!r}; give {what} of at least {low}")
