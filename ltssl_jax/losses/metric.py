"""Learning distances: what belongs together is near, the rest is far.

Embeddings are taken at their directions alone.
"""

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array
from ltssl_jax.losses.directions import cosines, unit


def supervised_contrastive(
    anchors: Array, keys: Array, is_same: Array, is_other: Array, *, temperature: float = 0.1
) -> Array:
    """Computes how far each anchor is from the keys of its own kind, beside all other keys.

    The mean over those keys of `-log softmax(cosine / temperature)`; 0 for an anchor that has none.

    Args:
      anchors: `[N, D]` float.
      keys: `[M, D]` float.
      is_same: `[N, M]` bool, the key is of the anchor's kind.
      is_other: `[N, M]` bool, the key is not the anchor itself.
      temperature: positive.

    Returns:
      `[N]` float, one loss per anchor, in nats.

    Source: Khosla et al., "Supervised contrastive learning", arXiv:2004.11362.
    """
    chex.assert_rank([anchors, keys, is_same, is_other], 2)
    chex.assert_equal_shape([is_same, is_other])
    scores = cosines(anchors, keys) / temperature
    log_probs = jax.nn.log_softmax(scores, axis=-1, where=is_other)
    is_positive = is_same & is_other
    count = jnp.sum(is_positive, axis=1)
    return -jnp.sum(jnp.where(is_positive, log_probs, 0.0), axis=1) / jnp.maximum(count, 1)


def info_nce(queries: Array, keys: Array, negatives: Array, *, temperature: float) -> Array:
    """Computes how hard it is to tell each query's own key from the negatives.

    Args:
      queries: `[N, D]` float.
      keys: `[N, D]` float, row by row of the same images.
      negatives: `[M, D]` float.
      temperature: positive.

    Returns:
      `[N]` float, one loss per query, in nats.

    Source: He et al., "Momentum contrast", arXiv:1911.05722.
    """
    chex.assert_rank([queries, keys, negatives], 2)
    chex.assert_equal_shape([queries, keys])
    pair = jnp.sum(unit(queries) * unit(keys), axis=1, keepdims=True)
    logits = jnp.concatenate([pair, cosines(queries, negatives)], axis=1) / temperature
    return -jax.nn.log_softmax(logits, axis=-1)[:, 0]
