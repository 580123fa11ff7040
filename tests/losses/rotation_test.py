"""Quarter turns: as NumPy's, each image by its own, and all of them equally often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.losses import rotation


def test_each_image_has_its_own_turn():
    images = np.random.default_rng(0).normal(size=(6, 3, 3, 2)).astype(np.float32)
    turns = np.array([0, 3, 1, 2, 2, 0])
    expected = [np.rot90(image, k, (0, 1)) for image, k in zip(images, turns, strict=True)]
    np.testing.assert_array_equal(rotation.turned(images, jnp.asarray(turns)), expected)


def test_all_turns_are_drawn():
    keys = jax.random.split(jax.random.key(0), 800)
    turns = rotation.draw_quarter_turns(keys)
    assert turns.dtype == jnp.int32
    counts = np.bincount(turns, minlength=4)
    assert len(counts) == 4 and counts.min() > 150


def test_images_must_be_square():
    with pytest.raises(InputError, match=r"height and width is \(4, 6\).*image_size"):
        rotation.turned(jnp.zeros((2, 4, 6, 1)), jnp.zeros(2, jnp.int32))
