import os

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources import base, images, pixels

RNG = np.random.default_rng(5)
ARRAYS = dict(
    train_images=RNG.integers(0, 256, (6, 4, 5, 3), np.uint8),
    train_labels=np.array([0, 1, 2, -1, 1, 0]),
    test_images=RNG.integers(0, 256, (3, 4, 5, 3), np.uint8),
    test_labels=np.array([2, 1, 0], np.uint8),
)
ORDER = [0, 1, 2, 4, 5, 3]  # what has no label comes last
POOL = RNG.integers(0, 256, (4, 4, 5, 3), np.uint8)
TEST = dict(test_images=None, test_labels=None)


def load(root, **options):
    return sources.load("arrays", root=str(root), **options)


def npz(tmp_path, **changes):
    arrays = {k: v for k, v in {**ARRAYS, **changes}.items() if v is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    return tmp_path / "mine.npz"


def npy(tmp_path, **changes):
    for name, array in {**ARRAYS, **changes}.items():
        if array is not None:
            np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


@pytest.mark.parametrize("write", [npz, npy])
def test_arrays_come_back(tmp_path, write):
    source = load(write(tmp_path))
    assert source.class_names == ("0", "1", "2")
    assert source.train.image_shape == (4, 5, 3)
    assert source.train.labels.tolist() == [0, 1, 2, 1, 0, -1]
    assert source.train.is_pool.tolist() == [False] * 5 + [True]
    assert source.train.labels.dtype == source.test.labels.dtype == np.int32
    found = source.train.read(np.array([4, 0, 5]))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, ARRAYS["train_images"][[5, 0, 3]])
    np.testing.assert_array_equal(source.test.read(np.arange(3)), ARRAYS["test_images"])
    assert source.train.read(np.array([], int)).shape == (0, 4, 5, 3)
    assert source.val is None and source.train.groups is None and source.notes == ()


@pytest.mark.parametrize("write", [npz, npy])
def test_pool_and_validation_are_optional_and_so_is_the_test(tmp_path, write):
    more = dict(pool_images=POOL, val_images=POOL[2:], val_labels=np.array([[1], [0]]))
    source = load(write(tmp_path, **TEST, **more))
    assert source.test is None
    assert source.train.labels.tolist() == [0, 1, 2, 1, 0, -1, -1, -1, -1, -1]
    assert source.train.is_pool.tolist() == [False] * 5 + [True] * 5
    expected = np.concatenate([ARRAYS["train_images"][ORDER], POOL])
    for positions in ([9, 0, 6, 5], [1], [7], []):
        positions = np.array(positions, int)
        np.testing.assert_array_equal(source.train.read(positions), expected[positions])
    assert source.val.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(source.val.read(np.arange(2)), POOL[2:])


def test_names_and_missing_channel(tmp_path):
    grey = {f"{part}_images": ARRAYS[f"{part}_images"][..., 0] for part in ("train", "test")}
    path = npz(tmp_path, **grey, class_names=np.array(["ant", "bee", "cat", "doe"]))
    source = load(path)
    assert (source.name, source.num_classes) == ("mine", 4)
    assert source.class_names == ("ant", "bee", "cat", "doe")
    assert "'doe'" in source.notes[0] and "no labeled image" in source.notes[0]
    assert source.test.read(np.arange(3)).shape == (3, 4, 5, 1)
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    assert load(path, classes=str(tmp_path / "names.txt")).class_names == ("x", "y", "z")


def test_sixteen_bits_become_eight(tmp_path):
    values = np.arange(65536, dtype=np.uint16)
    deep = np.zeros((6, 128, 128, 4), np.uint16)
    deep[:4] = values.reshape(4, 128, 128, 1)
    path = npz(tmp_path, train_images=deep.astype(">u2"), **TEST)
    source = load(path, channels=4)
    found = source.train.read(np.array([0, 1, 2, 5]))
    assert found.dtype == np.uint8 and found.shape == (4, 128, 128, 4)
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(found[..., 3].ravel(), expected)
    assert load(path).train.image_shape == (128, 128, 3)  # alpha only where it is asked for
    assert isinstance(load(npy(tmp_path)).train.read(np.array([0])), np.ndarray)


@pytest.mark.parametrize("resize", base.RESIZES)
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_arrays_become_what_files_become(tmp_path, resize, channels):
    big = RNG.integers(0, 256, (6, 9, 16, 3), np.uint8)
    source = load(
        npz(tmp_path, train_images=big, pool_images=big[:2, :7]),
        image_size=5,
        resize=resize,
        channels=channels,
    )
    Image.fromarray(big[5]).save(tmp_path / "5.png")
    policy = images.Policy(5, resize, channels or 3)
    expected = images.decode(str(tmp_path / "5.png"), policy)
    assert source.train.image_shape == source.test.image_shape == (5, 5, channels or 3)
    np.testing.assert_array_equal(source.train.read(np.array([4])), expected[None])
    assert source.train.read(np.array([7, 0])).shape == (2, 5, 5, channels or 3)
    assert source.test.read(np.array([], int)).shape == (0, 5, 5, channels or 3)


def test_groups_are_numbered_over_all_parts(tmp_path):
    groups = dict(
        train_groups=np.array(["p1", "p2", "", "p3", "p1", ""]),
        test_groups=np.array(["p2", "", "p9"]),
    )
    source = load(npz(tmp_path, **groups, pool_images=POOL))
    train, test = source.train.groups, source.test.groups
    assert train.dtype == np.int64 and train.tolist() == [0, 1, -1, 0, -1, 2, -1, -1, -1, -1]
    assert test.tolist() == [1, -1, 3]
    numbers = dict(train_groups=np.array([7, -1, 7, 9, 9, -5]), test_groups=np.array([9, 8, -1]))
    source = load(npz(tmp_path, **numbers))
    assert source.train.groups.tolist() == [0, -1, 0, 1, -1, 1]
    assert source.test.groups.tolist() == [1, 2, -1]


def test_digests_follow_files_and_policy(tmp_path):
    path = npz(tmp_path)
    source = load(path)
    digests = [source.train.digest, source.test.digest, load(path, image_size=2).train.digest]
    os.utime(path, (0, 0))
    digests.append(load(path).train.digest)
    assert all(digests) and len(set(digests)) == 4
    assert load(path).train.digest == digests[-1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(test_labels=None), "lacks test_labels; it has test_images, train_images, train_la"),
        (dict(test_images=None), "lacks test_images"),
        (dict(train_images=None), "lacks train_images"),
        (dict(val_labels=np.zeros(3, int)), "lacks val_images"),
        (dict(train_images=ARRAYS["train_images"] / 255), "train_images .* float64.*uint8"),
        (dict(train_images=ARRAYS["train_images"].astype(np.int16)), "train_images .* int16"),
        (dict(train_images=ARRAYS["train_images"] > 9), "train_images .* bool"),
        (dict(train_images=ARRAYS["train_images"].astype(object)), "cannot be read.*without obj"),
        (dict(train_images=ARRAYS["train_images"][0, 0]), "train_images"),
        (dict(train_images=ARRAYS["train_images"].transpose(0, 3, 1, 2)), "channels last"),
        (dict(train_images=np.zeros((6, 4, 5, 2), np.uint8)), "channels last"),
        (dict(train_images=np.zeros((6, 0, 5, 3), np.uint8)), "train_images .* empty"),
        (dict(pool_images=np.zeros((0, 4, 5, 3), np.uint8)), "pool_images .* empty"),
        (dict(pool_images=POOL[:, :2]), "pool images .*2, 5, 3.*make them equal"),
        (dict(train_labels=np.zeros((6, 2), int)), r"train_labels .*\(6, 2\) for 6 images"),
        (dict(train_labels=np.zeros(5, int)), r"train_labels .*\(5,\) for 6 images"),
        (dict(train_labels=np.zeros(6)), "train_labels .* float64"),
        (dict(train_labels=np.full(6, np.nan)), "train_labels .* float64"),
        (dict(train_labels=np.array(["a"] * 6)), "train_labels .* <U1"),
        (dict(train_labels=np.array([0, 1, 2, -2, 1, 0])), "from -2 to 2.*from -1 to 2"),
        (dict(train_labels=np.full(6, -1)), "training labels of .* name no class"),
        (dict(train_labels=np.array([0, 1, 2**31, 0, 1, 0])), "go up to 2147483648 with 6 images"),
        (dict(test_labels=np.array([0, 1, 3])), "test_labels .* from 0 to 3.* from 0 to 2"),
        (dict(test_labels=np.array([0, 1, -1])), "test_labels .* from -1 to 1"),
        (dict(test_labels=np.array([0, 1, 2**32])), "test_labels .* to 4294967296"),
        (dict(class_names=np.array(["a", "b"])), "train_labels .* with 2 classes"),
        (dict(class_names=np.array(["a", None], object)), "cannot be read.*without objects"),
        (dict(class_names=np.array(["a", "b", "a"])), "each another"),
        (dict(class_names=np.array("abc")), "one name per class"),
        (dict(class_names=np.arange(3)), "class_names .* int64"),
        (dict(test_images=ARRAYS["test_images"][:, :2]), "training images are .* make them equal"),
        (dict(test_images=np.empty((0, 4, 5, 3), np.uint8), test_labels=np.empty(0, int)), "empty"),
        (dict(train_labels=np.zeros(6, int), test_labels=np.zeros(3, int)), "has 1 class"),
        (dict(train_groups=np.zeros(5, int)), r"train_groups .*\(5,\) for 6 images"),
        (dict(train_groups=np.zeros(6)), "train_groups .* float64"),
        (dict(train_groups=np.zeros(6, int), test_groups=np.array(["a"] * 3)), "save all alike"),
    ],
)
@pytest.mark.parametrize("write", [npz, npy])
def test_bad_arrays_are_named(tmp_path, write, changes, words):
    with pytest.raises(InputError, match=words):
        load(write(tmp_path, **changes))


def test_bad_roots_are_named(tmp_path):
    with pytest.raises(InputError, match="data.source.root is empty"):
        load("")
    with pytest.raises(InputError, match="lacks train_images.*it has no arrays"):
        load(tmp_path)
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InputError, match="text.npz cannot be read"):
        load(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(InputError, match="empty.npz cannot be read"):
        load(tmp_path / "empty.npz")
    np.save(tmp_path / "bare.npy", np.arange(3))
    with pytest.raises(InputError, match="bare.npy"):
        load(tmp_path / "bare.npy")
    whole = npz(tmp_path).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut.npz cannot be read"):
        load(tmp_path / "cut.npz")
    with pytest.raises(InputError, match="data.source.pool is 'x', which means nothing"):
        load(tmp_path / "mine.npz", pool="x")


def test_a_cut_memory_map_is_named_and_strangers_do_no_harm(tmp_path):
    path = npy(tmp_path)
    np.save(path / "notes.npy", np.array([None, 1], object))
    assert load(path).num_classes == 3
    data = (path / "train_images.npy").read_bytes()
    (path / "train_images.npy").write_bytes(data[:-10])
    with pytest.raises(InputError, match="cannot be read"):
        load(path)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    for name in ("train_images", "class_names"):
        with pytest.raises(InputError, match="without objects"):
            load(npz(tmp_path, **{name: np.array([Trap()] * 6, object)}))
    assert not (tmp_path / "sprung").exists()


def test_memory_maps_may_be_larger_than_memory(tmp_path):
    deep = np.lib.format.open_memmap(
        tmp_path / "train_images.npy", "w+", np.uint16, (200_000, 512, 512, 3)
    )  # 315 GB, of which the file system keeps only the last image
    deep[-1] = 65535
    np.save(tmp_path / "train_labels.npy", np.arange(200_000) % 3)
    source = load(tmp_path, image_size=8)
    found = source.train.read(np.array([0, 199_999]))
    assert found.shape == (2, 8, 8, 3) and found[0].max() == 0 and found[1].min() == 255


def test_made_is_neutral_where_nothing_is_to_do():
    image = ARRAYS["train_images"][0]
    assert pixels.made(image, images.Policy(0, "crop", 3)) is image
