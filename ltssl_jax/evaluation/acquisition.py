"""Which unlabeled images are worth a label: NumPy, on the host.

Three ideas that are each known, put together in one number that is greedily made large:

uncertain  `1 - (p_1 - p_2)` of the two likeliest classes: margin sampling (Scheffer et al.,
           "Active hidden Markov models for information extraction", IDA 2001).
rare       `sum_k p_k w_k` with `w_k = min_j n_j / n_k` and `n_k` labeled images of class `k`: how
           rare the class is expected to be, in (0, 1]. The weighting of rare classes is that of
           class-balanced learning; an image that is surely of a rare class is worth a label, too.
diverse    `D^2`, the squared distance of unit features to the nearest image that is labeled or
           taken already, as k-means++ (Arthur and Vassilvitskii, SODA 2007), core-sets (Sener and
           Savarese, arXiv:1708.00489) and BADGE (Ash et al., arXiv:1906.03671) have it. Here the
           largest product is taken, where k-means++ and BADGE draw: no seed, and no outlier that is
           neither uncertain nor rare.

An image is taken for the largest `(uncertain + weight * rare) * D^2`, then distances are renewed:
`n` images of `N` with `D` features cost `n * N * D`, and copies are never taken twice.
"""

from typing import NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation.predictions import evenly

_SAME = 1e-5  # squared distance up to which two images look the same; rounding makes less
_ROWS = 4096  # compared at once


class Worth(NamedTuple):
    """What is said of `N` images.

    Attributes:
      guess: `[N]` int, the likeliest class.
      runner_up: `[N]` int, the second.
      probability: `[N]` float32 of the guess.
      uncertainty: `[N]` float32 in [0, 1].
      rarity: `[N]` float32 in (0, 1].
    """

    guess: np.ndarray
    runner_up: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    rarity: np.ndarray


class Chosen(NamedTuple):
    """What was taken.

    Attributes:
      rows: `[n]` int, in the order in which they were taken.
      scores: `[n]`, for which each was taken.
      novelty: `[n]` in [0, 1), the share of all images that lie nearer to the labeled ones than
        this one lay to the labeled and the taken ones.
    """

    rows: np.ndarray
    scores: np.ndarray
    novelty: np.ndarray


def worth(probs: np.ndarray, labeled_counts: np.ndarray) -> Worth:
    """Says of images how uncertain their class is, and how rare.

    Args:
      probs: `[N, K]`, calibrated.
      labeled_counts: `[K]` int; a class without labels counts as one with a single one.
    """
    counts = np.maximum(labeled_counts, 1)
    best = np.argsort(-probs, axis=1, kind="stable")[:, :2]
    first, second = np.take_along_axis(probs, best, axis=1).T
    rarity = probs @ (counts.min() / counts)
    return Worth(*best.T, *(x.astype(np.float32) for x in (first, 1 - first + second, rarity)))


def choose(
    value: np.ndarray, features: np.ndarray, labeled_features: np.ndarray, number: int
) -> Chosen:
    """Takes images of high value that look unlike each other and unlike the labeled ones.

    Args:
      value: `[N]`, at least 0; nothing of value 0 is taken.
      features: `[N, D]`; only their directions matter.
      labeled_features: `[M, D]`; `M` may be 0.
      number: how many to take; fewer if the others are copies.

    Raises:
      InputError: no image can be taken.
    """
    features = _unit(features)
    distances = at_first = _to_nearest(features, _unit(labeled_features))
    taken = []
    for _ in range(min(number, len(value))):
        scores = value * distances
        row = int(np.argmax(scores))
        if scores[row] <= 0:
            break
        taken.append((row, scores[row], np.mean(at_first < distances[row])))
        distances = np.minimum(distances, _squared(features @ features[row]))
        distances[row] = 0  # features that are all 0 lie at a distance from themselves
    if not taken:
        raise InputError(
            f"none of {len(value):,} images is worth a label: to this network all of them look like"
            " labeled ones; train it longer, or give other images"
        )
    return Chosen(*map(np.array, zip(*taken, strict=True)))


def spread(labels: np.ndarray, most: int) -> np.ndarray:
    """Returns about `most` positions, of each class as many at even distances, or all it has."""
    classes = np.unique(labels)
    each = max(1, most // max(len(classes), 1))
    own = [np.flatnonzero(labels == k) for k in classes]
    return np.sort(np.concatenate([rows[evenly(len(rows), each)] for rows in own]))


def _to_nearest(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    if not len(others):
        return np.full(len(features), 2.0, np.float32)  # as if at a right angle
    starts = range(0, len(features), _ROWS)
    return np.concatenate(
        [_squared((features[i : i + _ROWS] @ others.T).max(axis=1)) for i in starts]
    )


def _squared(cosines: np.ndarray) -> np.ndarray:
    distances = 2 - 2 * cosines
    return np.where(distances < _SAME, 0, distances)


def _unit(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)
