"""Planted copies are found, strangers are not, whatever the number of images that look alike."""

import io

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.data.sources.base import Records
from ltssl_jax.inspection import duplicates, overlaps, scan


def pictures(number, seed=0, side=48):
    """Images with structure at several scales, each its own."""
    rng = np.random.default_rng(seed)
    images = np.zeros((number, side, side, 3))
    for size, weight in ((3, 60), (6, 40), (12, 25)):
        coarse = rng.normal(0, weight, (number, size, size, 3))
        images += coarse.repeat(side // size, 1).repeat(side // size, 2)
    return np.clip(images + 128, 0, 255).astype(np.uint8)


def facts(images, kept=0):
    records = Records(np.zeros(len(images), np.int32), lambda at: images[at], images.shape[1:])
    return scan.scan(records, np.arange(len(images)) < kept)


def near(images):
    return duplicates.near(*facts(images)[:3])


def jpeg(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=60)
    return np.asarray(Image.open(data))


def resized(image):
    small = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((48, 48), Image.Resampling.BILINEAR))


COPIES = {
    "re-encoded": jpeg,
    "resized": resized,
    "brighter": lambda image: np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8),
    "less contrast": lambda image: (image * 0.7).astype(np.uint8),
    "the same": lambda image: image,
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_strangers_are_not(copy):
    originals = pictures(40)
    images = np.concatenate([originals, [COPIES[copy](image) for image in originals[:10]]])
    clusters = near(images).clusters
    assert [c.tolist() for c in clusters] == [[i, 40 + i] for i in range(10)]
    equal = duplicates.exact(facts(images).digests).clusters
    assert len(equal) == (10 if copy == "the same" else 0)


def test_no_pair_within_the_distance_is_missed():
    rng = np.random.default_rng(0)
    hashes = rng.integers(2**63, size=300).astype(np.uint64) * np.uint64(2)
    for i in range(150):  # 0 to 6 bits away
        flips = sum(1 << int(b) for b in rng.choice(64, i % 7, replace=False))
        hashes[150 + i] = hashes[i] ^ np.uint64(flips)
    # One thumbnail for all: the hashes alone decide.
    thumbnail = rng.integers(256, size=(1, 16, 16), dtype=np.uint8).repeat(300, 0)
    clusters = duplicates.near(np.arange(300), hashes, thumbnail).clusters
    assert [c.tolist() for c in clusters] == [[i, 150 + i] for i in range(150)]


def test_thumbnails_decide_where_hashes_agree():
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(256, size=(50, 16, 16), dtype=np.uint8)
    same_hash = np.zeros(50, np.uint64)
    assert duplicates.near(np.arange(50), same_hash, thumbnails).clusters == []
    flat = (100 + rng.integers(2, size=(1, 16, 16))).astype(np.uint8).repeat(50, 0)
    assert duplicates.near(np.arange(50), same_hash, flat).clusters == []  # nothing to see


def test_thousands_that_look_alike_end_soon_in_one_cluster(monkeypatch):
    monkeypatch.setattr(duplicates, "_PAIRS", 20_000)
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(1, 16, 16), dtype=np.uint8).repeat(3000, 0)
    found = duplicates.near(np.arange(3000), np.zeros(3000, np.uint64), frames)
    assert [len(cluster) for cluster in found.clusters] == [3000]
    assert not found.is_complete


def test_a_part_without_images():
    found = facts(np.empty((0, 8, 8, 1), np.uint8))
    assert [len(column) for column in found] == [0, 0, 0, 0]
    assert duplicates.exact(found.digests).clusters == []


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_scan_keeps_small_images_of_the_chosen_ones(channels):
    images = np.random.default_rng(0).integers(256, size=(9, 32, 32, channels), dtype=np.uint8)
    found = facts(images, kept=4)
    np.testing.assert_array_equal(found.small, images[:4])
    assert len(np.unique(found.digests)) == 9


def test_summary_counts_between_parts():
    # labeled 0 1 2, pool 3 4, validation 5, test 6 7
    part = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    labels = np.array([0, 1, 1, -1, -1, 0, 0, 1])
    copies = duplicates.Copies([np.array([0, 3, 6]), np.array([1, 2, 5, 7])])
    found = overlaps.summary(copies, part, labels)
    assert found["between"] == {
        "labeled/labeled": 1,
        "labeled/pool": 1,
        "labeled/validation": 1,
        "labeled/test": 2,
        "pool/test": 1,
        "validation/test": 1,
    }
    assert (found["clusters"], found["images"], found["superfluous"]) == (2, 7, 5)
    assert found["conflicts"] == 1  # class 0 among those of class 1
    assert overlaps.leaked(found["between"]) == {
        "labeled/test": 2,
        "labeled/validation": 1,
        "pool/test": 1,
    }


def test_leaks_come_before_conflicts_before_others():
    part, labels = np.array([0, 3, 1, 1, 0, 0]), np.array([0, 0, -1, -1, 0, 1])
    clusters = [np.array([2, 3]), np.array([4, 5]), np.array([0, 1])]
    ordered = overlaps.worst_first(duplicates.Copies(clusters), part, labels)
    assert [c.tolist() for c in ordered] == [[0, 1], [4, 5], [2, 3]]
