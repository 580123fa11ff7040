"""What pixels are worth: operations on the values of uint8 images.

Those that look at one value at a time (`posterize`, `solarize`, `blend`, and the tables of
`auto_contrast` and `equalize`) are meant for the 256 levels rather than for the pixels: a table
`[B, 256, C]` is made by composing them and read once by `look_up`. Rounding follows Pillow's.
Parameters are `[B]`, one per example; nothing here is random.
"""

import jax.numpy as jnp

from ltssl_jax.core import Array, Images, InputError

# Weights of red, green and blue in Pillow's grey, ITU-R 601-2 in units of 2^-16.
_LUMA = (19595, 38470, 7471)


def levels() -> Array:
    """Returns the table `[1, 256, 1]` uint8 that changes nothing."""
    return jnp.arange(256, dtype=jnp.uint8)[None, :, None]


def look_up(images: Images, table: Array) -> Images:
    """Replaces each value by its entry in the table `[B, 256, C]` (or `[B, 256, 1]`) uint8."""
    batch, _, _, channels = images.shape
    index = images.reshape(batch, -1, channels).astype(jnp.int32)
    table = jnp.broadcast_to(table, (batch, 256, channels))
    values = jnp.take_along_axis(table, index, axis=1, mode="promise_in_bounds")
    return values.reshape(images.shape)


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


def auto_contrast(images: Images) -> Array:
    """Returns the tables `[B, 256, C]` uint8 that stretch each channel's range to 0..255."""
    low = jnp.min(images, axis=(1, 2)).astype(jnp.int32)[:, None, :]
    high = jnp.max(images, axis=(1, 2)).astype(jnp.int32)[:, None, :]
    above = jnp.clip(levels() - low, 0, high - low)
    # Pillow computes this quotient in floating point and loses one level where it should be whole.
    stretched = above * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, levels()).astype(jnp.uint8)


def equalize(images: Images) -> Array:
    """Returns the tables `[B, 256, C]` uint8 that flatten each channel's histogram."""
    counts = histogram(images)
    brightest = jnp.max(images, axis=(1, 2)).astype(jnp.int32)[:, None, :]
    num_brightest = jnp.take_along_axis(counts, brightest, axis=1)
    step = (images.shape[1] * images.shape[2] - num_brightest) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    flattened = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, flattened, levels()).astype(jnp.uint8)


def histogram(images: Images) -> Array:
    """Counts the values of each channel, `[B, 256, C]` int32."""
    batch, _, _, channels = images.shape
    example = jnp.arange(batch)[:, None, None]
    channel = jnp.arange(channels)[None, None, :]
    values = images.reshape(batch, -1, channels)
    # A scatter: comparing every pixel with 256 levels moves twenty times the memory.
    zeros = jnp.zeros((batch, 256, channels), jnp.int32)
    return zeros.at[example, values, channel].add(1, mode="promise_in_bounds")


def luma(images: Images) -> Array:
    """Returns grey values `[B, H, W, 1]` uint8 of images with 3 channels, or with 1, unchanged.

    Raises:
      InputError: for any other number of channels.
    """
    channels = images.shape[-1]
    if channels == 1:
        return images
    if channels != 3:
        raise InputError(
            f"images have {channels} channels, but this augmentation knows grey (1) and RGB (3); "
            "convert the images, or choose a recipe without colour operations"
        )
    weighted = images.astype(jnp.int32) * jnp.array(_LUMA)[None, None, None, :]
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
    values = jnp.asarray(images, jnp.float32)
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    neighbourhood = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = jnp.floor((neighbourhood + 4 * values[:, 1:-1, 1:-1]) / 13 + 0.5)
    return blend(values.at[:, 1:-1, 1:-1].set(inner), images, factor)


def _per_example(parameter, values):
    return parameter.reshape(parameter.shape + (1,) * (values.ndim - parameter.ndim))
