"""Sixteen operations against Pillow, and what is drawn."""

import math
from collections import Counter

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from ltssl_jax.augment import randaugment
from ltssl_jax.augment.randaugment import OPS, apply_op, rand_augment

NAMES = tuple(OPS)
WHERE = ((0.2, 0.9), (0.7, 0.05))  # first number: positive and negative sign

# Pillow multiplies by a rounded 255 / (high - low) and truncates: a level too low now and then.
EXACT_BUT = {"auto_contrast": 1}
# Compiled code may fuse the multiplication and the addition of a blend, Pillow rounds twice. Some
# factors (not the published 0.34) then fall on the other side of a whole number.
BLENDS = dict.fromkeys(("color", "contrast", "brightness", "sharpness"), 1)


def affine(image, *coefficients):
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


def solarize_add(image, value):
    shifted = np.clip(np.asarray(image).astype(int) + value, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(shifted), 128)


def box(image, side, where):
    """Paints the policy's grey box; both corners belong to it."""
    width, height = image.size
    left = int(max(0, where[0] * width - side / 2))
    top = int(max(0, where[1] * height - side / 2))
    corners = (left, top, min(width, left + side), min(height, top + side))
    image = image.copy()
    ImageDraw.Draw(image).rectangle(corners, (125, 123, 114) if image.mode == "RGB" else 123)
    return image


REFERENCE = {
    "auto_contrast": lambda image, value, where: ImageOps.autocontrast(image),
    "equalize": lambda image, value, where: ImageOps.equalize(image),
    "invert": lambda image, value, where: ImageOps.invert(image),
    "rotate": lambda image, value, where: image.rotate(value),
    "posterize": lambda image, value, where: ImageOps.posterize(image, max(1, int(abs(value)))),
    "solarize": lambda image, value, where: ImageOps.solarize(image, abs(value)),
    "solarize_add": lambda image, value, where: solarize_add(image, abs(value)),
    "color": lambda image, value, where: ImageEnhance.Color(image).enhance(abs(value)),
    "contrast": lambda image, value, where: ImageEnhance.Contrast(image).enhance(abs(value)),
    "brightness": lambda image, value, where: ImageEnhance.Brightness(image).enhance(abs(value)),
    "sharpness": lambda image, value, where: ImageEnhance.Sharpness(image).enhance(abs(value)),
    "shear_x": lambda image, value, where: affine(image, 1, value, 0, 0, 1, 0),
    "shear_y": lambda image, value, where: affine(image, 1, 0, 0, value, 1, 0),
    "cutout": lambda image, value, where: box(image, abs(value), where),
    "translate_x": lambda image, value, where: affine(image, 1, 0, value, 0, 1, 0),
    "translate_y": lambda image, value, where: affine(image, 1, 0, 0, 0, 1, value),
}


def reference(name, pixels, level, where):
    low, high = OPS[name]
    value = low + level * (high - low)
    if name in ("cutout", "translate_x", "translate_y"):
        value *= pixels.shape[0] / 32
    value = -value if where[0] > 0.5 else value
    image = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
    return np.asarray(REFERENCE[name](image, value, where)).reshape(pixels.shape)


def every_case(images):
    """All operations x both places x all images, flattened to one batch."""
    cases = [(op, where, pixels) for op in range(16) for where in WHERE for pixels in images]
    op, where, pixels = (np.stack(part) for part in zip(*cases, strict=True))
    return op, where.astype(np.float32), pixels


def assert_like_pillow(images, level, tolerance):
    op, where, pixels = every_case(images)
    ours = np.asarray(
        jax.jit(apply_op, static_argnames="level")(pixels, op, where=where, level=level)
    )
    assert ours.dtype == np.uint8
    for number in range(len(op)):
        name = NAMES[op[number]]
        theirs = reference(name, pixels[number], level, where[number])
        difference = np.abs(ours[number].astype(int) - theirs)
        assert difference.max() <= tolerance.get(name, 0), (name, number, where[number])


def test_each_op_equals_pillow_at_the_published_level(images):
    assert_like_pillow(images, 4 / 30, EXACT_BUT)


def test_each_op_equals_pillow_at_a_high_level(images):
    assert_like_pillow(images, 17 / 30, EXACT_BUT | BLENDS)


def test_each_op_equals_pillow_on_small_grey_images(grey_images):
    assert_like_pillow(grey_images, 4 / 30, EXACT_BUT)


def uniforms_for(ops, where):
    """Uniforms that draw the given operations `[B, n]`, in place `where` `[B, n, 2]`."""
    drawn = (np.asarray(ops) + 0.5) / len(OPS)
    return (
        np.concatenate([drawn[:, :, None], where], axis=2)
        .reshape(len(drawn), -1)
        .astype(np.float32)
    )


def test_ops_follow_one_another(images):
    rng = np.random.default_rng(1)
    ops = rng.integers(0, 16, (len(images), 3))
    ops[ops == 0] = 1  # auto_contrast may differ by a level, which the next operation may amplify
    where = rng.random((len(images), 3, 2)).astype(np.float32)
    ours = rand_augment(images, uniforms_for(ops, where), num_ops=3, level=4 / 30)
    for number, pixels in enumerate(images):
        for op, place in zip(ops[number], where[number], strict=True):
            pixels = reference(NAMES[op], pixels, 4 / 30, place)
        np.testing.assert_array_equal(ours[number], pixels)


def test_each_op_is_drawn_equally_often(monkeypatch):
    drawn = []

    def record(images, op, *, where, level):
        jax.debug.callback(lambda op: drawn.extend(np.asarray(op).tolist()), op)
        return images

    monkeypatch.setattr(randaugment, "apply_op", record)
    uniforms = np.random.default_rng(2).random((16_000, 6), dtype=np.float32)
    rand_augment(np.zeros((16_000, 1, 1, 1), np.uint8), uniforms, num_ops=2, level=0.1)
    jax.effects_barrier()
    counts = Counter(drawn)
    assert sorted(counts) == list(range(16))
    # 32,000 draws: standard deviation of each count is 43.
    assert all(math.isclose(count, 2_000, abs_tol=200) for count in counts.values())


def test_signs_are_fair_and_boxes_anywhere():
    uniforms = np.random.default_rng(3).random((4_000, 2), dtype=np.float32)
    column = np.zeros((4_000, 8, 8, 3), np.uint8) + (np.arange(8) * 30)[None, None, :, None]
    column = column.astype(np.uint8)
    move = jax.jit(apply_op, static_argnames="level")
    level = 1 / 25  # translation by 1 pixel
    moved = move(column, np.full(4_000, NAMES.index("translate_x")), where=uniforms, level=level)
    assert abs(np.mean(np.asarray(moved)[:, 0, 1, 0] > 30) - 0.5) < 0.03
    boxed = move(column, np.full(4_000, NAMES.index("cutout")), where=uniforms, level=level)
    painted = np.all(np.asarray(boxed) == (125, 123, 114), axis=-1).mean(axis=0)
    assert painted.min() > 0.005 and painted.shape == (8, 8)
