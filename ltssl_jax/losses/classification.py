"""Cross entropy on integer labels and on soft targets, and Shannon entropy.

Like every loss of this package: batched, per example, in nats; no mean, no weight, no gradient
stopped. Those are decisions of a method, visible there.
"""

import chex
import jax.numpy as jnp
import optax

from ltssl_jax.core import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Computes the cross entropy of integer labels.

    Args:
      logits: `[B, K]` float.
      labels: `[B]` int in `[0, K)`.

    Returns:
      `[B]` float, one loss per example, in nats.
    """
    chex.assert_rank([logits, labels], [2, 1])
    chex.assert_equal_shape_prefix([logits, labels], 1)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """Computes the cross entropy of soft targets; the gradient also reaches the targets.

    Args:
      logits: `[B, K]` float.
      targets: `[B, K]` float, each row on the simplex.

    Returns:
      `[B]` float, one loss per example, in nats.
    """
    chex.assert_rank([logits, targets], 2)
    chex.assert_equal_shape([logits, targets])
    return optax.softmax_cross_entropy(logits, targets)


def entropy(probs: Array) -> Array:
    """Computes the Shannon entropy of each row, with `0 log 0 = 0`.

    Args:
      probs: `[B, K]` float, each row on the simplex.

    Returns:
      `[B]` float in `[0, log K]`, in nats. Where a probability is exactly 0 its gradient is 0; the
      true one is infinite.
    """
    chex.assert_rank(probs, 2)
    # The logarithm never sees a 0: selecting only its result would still give NaN gradients.
    positive = jnp.where(probs > 0, probs, 1.0)
    return -jnp.sum(probs * jnp.log(positive), axis=-1)
