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
    return labeled.opened(path, class_names, Settings(channels=1, **settings))


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


def test_tables_with_and_without_a_split(here):
    for name in SHADE:
        save(f"{name}.png", name)
    rows = {"owl": "test", "dog": "test", "2": "train", "cat, small": "pool"}
    (here / "all.csv").write_text(
        "path,label,split\n" + "".join(f'"{n}.png","{n}",{part}\n' for n, part in rows.items())
    )
    assert seen(opened("all.csv")) == ["owl", "dog"]
    (here / "plain.csv").write_text('file,kind\n2.png,2\n"cat, small.png",\ndog.png,dog\n')
    columns = Settings().columns | dict(path="file", label="kind")
    found = opened("plain.csv", columns=columns)
    assert seen(found) == ["2", "dog"] and found.notes[0] == "1 images without class are left out"
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
    os.makedirs("set")
    for key, array in arrays.items():
        np.save(f"set/{key}.npy", array)
    assert seen(opened("set")) == ["dog", "2", "owl"]


def test_arrays_without_names_call_classes_by_numbers(here):
    np.savez("set.npz", images=pixels("2", "2"), labels=np.array([2, -1]))
    assert seen(opened("set.npz")) == ["2"]


def test_shards(here):
    for shard, names in (("test-0.tar", ["dog", "2"]), ("train-0.tar", ["owl"])):
        os.makedirs("shards", exist_ok=True)
        with tarfile.open(f"shards/{shard}", "w") as tar:
            for i, name in enumerate(names):
                buffer = io.BytesIO()
                Image.new("L", (5, 5), SHADE[name]).save(buffer, "png")
                for ending, content in (("png", buffer.getvalue()), ("cls", name.encode())):
                    info = tarfile.TarInfo(f"{i}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    # "2" is a name that the network knows, not the place of one.
    assert seen(opened("shards")) == ["dog", "2"] == seen(opened("shards/test-*.tar"))
    os.remove("shards/train-0.tar")
    assert seen(opened("shards")) == ["dog", "2"]


def test_a_source_without_files():
    names = tuple(str(k) for k in reversed(range(10)))
    found = labeled.opened("digits", names, Settings())
    assert len(found.records) == 500 and found.notes == ()
    ours = labeled.opened("digits", names[::-1], Settings()).records.labels
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
