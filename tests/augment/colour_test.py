"""Operations on values against Pillow, over the ranges of their parameters."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from ltssl_jax.augment import colour

FACTORS = np.array([0, 0.1, 0.34, 0.5, 0.77, 1, 1.25, 1.5, 1.9, 2.5], np.float32)  # one per image


def with_pillow(op, images, *parameters):
    rows = zip(images, *parameters, strict=True)
    return np.stack([np.asarray(op(Image.fromarray(image), *row)) for image, *row in rows])


def rounded_down(fraction):
    numerator, denominator = (np.asarray(part) for part in fraction)
    assert numerator.min() >= 0 and denominator.min() >= 1
    return numerator // denominator


def assert_within_one_level(ours, theirs):
    """Exact but for the rounding of a multiplication followed by an addition."""
    difference = np.abs(np.asarray(ours).astype(int) - theirs)
    assert difference.max() <= 1
    assert np.mean(difference) < 0.002


def test_posterize_equals_pillow_from_one_to_eight_bits(images):
    bits = [1, 2, 3, 4, 5, 6, 7, 8, 1, 1]
    ours = colour.posterize(images, np.array(bits))
    np.testing.assert_array_equal(ours, with_pillow(ImageOps.posterize, images, bits))


def test_solarize_equals_pillow(images):
    threshold = np.array([0, 1, 34.13, 50, 77, 78, 128, 200, 255, 256], np.float32)
    ours = colour.solarize(images, addition=np.zeros(10, np.float32), threshold=threshold)
    np.testing.assert_array_equal(ours, with_pillow(ImageOps.solarize, images, threshold))


def test_solarize_with_addition_saturates_first():
    values = np.array([[0, 100, 113, 114, 240, 250]], np.uint8)
    ours = colour.solarize(values, addition=np.array([14.67]), threshold=np.array([128.0]))
    np.testing.assert_array_equal(ours, [[14, 114, 127, 127, 1, 0]])


@pytest.mark.parametrize(
    "op, enhance", [(colour.saturate, ImageEnhance.Color), (colour.sharpen, ImageEnhance.Sharpness)]
)
def test_stencils_equal_pillow(images, op, enhance):
    ours = jax.jit(op)(images, FACTORS)
    theirs = with_pillow(lambda image, factor: enhance(image).enhance(factor), images, FACTORS)
    assert_within_one_level(ours, theirs)
    np.testing.assert_array_equal(op(images, np.ones(10, np.float32)), images)


def test_blends_with_black_and_with_the_mean_equal_pillow(images):
    grey = np.asarray(colour.mean_luma(images))
    for degenerate, enhance in [(0 * grey, ImageEnhance.Brightness), (grey, ImageEnhance.Contrast)]:
        ours = jax.jit(colour.blend)(degenerate[:, None, None, None], images, FACTORS)
        theirs = with_pillow(lambda image, f, op=enhance: op(image).enhance(f), images, FACTORS)
        assert_within_one_level(ours, theirs)


def test_luma_equals_pillow(images):
    theirs = with_pillow(lambda image: image.convert("L"), images)
    np.testing.assert_array_equal(colour.luma(images)[..., 0], theirs)
    np.testing.assert_array_equal(colour.luma(images[..., :1]), images[..., :1])
    four = np.concatenate([images, 255 - images[..., :1]], axis=-1)
    np.testing.assert_allclose(colour.luma(four)[..., 0], four.mean(axis=-1), atol=0.51)


def test_histogram_counts_each_channel(images):
    theirs = with_pillow(lambda image: np.reshape(image.histogram(), (3, 256)), images)
    np.testing.assert_array_equal(colour.histogram(images), theirs)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_equalize_equals_pillow(images, size):
    images = images[:, :size, :size]
    ours = rounded_down(jax.jit(colour.equalize)(images))
    np.testing.assert_array_equal(ours, with_pillow(ImageOps.equalize, images))


def test_auto_contrast_is_pillow_without_its_rounding(images):
    ours = rounded_down(colour.auto_contrast(images))
    assert np.abs(ours - with_pillow(ImageOps.autocontrast, images)).max() <= 1
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    exact = (images.astype(int) - low) * 255 // np.maximum(high.astype(int) - low, 1)
    np.testing.assert_array_equal(ours, np.where(high > low, exact, images))


def test_hue_is_pillow_without_its_rounding(images):
    """A quotient that should be whole loses a level there; one of hue is worth six in a colour."""
    every_colour = np.stack(np.meshgrid(*3 * [np.arange(0, 256, 15)]), axis=-1)
    every_colour = every_colour.reshape(1, 72, 81, 3)
    for pixels, largest_share in (images, 0.01), (every_colour.astype(np.uint8), 0.02):
        shifts = np.array([-25, -11, -1, 0, 1, 5, 10, 20, 25, 128])[: len(pixels)]
        ours = np.asarray(jax.jit(colour.shift_hue)(pixels, shifts)).astype(int)
        difference = np.abs(ours - with_pillow(shifted_hue, pixels, shifts)).max(axis=-1)
        assert difference.max() <= 6
        assert np.mean(difference > 0) < largest_share


def shifted_hue(image, shift):
    hue, saturation, value = image.convert("HSV").split()
    hue = Image.fromarray(((np.asarray(hue).astype(int) + shift) % 256).astype(np.uint8))
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def test_hue_turns_pure_colours_into_one_another_and_leaves_grey():
    red, green, blue = 255 * np.eye(3, dtype=np.uint8)
    row = np.stack([red, green, blue, [7, 7, 7]])[None, None].astype(np.uint8)
    turned = colour.shift_hue(np.concatenate([row, row]), np.array([85, 170]))
    np.testing.assert_array_equal(turned[0, 0, 0], green)
    np.testing.assert_array_equal(turned[1, 0, 0], blue)
    np.testing.assert_array_equal(turned[:, 0, 3], [[7, 7, 7]] * 2)


def test_blur_equals_pillow(images):
    sigmas = np.array([0, 0.1, 0.3, 0.7, 1, 1.41, 1.42, 1.7, 2, 2.4], np.float32)
    for pixels in images, images[:, :5, :3]:
        ours = jax.jit(colour.blur)(pixels, sigmas)
        theirs = with_pillow(blurred, pixels, sigmas)
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours[0], pixels[0])


def blurred(image, sigma):
    return image.filter(ImageFilter.GaussianBlur(float(sigma)))
