"""How much better one network is than another, and how sure that is; NumPy, on the host."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import metrics
from ltssl_jax.evaluation.predictions import Predictions

LEVEL = 0.95


class Interval(NamedTuple):
    """A difference, and between which numbers it lies with 95 % confidence.

    Attributes:
      value: ours minus theirs.
      low, high: NaN where nothing can be said.
      num: how many images or seeds.
      over: what would be drawn again: "test images" or "seeds".
    """

    value: float
    low: float
    high: float
    num: int
    over: str

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def over_images(
    ours: Predictions,
    theirs: Predictions,
    metric: Callable[[np.ndarray], float] = metrics.balanced_accuracy,
    *,
    num_replicates: int = 1000,
    seed: int = 0,
) -> Interval:
    """Bounds the difference of two networks on the same images, had others been drawn.

    Paired bootstrap, stratified by true class: each replicate draws as many images of each class as
    there are, with replacement, and scores both networks on them; low and high are percentiles. It
    says nothing of other seeds, and of a class with two or three images it knows too little.

    Args:
      ours, theirs: of the same images in the same order; those of unknown class are left out.
      metric: of a confusion matrix `[K, K]`.
      num_replicates: how often images are drawn.
      seed: of the draws.

    Raises:
      InputError: these are not the same images, or no image has a class.
    """
    _check(ours, theirs)
    known = ours.labels >= 0
    num_classes = ours.logits.shape[1]
    triples = np.stack([ours.labels, ours.classes, theirs.classes])[:, known].astype(np.int64)
    # Images that both networks answer alike are the same to every confusion matrix.
    cells, counts = np.unique(triples, axis=1, return_counts=True)
    places = [cells[0] * num_classes + cells[i] for i in (1, 2)]

    def difference(drawn):
        tables = (np.bincount(place, drawn, num_classes**2) for place in places)
        ours, theirs = (metric(table.reshape(num_classes, num_classes)) for table in tables)
        return ours - theirs

    draws = _draws(cells[0], counts, num_replicates, np.random.default_rng(seed))
    low, high = np.quantile([difference(drawn) for drawn in draws], _TAILS)
    return Interval(
        float(difference(counts)), float(low), float(high), int(known.sum()), "test images"
    )


def over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Bounds the mean difference of runs that are paired by seed, had other seeds been drawn.

    Student's t interval of the differences: it takes them for normal, which few seeds cannot show.

    Args:
      ours, theirs: `[n]` numbers of runs, in the same order of seeds.

    Returns:
      The interval; low and high are NaN where `n < 2`.

    Raises:
      InputError: they are of different numbers of runs, or none.
    """
    from scipy.stats import t

    if len(ours) != len(theirs) or not len(ours):
        raise InputError(
            f"{len(ours)} runs cannot be paired with {len(theirs)}; give one of each for every seed"
        )
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    number, mean = len(differences), float(differences.mean())
    if number < 2:
        return Interval(mean, np.nan, np.nan, number, "seeds")
    width = float(t.ppf(_TAILS[1], number - 1) * differences.std(ddof=1) / np.sqrt(number))
    return Interval(mean, mean - width, mean + width, number, "seeds")


_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def _check(ours: Predictions, theirs: Predictions) -> None:
    if not np.array_equal(ours.names, theirs.names) or not np.array_equal(
        ours.labels, theirs.labels
    ):
        raise InputError(
            f"predictions of {len(ours):,} images are compared with those of {len(theirs):,}"
            " others: names or true classes differ; compare runs on the same test set"
        )
    if ours.logits.shape != theirs.logits.shape:
        raise InputError(
            f"predictions of {ours.logits.shape[1]} classes are compared with those of"
            f" {theirs.logits.shape[1]}; compare runs on the same classes"
        )
    if not np.any(ours.labels >= 0):
        raise InputError("no image has a known class; compare on images that have one")


def _draws(labels: np.ndarray, counts: np.ndarray, number: int, rng: np.random.Generator):
    """Draws how often each cell is drawn, `[number, cells]`: as many of each class as there are."""
    parts = []
    for label in np.unique(labels):  # sorted, like `labels`
        of = counts[labels == label]
        parts.append(rng.multinomial(of.sum(), of / of.sum(), size=number).astype(np.int32))
    return np.concatenate(parts, axis=1)
