"""The strong policy of "fixmatch": RandAugment at random levels, each operation made or left out.

Source: Sohn et al., "FixMatch", arXiv:2001.07685, appendix D, as in kekmodel/FixMatch-pytorch,
dataset/randaugment.py, which ACR, CCL, SimPro and SeMi share to the letter and DASO in effect.

Paper vs code: the paper gives ranges. The code goes through them in whole tenths and never gets to
their upper ends: it asks for levels up to 10 of a generator that leaves the last number out.
"""

import functools

import jax.numpy as jnp

from ltssl_jax.augment import operations
from ltssl_jax.core import Array, Images

# Each operation's parameter is the first number times the level, in tenths, plus the second.
OPS = {
    "auto_contrast": (0, 0),
    "brightness": (0.9, 0.05),  # the four factors of blends are all below 1
    "color": (0.9, 0.05),
    "contrast": (0.9, 0.05),
    "equalize": (0, 0),
    "identity": (0, 0),
    "posterize": (4, 4),  # bits that stay, a whole number
    "rotate": (30, 0),  # degrees
    "sharpness": (0.9, 0.05),
    "shear_x": (0.3, 0),
    "shear_y": (0.3, 0),
    "solarize": (256, 0),  # a whole number below the threshold 256
    "translate_x": (0.3, 0),  # of the width, to a whole pixel
    "translate_y": (0.3, 0),  # of the height
}
LEVELS = range(1, 10)  # tenths
DRAWS_PER_OP = 4


def rand_augment(images: Images, uniforms: Array, *, num_ops: int) -> Images:
    """Applies `num_ops` random operations to each image, each with probability a half.

    Args:
      images: `[B, H, W, C]` uint8.
      uniforms: `[B, num_ops * DRAWS_PER_OP]` in `[0, 1)`: for each application the operation, its
        level, whether it is made, and the sign of a warp.
      num_ops: number of applications.

    Returns:
      `[B, H, W, C]` uint8.
    """

    def apply(images, uniforms):
        op = (uniforms[:, 0] * len(OPS)).astype(jnp.int32)
        level = LEVELS.start + (uniforms[:, 1] * len(LEVELS)).astype(jnp.int32)
        is_made = uniforms[:, 2] < 0.5
        op = jnp.where(is_made, op, tuple(OPS).index("identity"))
        return apply_op(images, op, level=level, is_negative=uniforms[:, 3] < 0.5)

    return operations.one_after_another(images, uniforms, num_ops=num_ops, apply=apply)


def apply_op(images: Images, op: Array, *, level: Array, is_negative: Array) -> Images:
    """Applies to each image the operation `op` `[B]` int, an index into `OPS`.

    Args:
      images: `[B, H, W, C]` uint8.
      op: `[B]` int.
      level: `[B]` int, one of `LEVELS`.
      is_negative: `[B]` bool, turns warps the other way.

    Returns:
      `[B, H, W, C]` uint8.
    """
    parameter = functools.partial(_parameter, height=images.shape[1], width=images.shape[2])
    table = jnp.array([[parameter(name, level) for level in LEVELS] for name in OPS])
    drawn = operations.Drawn(
        names=tuple(OPS),
        op=op,
        parameter=table[op, level - LEVELS.start],
        sign=jnp.where(is_negative, -1.0, 1.0),
    )
    return operations.apply(images, drawn)


def _parameter(name, level, *, height, width):
    """Computes what an operation does at a whole level, in double precision: it is cut off."""
    slope, offset = OPS[name]
    value = level * slope / 10 + offset
    whole = {"posterize": value, "translate_x": value * width, "translate_y": value * height}
    if name == "solarize":
        return 256.0 - int(value)
    return float(int(whole[name])) if name in whole else float(value)


def cutout(images: Images, uniforms: Array) -> Images:
    """Paints a grey box whose side is half the height; its centre `[B, 2]` may be anywhere."""
    fill = (127,) * images.shape[-1]
    return operations.paint_box(images, uniforms, side=images.shape[1] // 2, fill=fill)
