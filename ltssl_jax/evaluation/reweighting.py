"""Accuracy on test sets of other class frequencies, from the confusion matrix of one; NumPy.

`forward` test sets are long-tailed like the training set, the frequent classes frequent; in
`backward` ones the rare classes are. Ratio 10: the most frequent class has ten times the images of
the rarest, with a geometric series between. The protocol's authors draw such sets from a balanced
one; weighting the recalls gives what those draws give on average, without their noise.

Source: Hong et al., "Disentangling label distribution for long-tailed visual recognition" (LADE),
CVPR 2021; Zhang et al., "Self-supervised aggregation of diverse experts for test-agnostic
long-tailed recognition" (SADE), NeurIPS 2022.
"""

from collections.abc import Sequence

import numpy as np

from ltssl_jax.evaluation import metrics

RATIOS = (50, 25, 10, 5, 2)


def shifted_priors(labeled_counts: np.ndarray, ratios: Sequence[float] = RATIOS) -> dict:
    """Returns class frequencies `[K]` of the protocol's test sets, from forward to backward.

    Args:
      labeled_counts: `[K]` int: which classes are frequent. The order of indices means nothing.
      ratios: largest frequency over smallest, from large to small.

    Returns:
      `forward50`, ..., `forward2`, `uniform`, `backward2`, ..., `backward50`.
    """
    names = [f"forward{r:g}" for r in ratios]
    names += ["uniform", *(f"backward{r:g}" for r in reversed(ratios))]
    signed = [*ratios, 1, *(1 / r for r in reversed(ratios))]
    return {n: _geometric(labeled_counts, r) for n, r in zip(names, signed, strict=True)}


def accuracy_under(confusion: np.ndarray, prior: np.ndarray) -> float:
    """Computes the accuracy where classes have the frequencies `prior` `[K]`.

    Classes absent from `confusion` `[K, K]` are left out, and `prior` normalized over the others;
    NaN where none is left.
    """
    recall = metrics.recall_per_class(confusion)
    present = ~np.isnan(recall)
    total = prior[present].sum()
    return float(prior[present] @ recall[present] / total) if total else np.nan


def accuracies(confusion: np.ndarray, labeled_counts: np.ndarray) -> dict[str, float]:
    """Computes `accuracy_under` each of `shifted_priors(labeled_counts)`."""
    priors = shifted_priors(labeled_counts)
    return {name: accuracy_under(confusion, prior) for name, prior in priors.items()}


def _geometric(labeled_counts: np.ndarray, ratio: float) -> np.ndarray:
    ranked = np.concatenate(list(metrics.class_groups(labeled_counts).values()))
    prior = np.empty(len(ranked))
    prior[ranked] = float(ratio) ** -np.linspace(0, 1, len(ranked))
    return prior / prior.sum()
