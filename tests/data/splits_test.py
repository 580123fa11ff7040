import math
import pathlib

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import splits

GOLDEN = pathlib.Path(__file__).parents[3] / "shared" / "golden" / "longtail_counts.npz"

# (num_max, imbalance_ratio): counts of ten classes, as the released code of the field gives them.
TEN_CLASSES = {
    (500, 100): (500, 299, 179, 107, 64, 38, 23, 13, 8, 5),
    (1000, 50): (1000, 647, 419, 271, 175, 113, 73, 47, 30, 20),
    (1000, 100): (1000, 599, 359, 215, 129, 77, 46, 27, 16, 10),
    (1500, 100): (1500, 899, 539, 323, 193, 116, 69, 41, 25, 15),
    (3000, 100): (3000, 1798, 1078, 646, 387, 232, 139, 83, 50, 30),
    (4000, 100): (4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40),
    (500, 150): (500, 286, 164, 94, 53, 30, 17, 10, 5, 3),
    (1500, 150): (1500, 859, 492, 282, 161, 92, 53, 30, 17, 10),
    (3000, 150): (3000, 1719, 985, 564, 323, 185, 106, 60, 34, 20),
    (4000, 150): (4000, 2292, 1313, 752, 431, 247, 141, 81, 46, 26),
}

# (num_max, imbalance_ratio, classes): smallest count, total.
TOTALS = {
    (1500, 50, 10): (30, 4196),
    (3000, 50, 10): (60, 8397),
    (50, 10, 100): (5, 1911),
    (400, 10, 100): (40, 15651),
    (150, 10, 100): (15, 5835),
    (300, 10, 100): (30, 11720),
    (50, 15, 100): (3, 1687),
    (150, 15, 100): (10, 5153),
    (300, 15, 100): (20, 10352),
    (50, 20, 100): (2, 1545),
    (400, 20, 100): (20, 12719),
    (150, 20, 100): (7, 4741),
    (200, 20, 100): (10, 6333),
    (300, 20, 100): (15, 9527),
    (150, 50, 100): (3, 3751),
    (300, 50, 100): (6, 7546),
    (150, 100, 100): (1, 3218),
    (300, 100, 100): (3, 6486),
    (150, 10, 10): (15, 609),
    (450, 10, 10): (45, 1835),
    (150, 20, 10): (7, 507),
    (450, 20, 10): (22, 1528),
}

LABELS = np.random.default_rng(7).permutation(np.repeat(np.arange(4), 100))
EXPLICIT = dict(unlabeled_num_max=0)  # what replaces M1 must not be given beside it
REST = dict(unlabeled_shape="all_rest", unlabeled_num_max=0)
SMALL = dict(num_classes=4, num_max=20, imbalance_ratio=10, unlabeled_num_max=40)  # 20 9 4 2


def small(**changes):
    return splits.long_tailed(LABELS, **{**SMALL, **changes})


def counts(positions, labels=LABELS):
    return np.bincount(labels[positions], minlength=4).tolist()


@pytest.mark.parametrize(("setting", "expected"), TEN_CLASSES.items())
def test_counts_of_ten_classes(setting, expected):
    assert tuple(splits.long_tailed_counts(*setting, 10)) == expected


@pytest.mark.parametrize(("setting", "expected"), TOTALS.items())
def test_smallest_count_and_total(setting, expected):
    result = splits.long_tailed_counts(*setting)
    assert (result[0], result[-1], result.sum()) == (setting[0], *expected)
    assert result.dtype == np.int64


def test_counts_equal_the_recorded_ones():
    if not GOLDEN.exists():
        pytest.skip("recorded counts are not in this checkout")
    with np.load(GOLDEN) as recorded:
        for key in recorded.files:
            num_max, num_classes, ratio = map(int, key.split("_"))
            ours = splits.long_tailed_counts(num_max, ratio, num_classes)
            np.testing.assert_array_equal(ours, recorded[key], err_msg=key)


def test_ratio_one_is_uniform():
    assert splits.long_tailed_counts(37, 1, 5).tolist() == [37] * 5


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
