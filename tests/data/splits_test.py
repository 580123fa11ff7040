import math

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import splits

LABELS = np.random.default_rng(7).permutation(np.repeat(np.arange(4), 100))
EXPLICIT = dict(unlabeled_num_max=0)  # what replaces M1 must not be given beside it
REST = dict(unlabeled_shape="all_rest", unlabeled_num_max=0)
SMALL = dict(num_classes=4, num_max=20, imbalance_ratio=10, unlabeled_num_max=40)  # 20 9 4 2


def small(**changes):
    return splits.long_tailed(LABELS, **{**SMALL, **changes})


def counts(positions, labels=LABELS):
    return np.bincount(labels[positions], minlength=4).tolist()


def test_first_images_of_each_class_are_taken_in_order():
    split = small(unlabeled_shape="reversed", validation_per_class=5)
    of_class = [np.flatnonzero(LABELS == k) for k in range(4)]
    labeled, unlabeled = (20, 9, 4, 2), (4, 8, 18, 40)
    expected = {
        "labeled": [c[:n] for c, n in zip(of_class, labeled, strict=True)],
        "unlabeled": [c[n : n + m] for c, n, m in zip(of_class, labeled, unlabeled, strict=True)],
        "validation": [c[-5:] for c in of_class],
    }
    for name, parts in expected.items():
        np.testing.assert_array_equal(getattr(split, name), np.concatenate(parts), err_msg=name)
        assert getattr(split, name).dtype == np.int64
    assert split.labeled_counts.tolist() == list(labeled)
    assert split.unlabeled_counts.tolist() == list(unlabeled)
    assert not split.is_labeled.any()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(), [40, 18, 8, 4]),
        (dict(unlabeled_imbalance_ratio=1), [40, 40, 40, 40]),
        (dict(unlabeled_imbalance_ratio=4, unlabeled_shape="reversed"), [10, 15, 25, 40]),
        (dict(unlabeled_shape="middle"), [8, 40, 18, 4]),
        (dict(unlabeled_shape="head_tail"), [18, 4, 8, 40]),
        (dict(unlabeled_shape="uniform_max"), [40, 40, 40, 40]),
        (dict(unlabeled_shape="uniform_mean"), [10, 10, 10, 10]),
        (REST, [80, 91, 96, 98]),
        (dict(REST, validation_per_class=10), [70, 81, 86, 88]),
        (dict(EXPLICIT, unlabeled_counts=(1, 2, 3, 0)), [1, 2, 3, 0]),
        (dict(labeled_counts=(3, 3, 3, 3)), [40, 18, 8, 4]),
        (dict(overlap=True), [60, 27, 12, 6]),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_unlabeled_counts(changes, expected, shuffle):
    split = small(**changes, shuffle=shuffle)
    assert counts(split.unlabeled) == split.unlabeled_counts.tolist() == expected
    assert counts(split.labeled) == split.labeled_counts.tolist()
    everything = np.concatenate([split.labeled, split.unlabeled[~split.is_labeled]])
    everything = np.concatenate([everything, split.validation])
    assert len(np.unique(everything)) == len(everything)


def test_overlap_repeats_exactly_the_labeled_images():
    split = small(overlap=True, shuffle=True)
    np.testing.assert_array_equal(split.unlabeled[split.is_labeled], split.labeled)
    assert len(split.unlabeled) == len(split.labeled) + 70


@pytest.mark.parametrize(
    ("num_max", "fraction", "expected"),
    [(200, 0.4, 300), (1000, 0.2, 4000), (1500, 1 / 3, 3000), (500, 1 / 9, 4000)],
)
def test_label_fraction_gives_the_published_maximum(num_max, fraction, expected):
    split = splits.long_tailed(
        np.repeat(np.arange(2), 5000),
        num_classes=2,
        num_max=num_max,
        imbalance_ratio=10,
        label_fraction=fraction,
    )
    assert split.unlabeled_counts.tolist() == [expected, expected // 10]


def test_label_fraction_may_give_a_fractional_maximum():
    split = small(unlabeled_num_max=0, label_fraction=0.3)  # 46.67, not 46
    assert split.unlabeled_counts.tolist() == [int(20 * 7 / 3 * 10 ** (-k / 3)) for k in range(4)]


def test_images_of_unknown_class_join_the_unlabeled_set():
    labels = np.concatenate([LABELS, np.full(30, -1)])
    split = splits.long_tailed(labels, **(SMALL | EXPLICIT | dict(unlabeled_counts=(0, 0, 0, 1))))
    assert split.unlabeled_counts.tolist() == [0, 0, 0, 1]
    np.testing.assert_array_equal(split.unlabeled[1:], np.arange(400, 430))


def test_seed_matters_only_where_something_is_shuffled():
    assert small(seed=1).fingerprint == small(seed=2).fingerprint
    first, again, other = (small(shuffle=True, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert counts(first.labeled) == counts(other.labeled)
    assert not np.array_equal(first.labeled, small().labeled)


def test_permuted_classes_keep_their_rank_in_both_sets():
    several = [small(permute_classes=True, seed=seed) for seed in range(4)]
    for split in several:
        assert sorted(split.labeled_counts, reverse=True) == [20, 9, 4, 2]
        order = np.argsort(split.labeled_counts)
        np.testing.assert_array_equal(order, np.argsort(split.unlabeled_counts))
    assert len({tuple(split.labeled_counts) for split in several}) > 1
    explicit = small(permute_classes=True, labeled_counts=(5, 6, 7, 8))
    assert explicit.labeled_counts.tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("shape", ["consistent", "reversed", "middle", "head_tail"])
def test_unlabeled_shapes_follow_the_rank_of_a_class_and_not_its_number(shape):
    plain = small(unlabeled_shape=shape)
    for seed in range(4):
        permuted = small(unlabeled_shape=shape, permute_classes=True, seed=seed)
        rank = np.argsort(-permuted.labeled_counts)
        np.testing.assert_array_equal(permuted.labeled_counts[rank], plain.labeled_counts)
        np.testing.assert_array_equal(permuted.unlabeled_counts[rank], plain.unlabeled_counts)


def test_images_for_the_pool_are_never_labeled():
    is_pool = np.arange(400) % 5 == 0
    split = splits.long_tailed(LABELS, is_pool, **SMALL)
    kept = np.flatnonzero(~is_pool)
    alone = splits.long_tailed(LABELS[kept], **SMALL)
    np.testing.assert_array_equal(split.labeled, kept[alone.labeled])
    assert set(split.unlabeled) == set(kept[alone.unlabeled]) | set(np.flatnonzero(is_pool))
    assert len(set(split.unlabeled)) == len(split.unlabeled)
    assert counts(split.unlabeled) == split.unlabeled_counts.tolist()
    np.testing.assert_array_equal(LABELS[split.unlabeled], np.sort(LABELS[split.unlabeled]))
    held = splits.long_tailed(LABELS, is_pool, **SMALL, validation_per_class=3, shuffle=True)
    assert not is_pool[held.validation].any() and not is_pool[held.labeled].any()


def test_unknown_classes_marked_for_the_pool_come_once():
    labels = np.concatenate([LABELS, np.full(30, -1)])
    marked = splits.long_tailed(labels, labels < 0, **SMALL)
    assert marked.fingerprint == splits.long_tailed(labels, **SMALL).fingerprint


GIVEN = np.array([2, 0, -1, 2, 0, -1, 2, 3], np.int32)  # class 1 has no label
IN_POOL = np.array([0, 0, 0, 1, 0, 1, 0, 1], bool)


def test_given_data_stay_as_they_are():
    split = splits.given(GIVEN, num_classes=4)
    assert split.labeled.tolist() == [1, 4, 0, 3, 6, 7]
    assert split.unlabeled.tolist() == [2, 5]
    assert split.validation.tolist() == [] and not split.is_labeled.any()
    assert split.labeled_counts.tolist() == [2, 0, 3, 1]
    assert split.unlabeled_counts.tolist() == [0, 0, 0, 0]
    for name in ("labeled", "unlabeled", "validation", "labeled_counts", "unlabeled_counts"):
        assert getattr(split, name).dtype == np.int64, name


def test_given_pool_with_known_classes():
    split = splits.given(GIVEN, IN_POOL, num_classes=4)
    assert split.labeled.tolist() == [1, 4, 0, 6]
    assert split.unlabeled.tolist() == [3, 7, 2, 5]
    assert split.labeled_counts.tolist() == [2, 0, 2, 0]
    assert split.unlabeled_counts.tolist() == [0, 0, 1, 1]
    overlap = splits.given(GIVEN, IN_POOL, num_classes=4, overlap=True)
    assert overlap.unlabeled.tolist() == [1, 4, 0, 6, 3, 7, 2, 5]
    assert overlap.is_labeled.tolist() == [True] * 4 + [False] * 4
    assert overlap.unlabeled_counts.tolist() == [2, 0, 3, 1]
    assert len({split.fingerprint, overlap.fingerprint}) == 2


def test_given_labels_alone_are_a_pool_if_they_overlap():
    split = splits.given(LABELS, num_classes=4, overlap=True)
    np.testing.assert_array_equal(split.labeled, split.unlabeled)
    assert split.is_labeled.all()


@pytest.mark.parametrize(
    ("labels", "is_pool", "words"),
    [
        (LABELS, None, "no image without a label; set data.split.overlap=True.* data.source.pool"),
        (LABELS, np.zeros(400, bool), "no image without a label"),
        (LABELS, np.ones(400, bool), "no training image has a label"),
        (np.full(3, -1), None, "no training image has a label"),
        (np.empty(0, np.int32), None, "no training image has a label"),
    ],
)
def test_given_data_that_lack_a_part(labels, is_pool, words):
    with pytest.raises(InputError, match=words):
        splits.given(labels, is_pool, num_classes=4)


def test_fingerprint_sees_every_array_and_survives_versions():
    one = small()
    assert one.fingerprint != small(validation_per_class=1).fingerprint
    assert one.fingerprint != small(unlabeled_num_max=41).fingerprint
    assert one.fingerprint != small(labeled_counts=(20, 9, 4, 1)).fingerprint
    shuffled = small(shuffle=True, permute_classes=True, validation_per_class=3, seed=11)
    # A change of these two would keep every stored run from being resumed.
    assert one.fingerprint[:16] == "2fe6271df79d4036"
    assert shuffled.fingerprint[:16] == "e3837be4de52897e"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(num_max=0), "num_max is 0"),
        (dict(num_max=math.nan), "num_max is nan"),
        (dict(num_max="many"), "num_max is 'many'"),
        (dict(imbalance_ratio=0.01), "imbalance_ratio is 0.01"),
        (dict(imbalance_ratio=math.inf), "imbalance_ratio is inf"),
        (dict(imbalance_ratio=100), "class 2 would have no labeled image"),
        (dict(num_classes=1), "num_classes is 1"),
        (dict(num_classes=3), "labels run from 0 to 3 for 3 classes"),
        (dict(unlabeled_imbalance_ratio=-10), "unlabeled_imbalance_ratio is -10"),
        (dict(unlabeled_imbalance_ratio=math.nan), "unlabeled_imbalance_ratio is nan"),
        (dict(unlabeled_num_max=-1), "unlabeled_num_max is -1"),
        (dict(unlabeled_num_max=0), "exactly one"),
        (dict(label_fraction=0.4), "exactly one"),
        (dict(unlabeled_num_max=0, label_fraction=40), "label_fraction is 40"),
        (dict(unlabeled_num_max=0, label_fraction=math.nan), "label_fraction is nan"),
        (dict(unlabeled_shape="reverse"), "'reverse' is unknown; did you mean 'reversed'"),
        (dict(unlabeled_num_max=3, unlabeled_shape="uniform_mean"), "unlabeled set is empty"),
        (dict(labeled_counts=(1, 2)), "labeled_counts has 2 entries; give one per class, 4"),
        (dict(EXPLICIT, unlabeled_counts=(1, 2, 3, -4)), "unlabeled_counts is -4"),
        (dict(EXPLICIT, unlabeled_counts=(1, 2, 3, 0.5)), "unlabeled_counts is 0.5"),
        (dict(validation_per_class=-1), "validation_per_class is -1"),
        (dict(seed=-1), "seed is -1"),
        (dict(unlabeled_num_max=81), r"class 0 has 100 images but .* 101 \(labeled 20 \+ unl"),
        (dict(overlap=True, unlabeled_num_max=81), "class 0 has 100 images"),
        (dict(validation_per_class=41), "class 0 has 100 images .* validation 41"),
        (dict(REST, validation_per_class=81), "class 0 has 100 images"),
        (dict(unlabeled_shape="all_rest"), "unlabeled_num_max is 40, but .* leave .* at 0"),
        (dict(REST, label_fraction=0.4), "label_fraction is 0.4, but .* leave .* at 0"),
        (dict(unlabeled_counts=(1, 2, 3, 0)), "unlabeled_num_max is 40, but .* leave .* at 0"),
    ],
)
def test_bad_values_are_named(changes, words):
    with pytest.raises(InputError, match=words):
        small(**changes)


@pytest.mark.parametrize("labels", [LABELS.astype(float), LABELS[:, None], np.array([0, -2])])
def test_bad_labels(labels):
    with pytest.raises(InputError, match="labels"):
        splits.long_tailed(labels, **SMALL)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_positions_are_found_in_every_type_of_labels(dtype):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(256), 3)).astype(dtype)
    split = splits.long_tailed(
        labels, num_classes=256, num_max=1, imbalance_ratio=1, unlabeled_shape="all_rest"
    )
    expected = [np.flatnonzero(labels == k) for k in range(256)]
    np.testing.assert_array_equal(split.labeled, [positions[0] for positions in expected])
    np.testing.assert_array_equal(
        split.unlabeled, np.concatenate([positions[1:] for positions in expected])
    )
