"""Which priors a pool may have, and how far an estimate is from them."""

import chex
import jax.numpy as jnp

from ltssl_jax.core import Array


def anchor_log_priors(log_prior: Array) -> Array:
    """Returns three guesses of the pool's prior: that of the labels, a uniform, a reversed one.

    Reversed is by rank, whatever the order of the classes: the rarest takes the frequency of the
    most frequent. Of equally frequent classes the order is that of their numbers.

    Args:
      log_prior: `[K]` float, log class frequencies of the labeled set.

    Returns:
      `[3, K]` float, logs.

    Source: Wei and Gan, "Towards realistic long-tailed semi-supervised learning", CVPR 2023.
    """
    chex.assert_rank(log_prior, 1)
    order = jnp.argsort(log_prior)
    mirrored = jnp.zeros_like(log_prior).at[order].set(log_prior[order[::-1]])
    uniform = jnp.full_like(log_prior, -jnp.log(log_prior.size))
    return jnp.stack([log_prior, uniform, mirrored])


def symmetric_divergences(prior: Array, log_anchors: Array) -> Array:
    """Computes the mean of both Kullback-Leibler divergences between a prior and each anchor.

    Args:
      prior: `[K]` float on the simplex; a 0 is taken as the smallest normal number.
      log_anchors: `[A, K]` float, logs of positive frequencies.

    Returns:
      `[A]` float, at least 0, in nats.

    Source: Wei and Gan, CVPR 2023.
    """
    chex.assert_rank([prior, log_anchors], [1, 2])
    chex.assert_equal(prior.shape[0], log_anchors.shape[1])
    log_p = jnp.log(jnp.maximum(prior, jnp.finfo(prior.dtype).tiny))
    difference = prior[None, :] - jnp.exp(log_anchors)
    return 0.5 * jnp.sum(difference * (log_p[None, :] - log_anchors), axis=1)
