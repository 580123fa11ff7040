"""Features see structure, and not brightness."""

import numpy as np
import pytest

from ltssl_jax.inspection import features


def stripes(number, is_vertical, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (number, 1, 1, 1))
    wave = np.sin(np.arange(32)[None, :, None, None] * 1.2 + phase).repeat(32, axis=2)
    wave = wave.repeat(channels, axis=3) * 60 + 128 + rng.normal(0, 10, (number, 32, 32, channels))
    wave = wave.clip(0, 255).astype(np.uint8)
    return wave.swapaxes(1, 2) if is_vertical else wave


@pytest.mark.parametrize("channels", [1, 3])
def test_directions_are_told_apart(channels):
    images = np.concatenate([stripes(80, v, channels, seed=v) for v in (False, True)])
    found = features.extract(images, features.learn(images, num_filters=20))
    assert found.shape == (160, 160) and found.dtype == np.float32
    apart = np.linalg.norm(found[:80].mean(0) - found[80:].mean(0))
    assert apart > 3 * np.linalg.norm(found[:40].mean(0) - found[40:80].mean(0))


def test_order_and_chunks_do_not_matter():
    images = stripes(150, True)
    dictionary = features.learn(images, num_filters=10)
    whole = features.extract(images, dictionary)
    np.testing.assert_allclose(features.extract(images[::-1], dictionary)[::-1], whole, atol=1e-4)


def test_brightness_does_not_matter():
    images = stripes(20, True).clip(0, 200)
    dictionary = features.learn(images, num_filters=10)
    np.testing.assert_allclose(
        features.extract(images + np.uint8(40), dictionary),
        features.extract(images, dictionary),
        atol=1e-3,
    )


def test_blank_images_are_no_accident():
    images = np.full((12, 32, 32, 3), 7, np.uint8)
    found = features.extract(images, features.learn(images))
    assert np.isfinite(found).all()
