"""Metrics against scikit-learn and imbalanced-learn, and against the published definitions."""

import numpy as np
import pytest
from imblearn.metrics import geometric_mean_score
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import metrics

K = 7
RNG = np.random.default_rng(6)
LABELS = np.concatenate([np.arange(K), RNG.integers(0, K, 200)])
PREDICTIONS = np.where(RNG.random(len(LABELS)) < 0.6, LABELS, RNG.integers(0, K, len(LABELS)))
CONFUSION = confusion_matrix(LABELS, PREDICTIONS)
LABELED_COUNTS = np.array([5, 80, 20, 300, 20, 2, 40])  # ranked: 3 1 6 2 4 0 5


def never_recognizing(missed):
    """Labels, predictions and confusion matrix in which no example of class `missed` is right."""
    predictions = np.where(PREDICTIONS == missed, (missed + 1) % K, PREDICTIONS)
    return LABELS, predictions, confusion_matrix(LABELS, predictions)


def diagonal(recalls, support=100):
    """A confusion matrix with these recalls; mistakes go to the next class."""
    right = np.round(np.array(recalls) * support).astype(int)
    return np.diag(right) + np.roll(np.diag(support - right), 1, axis=1)


def test_equal_scikit_learn():
    recall = recall_score(LABELS, PREDICTIONS, average=None)
    np.testing.assert_allclose(metrics.recall_per_class(CONFUSION), recall)
    assert metrics.accuracy(CONFUSION) == pytest.approx(accuracy_score(LABELS, PREDICTIONS))
    assert metrics.balanced_accuracy(CONFUSION) == pytest.approx(
        balanced_accuracy_score(LABELS, PREDICTIONS)
    )


@pytest.mark.parametrize("floor", [0.0, 1 / (100 * K), 0.01])
def test_geometric_mean_equals_imbalanced_learn(floor):
    labels, predictions, confusion = never_recognizing(4)
    for y, guesses, matrix in [(LABELS, PREDICTIONS, CONFUSION), (labels, predictions, confusion)]:
        expected = geometric_mean_score(y, guesses, average="multiclass", correction=floor)
        assert metrics.geometric_mean(matrix, floor=floor) == pytest.approx(expected)
    assert (metrics.geometric_mean(confusion, floor=floor) == 0) == (floor == 0)


def test_geometric_mean_of_the_published_vector():
    confusion = diagonal([0.9] * 9 + [0.0])
    assert metrics.geometric_mean(confusion, floor=1 / 1000) == pytest.approx(0.45585, abs=1e-5)
    assert metrics.geometric_mean(confusion, floor=0.0) == 0


def test_the_floor_replaces_exact_zeros_only():
    confusion = diagonal([0.9, 0.01])
    assert metrics.geometric_mean(confusion, floor=0.5) == pytest.approx((0.9 * 0.01) ** 0.5)


def test_a_thousand_classes_do_not_underflow():
    confusion = diagonal([0.01] * 1000)
    assert metrics.geometric_mean(confusion, floor=0.0) == pytest.approx(0.01)


def test_worst_class_is_the_first_of_the_lowest():
    assert metrics.worst_class(diagonal([0.8, 0.3, 0.5, 0.3])) == (1, 0.3)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_absent_class_is_left_out_of_every_mean():
    confusion = diagonal([0.9, 0.6, 0.3, 0.4])
    confusion[2] = 0
    recall = metrics.recall_per_class(confusion)
    np.testing.assert_array_equal(np.isnan(recall), [False, False, True, False])
    found = metrics.summary(confusion, np.array([9, 5, 3, 1]), geometric_mean_floor=0.1)
    assert found["balanced_accuracy"] == pytest.approx((0.9 + 0.6 + 0.4) / 3)
    assert found["geometric_mean"] == pytest.approx((0.9 * 0.6 * 0.4) ** (1 / 3))
    assert found["worst_class_recall"] == pytest.approx(0.4)
    assert found["medium"] == pytest.approx(0.6)
    assert found["minority"] == pytest.approx(0.4)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_group_without_examples_is_nan():
    confusion = diagonal([0.9, 0.6, 0.3])
    confusion[2] = 0
    found = metrics.summary(confusion, np.array([9, 5, 3]), geometric_mean_floor=0.1)
    assert np.isnan(found["few"]) and found["many"] == pytest.approx(0.9)


def test_groups_follow_labeled_counts_and_break_ties_by_index():
    groups = metrics.class_groups(LABELED_COUNTS)
    assert {name: list(ids) for name, ids in groups.items()} == {
        "many": [3, 1],
        "medium": [6, 2, 4],
        "few": [0, 5],
    }


@pytest.mark.parametrize("num_classes", [1, 2, 3, 10, 100])
def test_groups_of_sorted_classes_are_the_published_thirds(num_classes):
    groups = metrics.class_groups(np.arange(num_classes, 0, -1))
    third = int(num_classes / 3)
    np.testing.assert_array_equal(groups["many"], np.arange(third))
    np.testing.assert_array_equal(groups["medium"], np.arange(third, num_classes - third))
    np.testing.assert_array_equal(groups["few"], np.arange(num_classes - third, num_classes))


def test_unsigned_counts_rank_alike():
    groups = metrics.class_groups(np.array([0, 7, 3], np.uint32))
    assert (groups["many"], groups["medium"], groups["few"]) == (1, 2, 0)


def test_ties_among_many_classes_keep_their_order():
    groups = metrics.class_groups(np.arange(99) % 3)  # an unstable sort shuffles these
    frequent_first = [*range(2, 99, 3), *range(1, 99, 3), *range(0, 99, 3)]
    np.testing.assert_array_equal(np.concatenate(list(groups.values())), frequent_first)


def test_minority_is_the_rarer_half():
    recalls = np.linspace(0.1, 0.7, K)
    found = metrics.minority_recall(diagonal(recalls), LABELED_COUNTS)
    assert found == pytest.approx(recalls[[2, 4, 0, 5]].mean())
    sorted_ten = metrics.minority_recall(diagonal(np.linspace(1, 0.1, 10)), np.arange(10, 0, -1))
    assert sorted_ten == pytest.approx(np.linspace(1, 0.1, 10)[5:].mean())


def test_summary_collects_every_metric():
    confusion = never_recognizing(4)[2]
    recall = metrics.recall_per_class(confusion)
    assert metrics.summary(confusion, LABELED_COUNTS, geometric_mean_floor=0.01) == pytest.approx(
        {
            "accuracy": metrics.accuracy(confusion),
            "balanced_accuracy": recall.mean(),
            "geometric_mean": 0.0,
            "geometric_mean_floored": metrics.geometric_mean(confusion, floor=0.01),
            "worst_class_recall": 0.0,
            "many": recall[[3, 1]].mean(),
            "medium": recall[[6, 2, 4]].mean(),
            "few": recall[[0, 5]].mean(),
            "minority": recall[[2, 4, 0, 5]].mean(),
        }
    )


def test_summary_holds_plain_floats():
    found = metrics.summary(CONFUSION, LABELED_COUNTS, geometric_mean_floor=0.01)
    assert {type(value) for value in found.values()} == {float}


def test_relabeling_the_classes_changes_nothing():
    order = RNG.permutation(K)
    distinct = np.array([5, 80, 20, 300, 21, 2, 40])
    permuted = metrics.summary(
        CONFUSION[np.ix_(order, order)], distinct[order], geometric_mean_floor=0.01
    )
    original = metrics.summary(CONFUSION, distinct, geometric_mean_floor=0.01)
    assert permuted == pytest.approx(original)


def test_bad_inputs_are_named():
    with pytest.raises(InputError, match=r"\(7, 7\).* 6 classes"):
        metrics.summary(CONFUSION, LABELED_COUNTS[:6], geometric_mean_floor=0.01)
    with pytest.raises(InputError, match="no example"):
        metrics.summary(np.zeros((K, K), int), LABELED_COUNTS, geometric_mean_floor=0.01)
