import importlib.util
import sys

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import sources

needs_tfds = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None
    or importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow Datasets is not installed",
)
IMAGES = np.random.default_rng(1).integers(0, 256, (10, 4, 6, 3), np.uint8)


def write(root, name, shape, **parts):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["ant", "bee"]),
        }
    )
    rows = {
        part: [(i, dict(image=IMAGES[i], label=i % 2)) for i in positions]
        for part, positions in parts.items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name, "1.0.0", features, rows, data_dir=root, disable_shuffling=True
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("tfds"))
    write(path, "insects", (4, 6, 3), train=range(7), test=range(7, 10))
    write(path, "sizes", (None, None, 3), train=range(7), test=range(7, 10))
    write(path, "testless", (4, 6, 3), train=range(7))
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
    np.testing.assert_array_equal(source.train.read(np.arange(7)), IMAGES[:7])
    np.testing.assert_array_equal(source.test.read(np.array([2, 0])), IMAGES[[9, 7]])


@needs_tfds
@pytest.mark.tf
def test_image_size_cuts_the_central_square(root):
    images = load("sizes", root, image_size=4).train.read(np.arange(7))
    np.testing.assert_array_equal(images, IMAGES[:7, :, 1:5])
    with pytest.raises(InputError, match="'sizes' differ in size; set data.image_size"):
        load("sizes", root)


@needs_tfds
@pytest.mark.tf
def test_what_is_missing_is_named(root):
    with pytest.raises(InputError, match="data.name is empty"):
        load("", root)
    with pytest.raises(InputError, match="'cifar11', which TensorFlow Datasets does not know"):
        load("cifar11", root)
    with pytest.raises(InputError, match="'testless' cannot be used .missing: test"):
        load("testless", root)
    remedies = "--config.data.download=True, .*--config.data.source=folder --config.data.root=DIR"
    with pytest.raises(InputError, match=f"'cifar10' is not in {root}/cifar10/.*{remedies}"):
        load("cifar10", root)


@needs_tfds
@pytest.mark.tf
def test_a_failed_download_is_explained(root, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(builder):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(InputError, match="could not be downloaded .*no route to host"):
        load("cifar10", root, download=True)


def test_without_tensorflow_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match="the source 'tfds' needs TensorFlow.*pip install"):
        load("cifar10", "")
