import numpy as np
import pytest

from ltssl_jax.evaluation import priors

RATES = np.array([[0.8, 0.15, 0.05], [0.3, 0.6, 0.1], [0.25, 0.25, 0.5]])


def test_the_mixture_of_rows_is_found():
    truth = np.array([0.1, 0.2, 0.7])
    found = priors.of_pool(1e6 * truth @ RATES, (1e6 * RATES).round())
    np.testing.assert_allclose(found, truth, atol=1e-3)
    assert np.abs(truth @ RATES - truth).max() > 0.1  # counting predictions does not find it


def test_the_likelihood_of_the_counts_has_its_maximum_there():
    rng = np.random.default_rng(0)
    confusion, counts = (
        rng.integers(1, 40, (4, 4)) + 60 * np.eye(4, dtype=int),
        np.array([9, 50, 3, 20]),
    )
    right = (np.trace(confusion) + 1) / (confusion.sum() + 2)
    added = np.where(np.eye(4, dtype=bool), right, (1 - right) / 3)
    rates = (confusion + added) / (confusion.sum(axis=1, keepdims=True) + 1)

    def posterior(prior):
        return counts @ np.log(prior @ rates) + np.log(prior).sum()

    found = priors.of_pool(counts, confusion)
    assert found.sum() == pytest.approx(1)
    others = rng.dirichlet(200 * found + 1e-3, 300) * 0.999 + 0.00025
    assert max(map(posterior, others)) <= posterior(found) + 1e-6


def test_few_and_absent_classes_stay_positive_and_order_means_nothing():
    confusion = np.array([[5, 0, 1], [0, 0, 0], [0, 2, 3]])
    counts, order = np.array([10, 5, 4]), np.array([2, 0, 1])
    found = priors.of_pool(counts, confusion)
    assert found.min() > 0 and found.argmax() == 0
    again = priors.of_pool(counts[order], confusion[np.ix_(order, order)])
    np.testing.assert_allclose(again, found[order], atol=1e-6)
    np.testing.assert_allclose(priors.of_pool(np.zeros(3), confusion), 1 / 3)
    never = priors.of_pool(np.array([2, 9]), np.array([[5, 0], [300, 0]]))  # predicted before
    assert never[0] > 0.5 and never.sum() == pytest.approx(1)


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_a_class_of_few_images_does_not_swallow_the_others(num_images):
    rates = np.full((10, 10), 0.01) + 0.9 * np.eye(10)
    confusion = 50 * rates
    confusion[9] *= num_images / 50
    truth = np.arange(10, 0, -1) / 55
    found = priors.of_pool(2000 * truth @ rates, confusion)
    np.testing.assert_allclose(found, truth, atol=0.02)
