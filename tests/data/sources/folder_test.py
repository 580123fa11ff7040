import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources import images as images_

NOISE = np.random.default_rng(3).integers(0, 256, (12, 6, 8, 3), np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def root(tmp_path):
    """Two classes of lossless 6x8 colour images: cat 3 + 1, ant 2 + 1."""
    save(tmp_path / "train/cat/b.png", NOISE[0])
    save(tmp_path / "train/cat/a.webp", NOISE[1], lossless=True)
    save(tmp_path / "train/cat/deeper/still/c.BMP", NOISE[2])
    save(tmp_path / "train/ant/1.tiff", NOISE[3])
    save(tmp_path / "train/ant/10.png", NOISE[4])
    save(tmp_path / "test/cat/x.png", NOISE[5])
    save(tmp_path / "test/ant/x.png", NOISE[6])
    (tmp_path / "train/ant/.hidden.png").write_text("not an image")
    (tmp_path / "train/ant/notes.txt").write_text("not an image")
    return tmp_path


def load(root, **options):
    return sources.load("folder", root=str(root), **options)


def read_one(root, name, **options):
    records = load(root, **options).train
    return records.read(np.array([records.names.index(name)]))[0]


def test_files_are_sorted_by_class_and_path(root):
    source = load(root)
    assert source.name == root.name and load(root, name="pets").name == "pets"
    assert source.class_names == ("ant", "cat")
    assert source.train.names == (
        "train/ant/1.tiff",
        "train/ant/10.png",
        "train/cat/a.webp",
        "train/cat/b.png",
        "train/cat/deeper/still/c.BMP",
    )
    assert source.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.train.image_shape == (6, 8, 3)
    np.testing.assert_array_equal(source.train.read(np.arange(5)), NOISE[[3, 4, 1, 0, 2]])
    np.testing.assert_array_equal(source.test.read(np.array([1, 0, 1])), NOISE[[5, 6, 5]])


@pytest.mark.parametrize("pixels_per_thread", [1, 10**6])
def test_many_images_keep_their_order(root, monkeypatch, pixels_per_thread):
    monkeypatch.setattr(images_, "_PIXELS_PER_THREAD", pixels_per_thread)
    records, positions = load(root).train, np.random.default_rng(0).integers(0, 5, 700)
    np.testing.assert_array_equal(records.read(positions), NOISE[[3, 4, 1, 0, 2]][positions])
    assert records.read(np.array([], int)).shape == (0, 6, 8, 3)


def test_one_grey_class_does_not_make_the_set_grey(root):
    save(root / "train/ant/0.png", NOISE[7][..., 0])
    assert load(root).train.image_shape == (6, 8, 3)


def test_grey_sets_have_one_channel(tmp_path):
    grey = NOISE[..., 0]
    for number, part in enumerate(("train/a", "train/b", "test/a", "test/b")):
        save(tmp_path / part / "x.png", grey[number])
    records = load(tmp_path).train
    np.testing.assert_array_equal(records.read(np.arange(2)), grey[:2, ..., None])


def test_parts_are_found_under_the_root_or_elsewhere(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    save(root / "val/cat/v.png", NOISE[7])
    save(root / "pool/2025/may/z.png", NOISE[8])
    save(root / "pool/a.png", NOISE[9])
    source = load(root)
    assert source.val.names == ("val/cat/v.png",) and source.val.labels.tolist() == [1]
    assert source.train.names[5:] == ("pool/2025/may/z.png", "pool/a.png")
    assert source.train.labels.tolist() == [0, 0, 1, 1, 1, -1, -1]
    assert source.train.is_pool.tolist() == [False] * 5 + [True] * 2
    save(other / "deep/b.png", NOISE[10])
    save(other / "ant/t.png", NOISE[11])
    source = load(root, pool=str(other / "deep"))
    np.testing.assert_array_equal(source.train.read(np.array([5])), NOISE[[10]])
    with pytest.raises(InputError, match="the test images have classes .*: 'deep' .first: .*b.png"):
        load(root, test=str(other))
    (root / "train/deep").mkdir()
    source = load(root, test=str(other))
    assert source.test.labels.tolist() == [0, 2]
    with pytest.raises(InputError, match="data.source.val is 'nowhere' but .* give a directory"):
        load(root, val="nowhere")


def test_training_images_alone_wait_for_a_test_set_to_be_held_out(root):
    for path in (root / "test").rglob("*.png"):
        path.unlink()
    shutil.rmtree(root / "test")
    assert load(root).test is None


def test_a_class_without_images_is_kept_with_a_note(root):
    (root / "train/bee").mkdir()
    source = load(root)
    assert source.class_names == ("ant", "bee", "cat")
    assert source.train.labels.tolist() == [0, 0, 2, 2, 2]
    assert "1 of 3 classes have no labeled image: 'bee'" in source.notes[0]


def test_class_names_may_come_from_a_file(root, tmp_path_factory):
    classes = tmp_path_factory.mktemp("x") / "classes.txt"
    classes.write_text("cat\nyak\n\nant\n")
    source = load(root, classes=str(classes))
    assert source.class_names == ("cat", "yak", "ant")
    assert source.train.labels.tolist() == [2, 2, 0, 0, 0]
    classes.write_text("cat\ncat\nant\n")
    with pytest.raises(InputError, match="names cat twice"):
        load(root, classes=str(classes))
    classes.write_text("cat")
    with pytest.raises(InputError, match="the train images have classes .*: 'ant'"):
        load(root, classes=str(classes))


def test_loops_of_links_end_and_are_listed(root):
    (root / "train/cat/deeper/up").symlink_to(root / "train")
    (root / "train/ant/self.png").symlink_to("self.png")
    (root / "train/ant/nowhere.png").symlink_to("gone.png")
    source = load(root, max_skipped=0.5)
    assert len(source.train) == 5
    assert [(s.name, s.part) for s in source.skipped] == [
        ("train/cat/deeper/up", "train"),
        ("train/ant/nowhere.png", "train"),
        ("train/ant/self.png", "train"),
    ]
    assert "link to a directory above" in source.skipped[0].reason
    assert source.skipped[1].reason == "there is no such file"
    assert "symbolic links" in source.skipped[2].reason


def test_a_link_to_images_elsewhere_is_followed(root, tmp_path_factory):
    save(tmp_path_factory.mktemp("far") / "more/y.png", NOISE[9])
    (root / "train/cat/linked").symlink_to(tmp_path_factory.getbasetemp() / "far0/more")
    assert "train/cat/linked/y.png" in load(root).train.names


def test_names_that_are_no_utf8_are_shown_in_another_way(root):
    directory = os.path.join(os.fsencode(root), b"train/caf\xe9")
    os.makedirs(directory)
    with open(os.path.join(directory, b"\xff.png"), "wb") as file:
        file.write((root / "train/ant/10.png").read_bytes())
    source = load(root)
    assert source.class_names == ("ant", "caf\\xe9", "cat")
    assert source.train.names[2] == "train/caf\\xe9/\\xff.png"
    np.testing.assert_array_equal(source.train.read(np.array([2])), NOISE[[4]])


def test_bad_layouts_are_named(root, tmp_path_factory):
    with pytest.raises(InputError, match="data.source.root is empty"):
        load("")
    with pytest.raises(InputError, match="nowhere does not exist"):
        load(root / "nowhere")
    with pytest.raises(InputError, match="train is missing .found ant, cat"):
        other = tmp_path_factory.mktemp("other")
        for name in ("ant", "cat"):
            save(other / name / "x.png", NOISE[0])
        load(other)
    with pytest.raises(InputError, match="no class directories; give train/CLASS"):
        (tmp_path_factory.mktemp("empty") / "train").mkdir()
        load(tmp_path_factory.getbasetemp() / "empty0")
    save(root / "test/bee/x.png", NOISE[0])
    save(root / "test/eel/x.png", NOISE[0])
    with pytest.raises(InputError, match="the test images have classes .*: 'bee', 'eel'"):
        load(root)


def test_empty_classes_everywhere_are_no_training_set(tmp_path):
    for name in ("ant", "cat"):
        (tmp_path / "train" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="no labeled training image"):
        load(tmp_path)


def test_one_class_is_not_enough(tmp_path):
    save(tmp_path / "train/only/x.png", NOISE[0])
    save(tmp_path / "test/only/x.png", NOISE[0])
    with pytest.raises(InputError, match=r"has 1 class \(only\).*at least two"):
        load(tmp_path)
