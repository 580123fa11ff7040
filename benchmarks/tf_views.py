"""The recipe `tras` as a `tf.data` map of TensorFlow's own operations, as far as they go.

Warps are `tf.raw_ops.ImageProjectiveTransformV3`, colour and contrast `tf.image.adjust_*` (other
formulas than Pillow's, the same work), the rest arithmetic. Two of the sixteen operations need more
than that, a histogram and a stencil, and change nothing here: `MISSING`. This is an opponent in
speed; it does not draw the same views.
"""

import functools
import math
import os

import numpy as np
import pillow_views

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf  # noqa: E402

tf.config.set_visible_devices([], "GPU")

PASSES = 8  # over the images in one run, so that its start does not count
MISSING = ("equalize", "sharpness")


def dataset(images: np.ndarray, view) -> tf.data.Dataset:
    """Maps a view over images `[N, H, W, 3]`, `PASSES` times, in parallel, in batches of N."""
    made = tf.data.Dataset.from_tensor_slices(images).repeat(PASSES)
    return made.map(view, tf.data.AUTOTUNE).batch(len(images)).prefetch(1)


def weak(image: tf.Tensor) -> tf.Tensor:
    """Crops, flips and normalizes a uint8 image to `[H, W, 3]` float32."""
    height, width = image.shape[:2]
    padding = height // 8
    padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    image = tf.image.random_crop(padded, [height, width, 3])
    image = tf.image.random_flip_left_right(image)
    return (tf.cast(image, tf.float32) / 255.0 - pillow_views.MEAN) / pillow_views.STD


def strong(image: tf.Tensor) -> tf.Tensor:
    """Applies three operations, then crops, flips, normalizes and cuts out."""
    for _ in range(pillow_views.NUM_OPS):
        number = tf.random.uniform([], maxval=len(pillow_views.OPS), dtype=tf.int32)
        branches = [functools.partial(_op, name, image) for name, _, _ in pillow_views.OPS]
        image = tf.ensure_shape(tf.switch_case(number, branches), image.shape)
    view = weak(image)
    height, width = image.shape[:2]
    box = _box(height, width, side=height // 2)
    return tf.where(box, tf.zeros_like(view), view)


def _op(name, image):
    """Applies one operation at the published level; where `MISSING`, none."""
    low, high = next(bounds for other, bounds, _ in pillow_views.OPS if other == name)
    value = low + pillow_views.LEVEL * (high - low)
    height, width = image.shape[:2]
    if name in pillow_views.IN_PIXELS:
        value *= height / 32
    if name == "cutout":
        return tf.where(_box(height, width, side=value), np.uint8([125, 123, 114]), image)
    if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        return _warp(name, image, value)
    return _VALUES[name](image, value) if name in _VALUES else image


def _warp(name, image, value):
    sign = tf.where(tf.random.uniform([]) < 0.5, 1.0, -1.0)
    height, width = image.shape[:2]
    angle = math.radians(value if name == "rotate" else 0)
    cos, sin = math.cos(angle), sign * math.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    shift = {key: sign * value if name == key else 0.0 for key in _WARPS}
    transform = [
        cos,
        shift["shear_x"] - sin,
        x - cos * x + sin * y + shift["translate_x"],
        shift["shear_y"] + sin,
        cos,
        y - sin * x - cos * y + shift["translate_y"],
        0.0,
        0.0,
    ]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([tf.stack(transform)]),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="NEAREST",
    )[0]


_WARPS = ("shear_x", "shear_y", "translate_x", "translate_y")


def _box(height, width, *, side):
    """Marks a square centred anywhere, `[H, W, 1]`."""
    centre = tf.random.uniform([2]) * [height, width]
    rows, columns = tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32)
    near = tf.abs(rows - centre[0])[:, None] * 2 <= side
    return (near & (tf.abs(columns - centre[1])[None, :] * 2 <= side))[:, :, None]


def _auto_contrast(image, value):
    low = tf.cast(tf.reduce_min(image, [0, 1]), tf.float32)
    high = tf.cast(tf.reduce_max(image, [0, 1]), tf.float32)
    stretched = (tf.cast(image, tf.float32) - low) * 255 / tf.maximum(high - low, 1)
    return tf.where(high > low, tf.saturate_cast(stretched, tf.uint8), image)


def _solarize(image, value):
    return tf.where(tf.cast(image, tf.float32) < value, image, 255 - image)


def _solarize_add(image, value):
    shifted = tf.cast(tf.minimum(tf.cast(image, tf.int32) + int(value), 255), tf.uint8)
    return _solarize(shifted, 128)


def _posterize(image, value):
    dropped = tf.constant(8 - max(1, int(value)), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


_VALUES = {
    "auto_contrast": _auto_contrast,
    "invert": lambda image, value: 255 - image,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": tf.image.adjust_saturation,
    "contrast": tf.image.adjust_contrast,
    "brightness": lambda image, value: tf.saturate_cast(
        tf.cast(image, tf.float32) * value, tf.uint8
    ),
}
