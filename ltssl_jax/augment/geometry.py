"""Where pixels come from: warps, crops, flips and boxes.

Images are `[B, H, W, C]`, parameters `[B]`, one per example; nothing here is random. Points are
`(x, y)` in pixels, the centre of the top left pixel being `(0.5, 0.5)`. An affine map `[B, 2, 3]`
takes a point of the result to the point of the source that is shown there.
"""

import jax
import jax.numpy as jnp

from ltssl_jax.core import Array, Images


def rotation(degrees: Array) -> Array:
    """Returns the linear maps `[B, 2, 2]` that turn images counter-clockwise by `degrees` `[B]`."""
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin], axis=-1), jnp.stack([sin, cos], axis=-1)], axis=-2)


def about_centre(linear: Array, *, height: int, width: int) -> Array:
    """Extends linear maps `[B, 2, 2]` to affine maps `[B, 2, 3]` that keep the image centre."""
    centre = jnp.array([width / 2, height / 2], jnp.float32)
    shift = centre[None, :] - jnp.sum(linear * centre[None, None, :], axis=-1)
    return jnp.concatenate([linear, shift[:, :, None]], axis=-1)


def warp_nearest(images: Images, affine: Array) -> Images:
    """Warps images with nearest-neighbour sampling; what lies outside the source is black.

    Coordinates are 16.16 fixed point numbers, as in Pillow's `Image.transform`, so that pixels on
    the border between two neighbours fall to the same side.

    Args:
      images: `[B, H, W, C]` uint8, sides below 2^15.
      affine: `[B, 2, 3]` float32.

    Returns:
      `[B, H, W, C]` uint8.
    """
    batch, height, width, channels = images.shape
    step = _fixed_point(affine[:, :, :2])
    start = _fixed_point(affine[:, :, 2] + jnp.sum(affine[:, :, :2] * 0.5, axis=-1))
    source = (
        start[:, :, None, None] + step[:, :, 0, None, None] * jnp.arange(width)[None, None, None]
    )
    source += step[:, :, 1, None, None] * jnp.arange(height)[None, None, :, None]
    x, y = source[:, 0] >> 16, source[:, 1] >> 16
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # Everything outside is one black pixel after the others: masking the result instead is fused
    # into every reader of it, coordinates included.
    index = jnp.where(inside, y * width + x, height * width).reshape(batch, -1, 1)
    pixels = jnp.pad(images.reshape(batch, -1, channels), ((0, 0), (0, 1), (0, 0)))
    moved = jnp.take_along_axis(pixels, index, axis=1, mode="promise_in_bounds")
    return moved.reshape(images.shape)


def _fixed_point(value):
    return jnp.floor(value * 65536 + 0.5).astype(jnp.int32)


def warp_bilinear(images: Images, affine: Array) -> Images:
    """Warps uint8 images `[B, H, W, C]` with bilinear sampling; outside the source is black."""
    height, width = images.shape[1:3]
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    points = jnp.stack([x, y, jnp.ones_like(x)])
    # Array positions count from pixel centres, hence the half.
    source = jnp.einsum("bij,jhw->bihw", affine, points, precision="highest") - 0.5

    def sample(channel, source):
        return jax.scipy.ndimage.map_coordinates(channel, [source[1], source[0]], order=1)

    over_channels = jax.vmap(sample, in_axes=(-1, None), out_axes=-1)
    warped = jax.vmap(over_channels)(images.astype(jnp.float32), source)
    return jnp.round(warped).astype(jnp.uint8)


def crop(
    images: Images, top: Array, left: Array, *, padding: int, mode: str = "constant"
) -> Images:
    """Cuts `[H, W]` windows out of images padded on all sides.

    Args:
      images: `[B, H, W, C]` uint8.
      top: `[B]` int, first row of the window in the padded image, in `[0, 2 padding]`.
      left: `[B]` int, first column likewise; `padding` for both gives the image back.
      padding: pixels added on each side.
      mode: of `jax.numpy.pad`: "constant" pads with black, "reflect" with the image mirrored at its
        outermost pixels.

    Returns:
      `[B, H, W, C]` uint8.
    """
    margins = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, margins, mode=mode)

    def cut(image, top, left):
        return jax.lax.dynamic_slice(image, (top, left, 0), images.shape[1:])

    return jax.vmap(cut)(padded, top, left)


def enlarge(images: Images, *, top: Array, left: Array, height: Array, width: Array) -> Images:
    """Enlarges one window of each image to the size of the whole, bilinearly.

    Rounds as Pillow's `Image.crop` and then `Image.resize` do: the columns to whole levels first,
    then the rows. What lies outside the window is not seen.

    Args:
      images: `[B, H, W, C]` uint8, sides at most 2^11.
      top, left: `[B]` int, the first row and the first column of the window.
      height, width: `[B]` int, its size, at least 1 and at most that of the image.

    Returns:
      `[B, H, W, C]` uint8.
    """
    columns = _enlarge_rows(images.swapaxes(1, 2), left, width)
    return _enlarge_rows(columns.swapaxes(1, 2), top, height)


def _enlarge_rows(images, start, size):
    """Stretches rows `[start, start + size)` over all rows."""
    full = images.shape[1]
    # Whole numbers: a row's place, counted from the centre of the first, in parts of `2 full`.
    place = (2 * jnp.arange(full)[None, :] + 1) * size[:, None] - full
    place = jnp.clip(place, 0, 2 * full * (size[:, None] - 1))
    above, share = jnp.divmod(place, 2 * full)
    below = jnp.minimum(above + 1, size[:, None] - 1)
    share = share[:, :, None, None]

    def rows(number):
        index = (start[:, None] + number)[:, :, None, None]
        return jnp.take_along_axis(images, index, axis=1, mode="promise_in_bounds").astype(
            jnp.int32
        )

    mixed = rows(above) * (2 * full - share) + rows(below) * share
    return jax.lax.div(mixed + full, 2 * full).astype(jnp.uint8)


def flip(images: Images, mirrored: Array) -> Images:
    """Mirrors left and right where `mirrored` `[B]` bool is true."""
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def fill_box(
    images: Images, *, top: Array, left: Array, bottom: Array, right: Array, colour: Array
) -> Images:
    """Paints one box per image: rows `[top, bottom)`, columns `[left, right)`, whole numbers `[B]`.

    Args:
      images: `[B, H, W, C]`.
      top, left, bottom, right: sides of the boxes; what lies outside the image is ignored, and a
        box that ends where it starts is empty.
      colour: `[C]`.

    Returns:
      Images of the same shape and dtype.
    """
    row = jnp.arange(images.shape[1])[None, :]
    column = jnp.arange(images.shape[2])[None, :]
    rows = (row >= top[:, None]) & (row < bottom[:, None])
    columns = (column >= left[:, None]) & (column < right[:, None])
    box = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(box, colour.astype(images.dtype)[None, None, None, :], images)
