"""Calibration against scikit-learn, brute force, and probabilities that are right by design."""

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import calibration
from ltssl_jax.evaluation.predictions import softmax


def honest(number, num_classes=4, *, seed=0, concentration=0.5):
    """Draws probabilities, and labels by them."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(num_classes, concentration), number)
    labels = (probs.cumsum(axis=1) < rng.random((number, 1))).sum(axis=1)
    return probs, labels.clip(max=num_classes - 1)


def test_reliability_is_the_calibration_curve_of_sklearn():
    probs, labels = honest(500)
    found = calibration.reliability(probs, np.r_[labels[:400], [-1] * 100], num_bins=10)
    is_right = probs[:400].argmax(axis=1) == labels[:400]
    accuracy, confidence = calibration_curve(is_right, probs[:400].max(axis=1), n_bins=10)
    filled = found.count > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], confidence)
    assert found.count.sum() == 400 and np.isnan(found.accuracy[~filled]).all() and not filled[0]
    error = (found.count[filled] / 400) @ np.abs(accuracy - confidence)
    assert calibration.expected_error(found) == pytest.approx(error)


def test_brier_is_that_of_sklearn():
    probs, labels = honest(300)
    expected = brier_score_loss(labels, probs, scale_by_half=False)
    assert calibration.brier(probs, labels) == pytest.approx(expected)
    unknown = np.r_[labels, -1], np.r_[probs, probs[:1]]
    assert calibration.brier(*unknown[::-1]) == pytest.approx(expected)


def test_honest_probabilities_have_no_error_and_overconfident_ones_have():
    probs, labels = honest(100_000)
    assert calibration.expected_error(calibration.reliability(probs, labels)) < 0.01
    sure = softmax(3 * np.log(probs))
    assert calibration.expected_error(calibration.reliability(sure, labels)) > 0.1


def test_groups_are_by_labeled_counts_and_an_empty_one_is_nan():
    probs = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.6, 0.2, 0.2], [0.1, 0.3, 0.6]])
    labels = np.array([0, 1, 1, -1])
    found = calibration.summary(probs, labels, np.array([1, 50, 9]))
    assert list(found) == ["all", "many", "medium", "few"]
    assert [found[g]["num_images"] for g in found] == [3, 2, 0, 1]
    assert found["many"]["accuracy"] == 0.5
    assert found["many"]["confidence"] == pytest.approx(0.65)
    assert found["many"]["ece"] == pytest.approx(0.5 * 0.3 + 0.5 * 0.6)
    assert found["many"]["brier"] == pytest.approx((0.01 + 0.09 + 0.04 + 0.36 + 0.64 + 0.04) / 2)
    assert np.isnan([found["medium"][n] for n in ("confidence", "accuracy", "ece", "brier")]).all()


def test_calibration_undoes_a_temperature_and_biases():
    probs, labels = honest(4000, 3, concentration=1)
    logits = 3 * np.log(probs) + np.array([1.0, 0, -1])[None, :]
    found = calibration.fit(logits, labels, "validation")
    assert found.temperature == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(found.bias - found.bias.mean(), [-1 / 3, 0, 1 / 3], atol=0.1)
    np.testing.assert_allclose(found.prior, np.bincount(labels) / 4000, atol=0.005)
    mended = calibration.applied(found, logits)
    np.testing.assert_allclose(mended, probs, atol=0.06)
    assert (found.fitted_on, found.num_images) == ("validation", 4000)


def test_many_classes_of_all_sizes_are_fitted_to_the_end():
    """At the optimum the gradient is 0: expected counts miss the true ones by the penalty alone."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(3000, 300))
    probs = softmax(logits + 1.5 * rng.normal(size=300))
    labels = (probs.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1).clip(max=299)
    found = calibration.fit(8 * logits, labels, "")
    said = calibration.applied(found, 8 * logits).sum(axis=0)
    counts = np.bincount(labels, minlength=300)
    np.testing.assert_allclose(said + found.bias, counts, atol=0.5)


def test_a_temperature_alone_changes_no_class():
    probs, labels = honest(2000, 3, concentration=1)
    logits = 4 * np.log(probs) + np.array([2.0, 0, 0])[None, :]
    found = calibration.fit(logits, labels, "test", with_bias=False)
    assert found.temperature > 3 and not found.bias.any()
    assert np.array_equal(calibration.applied(found, logits).argmax(1), logits.argmax(1))


def test_without_mistakes_nothing_becomes_certain():
    logits = 4.0 * np.eye(3)[np.repeat([0, 1, 2], 20)]
    found = calibration.fit(logits, np.repeat([0, 1, 2], 20), "validation")
    assert 0.98 < calibration.applied(found, logits).max() < 1 - 1e-4


def test_classes_without_images_keep_a_prior_that_can_be_divided_by():
    probs, labels = honest(50, 3)
    logits = np.c_[np.log(probs), np.full(50, -1e4)]
    found = calibration.fit(logits, np.r_[labels[:49], -1], "validation")
    assert found.num_images == 49 and found.prior.min() > 0
    assert found.prior.sum() == pytest.approx(1)
    assert np.isfinite(calibration.applied(found, logits, np.full(4, 0.25))).all()


def test_another_prior_is_bayes_rule():
    """Two classes on a line, whose posterior is known for every prior."""
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.2).astype(int)
    x = rng.normal(labels * 2.0)
    logits = 5 * np.stack([np.zeros_like(x), 2 * x - 2 + np.log(0.2 / 0.8)], axis=1)
    found = calibration.fit(logits, labels, "validation")
    mended = calibration.applied(found, logits, np.array([0.3, 0.7]))[:, 1]
    density = [0.3 * stats.norm.pdf(x), 0.7 * stats.norm.pdf(x, 2)]
    np.testing.assert_allclose(mended, density[1] / (density[0] + density[1]), atol=0.03)
    never = calibration.applied(found, logits, np.array([1.0, 0.0]))
    np.testing.assert_array_equal(never, np.eye(2)[np.zeros(len(x), int)])


@pytest.mark.parametrize(
    ("logits", "label", "said"),
    [(0.0, -1, "on validation: no image of it has a class"), (np.nan, 1, "not finite")],
)
def test_what_cannot_be_calibrated_is_refused(logits, label, said):
    with pytest.raises(InputError, match=said):
        calibration.fit(np.full((3, 2), logits), np.full(3, label), "validation")


def test_permuting_classes_permutes_the_calibration():
    probs, labels = honest(600, 4)
    logits, order = 2 * np.log(probs), np.array([2, 0, 3, 1])
    once = calibration.fit(logits, labels, "")
    again = calibration.fit(logits[:, order], np.argsort(order)[labels], "")
    np.testing.assert_allclose(again.bias, once.bias[order], atol=5e-3)
    np.testing.assert_allclose(again.prior, once.prior[order], atol=1e-3)


# --- the threshold of a precision -----------------------------------------------------------------


def lower_bound(right, number):
    """Clopper and Pearson, as scipy has it."""
    test = stats.binomtest(right, number, alternative="greater")
    return test.proportion_ci(0.95, method="exact").low


def test_the_threshold_is_the_lowest_whose_bound_suffices():
    probs, labels = honest(400, 3)
    probs = probs.round(2)  # with equal ones
    confidence, is_right = probs.max(axis=1), probs.argmax(axis=1) == labels
    enough = [
        t
        for t in np.unique(confidence)
        if lower_bound(int(is_right[confidence >= t].sum()), int((confidence >= t).sum())) >= 0.8
    ]
    labels = np.r_[labels, -1]
    found = calibration.threshold_for(np.r_[probs, np.eye(3)[:1]], labels, 0.8)
    assert found == min(enough)


def test_a_precision_out_of_reach_has_no_threshold():
    probs, labels = honest(40, 3)
    assert calibration.threshold_for(probs, labels, 0.99) == np.inf
    certain = np.eye(2)[np.zeros(58, int)]
    assert calibration.threshold_for(certain, np.zeros(58, int), 0.95) == np.inf
    assert calibration.threshold_for(np.r_[certain, certain], np.zeros(116, int), 0.95) == 1


def test_equal_probabilities_lie_on_one_side_of_the_threshold():
    probs = np.array([[0.9, 0.1]] * 200)
    labels = np.repeat([0, 1], [150, 50])  # the first 150 alone would reach 0.95
    assert calibration.threshold_for(probs, labels, 0.95) == np.inf


def test_the_threshold_holds_on_new_images_of_another_prior():
    rng = np.random.default_rng(0)
    prior = np.array([0.2, 0.8])

    def some(number, share):
        labels = (rng.random(number) < share).astype(int)
        x = rng.normal(2.5 * labels)
        score = 2.5 * x - 3.125 + np.log(4)  # the posterior under `prior`
        return softmax(np.stack([np.zeros_like(x), score], axis=1)), labels

    found = calibration.threshold_for(*some(2000, 0.1), 0.95, prior)
    probs, labels = some(50_000, prior[1])
    kept = probs.max(axis=1) >= found
    precision = (probs.argmax(axis=1) == labels)[kept].mean()
    assert 0.95 <= precision < 0.99 and kept.mean() > 0.5
