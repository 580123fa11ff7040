import tarfile

import numpy as np
import pytest
from PIL import Image

from ltssl_jax import defaults
from ltssl_jax.core import InputError
from ltssl_jax.data import opening, sources

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 5, 5, 3), np.uint8)


@pytest.fixture
def tree(tmp_path):
    """60 images in `images/`, a table that labels 40 of them, of 10 sites."""
    (tmp_path / "images").mkdir()
    rows = ["path,label,group"]
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"images/{i:02}.png")
        if i < 40:
            rows.append(f"images/{i:02}.png,{'ab'[i % 3 == 0]},site{i % 10}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def opened(tree, split=None, **changes):
    settings = dict(root=str(tree / "labels.csv"), pool=str(tree / "images")) | changes
    source, split = (
        defaults.source("auto", **settings),
        defaults.split(**{"protocol": "given"} | (split or {})),
    )
    return opening.opened(source, split, image_size=0, resize="crop", channels=0)


def test_a_table_and_a_folder_become_labels_pool_and_a_test_set(tree):
    source, split = opened(tree, test_fraction=0.3, val_fraction=0.2)
    sides = (source.train, source.val, source.test)
    names = [set(records.names) for records in sides]
    assert sum(map(len, names)) == 60 == len(set.union(*names))
    groups = [set(records.groups.tolist()) - {-1} for records in sides]
    assert sum(map(len, groups)) == 10 == len(set.union(*groups))
    assert len(source.test) == 12 and len(source.val) == 8
    assert len(split.labeled) == 20 and len(split.unlabeled) == 20
    assert set(source.train.labels[split.labeled]) == {0, 1}
    for records in sides:
        numbers = [int(name[-6:-4]) for name in records.names]
        np.testing.assert_array_equal(records.read(np.arange(len(records))), PIXELS[numbers])
    assert any("test" in note for note in source.notes)


def test_what_is_held_out_does_not_depend_on_the_seed_of_the_run(tree):
    first, _ = opened(tree, test_fraction=0.3)
    again, _ = opened(tree, test_fraction=0.3, split=dict(seed=7))
    other, _ = opened(tree, test_fraction=0.3, holdout_seed=1)
    assert first.test.names == again.test.names != other.test.names


def test_labeled_images_join_the_pool_if_asked(tree):
    source, split = opened(tree, test_fraction=0.3, split=dict(overlap=True))
    assert len(split.unlabeled) == 28 + 20 and split.is_labeled.sum() == 28


def test_validation_that_divides_groups_is_noted(tree):
    counts = dict(protocol="", num_max=5, imbalance_ratio=1.0, unlabeled_shape="all_rest")
    source, split = opened(tree, test_fraction=0.3, split=dict(counts, validation_per_class=2))
    assert len(split.validation) == 4
    assert any("validation_per_class divides groups" in note for note in source.notes)


def test_groups_on_both_sides_are_noted(tree):
    source, _ = opened(tree, test_fraction=0.3)
    assert not any("share a group with test" in note for note in source.notes)
    (tree / "test.csv").write_text("path,label,group\nimages/59.png,a,site3\nimages/58.png,b,\n")
    source, _ = opened(tree, test=str(tree / "test.csv"))
    assert any(
        note.startswith("4 training images share a group with test") for note in source.notes
    )


def test_without_test_images_the_remedy_is_said(tree):
    with pytest.raises(InputError, match="data.source.test_fraction=0.2"):
        opened(tree)


def test_the_kind_can_be_seen(tree, tmp_path_factory):
    place = tmp_path_factory.mktemp("kinds")
    with pytest.raises(InputError, match="data.source.root is 'nowhere', where nothing is"):
        sources.load("auto", root="nowhere")
    arrays = dict(train_images=PIXELS, train_labels=np.arange(60) % 2)
    np.savez(place / "x.npz", **arrays)
    (place / "directory").mkdir()
    for name, array in arrays.items():
        np.save(place / f"directory/{name}.npy", array)
    for part in ("train", "test"):
        for label in "ab":
            (place / "folder" / part / label).mkdir(parents=True)
            Image.fromarray(PIXELS[0]).save(place / "folder" / part / label / "x.png")
    (place / "shards").mkdir()
    for label in "ab":
        (place / f"{label}.cls").write_text(label)
    with tarfile.open(place / "shards/train-0.tar", "w") as shard:
        for i, label in enumerate("ab"):
            shard.add(tree / f"images/0{i}.png", f"{i}.png")
            shard.add(place / f"{label}.cls", f"{i}.cls")
    (place / "folder/train.tar").write_bytes((place / "shards/train-0.tar").read_bytes())
    np.save(place / "folder/features.npy", PIXELS)
    with pytest.raises(InputError, match="give the table itself, such as .*labels.csv"):
        sources.load("auto", root=str(tree))
    expected = {"x.npz": 60, "directory": 60, "folder": 2, "shards": 2}
    for root, number in expected.items():
        assert len(sources.load("auto", root=str(place / root)).train) == number
    assert len(sources.load("auto", root=str(tree / "labels.csv")).train) == 40
