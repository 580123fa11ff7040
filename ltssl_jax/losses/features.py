"""Guesses by features: nearness to prototypes, features as distributions, hard examples.

And, for one released script, features that are those of other rows.
"""

import itertools
import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array, Devices, Outputs
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


def mix_by_class(
    probs: Array, other: Array, weights: Array, *, is_normalized: bool = True
) -> Array:
    """Mixes two guesses, each class in its own proportion, and normalizes them again.

    Args:
      probs, other: `[U, K]` float, each row on the simplex.
      weights: `[K]` float in `[0, 1]`, of the other guess.
      is_normalized: off, rows do not sum to 1.

    Returns:
      `[U, K]` float, each row on the simplex.

    Source: Wang et al., "SeMi", arXiv:2501.06004.
    """
    chex.assert_rank([probs, other, weights], [2, 2, 1])
    chex.assert_equal_shape([probs, other])
    mixed = (1.0 - weights)[None, :] * probs + weights[None, :] * other
    return mixed / jnp.sum(mixed, axis=1, keepdims=True) if is_normalized else mixed


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
      probs: `[U, K]` float, each row on the simplex; what lies outside `[0, 1]` counts as 0 or 1.
      share: between 0 (all weigh 1) and 1 (a certain guess weighs 0).

    Returns:
      `[U]` float in `[1 - share, 1]`.

    Source: Wang et al., "SeMi", arXiv:2501.06004.
    """
    return 1.0 - share + share * entropy(jnp.clip(probs, 0.0, 1.0)) / math.log(probs.shape[1])


def mixed_up(views: Sequence[Outputs], devices: Devices) -> list[Outputs]:
    """Gives each view the features that lie at its place in the interleaved batch, not its own.

    Interleaving deals the rows of all views, one after the other, to as many piles as there are
    rows for each labeled one. Of views of equal size, row `n` of view `v` gets the features of row
    `len(views) n + v` of all of them. Gradients flow to where the features came from.

    Args:
      views: this device's rows, labeled ones first; the sizes are multiples of theirs.
      devices: whose rows make up the batch.

    Returns:
      This device's rows of each view; logits are as they were.

    Source: Wang et al., "SeMi", arXiv:2501.06004, as released.
    """
    everyone = devices.gather([view.features for view in views], differentiable=True)
    rows = jnp.concatenate(everyone)
    piles = rows.reshape(len(everyone[0]), -1, rows.shape[1]).swapaxes(0, 1)
    ends = itertools.accumulate(len(features) for features in everyone[:-1])
    cut = jnp.split(piles.reshape(rows.shape), list(ends))
    own = [features[devices.share(jnp.arange(len(features)))] for features in cut]
    return [view.replace(features=f) for view, f in zip(views, own, strict=True)]
