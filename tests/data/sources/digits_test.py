import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ltssl_jax.core import InputError
from ltssl_jax.data import sources


def test_digits_are_scaled_and_held_out():
    source = sources.load("digits")
    assert source.name == "digits"
    assert source.class_names == tuple("0123456789")
    assert source.train.image_shape == source.test.image_shape == (8, 8, 1)
    assert np.bincount(source.test.labels).tolist() == [50] * 10
    assert source.train.labels.dtype == np.int32 and source.train.is_pool is None
    images = np.concatenate([r.read(np.arange(len(r))) for r in (source.train, source.test)])
    assert images.dtype == np.uint8 and (images.min(), images.max()) == (0, 255)
    # Together they are scikit-learn's images, every one of them once.
    original = load_digits()
    restored = np.unique(np.round(images.reshape(-1, 64) * (16 / 255)), axis=0)
    assert len(images) == len(original.images)
    np.testing.assert_array_equal(restored, np.unique(original.data, axis=0))


def test_the_held_out_digits_are_always_the_same():
    test = sources.load("digits").test
    assert test.labels[:12].tolist() == [0, 5, 8, 9, 1, 0, 1, 3, 9, 5, 5, 5]


def test_read_keeps_the_order_of_the_positions():
    train = sources.load("digits").train
    one_by_one = [train.read(np.array([position]))[0] for position in (5, 3, 5)]
    np.testing.assert_array_equal(train.read(np.array([5, 3, 5])), one_by_one)


def test_digits_can_be_larger_and_in_colour():
    small, large = sources.load("digits"), sources.load("digits", image_size=32, channels=3)
    assert large.train.image_shape == large.test.image_shape == (32, 32, 3)
    images = large.test.read(np.arange(2)).astype(float)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    means = images[..., 0].reshape(2, 8, 4, 8, 4).mean((2, 4))
    assert np.corrcoef(means.ravel(), small.test.read(np.arange(2)).ravel())[0, 1] > 0.97


def test_what_means_nothing_to_digits_is_refused():
    for setting in (dict(root="/tmp"), dict(pool="x"), dict(download=True)):
        with pytest.raises(InputError, match=f"{next(iter(setting))} .* means nothing .*'digits'"):
            sources.load("digits", **setting)


def test_unknown_kinds_are_named_with_the_nearest():
    with pytest.raises(InputError, match="'foldre'.*'folder'.*arrays, .*digits, folder, imagenet"):
        sources.load("foldre")
    with pytest.raises(InputError, match="image_size is -1"):
        sources.load("digits", image_size=-1)


def test_every_kind_is_a_source():
    for kind in sources.kinds():
        module = __import__(f"ltssl_jax.data.sources.{kind}", fromlist=["load"])
        assert callable(module.load) and isinstance(module.USES, tuple), kind


def test_importing_the_data_room_is_cheap():
    code = (
        "import sys; from ltssl_jax.data import feed, sources;"
        "import ltssl_jax.data.sources.tfds, ltssl_jax.data.sources.digits;"
        "import ltssl_jax.data.sources.imagenet127;"
        "print({'tensorflow', 'tensorflow_datasets', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
