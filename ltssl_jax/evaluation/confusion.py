"""The one sufficient statistic of an evaluation: `[K, K]` counts, true class by predicted class."""

import chex
import jax.numpy as jnp

from ltssl_jax.core import Array


def count(labels: Array, predictions: Array, mask: Array, num_classes: int) -> Array:
    """Counts one batch into a confusion matrix; runs inside the compiled step.

    Args:
      labels: `[B]` int in `[0, num_classes)`, true classes.
      predictions: `[B]` int in `[0, num_classes)`.
      mask: `[B]` float or bool, 0 on padding rows, which are not counted.
      num_classes: `K`.

    Returns:
      `[K, K]` int32, rows true classes, columns predicted ones. Its sum is that of the mask, unless
      a class lay beyond `num_classes`: such rows are dropped.
    """
    chex.assert_rank([labels, predictions, mask], 1)
    chex.assert_equal_shape([labels, predictions, mask])
    empty = jnp.zeros((num_classes, num_classes), jnp.int32)
    return empty.at[labels, predictions].add(mask.astype(jnp.int32))
