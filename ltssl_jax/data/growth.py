"""Which unlabeled images become labeled ones, by what a trained network says of them.

The rules between the generations of self-training. Each takes a `Candidates` and its own settings,
and answers which rows of the pool get which label; the images of a class that the network calls
rare are few, so what "rare" means is said by the counts of the labeled images, never by the number
of a class.
"""

import dataclasses
import hashlib
import inspect
import inspect
from collections.abc import Callable
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


RULES: dict[str, Callable[..., Grown]] = {"everything": everything}


def grown(rule: str, candidates: Candidates, **settings: Any) -> Grown:
    """Applies the rule of that name.

    Raises:
      InputError: the rule has no such setting.
    """
    known = set(inspect.signature(RULES[rule]).parameters) - {"candidates"}
    for name in settings:
        if name not in known:
            raise InputError.unknown(f"setting of the growth rule {rule!r}:", name, known)
    return RULES[rule](candidates, **settings)


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
