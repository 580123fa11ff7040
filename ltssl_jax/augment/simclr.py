"""The views of contrastive learning: a resized crop, jittered colours, grey, a blur.

Source: Chen et al., "SimCLR", arXiv:2002.05709, with the strengths and probabilities of MoCo v2
(arXiv:2003.04297), as CCL uses them (dataset/cifar.py): torchvision's `RandomResizedCrop`,
`ColorJitter` and `RandomGrayscale`, and Pillow's blur, whose width is in pixels at every size.

Hue, saturation and grey mean something in three channels only; other images keep theirs.
"""

import math

import jax.numpy as jnp
from jax import lax

from ltssl_jax.augment import colour, geometry
from ltssl_jax.core import Array, Images

_AREA = (0.2, 1.0)  # of the crop, a fraction of the image's
_RATIO = (3 / 4, 4 / 3)  # of its width to its height
_TRIES = 10  # crops that do not fit into the image are drawn again
_STRENGTH = 0.4  # of the jitter in brightness, contrast and saturation: factors of 0.6 to 1.4
_HUE = 0.1  # of the circle, either way
_SIGMA = (0.1, 2.0)  # pixels
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE_SHIFT = range(4)

CROP_DRAWS, JITTER_DRAWS, BLUR_DRAWS = 2 * _TRIES + 2, 9, 2


def resized_crop(images: Images, uniforms: Array) -> Images:
    """Enlarges a random window of each image; uniforms `[B, CROP_DRAWS]`."""
    area, ratio, place = jnp.split(uniforms, [_TRIES, 2 * _TRIES], axis=1)
    height, width = _crop_size(area, ratio, size=images.shape[1:3])
    top = _below(place[:, 0], images.shape[1] - height + 1)
    left = _below(place[:, 1], images.shape[2] - width + 1)
    return geometry.enlarge(images, top=top, left=left, height=height, width=width)


def _crop_size(area, ratio, *, size):
    """Returns height and width `[B]` of the first crop that fits; the whole image if none does.

    That is one square image in 10^9; of long ones torchvision would then cut off the ends.
    """
    area = size[0] * size[1] * _between(area, _AREA)
    ratio = jnp.exp(_between(ratio, (math.log(_RATIO[0]), math.log(_RATIO[1]))))
    height, width = jnp.round(jnp.sqrt(area / ratio)), jnp.round(jnp.sqrt(area * ratio))
    fits = (0 < height) & (height <= size[0]) & (0 < width) & (width <= size[1])
    first = jnp.argmax(fits, axis=1, keepdims=True)
    chosen = (jnp.take_along_axis(side, first, axis=1)[:, 0] for side in (height, width))
    sides = zip(chosen, size, strict=True)
    return tuple(jnp.where(fits.any(axis=1), side, full).astype(jnp.int32) for side, full in sides)


def jitter(images: Images, uniforms: Array) -> Images:
    """Changes brightness, contrast, saturation and hue, in random order, of four images in five.

    Args:
      images: `[B, H, W, C]` uint8.
      uniforms: `[B, JITTER_DRAWS]`: four whose order is that of the changes, four for their
        strengths, one for whether they are made.

    Returns:
      `[B, H, W, C]` uint8.
    """
    order, strength, chance = jnp.split(uniforms, [4, 8], axis=1)
    is_made = chance[:, 0] < 0.8
    order = jnp.argsort(order, axis=1)
    factors = _between(strength, (1 - _STRENGTH, 1 + _STRENGTH)).at[:, _HUE_SHIFT].set(1)
    shift = _between(strength[:, _HUE_SHIFT], (-255 * _HUE, 255 * _HUE)).astype(jnp.int32)
    if images.shape[-1] != 3:
        factors = factors.at[:, _SATURATION].set(1)
    # The hue is dear, the others are cheap: they are tried before and after it.
    when = jnp.argmax(order == _HUE_SHIFT, axis=1, keepdims=True)
    is_before = jnp.arange(4)[None, :] < when
    factors = jnp.where(is_made[:, None], jnp.take_along_axis(factors, order, axis=1), 1)
    images = _blend_in_turn(images, order[:, :3], jnp.where(is_before, factors, 1)[:, :3])
    if images.shape[-1] == 3:
        shifted = colour.shift_hue(images, shift)
        images = jnp.where(is_made[:, None, None, None], shifted, images)
    return _blend_in_turn(images, order[:, 1:], jnp.where(is_before, 1, factors)[:, 1:])


def _blend_in_turn(images, ops, factors):
    """Changes brightness, contrast or saturation, as `ops` `[B, n]` say, by `factors` `[B, n]`."""

    def body(images, op_and_factor):
        op, factor = op_and_factor
        op, mean = op[:, None, None, None], colour.mean_luma(images)[:, None, None, None]
        degenerate = jnp.where(op == _CONTRAST, mean, colour.luma(images))
        degenerate = jnp.where(op == _BRIGHTNESS, 0, degenerate)
        return colour.blend(degenerate, images, factor), None

    return lax.scan(body, images, (ops.T, factors.T))[0]


def to_grey(images: Images, uniforms: Array) -> Images:
    """Makes one image in five grey, if it has three channels; uniforms `[B, 1]`."""
    if images.shape[-1] != 3:
        return images
    is_grey = uniforms[:, 0] < 0.2
    return jnp.where(is_grey[:, None, None, None], colour.luma(images), images)


def blur(images: Images, uniforms: Array) -> Images:
    """Blurs every second image, by one or two pixels or less; uniforms `[B, BLUR_DRAWS]`."""
    sigma = jnp.where(uniforms[:, 0] < 0.5, _between(uniforms[:, 1], _SIGMA), 0)
    return colour.blur(images, sigma)


def _between(uniforms, ends):
    return ends[0] + uniforms * (ends[1] - ends[0])


def _below(uniforms, bound):
    return jnp.floor(uniforms * bound).astype(jnp.int32)
