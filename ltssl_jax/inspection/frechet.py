"""How far apart the features of two sets lie, with what chance alone would give.

The Fréchet distance compares two means and two covariances. It grows with any difference: other
cameras, other classes, other frequencies. It is a diagnostic and no verdict, and comparable only
with its own yardstick: the same between random halves of one set, with as many images.

Source: Dowson & Landau, "The Fréchet distance between multivariate normal distributions", Journal
of Multivariate Analysis 1982.
"""

from typing import NamedTuple

import numpy as np

_DIMENSIONS = 32  # few, so that a few hundred images determine a covariance
_FEWEST = 2 * _DIMENSIONS  # images of a set
_REPLICATES, _HALVINGS = 200, 50


class Comparison(NamedTuple):
    """Distances in units of the pool's total variance, each between `num_images` and as many.

    Attributes:
      distance: between labeled images and pool; like the yardstick, with what chance adds.
      low, high: its bootstrap interval (95 %).
      yardstick: mean between random halves of the pool.
      yardstick_high: what 95 % of these stay below.
      num_images: of each set.
    """

    distance: float
    low: float
    high: float
    yardstick: float
    yardstick_high: float
    num_images: int


def compare(labeled: np.ndarray, pool: np.ndarray, *, seed: int = 0) -> Comparison | None:
    """Compares features `[n, D]` and `[m, D]`, most important first; None for too few images."""
    rng = np.random.default_rng(seed)
    size = min(len(labeled), len(pool) // 2)
    if size < _FEWEST:
        return None
    labeled, pool = labeled[:, :_DIMENSIONS], pool[:, :_DIMENSIONS]
    scale = float(pool.var(axis=0).sum()) or 1.0
    ours, theirs = rng.permutation(labeled)[:size], rng.permutation(pool)[:size]
    distance = squared_distance(ours, theirs)
    drawn = np.array(
        [
            squared_distance(rng.choice(ours, size), rng.choice(theirs, size))
            for _ in range(_REPLICATES)
        ]
    )
    halves = (rng.permutation(pool)[: 2 * size] for _ in range(_HALVINGS))
    chance = np.array([squared_distance(half[:size], half[size:]) for half in halves])
    # Resampling adds to the distance, as sampling did, so only the spread of the replicates counts.
    width = 1.96 * drawn.std()
    values = (distance, max(distance - width, 0.0), distance + width)
    values += (chance.mean(), np.quantile(chance, 0.95))
    return Comparison(*(float(value) / scale for value in values), size)


def squared_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Computes `|m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))` of `[n, D]` and `[m, D]`."""
    mean = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2)
    a, b = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(min=0))[None, :] @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(min=0)).sum()
    return float(mean + np.trace(a) + np.trace(b) - 2 * cross)
