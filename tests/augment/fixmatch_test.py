"""The fourteen operations of FixMatch against Pillow at every level, and what is drawn."""

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from ltssl_jax.augment import fixmatch
from ltssl_jax.augment.fixmatch import OPS, apply_op, cutout, rand_augment

NAMES = tuple(OPS)
IDENTITY = NAMES.index("identity")
# As in `randaugment_test.py`: Pillow's rounding of a quotient, and ours of a multiplication.
TOLERANCE = dict.fromkeys(("auto_contrast", "color", "contrast", "brightness", "sharpness"), 1)


def affine(image, *coefficients):
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


def factor(level):
    return level * 0.9 / 10 + 0.05


# Of an image, a level in tenths, and a sign.
REFERENCE = {
    "auto_contrast": lambda image, m, sign: ImageOps.autocontrast(image),
    "brightness": lambda image, m, sign: ImageEnhance.Brightness(image).enhance(factor(m)),
    "color": lambda image, m, sign: ImageEnhance.Color(image).enhance(factor(m)),
    "contrast": lambda image, m, sign: ImageEnhance.Contrast(image).enhance(factor(m)),
    "equalize": lambda image, m, sign: ImageOps.equalize(image),
    "identity": lambda image, m, sign: image,
    "posterize": lambda image, m, sign: ImageOps.posterize(image, int(m * 4 / 10) + 4),
    "rotate": lambda image, m, sign: image.rotate(sign * int(m * 30 / 10)),
    "sharpness": lambda image, m, sign: ImageEnhance.Sharpness(image).enhance(factor(m)),
    "shear_x": lambda image, m, sign: affine(image, 1, sign * m * 0.3 / 10, 0, 0, 1, 0),
    "shear_y": lambda image, m, sign: affine(image, 1, 0, 0, sign * m * 0.3 / 10, 1, 0),
    "solarize": lambda image, m, sign: ImageOps.solarize(image, 256 - int(m * 256 / 10)),
    "translate_x": lambda image, m, sign: affine(
        image, 1, 0, int(sign * (m * 0.3 / 10) * image.size[0]), 0, 1, 0
    ),
    "translate_y": lambda image, m, sign: affine(
        image, 1, 0, 0, 0, 1, int(sign * (m * 0.3 / 10) * image.size[1])
    ),
}


def reference(name, pixels, level, is_negative):
    image = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
    made = REFERENCE[name](image, int(level), -1 if is_negative else 1)
    return np.asarray(made).reshape(pixels.shape)


def assert_like_pillow(images, levels):
    cases = [
        (op, level, is_negative, pixels)
        for op in range(14)
        for level in levels
        for is_negative in (False, True)
        for pixels in images
    ]
    op, level, is_negative, pixels = (np.stack(part) for part in zip(*cases, strict=True))
    ours = np.asarray(jax.jit(apply_op)(pixels, op, level=level, is_negative=is_negative))
    assert ours.dtype == np.uint8
    for number, name in enumerate(NAMES[o] for o in op):
        theirs = reference(name, pixels[number], level[number], is_negative[number])
        difference = np.abs(ours[number].astype(int) - theirs)
        assert difference.max() <= TOLERANCE.get(name, 0), (name, level[number])


def test_each_op_equals_pillow_at_each_level(images):
    assert list(REFERENCE) == list(OPS)
    assert_like_pillow(images, range(1, 10))


def test_each_op_equals_pillow_on_grey_images_that_are_not_square(grey_images):
    assert_like_pillow(grey_images[:, :12], (3, 8))


def drawing(ops, levels, is_made, is_negative):
    """Uniforms `[B, n * 4]` that draw what is given, `[B, n]` each."""
    parts = (ops + 0.5) / 14, (levels - 0.5) / 9, 0.75 - 0.5 * is_made, 0.75 - 0.5 * is_negative
    return np.stack(parts, axis=-1).reshape(len(ops), -1).astype(np.float32)


def test_ops_follow_one_another_and_may_be_left_out(images):
    rng = np.random.default_rng(1)
    images = np.concatenate([images] * 4)
    exact = [number for number, name in enumerate(NAMES) if name not in TOLERANCE]
    ops = rng.choice(exact, (len(images), 2))
    levels = rng.integers(1, 10, ops.shape)
    is_made, is_negative = rng.random((2, *ops.shape)) < 0.5
    uniforms = drawing(ops, levels, is_made, is_negative)
    ours = jax.jit(rand_augment, static_argnames="num_ops")(images, uniforms, num_ops=2)
    for number, pixels in enumerate(images):
        for turn in range(2):
            if is_made[number, turn]:
                name = NAMES[ops[number, turn]]
                pixels = reference(name, pixels, levels[number, turn], is_negative[number, turn])
        np.testing.assert_array_equal(ours[number], pixels)


def test_draws_are_uniform_and_independent_and_half_are_left_out(monkeypatch):
    """42,000 draws, each within 5 standard deviations of its expected number."""
    drawn = []

    def record(images, op, *, level, is_negative):
        jax.debug.callback(lambda *row: drawn.append(np.stack(row)), op, level, is_negative)
        return images

    monkeypatch.setattr(fixmatch, "apply_op", record)
    uniforms = np.random.default_rng(2).random((21_000, 8), dtype=np.float32)
    rand_augment(np.zeros((21_000, 1, 1, 1), np.uint8), uniforms, num_ops=2)
    jax.effects_barrier()
    op, level, is_negative = np.concatenate(drawn, axis=1)
    assert op.shape == (42_000,)
    counts = np.bincount(op, minlength=14)
    assert abs(counts[IDENTITY] - 42_000 * (1 / 2 + 1 / 28)) < 5 * 103
    others = np.delete(counts, IDENTITY)
    assert len(others) == 13 and np.abs(others - 1_500).max() < 5 * 38
    for name in NAMES:
        levels = np.bincount(level[op == NAMES.index(name)], minlength=10)
        expected = levels.sum() / 9
        assert len(levels) == 10 and levels[0] == 0
        assert np.abs(levels[1:] - expected).max() < 5 * np.sqrt(expected)
        share = is_negative[op == NAMES.index(name)].mean()
        assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(levels.sum())


def test_cutout_is_the_published_grey_box(images):
    """Both corners belong to the box; it is moved in at the left and the top, cut off elsewhere."""
    for size in ((32, 32), (16, 24)):
        pixels = np.concatenate([images] * 6)[:, : size[0], : size[1]]
        uniforms = np.random.default_rng(3).random((len(pixels), 2), dtype=np.float32)
        uniforms[:2] = 0, 0.9999
        ours = cutout(pixels, uniforms)
        side = size[0] // 2
        for number, (x, y) in enumerate(uniforms):
            left, top = int(max(0, x * size[1] - side / 2)), int(max(0, y * size[0] - side / 2))
            corners = left, top, min(size[1], left + side), min(size[0], top + side)
            theirs = Image.fromarray(pixels[number])
            ImageDraw.Draw(theirs).rectangle(corners, (127, 127, 127))
            np.testing.assert_array_equal(ours[number], theirs)
