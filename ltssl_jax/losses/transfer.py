"""Soft targets that move probability from frequent to rare classes."""

import chex
import jax

from ltssl_jax.core import Array


def transfer_strength(log_prior: Array, A: float, B: float) -> Array:
    """Computes how strongly an example is shifted, by its class: `A softmax(-log_prior) + B`.

    The softmax is the normalized inverse frequency; a class without examples takes all of it.

    Args:
      log_prior: `[K]` float, log class frequencies of the labeled set.
      A: range of the part that grows with rarity.
      B: strength of the most frequent classes.

    Returns:
      `[K]` float in `(B, A + B)`.

    Source: Wei et al., "Transfer and Share", arXiv:2205.13358.
    """
    chex.assert_rank(log_prior, 1)
    return A * jax.nn.softmax(-log_prior) + B


def tempered_transfer(
    logits: Array, labels: Array, log_prior: Array, strength: Array, *, temperature: float = 2.0
) -> Array:
    """Computes `softmax((logits - strength[labels] log_prior) / temperature)`.

    The gradient reaches the logits; a method that wants a fixed target stops it.

    Args:
      logits: `[U, K]` float, of the head that teaches.
      labels: `[U]` int in `[0, K)`; they choose the strength of each example and nothing else.
      log_prior: `[K]` float, log class frequencies of the labeled set.
      strength: `[K]` float, from `transfer_strength`.
      temperature: softens the target.

    Returns:
      `[U, K]` float, each row on the simplex.

    Source: Wei et al., "Transfer and Share", arXiv:2205.13358.
    """
    chex.assert_rank([logits, labels, log_prior, strength], [2, 1, 1, 1])
    chex.assert_equal_shape_prefix([logits, labels], 1)
    chex.assert_equal_shape([logits[0], log_prior, strength])
    shift = strength[labels][:, None] * log_prior[None, :]
    return jax.nn.softmax((logits - shift) / temperature, axis=-1)
