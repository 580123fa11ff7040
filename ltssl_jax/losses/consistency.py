"""Guesses on the unlabeled stream: pseudo-labels, sharpening, distribution alignment."""

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array


def pseudo_label(probs: Array, threshold: float | Array) -> tuple[Array, Array]:
    """Takes the most probable class of each example, and whether it is confident.

    Args:
      probs: `[U, K]` float, each row on the simplex.
      threshold: confidence from which an example is accepted; a scalar.

    Returns:
      Pseudo-labels `[U]` int32 (the first of equally probable classes) and mask `[U]` float32,
      1 where the largest probability is at least `threshold`.

    Source: Sohn et al., "FixMatch", arXiv:2001.07685.
    """
    chex.assert_rank([probs, threshold], [2, 0])
    labels = jnp.argmax(probs, axis=-1).astype(jnp.int32)
    mask = (jnp.max(probs, axis=-1) >= threshold).astype(jnp.float32)
    return labels, mask


def sharpen(probs: Array, temperature: float | Array) -> Array:
    """Raises probabilities to the power `1 / temperature` and normalizes them again.

    Args:
      probs: `[U, K]` float, each row on the simplex.
      temperature: positive scalar; below 1 sharpens, 1 changes nothing, above 1 softens.

    Returns:
      `[U, K]` float, each row on the simplex.

    Source: Berthelot et al., "MixMatch", arXiv:1905.02249.
    """
    chex.assert_rank([probs, temperature], [2, 0])
    # Floored at the smallest normal number: log(0) would make the gradient NaN.
    log_probs = jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny))
    return jax.nn.softmax(log_probs / temperature, axis=-1)


def align_distribution(probs: Array, target_prior: Array, model_prior: Array) -> Array:
    """Scales probabilities by `target_prior / model_prior` and normalizes them again.

    Both priors are raised by 1e-6, as in the reference code, so that a class which the model never
    predicts keeps a finite ratio.

    Args:
      probs: `[U, K]` float, each row on the simplex.
      target_prior: `[K]` float, class distribution that the guesses should have.
      model_prior: `[K]` float, average of the model's recent guesses.

    Returns:
      `[U, K]` float, each row on the simplex.

    Source: Berthelot et al., "ReMixMatch", arXiv:1911.09785; Wei et al., "CReST",
    arXiv:2102.09559.
    """
    chex.assert_rank([probs, target_prior, model_prior], [2, 1, 1])
    chex.assert_equal_shape([probs[0], target_prior, model_prior])
    ratio = (target_prior + 1e-6) / (model_prior + 1e-6)
    aligned = probs * ratio[None, :]
    return aligned / jnp.sum(aligned, axis=-1, keepdims=True)
