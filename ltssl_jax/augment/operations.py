"""One operation for each image, chosen by number: what the strong policies have in common.

Every application does the same work for all images: one warp, each change of values and two blends,
whose parameters change nothing unless their operation was drawn. Choosing a branch per image
instead would run all operations under `vmap`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from ltssl_jax.augment import colour, geometry
from ltssl_jax.core import Array, Images


class Drawn(NamedTuple):
    """The operation of each image.

    Attributes:
      names: the operations of the policy.
      op: `[B]` int, an index into `names`.
      parameter: `[B]` float32, the parameter of that operation.
      sign: `[B]` float32, 1 or -1, of which warps take the direction.
    """

    names: Sequence[str]
    op: Array
    parameter: Array
    sign: Array

    def where_is(self, name: str) -> Array:
        """Says which images drew the operation `name`, `[B]` bool."""
        if name not in self.names:
            return jnp.zeros(self.op.shape, bool)
        return self.op == self.names.index(name)

    def parameter_of(self, name: str, otherwise: float | Array) -> Array:
        """Returns its parameter where `name` was drawn, elsewhere `otherwise`; `[B]` float32."""
        return jnp.where(self.where_is(name), self.parameter, otherwise).astype(jnp.float32)


def one_after_another(
    images: Images,
    uniforms: Array,
    *,
    num_ops: int,
    apply: Callable[[Images, Array], Images],
) -> Images:
    """Applies `num_ops` operations, each with its share of the uniforms `[B, num_ops * draws]`."""
    draws = uniforms.reshape(len(uniforms), num_ops, -1).swapaxes(0, 1)
    return lax.scan(lambda images, share: (apply(images, share), None), images, draws)[0]


def apply(images: Images, drawn: Drawn) -> Images:
    """Applies to each image the operation that was drawn for it.

    The parameters: of "rotate" degrees, of "shear_x" and "shear_y" a slope, of "translate_x" and
    "translate_y" pixels, all times `sign`; of "posterize" the bits that stay, at least 1; of
    "solarize" the threshold and of "solarize_add" the addition; of "color", "contrast",
    "brightness" and "sharpness" the factor. "auto_contrast", "equalize" and "invert" have none. A
    name not among these changes nothing.

    Args:
      images: `[B, H, W, C]` uint8.
      drawn: the operations.

    Returns:
      `[B, H, W, C]` uint8.
    """
    images = _warp(images, drawn)
    images = _revalue(images, drawn)
    images = colour.saturate(images, drawn.parameter_of("color", 1))
    return colour.sharpen(images, drawn.parameter_of("sharpness", 1))


def _warp(images, drawn):
    height, width = images.shape[1:3]
    rotation = geometry.rotation(drawn.sign * drawn.parameter_of("rotate", 0))
    affine = geometry.about_centre(rotation, height=height, width=width)
    for name, row, column in (
        ("shear_x", 0, 1),
        ("shear_y", 1, 0),
        ("translate_x", 0, 2),
        ("translate_y", 1, 2),
    ):
        affine = affine.at[:, row, column].add(drawn.sign * drawn.parameter_of(name, 0))
    return geometry.warp_nearest(images, affine)


def _revalue(images, drawn):
    """Applies the operations that map one value to another."""
    bits = jnp.maximum(drawn.parameter_of("posterize", 8).astype(jnp.int32), 1)
    threshold = jnp.where(drawn.where_is("invert"), 0, drawn.parameter_of("solarize", 256))
    threshold = jnp.where(drawn.where_is("solarize_add"), 128, threshold)
    is_contrast = drawn.where_is("contrast")
    grey = jnp.where(is_contrast, colour.mean_luma(images), 0)[:, None, None, None]
    factor = drawn.parameter_of("contrast", drawn.parameter_of("brightness", 1))

    values = colour.posterize(images, bits)
    addition = drawn.parameter_of("solarize_add", 0)
    values = colour.solarize(values, addition=addition, threshold=threshold)
    values = colour.blend(grey, values, factor)
    numerator, denominator = values.astype(jnp.int32), 1
    for name, op in ("auto_contrast", colour.auto_contrast), ("equalize", colour.equalize):
        is_drawn, fraction = drawn.where_is(name)[:, None, None, None], op(images)
        numerator = jnp.where(is_drawn, fraction.numerator, numerator)
        denominator = jnp.where(is_drawn, fraction.denominator, denominator)
    # The one division of all; `//` would also handle negative numbers.
    return lax.div(*jnp.broadcast_arrays(numerator, denominator)).astype(jnp.uint8)


def paint_box(
    images: Images, where: Array, *, side: float | Array, fill: tuple[int, ...]
) -> Images:
    """Paints a box whose top left corner is moved into the image, and which grows from there.

    The box includes the pixel at its far corner: a side of 5.3 pixels paints 6 of them, a side of
    0 paints one, a side of -1 none.

    Args:
      images: `[B, H, W, C]` uint8.
      where: `[B, 2]` in `[0, 1)`, the place of the centre, from left to right and from the top.
      side: pixels, one number or `[B]`.
      fill: one value per channel.

    Returns:
      `[B, H, W, C]` uint8.
    """
    height, width = images.shape[1:3]
    left = jnp.floor(jnp.maximum(where[:, 0] * width - side / 2, 0))
    top = jnp.floor(jnp.maximum(where[:, 1] * height - side / 2, 0))
    return geometry.fill_box(
        images,
        top=top,
        left=left,
        bottom=jnp.floor(top + side) + 1,
        right=jnp.floor(left + side) + 1,
        colour=jnp.array(fill),
    )
