"""Every reported number, from the confusion matrix alone; NumPy, on the host.

`confusion` is `[K, K]` int, rows true classes, columns predicted ones. `labeled_counts` is `[K]`
int, the labeled training examples per class: it says which classes are frequent, whatever the
order of their indices. A class absent from the evaluation set has recall NaN and is left out of
every mean; a mean over no class is NaN.
"""

import math

import numpy as np

from ltssl_jax.core import InputError


def recall_per_class(confusion: np.ndarray) -> np.ndarray:
    """Computes the share of each class that was recognized: `[K]` float64, NaN where absent."""
    support = confusion.sum(axis=1)
    unknown = np.full(len(support), np.nan)
    return np.divide(np.diag(confusion), support, out=unknown, where=support > 0)


def accuracy(confusion: np.ndarray) -> float:
    """Computes the share of all examples that were recognized."""
    return float(np.trace(confusion) / confusion.sum())


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Computes the mean recall over the classes present in the evaluation set."""
    return _mean_over_present(recall_per_class(confusion))


def geometric_mean(confusion: np.ndarray, *, floor: float) -> float:
    """Computes the geometric mean of the recalls of the classes present.

    Args:
      confusion: `[K, K]` int.
      floor: replaces recalls that are exactly 0. Published long-tailed tables use `1 / (100 K)`,
        without saying so; 0 gives the textbook value, 0 as soon as one class is never recognized.

    Source of the replacement: reference code of DARP, SAW, CoSSL and TRAS.
    """
    recall = recall_per_class(confusion)
    present = recall[~np.isnan(recall)]
    floored = np.where(present == 0, floor, present)
    return float(np.prod(floored ** (1 / len(floored))))


def worst_class(confusion: np.ndarray) -> tuple[int, float]:
    """Finds the class with the lowest recall (the first of several), and that recall."""
    recall = recall_per_class(confusion)
    worst = int(np.nanargmin(recall))
    return worst, float(recall[worst])


def class_groups(labeled_counts: np.ndarray) -> dict[str, np.ndarray]:
    """Splits the classes into `many`, `medium` and `few` by their labeled counts.

    Classes are ranked by labeled count, equal counts by class index. The `int(K / 3)` most frequent
    are `many`, the `int(K / 3)` rarest `few`, the rest `medium`. Fewer than three classes make
    `many` and `few` empty.

    Returns:
      Class ids by group, from frequent to rare.

    Source: thirds as logged by the reference code of DARP and CoSSL.
    """
    ranked = _by_frequency(labeled_counts)
    third, num_classes = len(ranked) // 3, len(ranked)
    many, medium, few = np.split(ranked, [third, num_classes - third])
    return {"many": many, "medium": medium, "few": few}


def minority_recall(confusion: np.ndarray, labeled_counts: np.ndarray) -> float:
    """Computes the mean recall over the rarer half of the classes by labeled count.

    These are the classes of rank `int(K / 2)` and beyond: of an odd number, the middle one counts
    as rare. Equal counts are ranked by class index.

    Source: minority accuracy in the reference code of ABC and TRAS.
    """
    ranked = _by_frequency(labeled_counts)
    return _mean_over_present(recall_per_class(confusion)[ranked[len(ranked) // 2 :]])


def summary(
    confusion: np.ndarray, labeled_counts: np.ndarray, *, geometric_mean_floor: float
) -> dict[str, float]:
    """Collects all metrics, as fractions in `[0, 1]`, under flat names.

    Args:
      confusion: `[K, K]` int, with at least one example.
      labeled_counts: `[K]` int.
      geometric_mean_floor: replaces zero recalls in `geometric_mean_floored`; `geometric_mean`
        is without replacement.

    Raises:
      InputError: shapes that do not agree, or an empty evaluation.
    """
    _check(confusion, labeled_counts)
    recall = recall_per_class(confusion)
    groups = class_groups(labeled_counts)
    return {
        "accuracy": accuracy(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
        "geometric_mean": geometric_mean(confusion, floor=0.0),
        "geometric_mean_floored": geometric_mean(confusion, floor=geometric_mean_floor),
        "worst_class_recall": worst_class(confusion)[1],
        **{name: _mean_over_present(recall[classes]) for name, classes in groups.items()},
        "minority": minority_recall(confusion, labeled_counts),
    }


def _check(confusion: np.ndarray, labeled_counts: np.ndarray) -> None:
    num_classes = len(labeled_counts)
    if confusion.shape != (num_classes, num_classes):
        raise InputError(
            f"the confusion matrix has shape {confusion.shape} but the training set has "
            f"{num_classes} classes; evaluate with the classes of the training set"
        )
    if not confusion.sum():
        raise InputError("the confusion matrix counts no example; evaluate on a set that has some")


def _by_frequency(labeled_counts: np.ndarray) -> np.ndarray:
    # In int64, since minus an unsigned count would wrap; stable, so that ties keep their order.
    return np.argsort(-np.asarray(labeled_counts, np.int64), kind="stable")


def _mean_over_present(recall: np.ndarray) -> float:
    present = recall[~np.isnan(recall)]
    return float(present.mean()) if present.size else math.nan
