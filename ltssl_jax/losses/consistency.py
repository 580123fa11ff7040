"""Guesses on the unlabeled stream: pseudo-labels, weights, sharpening, distribution alignment."""

import chex
import jax
import jax.numpy as jnp

from ltssl_jax.core import Array


def pseudo_label(probs: Array, threshold: float | Array) -> tuple[Array, Array]:
    """Takes the most probable class of each example, and whether it is confident.

    Args:
      probs: `[U, K]` float, each row on the simplex.
      threshold: confidence from which an example is accepted; a scalar, or `[K]` by its class.

    Returns:
      Pseudo-labels `[U]` int32 (the first of equally probable classes) and mask `[U]` float32,
      1 where the largest probability is at least `threshold`.

    Source: Sohn et al., "FixMatch", arXiv:2001.07685.
    """
    chex.assert_rank([probs, threshold], [2, {0, 1}])
    labels = jnp.argmax(probs, axis=-1).astype(jnp.int32)
    if jnp.ndim(threshold):
        chex.assert_equal(threshold.shape[0], probs.shape[1])
        threshold = threshold[labels]
    mask = (jnp.max(probs, axis=-1) >= threshold).astype(jnp.float32)
    return labels, mask


def truncated_gaussian(
    confidence: Array, mean: Array, variance: Array, *, num_sigmas: float = 2.0
) -> Array:
    """Computes how much an example counts: 1 above the mean, below it the height of a Gaussian.

    Args:
      confidence: `[U]` float, largest probability of each example.
      mean: scalar, of recent confidences.
      variance: scalar, at least 0.
      num_sigmas: the Gaussian's deviation is that of the confidences divided by it.

    Returns:
      `[U]` float in `[0, 1]`; the height at the mean is 1.

    Source: Chen et al., "SoftMatch", arXiv:2301.10921.
    """
    chex.assert_rank([confidence, mean, variance], [1, 0, 0])
    below = jnp.minimum(confidence - mean, 0.0) * num_sigmas
    return jnp.exp(-(below**2) / (2.0 * jnp.maximum(variance, jnp.finfo(below.dtype).tiny)))


def pseudo_label_by_either(
    probs: Array, other: Array, threshold: float | Array
) -> tuple[Array, Array]:
    """Takes the most probable class of one guess, accepted if that guess or another is confident.

    The confident one may be the other guess, and have another class in mind.

    Args:
      probs, other: `[U, K]` float, each row on the simplex.
      threshold: confidence from which an example is accepted; a scalar.

    Returns:
      Pseudo-labels `[U]` int32 by `probs`, and mask `[U]` float32.

    Source: Wei and Gan, "ACR", CVPR 2023, as released.
    """
    chex.assert_equal_shape([probs, other])
    labels, mask = pseudo_label(probs, threshold)
    return labels, jnp.maximum(mask, pseudo_label(other, threshold)[1])


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


def self_adaptive_fairness(
    mean_probs: Array, answers: Array, model_prior: Array, model_answers: Array
) -> Array:
    """Computes `sum r log q`: how diverse a batch is, compared with the model's recent guesses.

    `q` is the mean of the probabilities divided by how often each class is the answer, `r` the same
    of recent guesses, both normalized. A class that is never the answer has 0 in either. It is a
    negative cross entropy, so a loss that adds it moves `q` away from `r`.

    Args:
      mean_probs: `[K]` float, of the batch; the gradient reaches it.
      answers: `[K]` float, how often each class is the most probable one, in any unit.
      model_prior: `[K]` float, average of the model's recent guesses.
      model_answers: `[K]` float, how often each class was the most probable one, in any unit.

    Returns:
      Scalar, at most 0, in nats; `log(1e-12)` stands where `q` is 0, as in the reference code.

    Source: Wang et al., "FreeMatch", arXiv:2205.07246.
    """
    chex.assert_rank(mean_probs, 1)
    chex.assert_equal_shape([mean_probs, answers, model_prior, model_answers])
    guess, target = _per_answer(mean_probs, answers), _per_answer(model_prior, model_answers)
    return jnp.sum(target * jnp.log(guess + 1e-12))


def _per_answer(probs: Array, answers: Array) -> Array:
    # No division sees a 0: selecting only its result would still give NaN gradients. Neither does
    # it see a denormal number, which an average decays to and whose inverse is infinite.
    is_answer = answers >= jnp.finfo(answers.dtype).tiny
    ratio = jnp.where(is_answer, probs / jnp.where(is_answer, answers, 1.0), 0.0)
    total = jnp.sum(ratio)
    return ratio / jnp.where(total > 0, total, 1.0)
