"""A linear probe in closed form that copes with classes of one image: probabilistic LDA.

Class means are draws around a common mean, features are draws around class means; both
covariances are shared and estimated. A class is then known as well as its images allow: the fewer,
the nearer its mean lies to the common one, and the wider it is.

Source: Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006.
"""

from typing import NamedTuple

import numpy as np

_SHRINKAGE = 0.1  # of the covariance within classes towards a multiple of the identity


class Probe(NamedTuple):
    """Projection `[D, D]`, and the predictive mean and variance `[K, D]` of each class in it."""

    projection: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def project(features: np.ndarray, num_dimensions: int, *, limit: int = 10_000) -> np.ndarray:
    """Returns the first principal components `[N, d]` float32 of `[N, D]`.

    Of more than `limit` rows, evenly spaced ones say which directions these are.
    """
    rows = features[:: -(-len(features) // limit)]
    mean = rows.mean(axis=0)
    centered = rows - mean[None, :]
    _, vectors = np.linalg.eigh(centered.T @ centered)
    return (features - mean[None, :]) @ vectors[:, ::-1][:, :num_dimensions]


def fit(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Probe:
    """Fits the two covariances to `[N, D]` features with `[N]` labels; classes may be empty."""
    n = np.bincount(labels, minlength=num_classes)
    used, dimensions = n > 0, features.shape[1]
    order = np.argsort(labels, kind="stable")
    starts = (np.cumsum(n) - n)[used]
    means = np.zeros((num_classes, dimensions), np.float32)
    means[used] = np.add.reduceat(features[order], starts) / n[used, None]
    center = means[used].mean(axis=0)
    rest = features - means[labels]
    within = rest.T @ rest / max(1, len(labels) - used.sum())
    level = max(np.trace(within) / dimensions, 1e-12)
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * level * np.eye(dimensions)
    whitening = np.linalg.inv(np.linalg.cholesky(within)).T
    white = (means[used] - center[None, :]) @ whitening
    # Means of few images scatter even if the classes are one: the part of 1 / n is taken off.
    between = white.T @ white / max(1, used.sum() - 1) - np.mean(1 / n[used]) * np.eye(dimensions)
    spread, axes = np.linalg.eigh(between)
    projection, spread = whitening @ axes, spread.clip(min=0)
    strength = n[:, None] * spread[None, :]
    mean = center @ projection + strength / (strength + 1) * (
        (means - center[None, :]) @ projection
    )
    variance = 1 + spread[None, :] / (strength + 1)
    return Probe(*(x.astype(np.float32) for x in (projection, mean, variance)))


def log_likelihoods(probe: Probe, features: np.ndarray) -> np.ndarray:
    """Returns the log density `[N, K]` of each image in each class, but for a common constant."""
    x = features @ probe.projection
    precision = 1 / probe.variance
    constant = np.sum(probe.mean**2 * precision + np.log(probe.variance), axis=1)
    return x @ (probe.mean * precision).T - 0.5 * (x**2 @ precision.T + constant[None, :])
