"""What pixels are worth: operations on the values of uint8 images.

Rounding follows Pillow's. Parameters are `[B]`, one per example; nothing here is random.

No table of the 256 levels is composed to be read once per pixel: XLA fuses the making of a table
with its reading, and then makes the entry anew for every pixel, one by one.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from ltssl_jax.core import Array, Images


class Fraction(NamedTuple):
    """Values that are a quotient, rounded down: `[B, H, W, C]` and `[B, 1, 1, C]` int32.

    Whole numbers, not negative, the denominator positive. Division is slow: who chooses between
    several of them divides afterwards.
    """

    numerator: Array
    denominator: Array


# Weights of red, green and blue in Pillow's grey, ITU-R 601-2 in units of 2^-16.
_LUMA = (19595, 38470, 7471)


def posterize(values: Array, bits: Array) -> Array:
    """Keeps the highest `bits` `[B]` int of uint8 values `[B, ...]`; 8 changes nothing."""
    dropped = _per_example(8 - bits, values).astype(jnp.uint8)
    return (values >> dropped) << dropped


def solarize(values: Array, *, addition: Array, threshold: Array) -> Array:
    """Adds `addition`, saturating, then inverts what is not below `threshold`.

    An addition of 0 with threshold 256 changes nothing, with threshold 0 inverts everything.

    Args:
      values: `[B, ...]` uint8.
      addition: `[B]` float32, at least 0.
      threshold: `[B]` float32, in `[0, 256]`.

    Returns:
      `[B, ...]` uint8.
    """
    shifted = jnp.minimum(values + _per_example(addition, values), 255).astype(jnp.uint8)
    return jnp.where(shifted < _per_example(threshold, values), shifted, 255 - shifted)


def blend(degenerate: Array, values: Array, factor: Array) -> Array:
    """Goes from `degenerate` (factor 0) to `values` (factor 1) and beyond, then truncates.

    Args:
      degenerate: float32 whole numbers, broadcastable to `values`.
      values: `[B, ...]` uint8.
      factor: `[B]` float32.

    Returns:
      `[B, ...]` uint8.
    """
    mixed = degenerate + _per_example(factor, values) * (values - degenerate)
    return jnp.clip(mixed, 0, 255).astype(jnp.uint8)


def auto_contrast(images: Images) -> Fraction:
    """Stretches each channel's range to 0..255; a channel of one value stays."""
    low = jnp.min(images, axis=(1, 2), keepdims=True).astype(jnp.int32)
    high = jnp.max(images, axis=(1, 2), keepdims=True).astype(jnp.int32)
    span = high - low
    # Pillow computes this quotient in floating point and loses one level where it should be whole.
    return Fraction(jnp.where(span > 0, (images - low) * 255, images), jnp.maximum(span, 1))


def equalize(images: Images) -> Fraction:
    """Flattens each channel's histogram."""
    counts = histogram(images)
    below = jnp.cumsum(counts, axis=-1) - counts
    num_pixels = images.shape[1] * images.shape[2]
    num_darker = jnp.max(jnp.where(below < num_pixels, below, 0), axis=-1)  # than the brightest
    step = lax.div(num_darker, 255)[:, None, None, :]
    rank = below.ravel().at[_bin(images)].get(mode="promise_in_bounds")
    spread = jnp.minimum((step >> 1) + rank, 255 * step)
    return Fraction(jnp.where(step > 0, spread, images), jnp.maximum(step, 1))


def histogram(images: Images) -> Array:
    """Counts the values of each channel, `[B, C, 256]` int32."""
    batch, _, _, channels = images.shape
    # A scatter: comparing every pixel with 256 levels moves twenty times the memory.
    counts = jnp.zeros(batch * channels * 256, jnp.int32)
    counts = counts.at[_bin(images)].add(1, mode="promise_in_bounds")
    return counts.reshape(batch, channels, 256)


def _bin(images):
    """Numbers each pixel's place in a flat histogram `[B, C, 256]`, `[B, H, W, C]` int32.

    One number instead of three indices: gathers and scatters write their indices to memory.
    """
    batch, _, _, channels = images.shape
    row = jnp.arange(batch * channels, dtype=jnp.uint32).reshape(batch, 1, 1, channels)
    return row * 256 + images  # unsigned: negative indices would have a meaning to be tested for


def luma(images: Images) -> Array:
    """Returns grey values `[B, H, W, 1]` uint8.

    One channel stays, three are weighted as Pillow does, of any other number, whose meaning nobody
    said, the mean is taken.
    """
    channels = images.shape[-1]
    if channels == 1:
        return images
    weights = _LUMA if channels == 3 else (round(2**16 / channels),) * channels
    weighted = images.astype(jnp.int32) * jnp.array(weights)[None, None, None, :]
    grey = (jnp.sum(weighted, axis=-1, keepdims=True) + 0x8000) >> 16
    return grey.astype(jnp.uint8)


def mean_luma(images: Images) -> Array:
    """Returns the mean grey value of each image, rounded, `[B]` float32."""
    grey = luma(images).astype(jnp.int32)
    num_pixels = grey[0].size
    return ((2 * jnp.sum(grey, axis=(1, 2, 3)) + num_pixels) // (2 * num_pixels)).astype(
        jnp.float32
    )


def saturate(images: Images, factor: Array) -> Images:
    """Blends images with their grey versions; `factor` `[B]` 1 changes nothing, 0 leaves grey."""
    return blend(luma(images).astype(jnp.float32), images, factor)


def sharpen(images: Images, factor: Array) -> Images:
    """Blends images with smoothed ones; `factor` `[B]` 1 changes nothing, 0 smooths.

    The smoothing weighs a pixel 5 and its eight neighbours 1, and leaves the border alone.
    """
    height, width = images.shape[1:3]
    values = images.astype(jnp.int32)
    padded = jnp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    neighbourhood = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    smooth = (2 * (neighbourhood + 4 * values) + 13) // 26  # rounded
    is_inner = jnp.zeros((height, width), bool).at[1:-1, 1:-1].set(True)[None, :, :, None]
    return blend(jnp.where(is_inner, smooth, values).astype(jnp.float32), images, factor)


def shift_hue(images: Images, shift: Array) -> Images:
    """Turns the hue of images `[B, H, W, 3]` uint8 by `shift` `[B]` int, of 256 to the circle.

    As Pillow does, by way of hue, saturation and value in 256 levels each; so a shift of 0 already
    changes colours by a few levels. Pillow's quotients lose a level where they should be whole.
    """
    values = images.astype(jnp.int32)
    value = jnp.max(values, axis=-1)
    span = value - jnp.min(values, axis=-1)
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    # Sixths of the circle, in parts of `span`, from the colour that is strongest.
    from_green, from_blue = 2 * span + blue - red, 4 * span + red - green
    from_red = jnp.where(green < blue, 6 * span, 0) + green - blue
    hue = jnp.where(green == value, from_green, from_blue)
    hue = jnp.where(red == value, from_red, hue)
    hue = lax.div(255 * hue, jnp.maximum(6 * span, 1))
    saturation = lax.div(255 * span, jnp.maximum(value, 1))

    hue = (hue + _per_example(shift, hue)) & 255
    # How far each colour's place on the circle is from where it is missing, in 255ths of a sixth.
    place = 6 * hue[..., None] + 255 * jnp.array([5, 3, 1])[None, None, None, :]
    place = lax.rem(place, 1530)
    missing = jnp.clip(jnp.minimum(place, 1020 - place), 0, 255)
    product = value[..., None] * (255**2 - saturation[..., None] * missing)
    return lax.div(2 * product + 255**2, 2 * 255**2).astype(jnp.uint8)


def blur(images: Images, sigma: Array) -> Images:
    """Blurs images with a near Gaussian, as Pillow's `GaussianBlur` does: by boxes, three each way.

    The border is continued by its outermost pixels, and every box rounds to whole levels.

    Args:
      images: `[B, H, W, C]` uint8.
      sigma: `[B]` float32, standard deviation in pixels, in `[0, 2.4]`; 0 changes nothing.

    Returns:
      `[B, H, W, C]` uint8.

    Source: Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
    filtering", SSVM 2011, equations 7, 11 and 14.
    """
    variance = sigma**2 / 3  # of each of the three boxes
    whole = jnp.floor((jnp.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part /= 6 * (variance - (whole + 1) ** 2)
    inner = (2**24 / (2 * (whole + part) + 1)).astype(jnp.uint32)
    whole = whole.astype(jnp.uint32)
    outer = (2**24 - (2 * whole + 1) * inner) // 2
    # Weights of a pixel, its neighbours, and theirs, in units of 2^-24.
    weights = inner, jnp.where(whole > 0, inner, outer), jnp.where(whole > 0, outer, 0)

    def box(_, images):
        return _box(images, weights)

    for _ in ("rows", "columns"):
        # A loop: fused into one, the three boxes would compute every neighbour's neighbours anew.
        images = lax.fori_loop(0, 3, box, images.swapaxes(1, 2))
    return images


def _box(images, weights):
    """Averages each pixel with the four next to it in its column."""
    height = images.shape[1]
    padded = jnp.pad(images, ((0, 0), (2, 2), (0, 0), (0, 0)), mode="edge").astype(jnp.uint32)
    rows = [padded[:, first : first + height] for first in range(5)]
    sums = rows[2], rows[1] + rows[3], rows[0] + rows[4]
    products = [_per_example(w, images) * s for w, s in zip(weights, sums, strict=True)]
    return ((sum(products) + 2**23) >> 24).astype(jnp.uint8)


def _per_example(parameter, values):
    return parameter.reshape(parameter.shape + (1,) * (values.ndim - parameter.ndim))
