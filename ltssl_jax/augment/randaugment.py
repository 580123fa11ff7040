"""The strong policy: a few operations of RandAugment, drawn with replacement.

Every application does the same work for all images: one warp, each change of values, two blends and
one box, whose parameters change nothing unless their operation was drawn. Choosing a branch per
image instead would run all sixteen under `vmap`.

Source: Cubuk et al., "RandAugment", arXiv:1909.13719; the sixteen operations, ranges, random signs
and fill colours are those of Stomach-ache/TRAS, RandAugment/augmentations.py.
"""

import jax.numpy as jnp
from jax import lax

from ltssl_jax.augment import colour, geometry
from ltssl_jax.core import Array, Images

# Range of each operation's parameter; pixels are those of images of height 32.
OPS = {
    "auto_contrast": (0, 1),
    "equalize": (0, 1),
    "invert": (0, 1),
    "rotate": (0, 30),  # degrees
    "posterize": (0, 4),  # bits that stay, at least 1
    "solarize": (0, 256),  # threshold
    "solarize_add": (0, 110),
    "color": (0.1, 1.9),
    "contrast": (0.1, 1.9),
    "brightness": (0.1, 1.9),
    "sharpness": (0.1, 1.9),
    "shear_x": (0, 0.3),
    "shear_y": (0, 0.3),
    "cutout": (0, 40),  # pixels
    "translate_x": (0, 100),  # pixels
    "translate_y": (0, 100),  # pixels
}
DRAWS_PER_OP = 3
_BOX_COLOUR = {1: (123,), 3: (125, 123, 114)}  # the grey is the luma of the colour


def rand_augment(images: Images, uniforms: Array, *, num_ops: int, level: float) -> Images:
    """Applies `num_ops` random operations to each image, one after the other.

    Args:
      images: `[B, H, W, C]` uint8, C being 1 or 3.
      uniforms: `[B, num_ops * DRAWS_PER_OP]` in `[0, 1)`: for each application the operation, then
        two numbers for where: the first is the sign of a warp, both are the centre of a box.
      num_ops: number of applications.
      level: strength in `[0, 1]`, the place in each operation's range.

    Returns:
      `[B, H, W, C]` uint8.
    """

    def body(images, uniforms):
        op = (uniforms[:, 0] * len(OPS)).astype(jnp.int32)
        return apply_op(images, op, where=uniforms[:, 1:], level=level), None

    draws = uniforms.reshape(-1, num_ops, DRAWS_PER_OP).swapaxes(0, 1)
    return lax.scan(body, images, draws)[0]


def apply_op(images: Images, op: Array, *, where: Array, level: float) -> Images:
    """Applies to each image the operation `op` `[B]` int, an index into `OPS`.

    Args:
      images: `[B, H, W, C]` uint8, C being 1 or 3.
      op: `[B]` int.
      where: `[B, 2]` in `[0, 1)`, of which warps take the sign and boxes the centre.
      level: strength in `[0, 1]`.

    Returns:
      `[B, H, W, C]` uint8.
    """
    drawn = {name: op == number for number, name in enumerate(OPS)}

    def parameter(name, otherwise):
        low, high = OPS[name]
        return jnp.where(drawn[name], low + level * (high - low), otherwise).astype(jnp.float32)

    images = _warp(images, parameter, sign=jnp.where(where[:, 0] > 0.5, -1.0, 1.0))
    images = _revalue(images, drawn, parameter)
    images = colour.saturate(images, parameter("color", 1))
    images = colour.sharpen(images, parameter("sharpness", 1))
    return _box(images, parameter, where)


def _warp(images, parameter, *, sign):
    height, width = images.shape[1:3]
    rotation = geometry.rotation(sign * parameter("rotate", 0))
    affine = geometry.about_centre(rotation, height=height, width=width)
    affine = affine.at[:, 0, 1].add(sign * parameter("shear_x", 0))
    affine = affine.at[:, 1, 0].add(sign * parameter("shear_y", 0))
    affine = affine.at[:, 0, 2].add(sign * parameter("translate_x", 0) * height / 32)
    affine = affine.at[:, 1, 2].add(sign * parameter("translate_y", 0) * height / 32)
    return geometry.warp_nearest(images, affine)


def _revalue(images, drawn, parameter):
    """Applies the operations that map one value to another."""
    bits = jnp.maximum(parameter("posterize", 8).astype(jnp.int32), 1)
    threshold = jnp.where(drawn["invert"], 0, parameter("solarize", 256))
    threshold = jnp.where(drawn["solarize_add"], 128, threshold)
    grey = jnp.where(drawn["contrast"], colour.mean_luma(images), 0)[:, None, None, None]
    factor = jnp.where(drawn["contrast"], parameter("contrast", 1), parameter("brightness", 1))

    values = colour.posterize(images, bits)
    values = colour.solarize(values, addition=parameter("solarize_add", 0), threshold=threshold)
    values = colour.blend(grey, values, factor)
    numerator, denominator = values.astype(jnp.int32), 1
    for name, op in ("auto_contrast", colour.auto_contrast), ("equalize", colour.equalize):
        is_drawn, fraction = drawn[name][:, None, None, None], op(images)
        numerator = jnp.where(is_drawn, fraction.numerator, numerator)
        denominator = jnp.where(is_drawn, fraction.denominator, denominator)
    # The one division of all; `//` would also handle negative numbers.
    return lax.div(*jnp.broadcast_arrays(numerator, denominator)).astype(jnp.uint8)


def _box(images, parameter, where):
    """Paints a grey box whose top left corner is moved into the image, and which grows from there.

    The box includes the pixel at its far corner: a side of 5.3 pixels paints 6 of them.
    """
    height, width, channels = images.shape[1:]
    nothing = -32 / height  # a side of -1 paints nothing; 0 paints one pixel
    side = parameter("cutout", nothing) * height / 32
    left = jnp.floor(jnp.maximum(where[:, 0] * width - side / 2, 0))
    top = jnp.floor(jnp.maximum(where[:, 1] * height - side / 2, 0))
    return geometry.fill_box(
        images,
        top=top,
        left=left,
        bottom=jnp.floor(top + side) + 1,
        right=jnp.floor(left + side) + 1,
        colour=jnp.array(_BOX_COLOUR.get(channels, (127,) * channels)),
    )
