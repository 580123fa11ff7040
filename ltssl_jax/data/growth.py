"""Which unlabeled images become labeled ones, by what a trained network says of them.

The rules between the generations of self-training. Each takes a `Candidates` and its own settings,
and answers which rows of the pool get which label; the images of a class that the network calls
rare are few, so what "rare" means is said by the counts of the labeled images, never by the number
of a class.
"""

import dataclasses
import hashlib
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Source
from ltssl_jax.data.splits import Split


class Candidates(NamedTuple):
    """What there is to decide by.

    Attributes:
      probs: `[N_u, K]` float32, what the network says of each unlabeled image.
      features: `[N_u, D]` float32, of the same images.
      labeled_features: `[N_l, D]` float32.
      labels: `[N_l]` int, classes of the labeled images, pseudo-labels among them.
      labeled_counts: `[K]` int, labeled images of each class before any pseudo-label.
      is_free: `[N_u]` bool, not labeled already.
    """

    probs: np.ndarray
    features: np.ndarray
    labeled_features: np.ndarray
    labels: np.ndarray
    labeled_counts: np.ndarray
    is_free: np.ndarray


class Grown(NamedTuple):
    """Pseudo-labels: `rows` `[n]` int64 of the pool, in increasing order, and `labels` `[n]`."""

    rows: np.ndarray
    labels: np.ndarray

    @classmethod
    def nothing(cls) -> "Grown":
        """Returns no pseudo-labels."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int32))


def everything(candidates: Candidates) -> Grown:
    """Labels every free image by its most probable class, however unsure.

    Source: Yang & Xu, "Rethinking the Value of Labels", arXiv:2006.07529.
    """
    rows = np.flatnonzero(candidates.is_free)
    return Grown(rows, candidates.probs[rows].argmax(axis=1).astype(np.int32))


def by_rarity(candidates: Candidates, *, alpha: float = 3.0, imbalance_ratio: float = 0.0) -> Grown:
    """Labels the surest free images of each class, a larger share of a rarer class.

    Of the free images that the network calls by the class of rank `r` among `K`, most frequent
    first, the share `(prior of rank K - 1 - r / prior of rank 0) ** (1 / alpha)` is taken: all of
    the rarest class. Classes with equally many labels take the mean of their shares.

    Args:
      candidates: what there is to decide by.
      alpha: the larger, the more images of frequent classes are taken.
      imbalance_ratio: of a prior that decays geometrically; 0: that of the labeled images.

    Raises:
      InputError: a setting is out of range.

    Source: Wei et al., "CReST", arXiv:2102.09559.
    """
    check = InputError.check
    check(alpha > 0, "growth.alpha", alpha, "positive")
    is_ratio = imbalance_ratio == 0 or imbalance_ratio >= 1
    check(is_ratio, "growth.imbalance_ratio", imbalance_ratio, "at least 1, or 0")
    labels, confidences = candidates.probs.argmax(axis=1), candidates.probs.max(axis=1)
    taken = []
    for k, share in enumerate(_shares(candidates.labeled_counts, alpha, imbalance_ratio)):
        called = np.flatnonzero(candidates.is_free & (labels == k))
        order = np.argsort(-confidences[called], kind="stable")
        taken.append(called[order[: int(len(called) * share)]])
    rows = np.sort(np.concatenate(taken))
    return Grown(rows, labels[rows].astype(np.int32))


def _shares(class_counts: np.ndarray, alpha: float, imbalance_ratio: float) -> np.ndarray:
    """Returns the share `[K]` of each class that `by_rarity` takes."""
    counts = np.maximum(class_counts, 1)
    relative = np.sort(counts)[::-1] / counts.max()
    if imbalance_ratio:
        relative = imbalance_ratio ** -np.linspace(0.0, 1.0, len(counts))
    # By rank; of classes with equal counts none has the better one.
    _, group, sizes = np.unique(-counts, return_inverse=True, return_counts=True)
    shares = relative[::-1] ** (1 / alpha)
    return (np.add.reduceat(shares, np.cumsum(sizes) - sizes) / sizes)[group]


def nearest(
    candidates: Candidates, *, clusters: int = 3, share: float = 0.5, seed: int = 0
) -> Grown:
    """Labels free images near to clusters of labeled ones, the nearest of every cluster first.

    The labeled images of each class form up to `clusters` clusters (k-means). A free image belongs
    to the cluster whose centre is nearest, by the angle of the features; of those that belong to
    it, each cluster takes the share that is nearest, and at least one.

    Args:
      candidates: what there is to decide by.
      clusters: per class, at most.
      share: of the free images, in (0, 1]; 1 labels all of them.
      seed: of k-means.

    Raises:
      InputError: a setting is out of range.

    Source: ours, after the outline in the abstract of Yan et al., "DML-PL", doi
    10.1016/j.ins.2023.01.074.
    """
    InputError.check(clusters >= 1, "growth.clusters", clusters, "at least 1")
    InputError.check(0 < share <= 1, "growth.share", share, "above 0 and at most 1")
    centers, classes = _centers(candidates, clusters, seed)
    free = np.flatnonzero(candidates.is_free)
    cosines = _unit(candidates.features[free]) @ centers.T
    cluster = cosines.argmax(axis=1)
    taken = []
    for number in range(len(centers)):
        members = np.flatnonzero(cluster == number)
        order = np.argsort(-cosines[members, number], kind="stable")
        taken.append(members[order[: math.ceil(len(members) * share)]])
    taken = np.sort(np.concatenate(taken))
    return Grown(free[taken], classes[cluster[taken]].astype(np.int32))


def _centers(candidates: Candidates, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns directions `[C, D]` of the clusters of all classes, and the class `[C]` of each."""
    from sklearn.cluster import KMeans

    features, centers, classes = _unit(candidates.labeled_features), [], []
    for k in np.unique(candidates.labels):
        own = features[candidates.labels == k]
        number = min(clusters, len(np.unique(own, axis=0)))
        fitted = KMeans(number, n_init=3, random_state=seed).fit(own)
        centers.append(_unit(fitted.cluster_centers_))
        classes += [k] * number
    return np.concatenate(centers), np.array(classes)


def _unit(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, 1e-12)


RULES: dict[str, Callable[..., Grown]] = {
    "everything": everything,
    "by_rarity": by_rarity,
    "nearest": nearest,
}


def grown(rule: str, candidates: Candidates, **settings: Any) -> Grown:
    """Applies the rule of that name.

    Raises:
      InputError: there is no such rule, or it has no such setting.
    """
    check(rule, settings)
    return RULES[rule](candidates, **settings)


def check(rule: str, settings: Iterable[str]) -> None:
    """Refuses a rule that there is not, and settings that it has not; no rule has no settings.

    Raises:
      InputError: names the nearest one.
    """
    if rule and rule not in RULES:
        raise InputError.unknown("growth.rule", rule, RULES)
    known = set(inspect.signature(RULES[rule]).parameters) - {"candidates"} if rule else set()
    for name in settings:
        if name not in known:
            raise InputError.unknown(f"setting of the growth rule {rule!r}:", name, known)


def united(earlier: Grown, new: Grown) -> Grown:
    """Joins pseudo-labels; a row that had one keeps it."""
    is_new = ~np.isin(new.rows, earlier.rows)
    rows = np.concatenate([earlier.rows, new.rows[is_new]])
    order = np.argsort(rows, kind="stable")
    return Grown(rows[order], np.concatenate([earlier.labels, new.labels[is_new]])[order])


def applied(source: Source, split: Split, grown: Grown) -> tuple[Source, Split]:
    """Adds pseudo-labels to the labeled set; the images stay in the pool, too.

    Args:
      source, split: as they were cut; the split is never drawn again.
      grown: which rows of `split.unlabeled` get which label.

    Returns:
      A source whose training labels are the pseudo-labels where there are any, and the split with
      its labeled images first, then the new ones. Its fingerprint knows both.
    """
    positions = split.unlabeled[grown.rows]
    labels, is_labeled = source.train.labels.copy(), split.is_labeled.copy()
    labels[positions], is_labeled[grown.rows] = grown.labels, True
    fingerprint = hashlib.sha256(split.fingerprint.encode())
    fingerprint.update(positions.astype("<i8").tobytes() + grown.labels.astype("<i4").tobytes())
    train = dataclasses.replace(source.train, labels=labels)
    return dataclasses.replace(source, train=train), dataclasses.replace(
        split,
        labeled=np.concatenate([split.labeled, positions]),
        is_labeled=is_labeled,
        labeled_counts=split.labeled_counts
        + np.bincount(grown.labels, minlength=len(split.labeled_counts)),
        fingerprint=fingerprint.hexdigest(),
    )
