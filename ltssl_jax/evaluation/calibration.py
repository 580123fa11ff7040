"""Whether probabilities mean what they say, and what makes them; NumPy, on the host.

A network that says 0.9 should be right nine times in ten. `reliability`, `expected_error` and
`brier` measure it; `fit` finds the temperature and the class biases that mend it; `applied` gives
mended probabilities, for other class frequencies too.

Source: Guo et al., "On calibration of modern neural networks", ICML 2017; Alexandari et al.,
"Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation",
ICML 2020. The normal prior on biases is ours.
"""

from typing import NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation.metrics import class_groups
from ltssl_jax.evaluation.predictions import softmax

SURE = 0.95  # one-sided confidence of the bound that `threshold_for` wants above the precision


class Reliability(NamedTuple):
    """How often the likeliest class is right, by the probability given to it.

    Attributes:
      edges: `[B + 1]` of the bins; a probability on an edge belongs to the bin below it.
      count: `[B]` int, images.
      confidence: `[B]` their mean probability; NaN in empty bins.
      accuracy: `[B]` the share of them that is right; NaN in empty bins.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class Calibration(NamedTuple):
    """What `fit` found: probabilities are `softmax(factor * logits + bias)`.

    Attributes:
      factor: one over the temperature.
      bias: `[K]`, zeros where only a temperature was fitted.
      prior: `[K]` class frequencies that these probabilities take for granted; all positive.
      fitted_on: which images, for people.
      num_images: how many.
    """

    factor: float
    bias: np.ndarray
    prior: np.ndarray
    fitted_on: str
    num_images: int

    @property
    def temperature(self) -> float:
        """Above 1 where the network is too sure of itself."""
        return 1 / self.factor


def reliability(probs: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> Reliability:
    """Compares the probability of the likeliest class with how often it is right.

    Args:
      probs: `[N, K]`.
      labels: `[N]` int; images of unknown class, -1, are left out.
      num_bins: `B` bins of equal width.
    """
    probs, labels = _known(probs, labels)
    edges = np.linspace(0, 1, num_bins + 1)
    confidence = probs.max(axis=1)
    place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=num_bins)

    def mean(values):
        sums = np.bincount(place, weights=values, minlength=num_bins)
        return np.divide(sums, count, out=np.full(num_bins, np.nan), where=count > 0)

    return Reliability(edges, count, mean(confidence), mean(probs.argmax(axis=1) == labels))


def expected_error(found: Reliability) -> float:
    """Computes the mean distance of confidence and accuracy over images (ECE); NaN of none."""
    number = found.count.sum()
    gaps = np.nan_to_num(np.abs(found.accuracy - found.confidence))
    return float(found.count @ gaps / number) if number else np.nan


def brier(probs: np.ndarray, labels: np.ndarray) -> float:
    """Computes the squared distance to the truth, summed over classes: from 0 to 2; NaN of none.

    Args:
      probs: `[N, K]`.
      labels: `[N]` int; images of unknown class, -1, are left out.
    """
    probs, labels = _known(probs, labels)
    squares = (probs**2).sum(axis=1) - 2 * probs[np.arange(len(labels)), labels] + 1
    return float(squares.mean()) if len(labels) else np.nan


def summary(
    probs: np.ndarray, labels: np.ndarray, labeled_counts: np.ndarray
) -> dict[str, dict[str, float]]:
    """Collects the numbers on all images, and on those of frequent and of rare classes.

    Groups are by true class. What is calibrated on all images need not be within a group: rare
    classes have lower accuracy than confidence as soon as the network leans to frequent ones.

    Args:
      probs: `[N, K]`.
      labels: `[N]` int, -1 where unknown.
      labeled_counts: `[K]` int, labeled training images; see `metrics.class_groups`.

    Returns:
      `num_images`, `confidence`, `accuracy`, `ece`, `brier` (NaN of no image) by group: `all`,
      `many`, `medium`, `few`.
    """
    probs, labels = _known(probs, labels)
    rows = {name: np.isin(labels, group) for name, group in class_groups(labeled_counts).items()}
    everything = {"all": np.ones(len(labels), bool)} | rows
    return {name: _numbers(probs[mask], labels[mask]) for name, mask in everything.items()}


def fit(logits: np.ndarray, labels: np.ndarray, fitted_on: str, *, with_bias=True) -> Calibration:
    """Finds the temperature, and a bias per class, that make probabilities of logits calibrated.

    Args:
      logits: `[N, K]` of images that the network was not trained on.
      labels: `[N]` int; images of unknown class, -1, are left out.
      fitted_on: what these images are, for people.
      with_bias: else a temperature alone, which changes no predicted class.

    Raises:
      InputError: no image has a class, or logits are not finite.
    """
    logits, labels = _known(logits, labels)
    if not len(labels):
        raise InputError(f"nothing can be calibrated on {fitted_on}: no image of it has a class")
    if not np.isfinite(logits).all():
        raise InputError(
            f"nothing can be calibrated on {fitted_on}: the network answers with numbers that are"
            " not finite, its training has diverged"
        )
    centered = (logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
    factor, bias = calibrate(centered, labels, with_bias=with_bias, is_held=True)
    prior = softmax(factor * centered + bias[None, :]).mean(axis=0, dtype=np.float64)
    # A class that nothing is said of keeps a frequency that can be divided by.
    prior = np.maximum(prior, 1e-3 / len(labels))
    return Calibration(factor, bias, prior / prior.sum(), fitted_on, len(labels))


def applied(
    calibration: Calibration, logits: np.ndarray, prior: np.ndarray | None = None
) -> np.ndarray:
    """Returns calibrated probabilities `[N, K]`, the softmax of `adjusted`."""
    return softmax(adjusted(calibration, logits, prior))


def adjusted(
    calibration: Calibration, logits: np.ndarray, prior: np.ndarray | None = None
) -> np.ndarray:
    """Returns calibrated logits `[N, K]` float64.

    Args:
      calibration: of this network.
      logits: `[N, K]`.
      prior: `[K]` class frequencies where the images come from, if they differ from those of the
        calibration: `p(class | image)` is multiplied by their ratio. A class of frequency 0 gets
        probability 0.

    Source of the adjustment: Saerens et al., "Adjusting the outputs of a classifier to new a priori
    probabilities", Neural Computation 2002.
    """
    scores = calibration.factor * logits.astype(np.float64) + calibration.bias[None, :]
    if prior is None:
        return scores
    with np.errstate(divide="ignore"):
        return scores + (np.log(prior) - np.log(calibration.prior))[None, :]


def threshold_for(
    probs: np.ndarray, labels: np.ndarray, precision: float, prior: np.ndarray | None = None
) -> float:
    """Finds the lowest probability from which predictions are right as often as is asked for.

    Images are sorted by the probability of their likeliest class. Among those from the threshold
    on, the share of right ones must be `precision` by its Clopper-Pearson lower bound (one-sided,
    95 %). The bound is that of one threshold: searching for the lowest flatters a little.

    Args:
      probs: `[N, K]` of images that the network was not trained on.
      labels: `[N]` int; images of unknown class, -1, are left out.
      precision: share that is to be right, in (0, 1).
      prior: `[K]` class frequencies to be expected, if not those of `labels`: images are weighted,
        and count as `(sum of weights)^2 / (sum of squares)`.

    Returns:
      The threshold; infinity where none suffices.
    """
    from scipy.special import betaincinv

    probs, labels = _known(probs, labels)
    confidence = probs.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    weights = _weights(labels, probs.shape[1], prior)[order]
    is_right = (probs.argmax(axis=1) == labels)[order]
    total = np.maximum(np.cumsum(weights), np.finfo(float).tiny)
    number = total**2 / np.maximum(np.cumsum(weights**2), np.finfo(float).tiny)
    right = np.cumsum(weights * is_right) / total * number
    bound = betaincinv(np.maximum(right, 1e-9), number - right + 1, 1 - SURE)
    # Equal probabilities lie on one side of a threshold: the last of them speaks for all.
    is_last = np.diff(confidence[order], append=-1) != 0
    enough = np.flatnonzero(is_last & (bound >= precision))
    return float(confidence[order][enough[-1]]) if len(enough) else np.inf


def calibrate(
    log_probs: np.ndarray, labels: np.ndarray, *, with_bias: bool = True, is_held: bool = False
) -> tuple[float, np.ndarray]:
    """Finds factor and biases `[G]` that make `softmax(factor * log_probs + bias)` calibrated.

    Biases are held near 0 by a normal prior of variance 1; without them they are zeros. `is_held`
    holds the logarithm of the factor likewise: where every image is right it would grow forever.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    rows = np.arange(len(labels))
    counts = np.bincount(labels, minlength=log_probs.shape[1])
    # About the square roots of the second derivatives: with them every direction is as steep, and
    # a few steps suffice for frequent and rare classes, without them 100 for 1,000 classes.
    scale = np.sqrt(np.append(len(labels), counts + 1 if with_bias else []))

    def objective(scaled):
        x = scaled / scale
        factor, bias = np.exp(x[0]), x[1:].astype(np.float32)
        logits = np.float32(factor) * log_probs + (bias[None, :] if with_bias else 0)
        log_q = logits - logsumexp(logits, axis=1, keepdims=True)
        q = np.exp(log_q)
        slope = np.vdot(q, log_probs) - log_probs[rows, labels].sum(dtype=np.float64)
        slopes = q.sum(axis=0) - counts + bias if with_bias else []
        gradient = np.concatenate([[factor * slope + is_held * x[0]], slopes])
        penalty = 0.5 * bias @ bias + 0.5 * is_held * x[0] ** 2
        return -log_q[rows, labels].sum(dtype=np.float64) + penalty, gradient / scale

    start = np.zeros_like(scale)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 50})
    found = found.x / scale
    return float(np.exp(found[0])), found[1:] if with_bias else np.zeros(log_probs.shape[1])


def _known(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values[labels >= 0], labels[labels >= 0]


def _weights(labels: np.ndarray, num_classes: int, prior: np.ndarray | None) -> np.ndarray:
    if prior is None:
        return np.ones(len(labels))
    counts = np.bincount(labels, minlength=num_classes)
    return prior[labels] / counts[labels]


def _numbers(probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = reliability(probs, labels)
    number = len(labels)
    is_right = probs.argmax(axis=1) == labels
    return {
        "num_images": number,
        "confidence": float(probs.max(axis=1).mean()) if number else np.nan,
        "accuracy": float(is_right.mean()) if number else np.nan,
        "ece": expected_error(found),
        "brier": brier(probs, labels),
    }
