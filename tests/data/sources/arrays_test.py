import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import sources

RNG = np.random.default_rng(5)
ARRAYS = dict(
    train_images=RNG.integers(0, 256, (6, 4, 5, 3), np.uint8),
    train_labels=np.array([0, 1, 2, -1, 1, 0]),
    test_images=RNG.integers(0, 256, (3, 4, 5, 3), np.uint8),
    test_labels=np.array([2, 1, 0], np.uint8),
)


def load(root, **options):
    return sources.load("arrays", root=str(root), **options)


def npz(tmp_path, **changes):
    arrays = {k: v for k, v in {**ARRAYS, **changes}.items() if v is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    return tmp_path / "mine.npz"


def npy(tmp_path, **changes):
    for name, array in {**ARRAYS, **changes}.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


@pytest.mark.parametrize("write", [npz, npy])
def test_arrays_come_back(tmp_path, write):
    source = load(write(tmp_path))
    assert source.class_names == ("0", "1", "2")
    assert source.train.image_shape == (4, 5, 3)
    assert source.train.labels.tolist() == [0, 1, 2, -1, 1, 0]
    assert source.train.labels.dtype == source.test.labels.dtype == np.int32
    images = source.train.read(np.array([4, 0, 4]))
    assert type(images) is np.ndarray
    np.testing.assert_array_equal(images, ARRAYS["train_images"][[4, 0, 4]])
    np.testing.assert_array_equal(source.test.read(np.arange(3)), ARRAYS["test_images"])


def test_names_and_missing_channel(tmp_path):
    grey = {f"{part}_images": ARRAYS[f"{part}_images"][..., 0] for part in ("train", "test")}
    path = npz(tmp_path, **grey, class_names=np.array(["ant", "bee", "cat", "doe"]))
    source = load(path)
    assert (source.name, source.num_classes) == ("mine", 4)
    assert source.class_names == ("ant", "bee", "cat", "doe")
    assert source.test.read(np.arange(3)).shape == (3, 4, 5, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(test_labels=None), "lacks test_labels; it has test_images, train_images, train_la"),
        (dict(train_images=ARRAYS["train_images"] / 255), "train_images .* float64.*uint8"),
        (dict(train_images=ARRAYS["train_images"][0, 0]), "train_images"),
        (dict(train_images=ARRAYS["train_images"].transpose(0, 3, 1, 2)), "channels last"),
        (dict(train_labels=np.zeros((6, 1), int)), r"train_labels .*\(6, 1\) for 6 images"),
        (dict(train_labels=np.zeros(5, int)), r"train_labels .*\(5,\) for 6 images"),
        (dict(train_labels=np.zeros(6)), "train_labels .* float64"),
        (dict(train_labels=np.array([0, 1, 2, -2, 1, 0])), "from -2 to 2.*from -1 to 2"),
        (dict(test_labels=np.array([0, 1, 3])), "test_labels .* from 0 to 3.* from 0 to 2"),
        (dict(test_labels=np.array([0, 1, -1])), "test_labels .* from -1 to 1"),
        (dict(test_labels=np.array([0, 1, 2**32])), "test_labels .* to 4294967296"),
        (dict(class_names=np.array(["a", "b"])), "train_labels .* with 2 classes"),
        (dict(class_names=np.array(["a", None], object)), "cannot be read.*without objects"),
        (dict(test_images=ARRAYS["test_images"][:, :2]), "training images are .* make them equal"),
        (dict(test_images=np.empty((0, 4, 5, 3), np.uint8), test_labels=np.empty(0, int)), "empty"),
        (dict(train_labels=np.zeros(6, int), test_labels=np.zeros(3, int)), "has 1 class"),
    ],
)
def test_bad_arrays_are_named(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        load(npz(tmp_path, **changes))


def test_bad_roots_are_named(tmp_path):
    with pytest.raises(InputError, match="data.root is empty"):
        load("")
    with pytest.raises(InputError, match="lacks train_images.*it has no arrays"):
        load(tmp_path)
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InputError, match="text.npz cannot be read"):
        load(tmp_path / "text.npz")
    np.save(tmp_path / "bare.npy", np.arange(3))
    with pytest.raises(InputError, match="bare.npy"):
        load(tmp_path / "bare.npy")
    with pytest.raises(InputError, match="image_size is 32 .* 4x5 .* does not resize"):
        load(npz(tmp_path), image_size=32)
