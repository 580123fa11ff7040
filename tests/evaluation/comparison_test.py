"""Intervals against scipy, against images drawn one by one, and against truths that are known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import comparison, metrics
from ltssl_jax.evaluation.predictions import Predictions


def answering(classes, labels, num_classes=3):
    return Predictions(
        logits=np.eye(num_classes, dtype=np.float32)[classes],
        labels=np.asarray(labels, np.int32),
        names=np.array([f"{i}.png" for i in range(len(labels))]),
        shown=np.arange(0),
        images=np.zeros((0, 1, 1, 1), np.uint8),
    )


def two(number, *, seed=0, skills=(0.8, 0.7), num_classes=3):
    """Draws two networks that are right with these probabilities, on the same images."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(num_classes, size=number))
    wrong = (labels + 1 + rng.integers(num_classes - 1, size=(2, number))) % num_classes
    is_right = rng.random(number) < np.array(skills)[:, None]  # by one draw: they err alike
    classes = np.where(is_right, labels[None, :], wrong)
    return [answering(c, labels, num_classes) for c in classes]


def confusion(labels, classes, num_classes=3):
    table = np.zeros((num_classes, num_classes), int)
    np.add.at(table, (labels, classes), 1)
    return table


@pytest.mark.parametrize("metric", [metrics.balanced_accuracy, metrics.accuracy])
def test_the_bootstrap_is_that_of_images_drawn_one_by_one(metric):
    ours, theirs = two(300)
    found = comparison.over_images(ours, theirs, metric, num_replicates=4000)
    rng, labels = np.random.default_rng(1), ours.labels
    rows = [np.flatnonzero(labels == k) for k in range(3)]
    replicates = []
    for _ in range(2000):
        drawn = np.concatenate([rng.choice(r, len(r)) for r in rows])
        scores = [metric(confusion(labels[drawn], p.classes[drawn])) for p in (ours, theirs)]
        replicates.append(scores[0] - scores[1])
    value = [metric(confusion(labels, p.classes)) for p in (ours, theirs)]
    assert found.value == pytest.approx(value[0] - value[1]) and found.num == 300
    low, high = np.quantile(replicates, [0.025, 0.975])
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.006)
    assert found.over == "test images" and found.is_clear


def test_each_draw_has_as_many_images_of_each_class_as_there_are():
    ours, theirs = two(60)
    drawn = []

    def metric(confusion):
        drawn.append(confusion.sum(axis=1))
        return metrics.accuracy(confusion)

    comparison.over_images(ours, theirs, metric, num_replicates=50)
    assert len(drawn) == 2 * 51 and (np.stack(drawn) == np.bincount(ours.labels)).all()


def test_the_interval_covers_the_truth_as_often_as_it_says():
    found = [
        comparison.over_images(*two(150, seed=i, skills=(0.8, 0.7)), num_replicates=200)
        for i in range(100)
    ]
    covered = np.mean([one.low <= 0.1 <= one.high for one in found])
    assert 0.88 < covered < 0.99
    same = comparison.over_images(*two(150, skills=(0.8, 0.8)), num_replicates=200)
    assert not same.is_clear


def test_pairing_matters_and_a_network_is_no_better_than_itself():
    ours, theirs = two(2000, skills=(0.8, 0.78))
    paired = comparison.over_images(ours, theirs)
    alone = stats.norm.ppf(0.975) * np.sqrt(0.16 / 2000 + 0.78 * 0.22 / 2000)
    assert paired.high - paired.low < alone  # half of what two independent test sets give
    assert comparison.over_images(ours, ours)[:3] == (0, 0, 0)


def test_the_order_of_classes_and_unknown_ones_change_nothing():
    ours, theirs = two(200)
    once = comparison.over_images(ours, theirs)
    assert comparison.over_images(ours, theirs) == once
    order = np.array([2, 0, 1])

    def renamed(one):
        classes, labels = (np.argsort(order)[x] for x in (one.classes, one.labels))
        return answering(np.r_[classes, 0], np.r_[labels, -1])

    again = comparison.over_images(renamed(ours), renamed(theirs))
    assert again.value == pytest.approx(once.value) and again.num == 200
    np.testing.assert_allclose(again[:3], once[:3], atol=0.01)


def test_other_images_are_refused():
    ours, theirs = two(20)
    named = dataclasses.replace(theirs, names=np.array([f"{i}.jpg" for i in range(20)]))
    for other in (named, two(20, seed=1)[0], two(21)[0]):
        with pytest.raises(InputError, match="compare runs on the same test set"):
            comparison.over_images(ours, other)
    with pytest.raises(InputError, match="3 classes are compared with those of 4"):
        comparison.over_images(ours, answering(theirs.classes, theirs.labels, 4))
    unknown = answering([0, 1], [-1, -1])
    with pytest.raises(InputError, match="no image has a known class"):
        comparison.over_images(unknown, unknown)


def test_seeds_are_students_paired_interval():
    ours, theirs = np.array([0.71, 0.75, 0.70, 0.74]), np.array([0.70, 0.70, 0.69, 0.71])
    found = comparison.over_seeds(ours, theirs)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    np.testing.assert_allclose(found[:3], [0.025, expected.low, expected.high])
    assert (found.num, found.over) == (4, "seeds")
    one = comparison.over_seeds([0.5], [0.25])
    assert one.value == 0.25 and np.isnan([one.low, one.high]).all() and not one.is_clear
    for pair in (([0.1], [0.1, 0.2]), ([], [])):
        with pytest.raises(InputError, match="cannot be paired"):
            comparison.over_seeds(*pair)
