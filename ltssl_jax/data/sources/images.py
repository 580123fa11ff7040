"""How an image file becomes an array: one policy for every source that has files.

- Size: as it is, or the square of `data.image_size`, made by `data.resize`: "crop" cuts the largest
  central square, "stretch" distorts, "pad" adds black; resized bilinearly with antialiasing.
- Channels: 1 (grey), 3 (RGB; alpha is dropped, which shows what lies below it) or 4 (RGBA).
- The EXIF orientation is applied. 16 bits become 8, full scale to full scale.
- Not used, but counted and listed: files that are empty, truncated, animated or no image at all,
  with floating-point pixels, or with more pixels than Pillow allows for (decompression bombs).
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ltssl_jax.core import InputError

OpenFile = Callable[[str], BinaryIO]

_PIXELS_PER_THREAD = 2**14  # Pillow holds Python's lock for all but decoding itself; see `threads`
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")  # and the 16-bit modes "I;16..."
_ALPHA_MODES = ("RGBA", "RGBa", "PA")
_USUAL_MODES = (*_GREY_MODES, *_ALPHA_MODES, "P", "RGB", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # in the EXIF data
_TURNS = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        strict=True,
    )
)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Header(NamedTuple):
    """What a file says of its image: size in pixels as displayed, and 1, 3 or 4 channels."""

    width: int
    height: int
    channels: int


class Policy(NamedTuple):
    """What images become: side in pixels (0: as they are), way of resizing, and channels."""

    size: int
    resize: str
    channels: int


class Unreadable(Exception):
    """A file cannot be used; the text says why.

    Attributes:
      is_lasting: it is the file's fault, and will be so until the file changes.
    """

    is_lasting = True


def plain_open(path: str) -> BinaryIO:
    """Opens a file for reading."""
    return open(path, "rb")


def decode(path: str, policy: Policy, open_file: OpenFile = plain_open) -> np.ndarray:
    """Returns the image of a file, `[H, W, C]` uint8; raises Unreadable."""
    with _opened(path, open_file) as image:
        if policy.size:  # a JPEG can be decoded at an eighth of its size; twice the wanted is kept
            image.draft(image.mode, (2 * policy.size, 2 * policy.size))
        image = _to_mode(_upright(image), _MODES[policy.channels])
        return np.atleast_3d(np.asarray(fit(image, policy.size, policy.resize)))


def fit(image: Image.Image, size: int, resize: str) -> Image.Image:
    """Resizes to a square of `size` pixels by one of `base.RESIZES`; size 0 changes nothing."""
    if not size or image.size == (size, size):
        return image
    square, bilinear = (size, size), Image.Resampling.BILINEAR
    match resize:
        case "crop":
            return ImageOps.fit(image, square, bilinear)
        case "pad":
            return ImageOps.pad(image, square, bilinear)
    return image.resize(square, bilinear)


def fit_array(image: np.ndarray, size: int, resize: str) -> np.ndarray:
    """Does what `fit` does to `[H, W, C]` uint8 with 1, 3 or 4 channels."""
    if not size or image.shape[:2] == (size, size):
        return image
    pixels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.atleast_3d(np.asarray(fit(pixels, size, resize)))


def header(path: str, open_file: OpenFile = plain_open) -> Header:
    """Returns what the first bytes of a file say; raises Unreadable."""
    with _opened(path, open_file) as image:
        return _header(image)


def inspected(path: str, open_file: OpenFile = plain_open, *, is_decoding: bool) -> Header:
    """Returns the header after trying whether the file can be used; raises Unreadable."""
    with _opened(path, open_file) as image:
        found = _header(image)
        if is_decoding:
            image.load()
            _to_mode(_upright(image), "RGB")
        return found


def threads(width: int, height: int) -> int:
    """Says how many threads decode images of this size fastest.

    Of 32 x 32 pixels one thread decodes 128 in 15 ms, two in 18, sixteen in 47: they wait for
    Python's lock. Of 256 x 256 two threads take half the time of one.
    """
    return max(1, min(os.cpu_count(), width * height // _PIXELS_PER_THREAD))


def reader(
    paths: Sequence[str],
    policy: Policy,
    shape: tuple[int, int, int],
    *,
    num_threads: int,
    open_file: OpenFile = plain_open,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from positions `[n]` to images `[n, *shape]` uint8; thread-safe.

    It raises InputError for a file that became unreadable, or that only decoding shows to be.
    """

    def read(positions: np.ndarray) -> np.ndarray:
        images = np.empty((len(positions), *shape), np.uint8)

        def fill(rows: range) -> None:
            for row in rows:
                images[row] = _decoded(paths[positions[row]], policy, shape, open_file)

        if num_threads == 1:
            fill(range(len(images)))
        else:
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(fill, _blocks(len(images), num_threads)))  # raises the first failure
        return images

    return read


def _decoded(path, policy, shape, open_file) -> np.ndarray:
    try:
        image = decode(path, policy, open_file)
    except Unreadable as error:
        raise InputError(
            f"{path} cannot be decoded ({error}); replace or remove the file, or set "
            "data.source.check=decode, which leaves such files out"
        ) from error
    if image.shape != shape:
        raise InputError(
            f"{path} has the shape {image.shape} where {shape} was found at the start; do not "
            "change files while they are used"
        )
    return image


def _blocks(num_rows: int, num_threads: int) -> list[range]:
    # Several for each thread, so that they end together.
    length = max(1, min(32, num_rows // (4 * num_threads)))
    return [range(at, min(at + length, num_rows)) for at in range(0, num_rows, length)]


@contextlib.contextmanager
def _opened(path: str, open_file: OpenFile) -> Iterator[Image.Image]:
    try:
        with open_file(path) as file, Image.open(file) as image:
            _refuse(image)
            yield image
    except Unreadable:
        raise
    except FileNotFoundError as error:
        raise Unreadable("there is no such file") from error
    except Image.DecompressionBombError as error:
        raise Unreadable("more pixels than Pillow allows for (a decompression bomb?)") from error
    except Exception as error:  # plugins raise what they like: OSError, SyntaxError, struct.error
        unreadable = Unreadable(_why(path, open_file, error))
        # No permission, too many open files, a network that is gone: another time it may be fine.
        unreadable.is_lasting = not (
            getattr(error, "errno", None) or isinstance(error, MemoryError)
        )
        raise unreadable from error


def _refuse(image: Image.Image) -> None:
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit and pixels > limit:
        raise Unreadable(f"{image.width} x {image.height} pixels, {limit:,} are allowed")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the first image of these is the photograph
        raise Unreadable(f"it has {frames} frames")
    if image.mode == "F":
        raise Unreadable("floating-point pixels; save it with 8 or 16 bits per channel")
    if image.mode not in _USUAL_MODES and not image.mode.startswith("I;16"):
        raise Unreadable(f"colours of the kind {image.mode}; save it as grey or RGB")


def _why(path: str, open_file: OpenFile, error: Exception) -> str:
    with contextlib.suppress(Exception), open_file(path) as file:
        if not file.read(1):
            return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image that Pillow knows"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]


def _header(image: Image.Image) -> Header:
    width, height = image.size
    if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):  # shown after a quarter turn
        width, height = height, width
    if image.mode in _GREY_MODES or image.mode.startswith("I;16"):
        return Header(width, height, 1)
    has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    return Header(width, height, 4 if has_alpha else 3)


def _upright(image: Image.Image) -> Image.Image:
    # Not Pillow's function, which also writes the EXIF data anew, and fails where they are odd.
    turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    return image if turn is None else image.transpose(turn)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip at 255. Full scale goes to full scale: 65535 / 257 = 255.
        image = Image.fromarray(np.round(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)
