"""Pseudo-labels, sharpening and distribution alignment against float64 NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import consistency

U, K = 6, 4
RNG = np.random.default_rng(2)
PROBS = RNG.dirichlet(np.full(K, 0.5), size=U)
TARGET = np.array([0.6, 0.25, 0.1, 0.05])
MODEL = np.array([0.1, 0.2, 0.3, 0.4])
EXTREME = 1e4 * RNG.choice([-1.0, 1.0], (U, K))


def normalize(rows):
    return rows / rows.sum(axis=-1, keepdims=True)


def pulled_back(function, arrays, cotangent):
    """Gradient of `sum(cotangent * function)`: plain sums over the simplex have none."""
    return jax.jit(jax.grad(lambda a: (function(a) * cotangent).sum()))(jnp.asarray(arrays))


class ReferenceTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_pseudo_label(self):
        threshold = np.median(PROBS.max(axis=1))
        labels, mask = self.variant(consistency.pseudo_label)(jnp.asarray(PROBS), threshold)
        np.testing.assert_array_equal(labels, PROBS.argmax(axis=1))
        np.testing.assert_array_equal(mask, PROBS.max(axis=1) >= threshold)
        assert 0 < mask.sum() < U
        assert (labels.dtype, mask.dtype) == (jnp.int32, jnp.float32)

    @chex.variants(with_jit=True, without_jit=True)
    def test_sharpen(self):
        sharp = self.variant(consistency.sharpen)(jnp.asarray(PROBS), 0.5)
        np.testing.assert_allclose(sharp, normalize(PROBS**2), rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_align_distribution(self):
        aligned = self.variant(consistency.align_distribution)(
            *map(jnp.asarray, (PROBS, TARGET, MODEL))
        )
        np.testing.assert_allclose(aligned, normalize(PROBS * TARGET / MODEL), rtol=1e-4)


def test_confidence_at_the_threshold_is_accepted():
    probs = jnp.array([[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]])
    labels, mask = consistency.pseudo_label(probs, 0.75)
    np.testing.assert_array_equal(labels, [1, 0, 0])
    np.testing.assert_array_equal(mask, [1, 0, 1])


def test_either_guess_accepts_but_the_first_says_the_class():
    first = jnp.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    other = jnp.array([[0.5, 0.5], [0.1, 0.9], [0.3, 0.7]])
    labels, mask = consistency.pseudo_label_by_either(first, other, 0.8)
    assert labels.tolist() == [0, 0, 0] and mask.tolist() == [1, 1, 0]


def test_thresholds_may_be_of_each_class():
    probs = jnp.array([[0.6, 0.4], [0.4, 0.6], [0.2, 0.8]])
    labels, mask = consistency.pseudo_label(probs, jnp.array([0.5, 0.8]))
    np.testing.assert_array_equal(labels, [0, 1, 1])
    np.testing.assert_array_equal(mask, [1, 0, 1])
    thresholds = RNG.uniform(0.3, 0.9, K)
    labels, mask = consistency.pseudo_label(jnp.asarray(PROBS), jnp.asarray(thresholds))
    np.testing.assert_array_equal(mask, PROBS.max(axis=1) >= thresholds[PROBS.argmax(axis=1)])
    with pytest.raises(AssertionError):
        consistency.pseudo_label(jnp.asarray(PROBS), jnp.ones(U))


def test_truncated_gaussian_is_the_equation():
    confidence = np.array([0.3, 0.5, 0.79, 0.8, 0.81, 1.0])
    below = np.minimum(confidence - 0.8, 0)
    for num_sigmas in (1.0, 2.0):
        weights = consistency.truncated_gaussian(
            jnp.asarray(confidence), 0.8, 0.04, num_sigmas=num_sigmas
        )
        expected = np.exp(-(below**2) / (2 * 0.04 / num_sigmas**2))
        np.testing.assert_allclose(weights, expected, rtol=1e-4)
        np.testing.assert_array_equal(weights[3:], 1)
    # Without any spread it is a threshold at the mean, not a division by 0.
    sharp = consistency.truncated_gaussian(jnp.array([0.7, 0.8, 0.9]), jnp.float32(0.8), 0.0)
    np.testing.assert_array_equal(sharp, [0, 1, 1])


def test_self_adaptive_fairness_is_the_equation_with_its_gradient():
    mean, answers = PROBS.mean(axis=0), np.array([1.0, 0.0, 3.0, 2.0])
    shares = np.array([0.2, 0.3, 0.0, 0.5])
    q = np.where(answers > 0, mean / np.maximum(answers, 1), 0)
    r = np.where(shares > 0, MODEL / np.where(shares > 0, shares, 1), 0)
    q, r = normalize(q), normalize(r)
    given = [jnp.asarray(a, jnp.float32) for a in (mean, answers, MODEL, shares)]
    value, slope = jax.value_and_grad(consistency.self_adaptive_fairness)(*given)
    np.testing.assert_allclose(value, np.sum(r * np.log(q + 1e-12)), rtol=1e-5)
    # d/du of log(u_k s_k / sum_j u_j s_j), where s is 1 / answers: the 1e-12 is in class 1 alone.
    scale = np.where(answers > 0, 1 / np.maximum(answers, 1), 0)
    kept = np.where(answers > 0, r, 0)
    expected = kept / mean - kept.sum() * scale / np.sum(mean * scale)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(  # only ratios between classes matter
        consistency.self_adaptive_fairness(given[0], 7 * given[1], given[2], 3 * given[3]),
        value,
        rtol=1e-5,
    )


def test_self_adaptive_fairness_is_finite_without_answers():
    """Nothing accepted; and a class last answered so long ago that its average is denormal."""
    zeros, quarter = jnp.zeros(K), jnp.full(K, 0.25)
    nearly = jnp.array([0.5, 0.5, 1e-40, 0.0], jnp.float32)
    for given in [
        (zeros, zeros, quarter, quarter),
        (quarter, nearly, quarter, nearly),
        (quarter, quarter, quarter, zeros),
    ]:
        chex.assert_tree_all_finite(jax.value_and_grad(consistency.self_adaptive_fairness)(*given))


def test_pseudo_labels_of_the_toy_problem():
    """The reference code's first head: logits (2, 1, 0) less the log prior (.7, .2, .1)."""
    probs = jax.nn.softmax(jnp.array([[2.0, 1.0, 0.0]]) - jnp.log(jnp.array([[0.7, 0.2, 0.1]])))
    np.testing.assert_allclose(probs, [[0.30913, 0.39802, 0.29285]], atol=1e-5)
    labels, mask = consistency.pseudo_label(probs, 0.95)
    assert (labels[0], mask[0]) == (1, 0)


def test_neutral_arguments_change_nothing():
    probs, prior = jnp.asarray(PROBS), jnp.asarray(MODEL)
    np.testing.assert_allclose(consistency.sharpen(probs, 1.0), PROBS, rtol=1e-5)
    np.testing.assert_allclose(
        consistency.align_distribution(probs, prior, prior), PROBS, rtol=1e-5
    )


def test_permuting_classes_permutes_results():
    order = np.array([2, 0, 3, 1])
    probs, permuted = jnp.asarray(PROBS), jnp.asarray(PROBS[:, order])
    labels, mask = consistency.pseudo_label(probs, 0.7)
    labels_permuted, mask_permuted = consistency.pseudo_label(permuted, 0.7)
    np.testing.assert_array_equal(order[labels_permuted], labels)
    np.testing.assert_array_equal(mask_permuted, mask)
    np.testing.assert_allclose(
        consistency.sharpen(permuted, 0.5), consistency.sharpen(probs, 0.5)[:, order], rtol=1e-5
    )
    aligned = consistency.align_distribution(probs, jnp.asarray(TARGET), jnp.asarray(MODEL))
    np.testing.assert_allclose(
        consistency.align_distribution(
            permuted, jnp.asarray(TARGET[order]), jnp.asarray(MODEL[order])
        ),
        aligned[:, order],
        rtol=1e-5,
    )


def test_gradients_equal_the_formulas():
    cotangent = RNG.standard_normal((U, K))
    probs, ratio = PROBS, TARGET / MODEL
    sharp, aligned = normalize(probs**2), normalize(probs * ratio)
    # Both are q = f(p) / sum f(p), so dq_j/dp_k = f'(p_k) / sum f(p) (1[j = k] - q_j).
    for function, q, slope, total in [
        (lambda p: consistency.sharpen(p, 0.5), sharp, 2 * probs, (probs**2).sum(1)),
        (
            lambda p: consistency.align_distribution(p, jnp.asarray(TARGET), jnp.asarray(MODEL)),
            aligned,
            ratio[None, :],
            (probs * ratio).sum(1),
        ),
    ]:
        expected = slope / total[:, None] * (cotangent - (cotangent * q).sum(1, keepdims=True))
        found = pulled_back(function, probs, cotangent)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 2.0])
def test_extreme_logits_stay_on_the_simplex_with_finite_gradients(temperature):
    def guesses(logits):
        sharp = consistency.sharpen(jax.nn.softmax(logits), temperature)
        return consistency.align_distribution(sharp, jnp.asarray(TARGET), jnp.asarray(MODEL))

    np.testing.assert_allclose(guesses(jnp.asarray(EXTREME)).sum(axis=1), 1, rtol=1e-5)
    cotangent = RNG.standard_normal((U, K))
    chex.assert_tree_all_finite(pulled_back(guesses, EXTREME, cotangent))


def test_a_zero_probability_stays_zero_with_a_finite_gradient():
    probs = jnp.array([[0.0, 0.6, 0.4, 0.0]])
    never_predicted = jnp.array([0.0, 0.5, 0.5, 0.0])
    for function in (
        lambda p: consistency.sharpen(p, 0.5),
        lambda p: consistency.align_distribution(p, jnp.asarray(TARGET), never_predicted),
    ):
        np.testing.assert_allclose(function(probs)[0, [0, 3]], 0, atol=1e-30)
        chex.assert_tree_all_finite(pulled_back(function, probs, np.arange(4.0)[None, :]))


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        consistency.pseudo_label(jnp.asarray(PROBS[0]), 0.95)
    with pytest.raises(AssertionError):
        consistency.align_distribution(jnp.asarray(PROBS), jnp.ones(1), jnp.asarray(MODEL))
