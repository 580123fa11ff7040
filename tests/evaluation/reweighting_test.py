import numpy as np
import pytest

from ltssl_jax.evaluation import metrics, reweighting

COUNTS = np.array([7, 100, 20, 50])  # classes from frequent to rare: 1, 3, 2, 0


def test_priors_are_geometric_by_labeled_counts():
    found = reweighting.shifted_priors(COUNTS)
    sides = [f"{n:g}" for n in (50, 25, 10, 5, 2)]
    names = [f"forward{n}" for n in sides] + ["uniform"] + [f"backward{n}" for n in sides[::-1]]
    assert list(found) == names
    np.testing.assert_allclose([p.sum() for p in found.values()], 1)
    forward = found["forward10"][[1, 3, 2, 0]]
    np.testing.assert_allclose(forward / forward[0], 10.0 ** -np.array([0, 1 / 3, 2 / 3, 1]))
    np.testing.assert_allclose(found["backward10"][[0, 2, 3, 1]], forward)
    np.testing.assert_allclose(found["uniform"], 0.25)


def test_the_accuracy_is_that_of_a_test_set_drawn_so():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 1000)
    classes = np.where(rng.random(4000) < 0.2 + 0.2 * labels, labels, (labels + 1) % 4)
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, classes), 1)
    found = reweighting.accuracies(confusion, COUNTS)
    for name, prior in reweighting.shifted_priors(COUNTS).items():
        wanted = (1000 * prior / prior.max()).astype(int)
        rows = np.concatenate(
            [1000 * k + rng.choice(1000, n, replace=False) for k, n in enumerate(wanted)]
        )
        assert found[name] == pytest.approx((classes == labels)[rows].mean(), abs=0.03)
    assert found["uniform"] == pytest.approx(metrics.balanced_accuracy(confusion))


def test_the_order_of_classes_means_nothing():
    confusion, order = np.random.default_rng(0).integers(1, 9, (4, 4)), np.array([2, 0, 3, 1])
    once = reweighting.accuracies(confusion, COUNTS)
    again = reweighting.accuracies(confusion[np.ix_(order, order)], COUNTS[order])
    assert again == pytest.approx(once)


def test_absent_classes_are_left_out():
    confusion = np.diag([4, 0, 2, 0]) + np.array([[0, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4])
    prior = np.array([0.1, 0.4, 0.3, 0.2])
    assert reweighting.accuracy_under(confusion, prior) == pytest.approx((0.08 + 0.3) / 0.4)
    assert np.isnan(reweighting.accuracy_under(np.zeros((4, 4), int), prior))
