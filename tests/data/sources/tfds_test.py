import importlib.util
import os
import sys

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources import base
from ltssl_jax.data.sources import tfds as tfds_source

needs_tfds = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None
    or importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow Datasets is not installed",
)
IMAGES = np.random.default_rng(1).integers(0, 256, (10, 4, 6, 3), np.uint8)


def write(root, name, shape=(4, 6, 3), more=None, drop=(), values=None, config=None, **parts):
    """Writes a set whose split has the images at the given positions, or unlabeled ones for -p."""
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=shape, encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["ant", "bee"]),
    }
    features |= {key: make(tfds.features) for key, make in (more or {}).items()}
    features = {key: feature for key, feature in features.items() if key not in drop}

    def row(i):
        known = dict(image=IMAGES[abs(i)], label=i % 2 if i >= 0 else -1)
        return {key: known[key] if key in known else (values or {})[key](i) for key in features}

    rows = {part: [(i, row(i)) for i in positions] for part, positions in parts.items()}
    tfds.dataset_builders.store_as_tfds_dataset(
        name,
        "1.0.0",
        tfds.features.FeaturesDict(features),
        rows,
        data_dir=root,
        config=config,
        disable_shuffling=True,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    if not importlib.util.find_spec("tensorflow_datasets"):
        return ""
    path = str(tmp_path_factory.mktemp("tfds"))
    bare = range(-9, -5)
    write(path, "insects", train=range(7), test=range(7, 10))
    write(path, "sizes", (None, None, 3), train=range(7), test=range(7, 10))
    write(path, "testless", train=range(7))
    write(path, "stl", train=range(6), test=range(6, 9), unlabelled=bare)
    write(
        path, "contest", config="small", train=range(4), test=bare, val=range(4, 9), mini=range(2)
    )
    return path


def load(name, root, **options):
    return sources.load("tfds", name=name, root=root, **options)


@needs_tfds
@pytest.mark.tf
def test_a_prepared_set_is_read_in_its_order(root):
    source = load("insects", root)
    assert (source.name, source.class_names) == ("insects", ("ant", "bee"))
    assert source.train.image_shape == (4, 6, 3)
    assert source.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert source.train.is_pool is None and source.val is None and source.notes == ()
    np.testing.assert_array_equal(source.train.read(np.arange(7)), IMAGES[:7])
    np.testing.assert_array_equal(source.test.read(np.array([2, 0])), IMAGES[[9, 7]])
    assert source.train.digest and source.train.digest != source.test.digest
    assert source.train.digest == load("insects", root).train.digest


@needs_tfds
@pytest.mark.tf
def test_image_size_and_channels(root):
    images = load("sizes", root, image_size=4).train.read(np.arange(7))
    np.testing.assert_array_equal(images, IMAGES[:7, :, 1:5])
    with pytest.raises(InputError, match="'sizes' differ in size; set data.image_size"):
        load("sizes", root)
    grey = load("insects", root, channels=1, image_size=3, resize="pad").train
    assert grey.image_shape == (3, 3, 1) == grey.read(np.arange(2)).shape[1:]


@needs_tfds
@pytest.mark.tf
def test_the_unlabelled_split_is_the_pool(root):
    source = load("stl", root)
    assert source.train.labels.tolist() == [0, 1, 0, 1, 0, 1, -1, -1, -1, -1]
    assert source.train.is_pool.tolist() == [False] * 6 + [True] * 4
    assert source.notes == ("pool images are the split 'unlabelled'",)
    np.testing.assert_array_equal(source.train.read(np.array([6, 0, 9])), IMAGES[[9, 0, 6]])
    assert len(source.test) == 3


@needs_tfds
@pytest.mark.tf
def test_a_test_split_without_labels_is_none(root):
    source = load("contest/small", root)
    assert source.test.labels.tolist() == [0, 1, 0, 1, 0]
    assert source.notes == ("test images are the split 'val'",)
    both = load("contest/small", root, val="val", pool="test")
    assert both.test is None and both.val.labels.tolist() == [0, 1, 0, 1, 0]
    assert both.train.labels.tolist() == [0, 1, 0, 1] + [-1] * 4
    known = load("contest/small", root, pool="mini", test="val")
    assert known.train.labels.tolist() == [0, 1, 0, 1, 0, 1]  # a pool keeps what is known
    assert known.train.is_pool.tolist() == [False] * 4 + [True] * 2
    assert load("testless", root).test is None
    for setting, words in {
        "test": "split 'test' of 'contest/small' has no labels; data.source.test needs another",
        "val": "split 'test' of 'contest/small' has no labels; data.source.val needs another",
    }.items():
        with pytest.raises(InputError, match=words):
            load("contest/small", root, **{setting: "test"})
    with pytest.raises(InputError, match="no split 'nix' for data.source.pool; it has .*, mini"):
        load("contest/small", root, pool="nix")
    with pytest.raises(InputError, match="two parts are the same split"):
        load("contest/small", root, pool="val", test="val")
    with pytest.raises(InputError, match="two parts are the same split"):
        load("contest/small", root, val="train")


@needs_tfds
@pytest.mark.tf
def test_features_are_found_or_named(root):
    kinds = {"kind": lambda f: f.ClassLabel(names=["x", "y", "z"])}
    value = {"kind": lambda i: i % 3, "fine": lambda i: i % 2, "other": lambda i: IMAGES[i]}
    write(root, "coarse", more=kinds, values=value, train=range(6))
    assert load("coarse", root).class_names == ("ant", "bee")  # `label` goes before
    source = load("coarse", root, columns=dict(base.COLUMNS, label="kind"))
    assert source.class_names == ("x", "y", "z")
    assert source.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    write(root, "renamed", more=kinds, values=value, drop=["label"], train=range(6))
    assert load("renamed", root).class_names == ("x", "y", "z")
    fine = {"fine": lambda f: f.ClassLabel(num_classes=2)}
    write(root, "two", more=kinds | fine, values=value, drop=["label"], train=range(6))
    with pytest.raises(
        InputError, match=r"2 features ClassLabel \((fine|kind), .*columns.label is"
    ):
        load("two", root)
    assert load("two", root, columns=dict(label="fine")).class_names == ("0", "1")
    with pytest.raises(InputError, match="columns.label is 'nix' and must name one of them"):
        load("coarse", root, columns=dict(label="nix"))
    with pytest.raises(InputError, match="columns.label is 'nix' and must name one of them"):
        load("insects", root, columns=dict(label="nix"))
    write(root, "labelless", drop=["label"], train=range(6))
    with pytest.raises(InputError, match=r"0 features ClassLabel \(its features: image\)"):
        load("labelless", root)
    write(root, "imageless", drop=["image"], train=range(6))
    with pytest.raises(InputError, match=r"0 features Image \(its features: label\)"):
        load("imageless", root)
    other = {"other": lambda f: f.Image(shape=(4, 6, 3), encoding_format="png")}
    write(root, "stereo", more=other, values=value, train=range(6))
    with pytest.raises(InputError, match="2 features Image .*columns.path is 'path'"):
        load("stereo", root)
    assert len(load("stereo", root, columns=dict(path="other")).train) == 6


@needs_tfds
@pytest.mark.tf
def test_sixteen_bits_and_floats(root):
    def deep(f, dtype):
        return f.Image(shape=(4, 6, 1), dtype=dtype, encoding_format=None)

    values = {"deep": lambda i: IMAGES[i][..., :1].astype(np.uint16) * 257}
    more = {"deep": lambda f: deep(f, np.uint16)}
    write(root, "deep", more=more, values=values, drop=["image"], train=range(6))
    found = load("deep", root).train.read(np.arange(6))
    np.testing.assert_array_equal(found, IMAGES[:6, ..., :1])
    values = {"deep": lambda i: IMAGES[i][..., :1].astype(np.float32)}
    more = {"deep": lambda f: deep(f, np.float32)}
    write(root, "float", more=more, values=values, drop=["image"], train=range(6))
    with pytest.raises(InputError, match="images of float32; only 8 and 16 bits"):
        load("float", root)


@needs_tfds
@pytest.mark.tf
def test_large_sets_are_decoded_once_to_disk(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    in_memory = load("stl", root)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(tfds_source, "_MAX_IN_MEMORY", 100)
    monkeypatch.setattr(tfds_source, "_BLOCK", 4)
    calls = []
    source = load("stl", root, progress=lambda *call: calls.append(call))
    assert calls[:2] == [("decoding train", 4, 6), ("decoding train", 6, 6)]
    kept = tmp_path / "ltssl_jax/decoded"
    assert len(list(kept.iterdir())) == 3 and all("." not in d.name for d in kept.iterdir())
    for part in ("train", "test"):
        expected, found = getattr(in_memory, part), getattr(source, part)
        every = np.arange(len(expected))
        np.testing.assert_array_equal(found.read(every), expected.read(every))
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.digest == expected.digest
    calls.clear()
    monkeypatch.setattr(tfds_source, "_examples", lambda *_: map(pytest.fail, ["decoded again"]))
    again = load("stl", root, progress=lambda *call: calls.append(call))
    assert not calls and again.train.labels.tolist() == source.train.labels.tolist()


@needs_tfds
@pytest.mark.tf
def test_what_is_decoded_is_whole_or_not_there(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tfds_source, "_MAX_IN_MEMORY", 100)

    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load("insects", root, progress=stop)
    assert not list((tmp_path / "ltssl_jax/decoded").iterdir())
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(tfds_source, "_start", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(InputError, match="cannot be written .*No space left.*XDG_CACHE_HOME"):
        load("insects", root)


@needs_tfds
@pytest.mark.tf
def test_broken_files_are_named(root):
    write(root, "broken", train=range(7), test=range(7, 10))
    (file,) = [
        os.path.join(at, name)
        for at, _, names in os.walk(os.path.join(root, "broken"))
        for name in names
        if "train.tfrecord" in name
    ]
    data = bytearray(open(file, "rb").read())
    data[len(data) // 2] ^= 255
    open(file, "wb").write(data)
    with pytest.raises(
        InputError, match="split 'train' in .*broken.* cannot be read .*prepare the"
    ):
        load("broken", root)


@needs_tfds
@pytest.mark.tf
def test_what_is_missing_is_named(root):
    with pytest.raises(InputError, match="data.source.name is empty"):
        load("", root)
    with pytest.raises(InputError, match="'cifar11', which TensorFlow Datasets does not know"):
        load("cifar11", root)
    with pytest.raises(InputError, match="'eurosat/nix', which TensorFlow Datasets cannot build"):
        load("eurosat/nix", root)
    write(root, "trainless", everything=range(4))
    with pytest.raises(InputError, match="'trainless' has no split 'train' .* it has everything"):
        load("trainless", root)
    write(root, "bare", train=range(-5, 0))
    with pytest.raises(InputError, match="'bare' name no class"):
        load("bare", root)
    remedies = "--config.data.source.download=True, .*source.kind=folder --config.data.source.root"
    with pytest.raises(InputError, match=f"'cifar10' is not in {root}/cifar10/.*{remedies}"):
        load("cifar10", root)
    with pytest.raises(InputError, match="image_root is 'x', which means nothing"):
        load("insects", root, image_root="x")


@needs_tfds
@pytest.mark.tf
def test_a_failed_download_is_explained(root, monkeypatch):
    import tensorflow_datasets as tfds

    for error in (ConnectionError("no route to host"), AssertionError("no route to host")):

        def fail(builder, error=error):
            raise error

        monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
        with pytest.raises(InputError, match="could not be downloaded .*no route to host"):
            load("cifar10", root, download=True)


def test_without_tensorflow_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match="the source 'tfds' needs TensorFlow.*pip install"):
        load("cifar10", "")
