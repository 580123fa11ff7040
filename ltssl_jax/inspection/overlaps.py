"""Copies seen from the split: which lie on two sides, and which disagree about the class."""

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from ltssl_jax.inspection.duplicates import Copies
from ltssl_jax.inspection.overview import PARTS

_HARMFUL = (
    ("labeled", "test"),
    ("labeled", "validation"),
    ("pool", "test"),
    ("pool", "validation"),
)


def summary(copies: Copies, part: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Counts copies.

    Args:
      copies: clusters of positions.
      part: `[N]` int, number in `PARTS` of each image.
      labels: `[N]` int, -1 where the class is unknown.

    Returns:
      `clusters`, `images` in them, `superfluous` (images less clusters), `conflicts` (clusters with
      two known classes), and `between`: for two parts, the images of the second that have a copy in
      the first; for one and the same, those beyond the first of each cluster.
    """
    conflicts = sum(is_conflict(cluster, labels) for cluster in copies.clusters)
    between = {}
    for a, b in combinations_with_replacement(range(len(PARTS)), 2):
        count = sum(_met(part[cluster], a, b) for cluster in copies.clusters)
        if count:
            between[f"{PARTS[a]}/{PARTS[b]}"] = count
    images = sum(map(len, copies.clusters))
    return {
        "clusters": len(copies.clusters),
        "images": images,
        "superfluous": images - len(copies.clusters),
        "conflicts": conflicts,
        "between": between,
        "is_complete": copies.is_complete,
    }


def leaked(between: Mapping[str, int]) -> dict[str, int]:
    """Picks what makes an evaluation too good: copies of training images in its sets."""
    return {f"{a}/{b}": n for a, b in _HARMFUL if (n := between.get(f"{a}/{b}"))}


def worst_first(copies: Copies, part: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Orders clusters: training with evaluation, conflicts of class, labeled with pool, others."""

    def harm(cluster: np.ndarray) -> tuple:
        present = {PARTS[p] for p in part[cluster]}
        crossing = [set(pair) <= present for pair in _HARMFUL]
        is_mixed = {"labeled", "pool"} <= present
        return (*crossing, is_conflict(cluster, labels), is_mixed, -len(cluster))

    return sorted(copies.clusters, key=harm, reverse=True)


def is_conflict(cluster: np.ndarray, labels: np.ndarray) -> bool:
    """Says whether the images of a cluster have two known classes."""
    known = labels[cluster][labels[cluster] >= 0]
    return len(known) > 0 and bool((known != known[0]).any())


def _met(parts: np.ndarray, a: int, b: int) -> int:
    if a == b:
        return max(int((parts == a).sum()) - 1, 0)
    return int((parts == b).sum()) if (parts == a).any() else 0
