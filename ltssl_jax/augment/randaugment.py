"""The strong policy of "tras": operations of RandAugment at one level, drawn with replacement.

Source: Cubuk et al., "RandAugment", arXiv:1909.13719; the sixteen operations, ranges, random signs
and fill colours are those of Stomach-ache/TRAS, RandAugment/augmentations.py.
"""

import functools

import jax.numpy as jnp
import numpy as np

from ltssl_jax.augment import operations
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
_IN_PIXELS = ("cutout", "translate_x", "translate_y")
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

    def apply(images, uniforms):
        op = (uniforms[:, 0] * len(OPS)).astype(jnp.int32)
        return apply_op(images, op, where=uniforms[:, 1:], level=level)

    return operations.one_after_another(images, uniforms, num_ops=num_ops, apply=apply)


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
    parameter = functools.partial(_parameter, level=level, height=images.shape[1])
    drawn = operations.Drawn(
        names=tuple(OPS),
        op=op,
        parameter=jnp.array([parameter(name) for name in OPS])[op],
        sign=jnp.where(where[:, 0] > 0.5, -1.0, 1.0),
    )
    images = operations.apply(images, drawn)
    channels = images.shape[-1]
    fill = _BOX_COLOUR.get(channels, (127,) * channels)
    no_box = -1
    return operations.paint_box(images, where, side=drawn.parameter_of("cutout", no_box), fill=fill)


def _parameter(name, *, level, height):
    low, high = OPS[name]
    value = np.float32(low + level * (high - low))
    return value * height / 32 if name in _IN_PIXELS else value
