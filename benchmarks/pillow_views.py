"""The recipe `tras` with Pillow, one image at a time, as loader workers run it.

Imports neither JAX nor this library, so that benchmarks of other frameworks can use it. A view is
made with the same uniforms as ours, in the same order, so that it can be compared with ours image
by image; `weak` and `strong` draw them.

Source of the operations: Stomach-ache/TRAS, RandAugment/augmentations.py and
dataset/fix_cifar10.py.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

# Of CIFAR-100 (`defaults.CIFAR100`).
MEAN = np.array([0.5071, 0.4867, 0.4408], np.float32)
STD = np.array([0.2675, 0.2565, 0.2761], np.float32)

NUM_OPS, LEVEL = 3, 4 / 30
WEAK_DRAWS, STRONG_DRAWS = 3, 3 * NUM_OPS + 3 + 2


def weak(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Crops, flips and normalizes an RGB image to `[H, W, 3]` float32."""
    return weak_view(image, rng.random(WEAK_DRAWS, np.float32))


def strong(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Applies three operations, crops, flips, normalizes, cuts out; `[H, W, 3]` float32."""
    return strong_view(image, rng.random(STRONG_DRAWS, np.float32))


def weak_view(image: Image.Image, uniforms: np.ndarray) -> np.ndarray:
    """Makes the weak view that the uniforms `[WEAK_DRAWS]` stand for."""
    return _normalize(_flip(_crop(image, uniforms[:2]), uniforms[2]))


def strong_view(image: Image.Image, uniforms: np.ndarray) -> np.ndarray:
    """Makes the strong view that the uniforms `[STRONG_DRAWS]` stand for."""
    ops, crop, flip, cutout = np.split(uniforms, [3 * NUM_OPS, 3 * NUM_OPS + 2, 3 * NUM_OPS + 3])
    for op, *where in ops.reshape(NUM_OPS, 3):
        image = apply_op(image, int(op * len(OPS)), where)
    return _cut_out(_normalize(_flip(_crop(image, crop), flip[0])), cutout)


# --- the sixteen operations: (image, value, where) -> image ---------------------------------------


def _auto_contrast(image, value, where):
    return ImageOps.autocontrast(image)


def _equalize(image, value, where):
    return ImageOps.equalize(image)


def _invert(image, value, where):
    return ImageOps.invert(image)


def _rotate(image, value, where):
    return image.rotate(value)


def _posterize(image, value, where):
    return ImageOps.posterize(image, max(1, int(abs(value))))


def _solarize(image, value, where):
    return ImageOps.solarize(image, abs(value))


def _solarize_add(image, value, where):
    shifted = np.minimum(np.asarray(image).astype(np.int16) + int(abs(value)), 255)
    return ImageOps.solarize(Image.fromarray(shifted.astype(np.uint8)), 128)


def _enhance(enhancer):
    return lambda image, value, where: enhancer(image).enhance(abs(value))


def _affine(coefficients):
    def apply(image, value, where):
        return image.transform(image.size, Image.Transform.AFFINE, coefficients(value))

    return apply


def _box(image, value, where):
    """Paints a grey box; both of its corners belong to it."""
    side, (width, height) = abs(value), image.size
    left = int(max(0, where[0] * width - side / 2))
    top = int(max(0, where[1] * height - side / 2))
    corners = (left, top, min(width, left + side), min(height, top + side))
    image = image.copy()
    ImageDraw.Draw(image).rectangle(corners, (125, 123, 114))
    return image


# Name, range of the value, operation. A value has a random sign, for warps to use.
OPS = (
    ("auto_contrast", (0, 1), _auto_contrast),
    ("equalize", (0, 1), _equalize),
    ("invert", (0, 1), _invert),
    ("rotate", (0, 30), _rotate),
    ("posterize", (0, 4), _posterize),
    ("solarize", (0, 256), _solarize),
    ("solarize_add", (0, 110), _solarize_add),
    ("color", (0.1, 1.9), _enhance(ImageEnhance.Color)),
    ("contrast", (0.1, 1.9), _enhance(ImageEnhance.Contrast)),
    ("brightness", (0.1, 1.9), _enhance(ImageEnhance.Brightness)),
    ("sharpness", (0.1, 1.9), _enhance(ImageEnhance.Sharpness)),
    ("shear_x", (0, 0.3), _affine(lambda value: (1, value, 0, 0, 1, 0))),
    ("shear_y", (0, 0.3), _affine(lambda value: (1, 0, 0, value, 1, 0))),
    ("cutout", (0, 40), _box),
    ("translate_x", (0, 100), _affine(lambda value: (1, 0, value, 0, 1, 0))),
    ("translate_y", (0, 100), _affine(lambda value: (1, 0, 0, 0, 1, value))),
)
IN_PIXELS = ("cutout", "translate_x", "translate_y")  # of images of height 32


def apply_op(image: Image.Image, number: int, where: np.ndarray) -> Image.Image:
    """Applies operation `number` of `OPS`; `where` `[2]` in `[0, 1)` gives sign and centre."""
    name, (low, high), op = OPS[number]
    value = low + LEVEL * (high - low)
    if name in IN_PIXELS:
        value *= image.height / 32
    return op(image, -value if where[0] > 0.5 else value, where)


# --- what both views share ------------------------------------------------------------------------


def _crop(image, uniforms):
    """Cuts a window of the image's size, moved by up to an eighth; Pillow fills with black."""
    width, height = image.size
    padding = height // 8
    top, left = (int(u * (2 * padding + 1)) - padding for u in uniforms)
    return image.crop((left, top, left + width, top + height))


def _flip(image, uniform):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if uniform < 0.5 else image


def _normalize(image):
    return (np.asarray(image) / np.float32(255) - MEAN) / STD


def _cut_out(values, uniforms):
    """Zeroes a square of half the height, centred anywhere."""
    height, width = values.shape[:2]
    side = height // 2
    top, left = int(uniforms[0] * height) - side // 2, int(uniforms[1] * width) - side // 2
    values[max(top, 0) : top + side, max(left, 0) : left + side] = 0
    return values
