"""Which classes are how frequent in the unlabeled pool, as far as a cheap probe can tell.

The label-shift assumption: images of a class look alike in both sets, only the frequencies differ.
A probe scores labeled images that it was not fitted to and images of the pool; its scores are
calibrated on the labeled ones by one temperature and a bias per class, and expectation maximization
finds the class frequencies under which the pool is most likely, held back a little by those of the
labeled set. Images of the pool are spread over the folds of the probe: each is scored as a labeled
image would be, by a probe that has seen four fifths of the labels.

Source: Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities",
Neural Computation 2002; Alexandari et al., "Maximum likelihood with bias-corrected calibration is
hard-to-beat at label shift adaptation", ICML 2020. The folds and the holding back are ours.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ltssl_jax.evaluation.calibration import calibrate
from ltssl_jax.inspection import probe

FEWEST = 5  # labeled images of a class that is estimated by itself
MOST_GROUPS = 100  # with more classes, those of like frequency are estimated together
_FOLDS = 5
_HELD_BACK = 2.0  # weight of the labeled frequencies: this, times groups per labeled image
_WORK = 2e7  # images times groups, over all replicates


class Shift(NamedTuple):
    """Estimated frequencies of `G` groups of classes in the pool.

    Attributes:
      groups: classes of each group, most frequent first; most groups are one class.
      labeled: `[G]` frequencies in the labeled set.
      pool: `[G]` estimated frequencies in the pool.
      low, high: `[G]` bootstrap interval (95 %) of `pool`.
      distance: total variation between `labeled` and `pool`, and its interval.
      balanced_accuracy: of the probe on labeled images it was not fitted to, over the groups.
      chance: the same by guessing.
    """

    groups: list[np.ndarray]
    labeled: np.ndarray
    pool: np.ndarray
    low: np.ndarray
    high: np.ndarray
    distance: tuple[float, float, float]
    balanced_accuracy: float
    chance: float


class NotEstimable(Exception):
    """There is too little to estimate from; the text says what."""


# Two threads of BLAS on small matrices wait for each other, up to fifty times as long as one takes
# where another program uses a core. The replicates have threads of their own.
@threadpool_limits.wrap(limits=1)
def estimate(
    labeled: np.ndarray, labels: np.ndarray, pool: np.ndarray, *, num_classes: int, seed: int = 0
) -> Shift:
    """Estimates the class frequencies of the pool.

    Args:
      labeled: `[n, D]` features of labeled images.
      labels: `[n]` int classes.
      pool: `[m, D]` features of images of the pool.
      num_classes: `K`.
      seed: of folds and bootstrap.

    Raises:
      NotEstimable: too few labels or images, or the probe does not see the classes.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(labels, minlength=num_classes)
    group, groups = grouped(counts)
    _check(groups, counts, pool)
    folds = _folds(labels, rng), np.arange(len(pool)) % _FOLDS
    sizes = np.array([counts[g].sum() for g in groups])
    frequency, accuracy = _frequencies(labeled, labels, pool, folds, group, counts)
    if accuracy < 1.3 / len(groups):
        raise NotEstimable(
            "a probe on cheap features does not see these classes: balanced accuracy"
            f" {accuracy:.0%}, guessing gives {1 / len(groups):.0%}"
        )
    number = int(np.clip(_WORK / (len(groups) * (len(labels) + len(pool))), 20, 50))
    draws = [
        (_resampled(labels, rng), rng.integers(len(pool), size=len(pool))) for _ in range(number)
    ]

    def replicate(draw):
        rows, others = draw
        drawn = folds[0][rows], folds[1][others]
        return _frequencies(labeled[rows], labels[rows], pool[others], drawn, group, counts)[0]

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # NumPy computes outside Python's lock
        replicates = list(threads.map(replicate, draws))
    return _summary(groups, sizes / sizes.sum(), frequency, np.stack(replicates), accuracy)


def grouped(counts: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Joins classes that cannot be told apart: few labels, or too many classes.

    Args:
      counts: `[K]` labeled images.

    Returns:
      Group of each class `[K]`, -1 for those without labeled image, and the classes of each group.
    """
    order = np.argsort(-counts, kind="stable")
    enough, rare = (
        order[counts[order] >= FEWEST],
        order[(counts[order] < FEWEST) & (counts[order] > 0)],
    )
    groups = np.array_split(enough, min(len(enough), MOST_GROUPS)) if len(enough) else []
    if len(rare) and groups and counts[rare].sum() < FEWEST:
        groups[-1] = np.concatenate([groups[-1], rare])
    elif len(rare):
        groups += [rare]
    group = np.full(len(counts), -1)
    for g, classes in enumerate(groups):
        group[classes] = g
    return group, groups


def maximize(probs: np.ndarray, prior: np.ndarray, *, held_back: float = 0.0) -> np.ndarray:
    """Finds the class frequencies `[G]` under which the posteriors `[N, G]` are most likely.

    Args:
      probs: posteriors under `prior`.
      prior: `[G]` class frequencies, positive.
      held_back: weight of `prior`, in images per image.
    """
    ratio, frequency = probs / prior[None, :], prior
    for _ in range(200):
        # q_ik = w_k r_ik / (r w)_i; their mean over i needs no array of the size of `probs`.
        mean = frequency * (ratio.T @ (1 / (ratio @ frequency))) / len(probs)
        new = (mean + held_back * prior) / (1 + held_back)
        if np.abs(new - frequency).sum() < 1e-5:
            return new
        frequency = new
    return frequency


def _check(groups, counts, pool) -> None:
    if len(pool) < 50:
        raise NotEstimable(f"the pool has {len(pool)} images; 50 are the least")
    if len(groups) < 2 or counts[groups[1]].sum() < FEWEST:
        raise NotEstimable(
            f"at least two classes need {FEWEST} labeled images; the most frequent have "
            + ", ".join(str(n) for n in -np.sort(-counts)[:3])
        )


def _folds(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deals the images of each class out to the folds, in turn."""
    shuffled = rng.permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % _FOLDS
    return folds


def _resampled(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws as many images of each class as there are, with replacement."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    of = labels[order]
    return order[starts[of] + (rng.random(len(labels)) * sizes[of]).astype(np.int64)]


def _frequencies(labeled, labels, pool, folds, group, counts) -> tuple[np.ndarray, float]:
    """Returns frequencies `[G]` in the pool, and the balanced accuracy of the probe."""
    from scipy.special import softmax

    num_groups = group.max() + 1
    known = np.empty((len(labeled), num_groups), np.float32)
    unknown = np.empty((len(pool), num_groups), np.float32)
    for fold in range(_FOLDS):
        fitted, tested, scored = folds[0] != fold, folds[0] == fold, folds[1] == fold
        found = probe.fit(labeled[fitted], labels[fitted], len(counts))
        known[tested] = _group_scores(found, labeled[tested], group, counts)
        unknown[scored] = _group_scores(found, pool[scored], group, counts)
    truth = group[labels]
    factor, bias = calibrate(known, truth)
    probs, prior = (softmax(factor * x + bias[None, :], axis=1) for x in (unknown, known))
    held_back = _HELD_BACK * num_groups / len(labels)
    frequency = maximize(probs, prior.mean(axis=0), held_back=held_back)
    return frequency, _balanced_accuracy(known, truth, counts, group)


def _group_scores(found, features, group, counts) -> np.ndarray:
    """Returns log joint densities `[N, G]`, normalized."""
    used = np.flatnonzero(group >= 0)
    used = used[np.argsort(group[used], kind="stable")]
    scores = (
        probe.log_likelihoods(found, features)[:, used]
        + np.log(counts[used] / counts.sum())[None, :]
    )
    scores -= scores.max(axis=1, keepdims=True)
    starts = np.flatnonzero(np.diff(group[used], prepend=-1))
    sums = np.add.reduceat(np.exp(scores), starts, axis=1)
    return np.log(sums / sums.sum(axis=1, keepdims=True) + 1e-12)


def _balanced_accuracy(log_probs, truth, counts, group) -> float:
    prior = np.bincount(group[group >= 0], weights=counts[group >= 0])
    is_right = np.argmax(log_probs - np.log(prior)[None, :], axis=1) == truth
    of_group = np.bincount(truth, weights=is_right) / np.maximum(np.bincount(truth), 1)
    return float(of_group[np.bincount(truth) > 0].mean())


def _summary(groups, labeled, pool, replicates, accuracy) -> Shift:
    # Normal intervals: with as few as 20 replicates quantiles would be guesses.
    width = 1.96 * replicates.std(axis=0, ddof=1)
    # A distance adds up noise of either sign, so it lies above the truth. The triangle inequality
    # bounds the truth nevertheless: by how far the estimate is from itself when drawn again.
    distance = float(_variation(pool, labeled))
    spread = float(np.quantile(_variation(replicates, pool[None, :]), 0.95))
    return Shift(
        groups, labeled, pool, (pool - width).clip(min=0), (pool + width).clip(max=1),
        (distance, max(0.0, distance - spread), min(1.0, distance + spread)),
        accuracy, 1 / len(groups),
    )  # fmt: skip


def _variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return 0.5 * np.abs(p - q).sum(axis=-1)
