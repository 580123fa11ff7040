import time

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import holdout
from ltssl_jax.data.sources.base import Records, Source

TENTHS = dict(val_fraction=0.1, test_fraction=0.2, seed=0)
TEST = dict(val_fraction=0.0, test_fraction=0.2, seed=0)


def source(labels, groups=None, is_pool=None, **parts):
    """Images of which `read` returns their numbers in the source."""
    labels = np.asarray(labels, np.int32)
    groups = None if groups is None else np.asarray(groups, np.int64)
    train = Records(labels, lambda rows: rows, (1, 1, 1), groups=groups, is_pool=is_pool)
    names = tuple(f"class {k}" for k in range(labels.max() + 1))
    return Source("mine", train, **(dict(test=None, class_names=names, notes=("old",)) | parts))


def numbers(records):
    return records.read(np.arange(len(records)))


def class_counts(records, like):
    return np.bincount(records.labels[records.labels >= 0], minlength=like.num_classes)


def random_source(seed):
    """Groups of all sizes over several classes, lone images, unknown classes, a marked pool."""
    rng = np.random.default_rng(seed)
    size, num_classes = int(rng.integers(30, 400)), int(rng.integers(2, 30))
    labels = rng.integers(0, rng.integers(0, num_classes, size) + 1)
    labels[:2] = 0, num_classes - 1
    labels[rng.random(size) < 0.2] = -1
    groups = rng.geometric(rng.choice([0.02, 0.2]), size)
    groups[rng.random(size) < 0.3] = -1
    return source(labels, groups, rng.random(size) < 0.2)


@pytest.mark.parametrize("seed", range(60))
def test_nothing_leaks_and_nothing_is_lost(seed):
    whole = random_source(seed)
    try:
        cut = holdout.hold_out(whole, **TENTHS | dict(seed=seed))
    except InputError as error:
        assert "no image can be held out" in str(error)
        return
    parts = [numbers(records) for records in (cut.train, cut.val, cut.test)]
    everything = np.concatenate(parts)
    assert len(set(everything)) == len(everything)
    assert all((np.diff(part) > 0).all() for part in parts)
    dropped = np.setdiff1d(np.arange(len(whole.train)), everything)
    may_be_held = (whole.train.labels >= 0) & ~whole.train.is_pool
    assert not may_be_held[dropped].any() and may_be_held[np.concatenate(parts[1:])].all()
    groups = [set(whole.train.groups[part]) - {-1} for part in parts]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert set(whole.train.groups[dropped]) <= groups[1] | groups[2]
    if dropped.size:
        assert f"{dropped.size} pool images share a group" in cut.notes[-1]
    labels = np.where(may_be_held, whole.train.labels, -1)
    assert set(labels) == set(labels[parts[0]]) | {-1}


@pytest.mark.parametrize("fraction", [0.01, 0.07, 0.15, 0.2, 1 / 3, 0.5, 0.9])
def test_lone_images_are_held_out_in_the_wanted_share_of_every_class(fraction):
    whole = source(
        np.random.default_rng(0).permutation(np.repeat(np.arange(4), (900, 300, 200, 100)))
    )
    cut = holdout.hold_out(whole, val_fraction=0, test_fraction=fraction, seed=1)
    wanted = fraction * np.array([900, 300, 200, 100])
    assert np.abs(class_counts(cut.test, whole) - wanted).max() <= 1 + 0.02 * wanted.max()
    assert len(cut.test) == pytest.approx(fraction * 1500, rel=0.06)
    assert cut.val is None and len(cut.train) + len(cut.test) == 1500


def test_validation_is_a_share_of_all_labeled_images_too():
    whole = source(np.repeat(np.arange(3), 100))
    cut = holdout.hold_out(whole, val_fraction=0.3, test_fraction=0.5, seed=0)
    assert class_counts(cut.test, whole).tolist() == [50] * 3
    assert class_counts(cut.val, whole).tolist() == [30] * 3
    assert class_counts(cut.train, whole).tolist() == [20] * 3
    assert cut.notes == (
        "old",
        "test: 150 of 300 labeled images held out (50.0%)",
        "val: 90 of 300 labeled images held out (30.0%)",
    )


def test_groups_are_held_out_in_the_wanted_share_of_every_class():
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 300, 6000)
    whole = source((groups * 7 % 11 + rng.integers(0, 3, 6000)) % 5, groups)
    cut = holdout.hold_out(whole, **TEST)
    shares = class_counts(cut.test, whole) / class_counts(whole.train, whole)
    np.testing.assert_allclose(shares, 0.2, atol=0.04)
    assert len(cut.test) == pytest.approx(1200, rel=0.05)


def test_a_dominating_group_stays_for_training():
    """One group has 60 of the 100 images of class 0: in the test part it would be a third of it."""
    groups = [*[0] * 60, *np.arange(40) // 10 + 1, *np.arange(50) + 9]
    for seed in range(10):
        whole = source(np.repeat([0, 1], [100, 50]), groups)
        cut = holdout.hold_out(whole, **TEST | dict(seed=seed))
        assert 0 in cut.train.groups
        assert class_counts(cut.test, whole).tolist() == [10, 10]


def test_a_class_of_one_image_or_one_group_stays_for_training():
    labels = [*[0] * 50, 1, *[2] * 9, *[3] * 40]
    groups = [*[-1] * 50, -1, *[7] * 9, *[-1] * 40]
    for seed in range(20):
        cut = holdout.hold_out(source(labels, groups), **TENTHS | dict(seed=seed))
        for part in (cut.test, cut.val):
            assert not np.isin(part.labels, [1, 2]).any()
        note = "none of 2 classes of few images or groups: class 1, class 2"
        assert all(note in text for text in cut.notes[1:])


def test_the_smallest_group_goes_back_to_a_class_that_lost_all():
    labels, units = np.array([0] * 7 + [1] * 5), np.array([0] * 4 + [1] * 2 + [2] + [3] * 4 + [4])
    held = np.array([True] * 7 + [False] * 5)
    expected = [0, 1, 2, 3, 4, 5]
    assert np.flatnonzero(holdout._spared(held, labels, units)).tolist() == expected


def test_classes_smaller_than_a_share_still_reach_the_test_part():
    """Forty classes of three images: a fifth of all is held out, at most two of each."""
    whole = source(np.repeat(np.arange(40), 3))
    cut = holdout.hold_out(whole, **TEST)
    assert len(cut.test) == 24 and class_counts(cut.train, whole).min() >= 1
    assert len(set(cut.test.labels)) >= 15


def test_absent_classes_stay_absent():
    whole = source([0] * 20 + [5] * 20)
    cut = holdout.hold_out(whole, **TEST)
    assert class_counts(cut.test, whole).tolist() == [4, 0, 0, 0, 0, 4]
    assert "none of" not in cut.notes[-1]


def test_the_seed_and_nothing_else_decides():
    whole = random_source(3)
    first, again, other = (holdout.hold_out(whole, **TENTHS | dict(seed=s)) for s in (5, 5, 6))
    for part in ("train", "val", "test"):
        assert numbers(getattr(first, part)).tolist() == numbers(getattr(again, part)).tolist()
    assert numbers(first.test).tolist() != numbers(other.test).tolist()


def test_numbers_of_groups_do_not_matter():
    labels, groups = np.arange(200) % 7, np.arange(200) // 8
    renamed = groups * 1000 + 17
    one, two = (holdout.hold_out(source(labels, g), **TEST) for g in (groups, renamed))
    np.testing.assert_array_equal(numbers(one.test), numbers(two.test))


def test_two_thousand_classes_in_seconds():
    rng = np.random.default_rng(0)
    rare = 1 / np.arange(1, 2001)
    labels = np.concatenate([np.arange(2000), rng.choice(2000, 48_000, p=rare / rare.sum())])
    for groups in (None, rng.integers(0, 20_000, 50_000)):
        began = time.monotonic()
        whole = source(labels, groups)
        cut = holdout.hold_out(whole, **TENTHS)
        assert time.monotonic() - began < 20
        assert class_counts(cut.train, whole).min() == 1
        assert len(cut.test) == pytest.approx(10_000, rel=0.03)


def test_a_source_with_all_parts_is_left_alone():
    test = source([0, 1]).train
    whole = source([0, 1, 1], test=test)
    nothing = dict(val_fraction=0.0, test_fraction=0.0, seed=0)
    cut = holdout.hold_out(whole, **nothing)
    assert cut.train is whole.train and cut.test is test and cut.notes == ("old",)
    cut = holdout.hold_out(source([0, 1] * 10, test=test), **nothing | dict(val_fraction=0.2))
    assert cut.test is test and len(cut.val) == 4


ONE_PART = dict(test=source([0, 1]).train)


@pytest.mark.parametrize(
    ("whole", "fields", "words"),
    [
        (source([0, 1]), dict(), "has no test part; .* data.source.test_fraction=0.2"),
        (source([0, 1]), dict(val_fraction=0.2), "has no test part"),
        (
            source([0, 1], **ONE_PART),
            dict(test_fraction=0.2),
            "test_fraction is 0.2, .* of 2 images",
        ),
        (
            source([0, 1], **ONE_PART, val=ONE_PART["test"]),
            dict(val_fraction=0.2),
            "val_fraction is 0.2, but .* has a val part of 2",
        ),
        (source([0, 1]), dict(test_fraction=0.95), "test_fraction is 0.95; .* from 0.01 to 0.9"),
        (source([0, 1]), dict(test_fraction=-0.2), "test_fraction is -0.2"),
        (source([0, 1]), dict(test_fraction=float("nan")), "test_fraction is nan"),
        (source([0, 1]), dict(test_fraction=20), "test_fraction is 20"),
        (source([0, 1]), dict(test_fraction=0.001), "test_fraction is 0.001"),
        (source([0, 1]), dict(test_fraction=0.5, val_fraction=0.5), "is 1.0; it must be below 1"),
        (source([0, 1]), dict(test_fraction=0.2, seed=-1), "holdout_seed is -1"),
        (source([0, 1]), dict(test_fraction=0.2), "no image can be held out for the test part"),
        (source([0, 0, 1], [4, 4, 4]), dict(test_fraction=0.2), "no image can be held out"),
        (source([0, 0, 1, 1], [4, 4, 5, 5]), dict(test_fraction=0.2), "no image can be held out"),
        (source([0, 1], is_pool=np.ones(2, bool)), dict(test_fraction=0.2), "no image can be held"),
    ],
)
def test_what_cannot_be_held_out(whole, fields, words):
    nothing = dict(val_fraction=0.0, test_fraction=0.0, seed=0)
    with pytest.raises(InputError, match=words):
        holdout.hold_out(whole, **nothing | fields)
