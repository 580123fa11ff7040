"""Whatever the shape of a labeled set: the right image with the right number of its class."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import labeled
from ltssl_jax.data.sources import Settings
from ltssl_jax.data.sources.base import visible

NETWORK = ("owl", "cat, small", "2", "dog")  # neither sorted nor the order of any set
SHADE = {"owl": 10, "cat, small": 90, "2": 170, "dog": 250}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path, name):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    Image.new("L", (5, 5), SHADE[name]).save(path)


def opened(path, class_names=NETWORK, **settings):
    return labeled.opened(path, class_names, Settings(channels=1, **settings), (5, 5))


def seen(found):
    """Lists what the images show and what they are called."""
    shades = found.records.read(np.arange(len(found.records)))[:, 2, 2, 0]
    assert [SHADE[NETWORK[k]] for k in found.records.labels] == shades.tolist()
    return [NETWORK[k] for k in found.records.labels]


def pixels(*names):
    return np.stack([np.full((5, 5), SHADE[name], np.uint8) for name in names])


def test_directories_of_classes(here):
    for name in ("dog", "2"):
        save(f"set/{name}/deep/0.png", name)
    save("set/.hidden/0.png", "owl")
    (here / "set/dog/broken.png").write_bytes(b"no image")
    found = opened("set")
    assert seen(found) == ["2", "dog"] and found.records.names == ("2/deep/0.png", "dog/deep/0.png")
    assert [one.name for one in found.skipped] == ["dog/broken.png"]
    assert found.notes == ("2 of 4 classes have no image: 'owl', 'cat, small'",)
    os.makedirs("all/train/owl")
    os.rename("set", "all/test")
    assert seen(opened("all")) == ["2", "dog"]
    assert opened("all").is_test and not found.is_test


def test_an_image_of_another_size_is_left_out_as_a_broken_one_is(here):
    for name in ("dog", "2"):
        save(f"set/{name}/0.png", name)
    Image.new("L", (5, 6), 99).save("set/2/odd.png")
    (here / "set/2/broken.png").write_bytes(b"no image")
    found = opened("set")
    assert seen(found) == ["2", "dog"]
    why = {one.name: one.reason for one in found.skipped}
    assert why["2/odd.png"] == "6x5 pixels instead of 5x5" and len(why) == 2
    fitted = opened("set", image_size=5)
    assert len(fitted.records) == 3 and len(fitted.skipped) == 1
    os.rename("set/2/odd.png", "odd.png")
    Image.new("L", (7, 7)).save("set/dog/0.png")
    os.remove("set/2/0.png")
    os.remove("set/2/broken.png")
    with pytest.raises(InputError, match="no image of set has the size .*7x7 .*instead of 5x5"):
        opened("set")


@pytest.mark.parametrize("hidden", ["\u200c", "\u00ad", "\ufeff", "\u2066"])
def test_names_with_characters_that_nobody_sees_are_found(hidden, here):
    name = f"a{hidden}b"
    escaped = name.encode("unicode_escape").decode() if visible(name) != name else name
    os.makedirs(f"set/{name}")
    Image.new("L", (5, 5)).save(f"set/{name}/0.png")
    np.savez("set.npz", images=pixels("2"), labels=[0], class_names=[name, "dog"])
    for path in ("set", "set.npz"):
        for known in (name, escaped):
            assert opened(path, ("dog", known)).records.labels.tolist() == [1]


def test_tables_with_and_without_a_split(here):
    for name in SHADE:
        save(f"{name}.png", name)
    rows = {"owl": "test", "dog": "test", "2": "train", "cat, small": "pool"}
    (here / "all.csv").write_text(
        "path,label,split\n" + "".join(f'"{n}.png","{n}",{part}\n' for n, part in rows.items())
    )
    assert seen(opened("all.csv")) == ["owl", "dog"] and opened("all.csv").is_test
    (here / "plain.csv").write_text('file,kind\n2.png,2\n"cat, small.png",\ndog.png,dog\n')
    columns = Settings().columns | dict(path="file", label="kind")
    found = opened("plain.csv", columns=columns)
    assert seen(found) == ["2", "dog"] and found.notes[0] == "1 images without class are left out"
    assert not found.is_test
    (here / "one.csv").write_text("path,label,split\ndog.png,dog,test\n")  # nothing for training
    assert seen(opened("one.csv")) == ["dog"]


@pytest.mark.parametrize("start", ["test_", "", "train_"])
def test_arrays(here, start):
    arrays = {f"{start}images": pixels("dog", "2", "owl"), f"{start}labels": np.array([1, 0, 2])}
    arrays["class_names"] = np.array(["2", "dog", "owl"])
    if start == "test_":
        arrays |= {"train_images": pixels("owl"), "train_labels": np.array([0])}
    np.savez("set.npz", **arrays)
    assert seen(opened("set.npz")) == ["dog", "2", "owl"]
    assert opened("set.npz").is_test == (start == "test_")
    os.makedirs("set")
    for key, array in arrays.items():
        np.save(f"set/{key}.npy", array)
    assert seen(opened("set")) == ["dog", "2", "owl"]


def test_arrays_without_names_call_classes_by_numbers(here):
    np.savez("set.npz", images=pixels("2", "2"), labels=np.array([2, -1]))
    assert seen(opened("set.npz")) == ["2"]


def shard(path, shown, labels):
    os.makedirs("shards", exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, (name, label) in enumerate(zip(shown, labels, strict=True)):
            buffer = io.BytesIO()
            Image.new("L", (5, 5), SHADE[name]).save(buffer, "png")
            for ending, content in (("png", buffer.getvalue()), ("cls", label.encode())):
                info = tarfile.TarInfo(f"{i}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def test_shards(here):
    shard("shards/test-0.tar", *[["dog", "2"]] * 2)
    shard("shards/train-0.tar", *[["owl"]] * 2)
    # "2" is a name that the network knows, not the place of one.
    assert seen(opened("shards")) == ["dog", "2"] == seen(opened("shards/test-*.tar"))
    os.remove("shards/train-0.tar")
    assert seen(opened("shards")) == ["dog", "2"]


def test_shards_whose_classes_are_numbers_are_said_to_be_taken_by_position(here):
    shard("shards/a.tar", ["dog", "owl"], ["3", "0"])
    found = opened("shards/a.tar")
    assert seen(found) == ["dog", "owl"]
    assert found.notes[0] == "classes are numbers: 0 is taken for 'owl', and so on"
    shard("shards/b.tar", ["2"], ["2"])
    assert opened("shards/b.tar").notes[0].startswith("3 of 4 classes")
    shard("shards/c.tar", ["2", "dog"], ["1", "7"])
    with pytest.raises(InputError, match="unknown: '7'"):
        opened("shards/c.tar")


def test_a_source_without_files():
    names = tuple(str(k) for k in reversed(range(10)))
    found = labeled.opened("digits", names, Settings(), (8, 8))
    assert len(found.records) == 500 and found.notes == ()
    ours = labeled.opened("digits", names[::-1], Settings(), (8, 8)).records.labels
    np.testing.assert_array_equal(found.records.labels, 9 - ours)


def test_what_cannot_be_scored_is_refused(here):
    save("set/owll/0.png", "owl")
    with pytest.raises(InputError, match="not trained on: 'owll'; it knows 'owl', 'cat, small'"):
        opened("set")
    np.savez("set.npz", images=pixels("2"), labels=np.array([0]))
    with pytest.raises(InputError, match="set.npz has classes .* not trained on: '0'"):
        opened("set.npz", ("x", "y"))
    np.savez("bare.npz", images=pixels("2"))
    with pytest.raises(InputError, match="bare.npz has images; call the images test_images"):
        opened("bare.npz")
    os.makedirs("empty")
    with pytest.raises(InputError, match="empty has no images in directories of classes"):
        opened("empty")
    (here / "t.csv").write_text("path,label\nset/owll/0.png,\n")
    with pytest.raises(InputError, match="t.csv' has no labeled"):
        opened("t.csv")
    with pytest.raises(InputError, match="gone does not exist"):
        opened("gone")
