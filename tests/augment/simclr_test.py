"""Contrastive views against torchvision's definitions, on Pillow, and what is drawn."""

import math
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance, ImageStat

from ltssl_jax.augment import colour, geometry, simclr


def windows_of(uniforms, size):
    """Asks `resized_crop` which windows `[B, 4]` it cuts out: top, left, height, width."""
    images = jnp.zeros((len(uniforms), *size, 1), jnp.uint8)

    def record(images, **window):
        return jnp.stack([window[side] for side in ("top", "left", "height", "width")], axis=-1)

    original, geometry.enlarge = geometry.enlarge, record
    try:
        return np.asarray(simclr.resized_crop(images, uniforms))
    finally:
        geometry.enlarge = original


def first_window(uniforms, size):
    """The definition of `RandomResizedCrop`, in double precision, fed with our numbers."""
    for area, ratio in zip(uniforms[:10], uniforms[10:20], strict=True):
        area = size[0] * size[1] * (0.2 + 0.8 * area)
        ratio = math.exp(math.log(3 / 4) + ratio * (math.log(4 / 3) - math.log(3 / 4)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= size[1] and 0 < height <= size[0]:
            top = int(uniforms[20] * (size[0] - height + 1))
            return top, int(uniforms[21] * (size[1] - width + 1)), height, width
    return 0, 0, *size


def test_windows_are_torchvisions():
    rng = np.random.default_rng(0)
    for size in ((32, 32), (96, 96), (24, 32)):
        uniforms = rng.random((2_000, simclr.CROP_DRAWS), dtype=np.float32)
        theirs = np.array([first_window(row.astype(float), size) for row in uniforms])
        differs = np.any(windows_of(uniforms, size) != theirs, axis=1)
        assert differs.mean() < 0.002  # the rounding of halves


def test_windows_are_as_likely_as_torchvisions():
    """Against other random numbers: sizes, shapes and places."""
    rng = np.random.default_rng(1)
    ours = windows_of(rng.random((20_000, simclr.CROP_DRAWS), dtype=np.float32), (32, 32))
    theirs = np.array([first_window(row, (32, 32)) for row in rng.random((20_000, 22))])
    for one, other in zip(ours.T, theirs.T, strict=True):
        one, other = (np.bincount(side, minlength=33) / 20_000 for side in (one, other))
        assert np.abs(np.cumsum(one - other)).max() < 1.95 * math.sqrt(2 / 20_000)  # p = 0.001
    area = ours[:, 2] * ours[:, 3] / 32**2
    assert 0.18 < area.min() < 0.21 and area.max() == 1


def test_an_image_that_fits_no_window_is_shown_whole():
    uniforms = np.full((1, simclr.CROP_DRAWS), 0.9999, np.float32)
    np.testing.assert_array_equal(windows_of(uniforms, (32, 32)), [[0, 0, 32, 32]])
    uniforms[0, 9], uniforms[0, 19] = 0.5, 0.5  # the last try fits
    assert np.all(windows_of(uniforms, (32, 32)) == [[7, 7, 25, 25]])


def test_a_resized_crop_shows_its_window(images):
    uniforms = np.random.default_rng(2).random((10, simclr.CROP_DRAWS), dtype=np.float32)
    ours = simclr.resized_crop(images, uniforms)
    for number, (top, left, height, width) in enumerate(windows_of(uniforms, (32, 32))):
        box = left, top, left + width, top + height
        window = Image.fromarray(images[number]).crop(box)
        theirs = window.resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(ours[number], theirs)


# --- colours --------------------------------------------------------------------------------------


def contrast(image, factor):
    mean = int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5)
    return Image.blend(Image.new("L", image.size, mean).convert(image.mode), image, factor)


def shift_hue(image, turn):
    hue, saturation, value = image.convert("HSV").split()
    shifted = (np.asarray(hue).astype(int) + int(turn * 255)) % 256
    hue = Image.fromarray(shifted.astype(np.uint8))
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


CHANGES = (
    lambda image, u: ImageEnhance.Brightness(image).enhance(0.6 + 0.8 * u),
    lambda image, u: contrast(image, 0.6 + 0.8 * u),
    lambda image, u: ImageEnhance.Color(image).enhance(0.6 + 0.8 * u),
    lambda image, u: shift_hue(image, 0.2 * u - 0.1),
)


def jitters(images, seed):
    """Images, ours, and Pillow's, with uniforms that put each of the 24 orders to use."""
    rng = np.random.default_rng(seed)
    images = np.concatenate([images] * 12)
    uniforms = rng.random((len(images), simclr.JITTER_DRAWS), dtype=np.float32)
    every_order = np.array(list(permutations(range(4))) * 5)
    np.put_along_axis(uniforms, every_order, np.array([[0.1, 0.3, 0.6, 0.9]], np.float32), axis=1)
    return images, uniforms, every_order, np.asarray(jax.jit(simclr.jitter)(images, uniforms))


def test_jitter_is_pillows_in_the_drawn_order(images):
    images, uniforms, orders, ours = jitters(images, 3)
    theirs = []
    for pixels, (*_, chance), order, strength in zip(
        images, uniforms, orders, uniforms[:, 4:8].astype(float), strict=True
    ):
        image = Image.fromarray(pixels)
        for change in order if chance < 0.8 else ():
            image = CHANGES[change](image, strength[change])
        theirs.append(np.asarray(image))
    difference = np.abs(ours.astype(int) - np.stack(theirs)).max(axis=-1)
    # A hue one step of 256 beside Pillow's is six levels, which the other changes may stretch.
    assert difference.max() <= 12
    assert np.mean(difference > 0, axis=(1, 2)).max() < 0.25  # in images of one colour
    assert np.mean(difference > 1) < 0.01


def test_jitter_leaves_one_image_in_five():
    images = np.random.default_rng(4).integers(0, 256, (4_000, 2, 2, 3)).astype(np.uint8)
    uniforms = np.random.default_rng(5).random((4_000, simclr.JITTER_DRAWS), dtype=np.float32)
    changed = np.any(np.asarray(simclr.jitter(images, uniforms)) != images, axis=(1, 2, 3))
    assert abs(changed.mean() - 0.8) < 0.03
    np.testing.assert_array_equal(changed, uniforms[:, 8] < 0.8)


def test_one_channel_gets_brightness_and_contrast_only(grey_images):
    images, uniforms, orders, ours = jitters(grey_images, 6)
    for number, pixels in enumerate(images):
        image = Image.fromarray(pixels[..., 0])
        for change in orders[number] if uniforms[number, 8] < 0.8 else ():
            if change < 2:
                image = CHANGES[change](image, float(uniforms[number, 4 + change]))
        assert np.abs(ours[number, ..., 0].astype(int) - np.asarray(image)).max() <= 2


def test_four_channels_are_not_mixed(images):
    four = np.concatenate([images, 255 - images[..., :1]], axis=-1)
    flat = np.broadcast_to(four[:, :1, :1], four.shape)  # of one colour each
    uniforms = np.random.default_rng(7).random((10, simclr.JITTER_DRAWS), dtype=np.float32)
    uniforms[:, 4:6] = 0.5  # neither brightness nor contrast
    np.testing.assert_array_equal(simclr.jitter(flat, uniforms), flat)
    np.testing.assert_array_equal(simclr.to_grey(flat, np.zeros((10, 1), np.float32)), flat)


def test_one_image_in_five_becomes_grey(images):
    uniforms = np.random.default_rng(8).random((1_000, 1), dtype=np.float32)
    pixels = np.concatenate([images[:5, :4, :4]] * 200)
    ours = np.asarray(simclr.to_grey(pixels, uniforms))
    grey = np.stack([Image.fromarray(image).convert("L").convert("RGB") for image in pixels])
    is_grey = uniforms[:, 0] < 0.2
    assert 0.15 < is_grey.mean() < 0.25
    np.testing.assert_array_equal(ours, np.where(is_grey[:, None, None, None], grey, pixels))


def test_every_second_image_is_blurred_and_widths_are_uniform(monkeypatch):
    monkeypatch.setattr(colour, "blur", lambda images, sigma: sigma)
    uniforms = np.random.default_rng(9).random((10_000, simclr.BLUR_DRAWS), dtype=np.float32)
    sigma = np.asarray(simclr.blur(None, uniforms))
    assert abs(np.mean(sigma > 0) - 0.5) < 0.025
    drawn = sigma[sigma > 0]
    assert drawn.min() >= 0.1 and drawn.max() <= 2
    assert np.abs(np.histogram(drawn, 10, (0.1, 2))[0] - len(drawn) / 10).max() < 5 * 23
