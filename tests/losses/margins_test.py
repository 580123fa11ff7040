"""Logit adjustment, LDAM and class weights against float64 NumPy and published vectors."""

import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.losses import classification, margins

# CIFAR-10-LT with 1500 images in the largest class and imbalance ratio 100.
COUNTS = np.array([1500, 899, 539, 323, 193, 116, 69, 41, 25, 15])
B, K = 5, len(COUNTS)
RNG = np.random.default_rng(1)
LOGITS = 3 * RNG.standard_normal((B, K))
COSINES = RNG.uniform(-1, 1, (B, K))
LABELS = np.array([9, 0, 4, 4, 7])
EXTREME = 1e4 * RNG.choice([-1.0, 1.0], (B, K))
ONE_HOT = np.eye(K)[LABELS]
LOG_PRIOR = np.log(COUNTS / COUNTS.sum())
MARGINS = 0.5 * (COUNTS / 15) ** -0.25
GOLDEN = pathlib.Path(__file__).parents[2] / "../shared/golden/tras_step.npz"


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def reference_weights(counts, beta):
    weights = (1 - beta) / (1 - beta ** counts.astype(np.float64))
    return weights * len(counts) / weights.sum()


def gradient(function, logits):
    return jax.jit(jax.grad(lambda z: function(z).sum()))(jnp.asarray(logits))


class ReferenceTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_log_prior(self):
        log_prior = self.variant(margins.log_prior)(COUNTS)
        np.testing.assert_allclose(log_prior, LOG_PRIOR, rtol=1e-5)
        assert log_prior.dtype == jnp.float32

    @chex.variants(with_jit=True, without_jit=True)
    def test_logit_adjusted_cross_entropy(self):
        losses = self.variant(margins.logit_adjusted_cross_entropy)(
            jnp.asarray(LOGITS), LABELS, jnp.asarray(LOG_PRIOR), tau=2.0
        )
        expected = -(ONE_HOT * log_softmax(LOGITS + 2 * LOG_PRIOR)).sum(1)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_ldam_margins(self):
        found = self.variant(margins.ldam_margins)(COUNTS)
        np.testing.assert_allclose(found, MARGINS, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_ldam_cross_entropy(self):
        losses = self.variant(margins.ldam_cross_entropy)(
            jnp.asarray(COSINES), LABELS, jnp.asarray(MARGINS), scale=20.0
        )
        expected = -(ONE_HOT * log_softmax(20 * (COSINES - ONE_HOT * MARGINS))).sum(1)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_effective_number_weights(self):
        weights = self.variant(lambda n: margins.effective_number_weights(n, beta=0.9999))(COUNTS)
        np.testing.assert_allclose(weights, reference_weights(COUNTS, 0.9999), rtol=1e-4)

    @chex.variants(with_jit=True, without_jit=True)
    def test_adaptive_number_weights(self):
        weights = self.variant(margins.adaptive_number_weights)(COUNTS)
        expected = reference_weights(COUNTS, 1 - 1 / COUNTS.mean())
        np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_published_vectors():
    log_prior = [-0.9083, -1.4202, -1.9318, -2.4438, -2.9588]
    log_prior += [-3.4679, -3.9874, -4.5079, -5.0026, -5.5134]
    ldam = [0.1581, 0.1797, 0.2042, 0.2321, 0.2640, 0.2998, 0.3414, 0.3889, 0.4401, 0.5]
    deferred = [0.0431, 0.0698, 0.1144, 0.1889, 0.3140, 0.5205, 0.8730, 1.4671, 2.4042, 4.0050]
    weights = margins.effective_number_weights(COUNTS, beta=0.9999)
    np.testing.assert_allclose(margins.log_prior(COUNTS), log_prior, atol=6e-5)
    np.testing.assert_allclose(margins.ldam_margins(COUNTS), ldam, atol=6e-5)
    np.testing.assert_allclose(weights, deferred, atol=6e-5)
    adaptive = [0.1509, 0.1627, 0.1937, 0.2553, 0.3659, 0.5528, 0.8747, 1.4190, 2.2782, 3.7467]
    np.testing.assert_allclose(margins.adaptive_number_weights(COUNTS), adaptive, atol=6e-5)


def test_balanced_softmax_of_the_toy_problem():
    logits, label = jnp.array([[2.0, 1.0, 0.0]]), np.array([2])
    log_prior = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    adjusted = margins.logit_adjusted_cross_entropy(logits, label, log_prior)
    np.testing.assert_allclose(adjusted, [4.06320], atol=1e-5)
    np.testing.assert_allclose(classification.cross_entropy(logits, label), [2.40761], atol=1e-5)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs the reference values in ../shared")
def test_log_prior_of_the_reference_code():
    golden = np.load(GOLDEN)
    found = margins.log_prior(golden["class_counts"])
    np.testing.assert_allclose(found, golden["log_prior"], rtol=1e-5)


def test_gradients_equal_the_formulas():
    adjusted = gradient(
        lambda z: margins.logit_adjusted_cross_entropy(z, LABELS, jnp.asarray(LOG_PRIOR)), LOGITS
    )
    np.testing.assert_allclose(
        adjusted, np.exp(log_softmax(LOGITS + LOG_PRIOR)) - ONE_HOT, atol=1e-6
    )
    ldam = gradient(lambda z: margins.ldam_cross_entropy(z, LABELS, jnp.asarray(MARGINS)), COSINES)
    probs = np.exp(log_softmax(30 * (COSINES - ONE_HOT * MARGINS)))
    np.testing.assert_allclose(ldam, 30 * (probs - ONE_HOT), atol=1e-4)


def test_an_empty_class_has_the_prior_of_one_example():
    log_prior = margins.log_prior(np.array([6, 0, 3]))
    np.testing.assert_allclose(np.exp(log_prior), [0.6, 0.1, 0.3], rtol=1e-6)


def test_correcting_by_the_prior_does_not_make_an_empty_class_the_answer():
    log_prior = margins.log_prior(np.array([50, 20, 5, 0]))
    assert int(jnp.argmax(jnp.array([8.0, 0.0, 0.0, -8.0]) - log_prior)) == 0


@pytest.mark.parametrize(
    ("class_counts", "tau"), [(np.full(K, 7), 1.0), (COUNTS, 0.0)], ids=["uniform", "tau 0"]
)
def test_no_adjustment_gives_plain_cross_entropy(class_counts, tau):
    logits, log_prior = jnp.asarray(LOGITS), margins.log_prior(class_counts)
    np.testing.assert_allclose(
        margins.logit_adjusted_cross_entropy(logits, LABELS, log_prior, tau=tau),
        classification.cross_entropy(logits, LABELS),
        rtol=1e-5,
    )


def test_no_margin_gives_scaled_cross_entropy():
    np.testing.assert_allclose(
        margins.ldam_cross_entropy(jnp.asarray(COSINES), LABELS, jnp.zeros(K), scale=30.0),
        classification.cross_entropy(30 * jnp.asarray(COSINES), LABELS),
        rtol=1e-5,
    )


def test_permuting_classes_changes_nothing():
    order = RNG.permutation(K)
    labels = np.argsort(order)[LABELS]
    logits, permuted = jnp.asarray(LOGITS), jnp.asarray(LOGITS[:, order])
    for prior in (margins.log_prior, margins.ldam_margins):
        np.testing.assert_allclose(prior(COUNTS[order]), prior(COUNTS)[order], rtol=1e-6)
    for loss, prior in [
        (margins.logit_adjusted_cross_entropy, LOG_PRIOR),
        (margins.ldam_cross_entropy, MARGINS),
    ]:
        np.testing.assert_allclose(
            loss(permuted, labels, jnp.asarray(prior[order])),
            loss(logits, LABELS, jnp.asarray(prior)),
            rtol=1e-4,
            atol=1e-5,
        )


def test_extreme_logits_give_finite_losses_and_gradients():
    def adjusted(logits):
        return margins.logit_adjusted_cross_entropy(logits, LABELS, jnp.asarray(LOG_PRIOR))

    def ldam(logits):
        return margins.ldam_cross_entropy(logits, LABELS, jnp.asarray(MARGINS))

    for loss in (adjusted, ldam):
        chex.assert_tree_all_finite([loss(jnp.asarray(EXTREME)), gradient(loss, EXTREME)])


def test_weights_without_and_with_strong_correction():
    np.testing.assert_array_equal(margins.effective_number_weights(COUNTS, beta=0.0), np.ones(K))
    almost_inverse = margins.effective_number_weights(COUNTS, beta=1 - 1e-7)
    np.testing.assert_allclose(almost_inverse, K / COUNTS / (1 / COUNTS).sum(), rtol=2e-4)


def test_adaptive_weights_hardly_depend_on_the_size_of_the_set():
    """So a part of a pool weighs its classes as the whole does, in float32 up to a million each."""
    whole = margins.adaptive_number_weights(np.array([4_000_000, 400_000, 40_000]))
    for size in (100, 10_000):
        part = margins.adaptive_number_weights(np.array([size, size / 10, size / 100]))
        np.testing.assert_allclose(part, whole, rtol=2 / size**0.5)


def test_adaptive_weights_of_single_images_are_ones():
    for counts in (np.ones(3), np.zeros(3), np.array([2, 1, 0])):
        np.testing.assert_array_equal(margins.adaptive_number_weights(counts), np.ones(3))


def test_an_empty_class_lowers_the_average_that_adaptive_weights_begin_with():
    counts = np.array([10, 0, 3, 11, 0])
    expected = reference_weights(np.maximum(counts, 1), 1 - 5 / counts.sum())
    np.testing.assert_allclose(margins.adaptive_number_weights(counts), expected, rtol=1e-5)


def test_an_empty_class_counts_as_one_example():
    empty, single = np.array([9, 0, 4]), np.array([9, 1, 4])
    for function in (
        margins.ldam_margins,
        lambda counts: margins.effective_number_weights(counts, beta=0.99),
    ):
        chex.assert_tree_all_finite(function(empty))
        np.testing.assert_array_equal(function(empty), function(single))


@pytest.mark.parametrize("loss", [margins.logit_adjusted_cross_entropy, margins.ldam_cross_entropy])
def test_wrong_shapes_are_refused(loss):
    with pytest.raises(AssertionError):
        loss(jnp.zeros((B, K)), LABELS, jnp.zeros(1))
    with pytest.raises(AssertionError):
        loss(jnp.zeros((B, K)), LABELS[:-1], jnp.zeros(K))
