"""Continuous contrast: classes as kernel densities of labeled rows, labels spread among neighbours.

Rows and keys are projections, whose directions alone count. A key has *memberships*, how much it
belongs to each class: one-hot for a label, a distribution for a guess, ones for a key of every
class, zeros for one that shall not count. Temperature and strength have the values of the source.

Source: Zhou et al., "Continuous contrastive learning for long-tailed semi-supervised recognition",
arXiv:2410.06109.
"""

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array
from ltssl_jax.losses.classification import entropy, soft_cross_entropy
from ltssl_jax.losses.directions import cosines


def class_densities(
    rows: Array, keys: Array, memberships: Array, *, temperature: float = 0.1
) -> Array:
    """Computes how dense each class is at each row, up to a constant of the row.

    The log of `sum_j Y_jc exp(cos(row, key_j) / temperature) / sum_j Y_jc`: a mean over the keys of
    the class, so frequent classes have no advantage. Its softmax guesses the class of the row.

    Args:
      rows: `[N, D]` float.
      keys: `[M, D]` float.
      memberships: `[M, K]` float, at least 0; `Y`. Every class needs a key.
      temperature: of the kernel.

    Returns:
      `[N, K]` logits.
    """
    chex.assert_rank([rows, keys, memberships], 2)
    chex.assert_equal_shape_prefix([keys, memberships], 1)
    kernel = jax.nn.softmax(cosines(rows, keys) / temperature, axis=-1)
    return jnp.log(_matmul(kernel, memberships)) - jnp.log(jnp.sum(memberships, axis=0))[None, :]


def contrast_with_others(rows: Array, memberships: Array, *, temperature: float = 0.1) -> Array:
    """Computes a class-balanced contrastive loss: how badly all other rows guess that of each row.

    The cross entropy of the class densities of all others and the row's own memberships. A row
    whose memberships are zeros contributes nothing, as a row and as a key.

    Args:
      rows: `[N, D]` float.
      memberships: `[N, K]` float, at least 0. Every class needs two rows.
      temperature: of the kernel.

    Returns:
      `[N]` float, in nats times the sum of the memberships.
    """
    chex.assert_rank([rows, memberships], 2)
    chex.assert_equal_shape_prefix([rows, memberships], 1)
    is_other = ~jnp.eye(len(rows), dtype=bool)
    kernel = jax.nn.softmax(cosines(rows, rows) / temperature, axis=-1, where=is_other)
    others = jnp.sum(memberships, axis=0)[None, :] - memberships
    densities = jnp.log(_matmul(kernel, memberships)) - jnp.log(others)
    return soft_cross_entropy(densities, memberships)


def propagate(probs: Array, rows: Array, *, strength: float = 0.2) -> Array:
    """Spreads guesses among similar rows until mixing in the neighbours' changes nothing any more.

    The closed form `(I - strength S)^-1 (1 - strength) probs` of label propagation, with
    similarities `S = softmax(cosines)` by row, the row itself included.

    Args:
      probs: `[N, K]` float, guess of each row by itself, on the simplex.
      rows: `[N, D]` float.
      strength: share of the neighbours, in `[0, 1)`.

    Returns:
      `[N, K]` float, each row on the simplex.
    """
    chex.assert_rank([probs, rows], 2)
    chex.assert_equal_shape_prefix([probs, rows], 1)
    similarity, own = jax.nn.softmax(cosines(rows, rows), axis=-1), (1 - strength) * probs
    at_rest = jnp.linalg.solve(jnp.eye(len(rows)) - strength * similarity, own)
    # Neighbours only add; the solver's rounding could make a small probability negative.
    return jnp.maximum(at_rest, own)


def smoothed_guesses(rows: Array, keys: Array, memberships: Array) -> Array:
    """Guesses the class of each row by `class_densities`, and lets them `propagate`.

    Returns:
      `[N, K]` float, each row on the simplex.
    """
    return propagate(jax.nn.softmax(class_densities(rows, keys, memberships)), rows)


def smoothed_contrast(first: Array, second: Array, targets: Array) -> Array:
    """Computes a third each of both views' cross entropies, and of the entropy of their mean.

    Args:
      first, second: `[N, K]` float on the simplex, positive: guesses on two views.
      targets: `[N, K]` float on the simplex; the gradient reaches them, too.

    Returns:
      `[N]` float, in nats.
    """
    chex.assert_equal_shape([first, second, targets])
    to_targets = [soft_cross_entropy(jnp.log(probs), targets) for probs in (first, second)]
    return (sum(to_targets) + entropy((first + second) / 2)) / 3


def _matmul(a, b):
    # Divided by a small temperature and exponentiated: reduced precision would show.
    return jnp.matmul(a, b, precision="highest")
