import importlib.util
import itertools
import subprocess
import sys

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import feed, sources, splits
from ltssl_jax.data.sources.base import Records, in_memory

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
RNG = np.random.default_rng(2)
LABELS = RNG.permutation(np.repeat(np.arange(3), 20)).astype(np.int32)
RECORDS = in_memory(RNG.integers(0, 256, (60, 2, 4, 3), np.uint8), LABELS)
SPLIT = splits.long_tailed(
    LABELS, num_classes=3, num_max=8, imbalance_ratio=4, unlabeled_num_max=9, shuffle=True
)  # 14 labeled, 15 unlabeled


def make(**changes):
    options = dict(batch_size=4, mu=2, kind="resident", seed=0)
    return feed.training(RECORDS, SPLIT, **{**options, **changes})


def take(batches, number):
    return list(itertools.islice(batches, number))


def assert_equal(one, other):
    for name in ("index", "slot", "label", "image"):
        for stream in ("labeled", "unlabeled"):
            left, right = (getattr(getattr(batch, stream), name) for batch in (one, other))
            assert getattr(left, "dtype", None) == getattr(right, "dtype", None)
            np.testing.assert_array_equal(left, right, err_msg=f"{stream}.{name}")


def with_images(made, batch):
    def look_up(stream, images):
        return stream.replace(image=images[stream.index])

    return batch.replace(
        labeled=look_up(batch.labeled, made.resident.labeled),
        unlabeled=look_up(batch.unlabeled, made.resident.unlabeled),
    )


@pytest.mark.parametrize("kind", ["resident", pytest.param("tfdata", marks=needs_tensorflow)])
def test_a_balanced_batch_is_of_the_labeled_images(kind):
    made = make(kind=kind, balanced=True, batch_size=6)
    drawn = []
    for plain, batch in zip(
        take(make(batch_size=6).batches, 9), take(made.batches, 9), strict=True
    ):
        np.testing.assert_array_equal(batch.labeled.index, plain.labeled.index)
        balanced = batch.balanced
        positions = SPLIT.labeled[balanced.index]
        np.testing.assert_array_equal(balanced.label, LABELS[positions])
        if kind == "tfdata":
            np.testing.assert_array_equal(balanced.image, RECORDS.read(positions))
        drawn.extend(balanced.label.tolist())
    assert np.bincount(drawn, minlength=3).min() > 9  # one of 14 images is of the rarest class
    assert make().batches and next(make().batches).balanced is None


def test_the_labeled_images_may_be_drawn_class_by_class():
    labels = [b.labeled.label for b in take(make(order="balanced", batch_size=6).batches, 20)]
    assert np.bincount(np.concatenate(labels), minlength=3).min() > 25
    with pytest.raises(
        InputError, match="data.order 'balance' is unknown; did you mean 'balanced'"
    ):
        make(order="balance")


def test_a_batch_is_what_the_split_says():
    made = make()
    assert made.kind == "resident"
    np.testing.assert_array_equal(made.resident.labeled, RECORDS.read(SPLIT.labeled))
    np.testing.assert_array_equal(made.resident.unlabeled, RECORDS.read(SPLIT.unlabeled))
    for batch in take(made.batches, 8):
        labeled, unlabeled = batch.labeled, batch.unlabeled
        assert labeled.image is None and unlabeled.image is None
        assert labeled.index.dtype == labeled.slot.dtype == labeled.label.dtype == np.int32
        np.testing.assert_array_equal(labeled.label, LABELS[SPLIT.labeled[labeled.index]])
        np.testing.assert_array_equal(labeled.slot, np.arange(4))
        np.testing.assert_array_equal(unlabeled.slot, np.arange(8))
        np.testing.assert_array_equal(unlabeled.label, np.full(8, -1))


def test_each_stream_has_epochs_of_its_own():
    batches = take(make().batches, 7 * 15)
    for stream, size in (("labeled", 14), ("unlabeled", 15)):
        seen = np.concatenate([getattr(batch, stream).index for batch in batches])
        assert (np.bincount(seen, minlength=size) == len(seen) // size).all()


@pytest.mark.parametrize("drop_last", [False, True])
def test_starting_later_equals_skipping(drop_last):
    skipped = take(make(drop_last=drop_last).batches, 12)[7:]
    for one, other in zip(skipped, make(drop_last=drop_last, start=7).batches, strict=False):
        assert_equal(one, other)


def test_hosts_share_the_global_batch():
    whole = take(make().batches, 9)
    halves = [take(make(host=(number, 2)).batches, 9) for number in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        for stream in ("labeled", "unlabeled"):
            for name in ("index", "slot", "label"):
                parts = [getattr(getattr(half, stream), name) for half in (first, second)]
                expected = getattr(getattr(batch, stream), name)
                np.testing.assert_array_equal(np.concatenate(parts), expected)


@needs_tensorflow
@pytest.mark.tf
@pytest.mark.parametrize("changes", [dict(), dict(start=5, host=(1, 2), drop_last=True)])
def test_both_feeds_hand_over_the_same(changes):
    resident, ahead = make(**changes), make(**changes, kind="tfdata")
    assert ahead.kind == "tfdata" and ahead.resident.labeled is None
    pairs = zip(take(resident.batches, 11), take(ahead.batches, 11), strict=True)
    for one, other in pairs:
        assert_equal(with_images(resident, one), other)


@needs_tensorflow
@pytest.mark.tf
def test_a_reading_error_arrives_as_it_was_raised():
    def read(positions):
        raise InputError("oops.png cannot be decoded")

    broken = Records(LABELS, read, (2, 4, 3))
    made = feed.training(broken, SPLIT, batch_size=4, mu=1, kind="tfdata", seed=0)
    with pytest.raises(InputError, match="oops.png cannot be decoded"):
        next(made.batches)


@needs_tensorflow
@pytest.mark.tf
def test_auto_goes_by_the_budget():
    num_bytes = (14 + 15) * 2 * 4 * 3
    assert make(kind="auto", budget_bytes=num_bytes).kind == "resident"
    assert make(kind="auto", budget_bytes=num_bytes - 1).kind == "tfdata"


SCRIPT = """
import numpy as np
from ltssl_jax.data import feed, splits
from ltssl_jax.data.sources.base import Records

labels = np.arange(60, dtype=np.int32) % 3
split = splits.long_tailed(
    labels, num_classes=3, num_max=8, imbalance_ratio=4, unlabeled_num_max=9
)

def read(positions):
    return np.stack([np.full((8, 8, 3), n, np.uint8) for n in positions for _ in range(100)])[::100]

made = feed.training(
    Records(labels, read, (8, 8, 3)), split, batch_size=14, mu=8, seed=0, kind="tfdata"
)
for _ in range(20):
    next(made.batches)
"""


@needs_tensorflow
@pytest.mark.tf
@pytest.mark.whole
def test_a_script_that_still_holds_its_batches_can_end():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)


@needs_tensorflow
@pytest.mark.tf
@pytest.mark.parametrize("num_kept", [0, 20, 29])
def test_images_from_files_are_decoded_once_where_they_fit(num_kept):
    read = []

    def remembered(positions):
        read.extend(positions.tolist())
        return RECORDS.read(positions)

    files = Records(LABELS, remembered, (2, 4, 3), names=("a.png",) * 60)
    options = dict(batch_size=14, mu=1, seed=0)
    made = feed.training(files, SPLIT, **options, kind="tfdata", kept_bytes=num_kept * 2 * 4 * 3)
    resident = make(**options)
    for one, other in zip(take(resident.batches, 30), take(made.batches, 30), strict=True):
        assert_equal(with_images(resident, one), other)
    used = [*SPLIT.labeled, *SPLIT.unlabeled]  # labeled images are kept first
    counts = np.bincount(read, minlength=60)
    # Two batches are read at once, and each may hold an image of two epochs twice.
    assert (counts[used[:num_kept]] <= 4).all() and (counts[used[num_kept:]] > 20).all()


def test_reading_reports_progress(monkeypatch):
    monkeypatch.setattr(feed, "_CHUNK", 10)
    seen = []
    made = make(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 29), (14, 29), (24, 29), (29, 29)]
    np.testing.assert_array_equal(made.resident.unlabeled, RECORDS.read(SPLIT.unlabeled))


def test_without_tensorflow_digits_still_train(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    source = sources.load("digits")
    split = splits.long_tailed(
        source.train.labels,
        num_classes=10,
        num_max=20,
        imbalance_ratio=10,
        unlabeled_shape="all_rest",
    )
    made = feed.training(source.train, split, batch_size=8, mu=1, seed=0)
    assert made.kind == "resident"
    assert next(made.batches).labeled.index.shape == (8,)
    with pytest.raises(InputError, match="the feed 'tfdata' needs TensorFlow.*pip install"):
        feed.training(source.train, split, batch_size=8, mu=1, seed=0, kind="tfdata")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(kind="disk"), "data.feed 'disk' is unknown; known: auto, resident, tfdata"),
        (dict(host=(0, 3)), "batch of 4 labeled images cannot be shared evenly by 3 hosts"),
        (dict(batch_size=0), "batch size is 0"),
        (dict(mu=0), "mu is 0"),
        (dict(batch_size=15, drop_last=True), "labeled set has 14 images, fewer than one batch of"),
        (dict(mu=4, drop_last=True), "unlabeled set has 15 images, fewer than one batch of 16"),
    ],
)
def test_bad_values_are_named(changes, words):
    with pytest.raises(InputError, match=words):
        make(**changes)


@pytest.mark.parametrize("batch_size", [4, 5, 7, 64])
def test_evaluation_meets_every_image_once(batch_size):
    positions = np.array([5, 3, 59, 0, 11, 12, 13, 14, 15, 16])
    batches = list(feed.evaluation(RECORDS.take(positions), batch_size=batch_size))
    assert all(batch.image.shape == (batch_size, 2, 4, 3) for batch in batches)
    real = np.concatenate([batch.mask for batch in batches]) == 1
    columns = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("index", "label", "image", "mask")
    }
    np.testing.assert_array_equal(columns["index"][real], np.arange(10))
    np.testing.assert_array_equal(columns["label"][real], LABELS[positions])
    np.testing.assert_array_equal(columns["image"][real], RECORDS.read(positions))
    assert not any(column[~real].any() for column in columns.values())
    dtypes = [column.dtype for column in columns.values()]
    assert dtypes == [np.int32, np.int32, np.uint8, np.float32]
