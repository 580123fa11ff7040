import numpy as np
import pytest
from PIL import Image

from ltssl_jax import defaults
from ltssl_jax.data import candidates, opening
from ltssl_jax.data.sources.base import COLUMNS
from ltssl_jax.data.sources.images import Policy

NOISE = np.random.default_rng(3).integers(0, 256, (60, 4, 4, 3), np.uint8)
POLICY = Policy(0, "crop", 3)


def opened(kind, root, split=(), **settings):
    return opening.opened(
        defaults.source(kind, root=str(root), **settings),
        defaults.split(**dict(protocol="given") | dict(split)),
        image_size=0, resize="crop", channels=0,
    )  # fmt: skip


def pixels(pool, size=7):
    """All images by what they are called, as they are decoded."""
    names = [item.name for item in pool.items()]
    with candidates.decoded(pool, POLICY, (4, 4, 3), batch_size=size) as batches:
        batches = list(batches)
    places = [int(place) for batch in batches for place in batch.names]
    images = np.concatenate([batch.images for batch in batches])
    return dict(zip([names[place] for place in places], images, strict=True))


@pytest.fixture
def arrays(tmp_path):
    """Labels between images without any, and a pool of its own."""
    labels = np.where(np.arange(40) % 3 == 0, -1, np.arange(40) % 2)
    known = dict(train_images=NOISE[:40], train_labels=labels, pool_images=NOISE[40:50])
    np.savez(tmp_path / "a.npz", **known, test_images=NOISE[50:], test_labels=np.arange(10) % 2)
    return tmp_path / "a.npz"


@pytest.mark.parametrize("settings", [{}, dict(val_fraction=0.3)])
def test_images_of_arrays_are_called_by_their_place_in_the_file(arrays, settings):
    """Whatever was sorted, held out or labeled in between; the pool comes behind."""
    pool = candidates.of_split(*opened("arrays", arrays, **settings))
    found = pixels(pool)
    assert sorted(map(int, found)) == [*range(0, 40, 3), *range(40, 50)] and pool.total == 24
    for name, image in found.items():
        np.testing.assert_array_equal(image, NOISE[int(name)])
    (item,) = pool.at([3])
    assert item.name == [*found][3] and candidates.located(item) == ("", item.name)
    np.testing.assert_array_equal(item.image, found[item.name])


def test_labeled_images_in_the_pool_are_none_to_label(arrays):
    source, split = opened("arrays", arrays, split=dict(overlap=True))
    assert split.is_labeled.any()
    assert len(pixels(candidates.of_split(source, split))) == 24


@pytest.fixture
def files(tmp_path):
    """Images `0.png` to `9.png`: two labeled, one of the test, the others of the pool."""
    for n in range(10):
        Image.fromarray(NOISE[n]).save(tmp_path / f"{n}.png")
    parts = ["train", "train", "train", "train", "test"] + ["pool"] * 5
    rows = [f"{n}.png,{'ab'[n % 2]},{part},i{n}\n" for n, part in enumerate(parts)]
    (tmp_path / "labels.csv").write_text("path,label,split,id\n" + "".join(rows))
    return tmp_path


def test_images_with_files_are_known_by_them(files):
    pool = candidates.of_split(*opened("manifest", files / "labels.csv"))
    found = pixels(pool)
    assert sorted(found) == [f"i{n}" for n in range(5, 10)]
    np.testing.assert_array_equal(found["i7"], NOISE[7])
    for place, name in enumerate(found):
        (item,) = pool.at([place])
        assert candidates.located(item) == (f"{files}/{name[1]}.png", name)


def test_files_in_use_are_left_out_under_all_their_names(files, monkeypatch):
    monkeypatch.chdir(files)
    split = opened("manifest", files / "labels.csv", val_fraction=0.5)
    used = candidates.files_in_use(*split)
    (files / "others").mkdir()
    (files / "others/link.png").symlink_to(files / "1.png")
    Image.fromarray(NOISE[20]).save(files / "others/new.png")
    np.save("new.npy", NOISE[30:32])
    pool = candidates.of_paths(["others", "4.png", "5.png", "new.npy"], COLUMNS, used)
    found = pixels(pool)
    assert [*found] == ["others/new.png", "5.png", "new.npy[0]", "new.npy[1]"]
    np.testing.assert_array_equal(found["new.npy[1]"], NOISE[31])
    # Places count those left out, too; paths become absolute.
    assert pool.total == 6
    assert [one.name for one in pool.at([4, 1])] == ["new.npy[0]", "others/new.png"]
    assert candidates.located(pool.at([3])[0]) == (f"{files}/5.png", "5.png")
    assert candidates.located(pool.at([4])[0]) == ("", "new.npy[0]")
