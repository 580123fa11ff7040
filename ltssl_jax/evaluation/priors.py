"""Which classes are how frequent among images whose predictions are counted; NumPy."""

import numpy as np

_ROUNDS = 1000
_TOLERANCE = 1e-7


def of_pool(predicted_counts: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Estimates class frequencies from counted predictions, knowing how the network errs.

    A class `k` is predicted as `j` as often as on the labeled images of `confusion`; expectation
    maximization finds the mixture of these rows that makes the counts likeliest. This holds where
    images of a class look alike in both sets and only the frequencies differ. Of fewer than about
    100 images of known class too little is known of the errors: counted predictions themselves,
    `predicted_counts / sum`, are then as good.

    Args:
      predicted_counts: `[K]`, how many images each class was predicted for.
      confusion: `[K, K]` of images with a known class that the network was not trained on, rows
        true classes. Each true class is given one image more, which errs as the average image does:
        rows of few images are not certain, and a class without any is taken to be like the others.

    Returns:
      `[K]` frequencies, positive: each class is given one image more. Uniform where nothing was
      predicted.

    Source: Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 2002, on predicted classes instead of probabilities. The smoothing is ours.
    """
    num_classes, total = len(predicted_counts), predicted_counts.sum()
    likelihood = (confusion + _added(confusion)) / (confusion.sum(axis=1, keepdims=True) + 1)
    frequency = np.full(num_classes, 1 / num_classes)
    for _ in range(_ROUNDS):
        expected = frequency * (likelihood @ (predicted_counts / (frequency @ likelihood)))
        new = (expected + 1) / (total + num_classes)
        if np.abs(new - frequency).sum() < _TOLERANCE:
            return new
        frequency = new
    return frequency


def _added(confusion: np.ndarray) -> np.ndarray:
    """Returns one more image of each class, `[K, K]`: right as often as all images together."""
    # Not spread evenly: a row that predicts everything explains any counts, and takes them all.
    recall = (np.trace(confusion) + 1) / (confusion.sum() + 2)
    added = np.full(confusion.shape, (1 - recall) / max(len(confusion) - 1, 1))
    np.fill_diagonal(added, recall)
    return added
