"""Soft guesses of a whole pool, changed as little as possible to have given class sums (DARP).

Source of both functions: Kim et al., "Distribution Aligning Refinery of Pseudo-label",
arXiv:2007.08844.
"""

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array
from ltssl_jax.losses.classification import entropy

_NEWTON_STEPS = 3  # three are as near as the reference code comes; see the tests


def denoise(probs: Array, target: Array, *, alpha: float) -> Array:
    """Keeps the surest guesses of each class, `alpha` times as many as the class shall have.

    Args:
      probs: `[N, K]` float, each row on the simplex.
      target: `[K]` float, the sum that each class shall have; together `N`.
      alpha: how many times as many rows of a class are kept.

    Returns:
      `[N, K]` float, each row on the simplex and positive; uniform where nothing is kept.
    """
    chex.assert_rank([probs, target], [2, 1])
    rank = jnp.argsort(jnp.argsort(-probs, axis=0), axis=0)  # of a row among all, class by class
    kept = jnp.where(rank < jnp.floor(alpha * target)[None, :], probs, 0.0)
    class_weights = (target + 1e-6) / (jnp.sum(kept, axis=0) + 1e-6)
    denoised = kept * class_weights[None, :] + 1e-6
    return denoised / jnp.sum(denoised, axis=1, keepdims=True)


def match_class_sums(probs: Array, target: Array, *, num_iterations: int) -> Array:
    """Finds the distributions nearest to `probs` whose classes sum to `target`.

    The weighted Kullback-Leibler distance to the rows of `probs`, with weights `1 / entropy`, is
    least for `softmax_j(log probs_ij - nu_j H_i)`: sure rows hardly move. The duals `nu` are found
    by coordinate ascent, rows and classes in turns; rows are exact, classes to the tolerance that
    so many turns leave.

    Args:
      probs: `[N, K]` float, each row on the simplex and positive.
      target: `[K]` positive float, together `N`.
      num_iterations: turns.

    Returns:
      `[N, K]` float, logarithms of the distributions.
    """
    chex.assert_rank([probs, target], [2, 1])
    log_probs, log_target = jnp.log(probs), jnp.log(target)
    entropies = entropy(probs)[:, None]

    def turn(_, duals):
        rows = jax.nn.logsumexp(log_probs - duals[None, :] * entropies, axis=1, keepdims=True)

        def newton(_, duals):
            # On logarithms, where float32 suffices and the equation is nearly straight.
            summands = log_probs - rows - duals[None, :] * entropies
            slopes = jnp.sum(jax.nn.softmax(summands, axis=0) * entropies, axis=0)
            return duals + (jax.nn.logsumexp(summands, axis=0) - log_target) / slopes

        return jax.lax.fori_loop(0, _NEWTON_STEPS, newton, duals)

    duals = jax.lax.fori_loop(0, num_iterations, turn, jnp.zeros_like(log_target))
    return jax.nn.log_softmax(log_probs - duals[None, :] * entropies, axis=1)
