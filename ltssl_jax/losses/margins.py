"""Class priors and counts at work inside a loss: logit adjustment, LDAM margins, class weights."""

import math

import chex
import jax
import jax.numpy as jnp
import optax

from ltssl_jax.core import Array


def log_prior(class_counts: Array) -> Array:
    """Computes the log class frequencies of the labeled set.

    A class without examples counts as one with a single example. (The ACR and TRAS code adds 1e-12
    to its frequency: -27.6 subtracted from a logit would make it the answer to everything.)

    Args:
      class_counts: `[K]` int or float, labeled examples per class.

    Returns:
      `[K]` float32; its exponentials sum to 1.
    """
    chex.assert_rank(class_counts, 1)
    counts = jnp.maximum(jnp.asarray(class_counts, jnp.float32), 1.0)
    return jnp.log(counts / jnp.sum(counts))


def logit_adjusted_cross_entropy(
    logits: Array, labels: Array, log_prior: Array, *, tau: float | Array = 1.0
) -> Array:
    """Computes the cross entropy of logits shifted by the training class prior.

    With `tau = 1`, also called balanced softmax, the minimizer of the expected loss is the Bayes
    classifier of the balanced error.

    Args:
      logits: `[B, K]` float, before any adjustment.
      labels: `[B]` int in `[0, K)`.
      log_prior: `[K]` float, log class frequencies of the labeled set.
      tau: adjustment strength; 0 gives plain cross entropy.

    Returns:
      `[B]` float, one loss per example, in nats.

    Source: Menon et al., "Long-tail learning via logit adjustment", arXiv:2007.07314; Ren et al.,
    "Balanced meta-softmax", arXiv:2007.10740.
    """
    chex.assert_rank([logits, labels, log_prior], [2, 1, 1])
    chex.assert_equal_shape_prefix([logits, labels], 1)
    chex.assert_equal(logits.shape[1], log_prior.shape[0])
    adjusted = logits + tau * log_prior[None, :]
    return optax.softmax_cross_entropy_with_integer_labels(adjusted, labels)


def ldam_margins(class_counts: Array, *, max_margin: float = 0.5) -> Array:
    """Computes the label-distribution-aware margin of each class, in proportion to `n ** (-1/4)`.

    Args:
      class_counts: `[K]` int or float, labeled examples per class; 0 is taken as 1.
      max_margin: margin of the rarest class.

    Returns:
      `[K]` float32 in `(0, max_margin]`.

    Source: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss",
    arXiv:1906.07413.
    """
    chex.assert_rank(class_counts, 1)
    margins = jnp.maximum(jnp.asarray(class_counts, jnp.float32), 1.0) ** -0.25
    return max_margin * margins / jnp.max(margins)


def ldam_cross_entropy(
    logits: Array, labels: Array, margins: Array, *, scale: float = 30.0
) -> Array:
    """Computes the LDAM loss: the logit of the true class alone loses its margin.

    Class weights (deferred re-weighting) are the caller's: values `w[labels] * loss` and count
    `sum(w[labels])` make the weighted mean of the reference code.

    Args:
      logits: `[B, K]` float, cosines between features and class weights.
      labels: `[B]` int in `[0, K)`.
      margins: `[K]` float, from `ldam_margins`.
      scale: multiplies the cosines, which are too close together for a softmax.

    Returns:
      `[B]` float, one loss per example, in nats.

    Source: Cao et al., arXiv:1906.07413.
    """
    chex.assert_rank([logits, labels, margins], [2, 1, 1])
    chex.assert_equal_shape_prefix([logits, labels], 1)
    chex.assert_equal(logits.shape[1], margins.shape[0])
    true_class = jax.nn.one_hot(labels, logits.shape[1])
    hampered = logits - true_class * margins[None, :]
    return optax.softmax_cross_entropy_with_integer_labels(scale * hampered, labels)


def effective_number_weights(class_counts: Array, *, beta: float) -> Array:
    """Computes class weights `1 / (1 - beta ** n)`, rescaled to sum to the number of classes.

    Args:
      class_counts: `[K]` int or float, labeled examples per class; 0 is taken as 1.
      beta: in `[0, 1)`; 0 gives ones (the phase before deferred re-weighting), and values near 1
        approach `1 / n`.

    Returns:
      `[K]` float32 with sum `K`.

    Source: Cui et al., "Class-balanced loss based on effective number of samples",
    arXiv:1901.05555; deferred in Cao et al., arXiv:1906.07413.
    """
    chex.assert_rank(class_counts, 1)
    if beta == 0:
        return jnp.ones(class_counts.shape, jnp.float32)
    return _effective_number_weights(class_counts, math.log(beta))


def adaptive_number_weights(class_counts: Array) -> Array:
    """Computes class weights `1 / (1 - beta ** n)` with `beta = (N - 1) / N`, of sum `K`.

    `N` is the average number of images per class, empty classes included, so counts that are all
    multiplied by a factor give nearly the same weights.

    Args:
      class_counts: `[K]` int or float; 0 is taken as 1, after `N` is known.

    Returns:
      `[K]` float32 with sum `K`; ones where `N` is 1 or less.

    Source: Lai et al., "Smoothed adaptive weighting for imbalanced semi-supervised learning",
    ICML 2022.
    """
    chex.assert_rank(class_counts, 1)
    mean = jnp.mean(jnp.asarray(class_counts, jnp.float32))
    return _effective_number_weights(class_counts, jnp.log1p(-1.0 / jnp.maximum(mean, 1.0)))


def _effective_number_weights(class_counts: Array, log_beta: float | Array) -> Array:
    counts = jnp.maximum(jnp.asarray(class_counts, jnp.float32), 1.0)
    # 1 - beta ** n, which in float32 would lose half its digits for beta = 0.9999 and small n.
    weights = -1.0 / jnp.expm1(counts * log_beta)
    return weights * counts.size / jnp.sum(weights)
