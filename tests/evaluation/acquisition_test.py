import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import acquisition
from ltssl_jax.evaluation.predictions import softmax


def drawn(seed, num_images=300, num_classes=5, size=8):
    """Probabilities, features of images and of labeled ones, and counts that are not sorted."""
    rng = np.random.default_rng(seed)
    probs = softmax(3 * rng.normal(size=(num_images, num_classes)))
    features, labeled = rng.normal(size=(num_images, size)), rng.normal(size=(20, size))
    return probs, features, labeled, rng.permutation([1, 3, 9, 27, 81])


def reference(probs, features, labeled, counts, number, weight):
    """The equations, one image after the other in float64."""
    features, labeled = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, labeled))
    value = []
    for p in probs:
        second, first = np.sort(p)[-2:]
        rarity = sum(p[k] * min(counts) / counts[k] for k in range(len(counts)))
        value.append(1 - (first - second) + weight * rarity)
    taken = []
    for _ in range(number):
        near = [*labeled, *(features[i] for i in taken)]
        scores = [
            v * min(np.sum((x - y) ** 2) for y in near)
            for v, x in zip(value, features, strict=True)
        ]
        taken.append(int(np.argmax(scores)))
    return taken


def chosen(probs, features, labeled, counts, number, weight=1.0):
    worth = acquisition.worth(probs, counts)
    return acquisition.choose(worth.uncertainty + weight * worth.rarity, features, labeled, number)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_as_the_equations(weight):
    for seed in range(3):
        case = drawn(seed)
        found = chosen(*case, 12, weight)
        assert found.rows.tolist() == reference(*case, 12, weight)
        assert (np.diff(found.scores) <= 1e-6).all()  # distances only shrink


def test_what_is_said_of_an_image():
    probs = np.array([[0.5, 0.3, 0.2], [0.0, 0.1, 0.9]], np.float32)
    worth = acquisition.worth(probs, np.array([10, 0, 2]))
    assert (worth.guess.tolist(), worth.runner_up.tolist()) == ([0, 2], [1, 1])
    np.testing.assert_allclose(worth.probability, [0.5, 0.9])
    np.testing.assert_allclose(worth.uncertainty, [0.8, 0.2], rtol=1e-6)
    np.testing.assert_allclose(worth.rarity, [0.05 + 0.3 + 0.1, 0.1 + 0.45], rtol=1e-6)


def test_the_order_of_classes_and_the_length_of_features_mean_nothing():
    probs, features, labeled, counts = drawn(0)
    order = np.random.default_rng(1).permutation(5)
    lengths = np.random.default_rng(2).uniform(0.5, 2, (300, 1))
    found = chosen(probs, features, labeled, counts, 20)
    again = chosen(probs[:, order], lengths * features, 7 * labeled, counts[order], 20)
    assert found.rows.tolist() == again.rows.tolist()


def test_of_copies_one_is_taken_and_of_labeled_images_none():
    probs, features, labeled, counts = drawn(0, 30)
    features = np.concatenate([features, labeled, 2 * features])
    probs = np.concatenate([probs, np.full((20, 5), 0.2), probs])
    rows = chosen(probs, features, labeled, counts, 80).rows
    assert sorted(rows % 50) == list(range(30))
    with pytest.raises(InputError, match="none of 20 images is worth a label"):
        chosen(probs[30:50], labeled, labeled, counts, 5)


def test_an_image_of_which_the_network_sees_nothing_is_taken_once():
    probs, features, labeled, counts = drawn(0, 10)
    features[3], probs[3] = 0, 0.2
    found = chosen(probs, features, labeled, counts, 10)
    assert sorted(found.rows) == list(range(10))


def test_nothing_labeled_at_hand():
    probs, features, _, counts = drawn(0)
    worth = acquisition.worth(probs, counts)
    value = worth.uncertainty + worth.rarity
    found = acquisition.choose(value, features, np.zeros((0, 3)), 10)
    assert found.rows[0] == value.argmax() and found.scores[0] == pytest.approx(2 * value.max())
    assert len(set(found.rows)) == 10


def test_rare_classes_are_sought_as_much_as_asked_for():
    """All images are of a class for sure but a few; the rare class is that with few labels."""
    probs, features, labeled, _ = drawn(0, 400)
    probs = np.eye(5)[np.arange(400) % 5] * 0.98 + 0.004
    counts = np.array([50, 50, 1, 50, 50])
    share = [
        np.mean(chosen(probs, features, labeled, counts, 40, w).rows % 5 == 2) for w in (0, 1, 9)
    ]
    assert share[0] < 0.4 < share[1] <= share[2]


def test_novelty_is_a_share():
    probs, features, labeled, counts = drawn(0)
    first = chosen(probs, features, labeled, counts, 50).novelty
    unit, near = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, labeled))
    row = chosen(probs, features, labeled, counts, 1).rows[0]
    distances = 2 - 2 * (unit @ near.T).max(axis=1)
    assert first[0] == pytest.approx(np.mean(distances < distances[row]))
    assert ((first >= 0) & (first < 1)).all() and first[0] > first[-1]


def test_labels_are_spread_over_classes():
    labels = np.repeat([3, 0, 2], [100, 4, 1])
    rows = acquisition.spread(labels, 30)
    assert np.bincount(labels[rows]).tolist() == [4, 0, 1, 10]
    assert rows[0] == 0 and rows[9] == 99 and (np.diff(rows) > 0).all()
    assert len(acquisition.spread(labels, 1)) == 3
