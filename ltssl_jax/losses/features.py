"""Guesses by features: nearness to prototypes, features as distributions, hard examples."""

import math

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array
from ltssl_jax.losses.classification import entropy


def prototype_probs(features: Array, prototypes: Array, *, temperature: float) -> Array:
    """Computes `softmax(-distance / temperature)` by the Euclidean distance to each prototype.

    A guess, not a loss: at distance 0 its gradient is NaN.

    Args:
      features: `[U, D]` float.
      prototypes: `[K, D]` float, one for each class.
      temperature: positive; small values choose the nearest prototype.

    Returns:
      `[U, K]` float, each row on the simplex.

    Source: Wang et al., "SeMi", arXiv:2501.06004.
    """
    chex.assert_rank([features, prototypes], 2)
    chex.assert_equal_shape([features[0], prototypes[0]])
    distance = jnp.linalg.norm(features[:, None, :] - prototypes[None, :, :], axis=-1)
    return jax.nn.softmax(-distance / temperature, axis=-1)


def centered_targets(features: Array, center: Array, *, temperature: float) -> Array:
    """Computes `softmax((features - center) / temperature)`, over the features.

    Args:
      features: `[U, D]` float.
      center: `[D]` float, taken away so that not all rows choose the same feature.
      temperature: positive; below 1 sharpens.

    Returns:
      `[U, D]` float, each row on the simplex.

    Source: Caron et al., "DINO", arXiv:2104.14294; with labels in Wang et al., "SeMi",
    arXiv:2501.06004.
    """
    chex.assert_rank([features, center], [2, 1])
    chex.assert_equal_shape([features[0], center])
    return jax.nn.softmax((features - center[None, :]) / temperature, axis=-1)


def mix_by_class(probs: Array, other: Array, weights: Array) -> Array:
    """Mixes two guesses, each class in its own proportion, and normalizes them again.

    Args:
      probs, other: `[U, K]` float, each row on the simplex.
      weights: `[K]` float in `[0, 1]`, of the other guess.

    Returns:
      `[U, K]` float, each row on the simplex.

    Source: Wang et al., "SeMi", arXiv:2501.06004.
    """
    chex.assert_rank([probs, other, weights], [2, 2, 1])
    chex.assert_equal_shape([probs, other])
    mixed = (1.0 - weights)[None, :] * probs + weights[None, :] * other
    return mixed / jnp.sum(mixed, axis=1, keepdims=True)


def blend(logits: Array, probs: Array, strength: Array) -> Array:
    """Computes logits of `(1 - strength) softmax(logits) + strength probs`.

    Args:
      logits: `[U, K]` float.
      probs: `[U, K]` float, each row on the simplex.
      strength: `[U]` float in `[0, 1]`, of `probs` in each row.

    Returns:
      `[U, K]` float: logarithms of the mixed probabilities, floored at the smallest normal number.

    Source: Oh et al., "DASO", arXiv:2106.05682.
    """
    chex.assert_rank([logits, probs, strength], [2, 2, 1])
    chex.assert_equal_shape([logits, probs])
    mixed = (1.0 - strength)[:, None] * jax.nn.softmax(logits) + strength[:, None] * probs
    return jnp.log(jnp.maximum(mixed, jnp.finfo(mixed.dtype).tiny))


def hard_example_weights(probs: Array, *, share: float | Array) -> Array:
    """Computes weights that grow with the entropy of a guess: `1 - share + share H / log K`.

    Args:
      probs: `[U, K]` float, each row on the simplex.
      share: between 0 (all weigh 1) and 1 (a certain guess weighs 0).

    Returns:
      `[U]` float in `[1 - share, 1]`.

    Source: Wang et al., "SeMi", arXiv:2501.06004.
    """
    return 1.0 - share + share * entropy(probs) / math.log(probs.shape[1])
