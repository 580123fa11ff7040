"""Which classes are how frequent among images whose predictions are counted; NumPy."""

import numpy as np

_ROUNDS = 1000
_TOLERANCE = 1e-7


def of_pool(predicted_counts: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Estimates class frequencies from counted predictions, knowing how the network errs.

    A class `k` is predicted as `j` as often as on the labeled images of `confusion`; expectation
    maximization finds the mixture of these rows that makes the counts likeliest. This holds where
    images of a class look alike in both sets and only the frequencies differ.

    Args:
      predicted_counts: `[K]`, how many images each class was predicted for.
      confusion: `[K, K]` of images with a known class that the network was not trained on, rows
        true classes. One image more of each true class, spread over all predictions, keeps rows
        of few images from being certain.

    Returns:
      `[K]` frequencies, positive: each class is given one image more. Uniform where nothing was
      predicted.

    Source: Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 2002, on predicted classes instead of probabilities. The smoothing is ours.
    """
    num_classes, total = len(predicted_counts), predicted_counts.sum()
    likelihood = (confusion + 1 / num_classes) / (confusion.sum(axis=1, keepdims=True) + 1)
    frequency = np.full(num_classes, 1 / num_classes)
    for _ in range(_ROUNDS):
        expected = frequency * (likelihood @ (predicted_counts / (frequency @ likelihood)))
        new = (expected + 1) / (total + num_classes)
        if np.abs(new - frequency).sum() < _TOLERANCE:
            return new
        frequency = new
    return frequency
