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
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Progress, cache_directory, hash_of

OpenFile = Callable[[str], BinaryIO]

_PIXELS_PER_THREAD = 2**14  # Pillow holds Python's lock for all but decoding itself; see `threads`
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")  # and the 16-bit modes "I;16..."
_ALPHA_MODES = ("RGBA", "RGBa", "PA")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BLOCK = 256  # files looked at between two reports of progress


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
    """A file cannot be used; the text says why."""


def plain_open(path: str) -> BinaryIO:
    """Opens a file for reading."""
    return open(path, "rb")


def decode(path: str, policy: Policy, open_file: OpenFile = plain_open) -> np.ndarray:
    """Returns the image of a file, `[H, W, C]` uint8; raises Unreadable."""
    with _opened(path, open_file) as image:
        if policy.size:  # a JPEG can be decoded at an eighth of its size; twice the wanted is kept
            image.draft(image.mode, (2 * policy.size, 2 * policy.size))
        image = _to_mode(ImageOps.exif_transpose(image), _MODES[policy.channels])
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


def survey(
    paths: Sequence[str],
    stamps: Sequence[tuple[int, ...]],
    *,
    open_file: OpenFile = plain_open,
    is_decoding: bool,
    progress: Progress | None = None,
) -> list[Header | str]:
    """Looks at files: their header, or why they cannot be used.

    What is found is kept on disk and found again as long as no file changes.

    Args:
      paths: of the files.
      stamps: what changes when a file does, such as its size and time.
      open_file: how a path is opened.
      is_decoding: decode every image, which takes a while but finds truncated ones.
      progress: called with ("checking images", files done, files to do).
    """
    listing = "\0".join(map(repr, zip(paths, stamps, strict=True)))
    kept = os.path.join(cache_directory(), "checked", f"{hash_of(listing.encode())[:32]}")
    kept += ".decode.npz" if is_decoding else ".header.npz"
    found = _remembered(kept)
    if found is None:
        found = list(_looked_at(paths, open_file, is_decoding, progress))
        _remember(kept, found)
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
        raise Unreadable(_why(path, open_file, error)) from error


def _refuse(image: Image.Image) -> None:
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit and pixels > limit:
        raise Unreadable(f"{image.width} x {image.height} pixels, {limit:,} are allowed")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the first image of these is the photograph
        raise Unreadable(f"it has {frames} frames")
    if image.mode == "F":
        raise Unreadable("floating-point pixels; save it with 8 or 16 bits per channel")


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
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # shown after a quarter turn
        width, height = height, width
    if image.mode in _GREY_MODES or image.mode.startswith("I;16"):
        return Header(width, height, 1)
    has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    return Header(width, height, 4 if has_alpha else 3)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip at 255. Full scale goes to full scale: 65535 / 257 = 255.
        image = Image.fromarray(np.round(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


def _looked_at(paths, open_file, is_decoding, progress) -> Iterator[Header | str]:
    def look(path: str) -> Header | str:
        try:
            with _opened(path, open_file) as image:
                found = _header(image)
                if is_decoding:
                    image.load()
                return found
        except Unreadable as error:
            return str(error)

    first = next((f for f in map(look, paths[:_BLOCK]) if isinstance(f, Header)), Header(1, 1, 1))
    with ThreadPoolExecutor(threads(first.width, first.height)) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about metadata; what matters is raised
        for start in range(0, len(paths), _BLOCK):
            block = paths[start : start + _BLOCK]
            yield from pool.map(look, block)
            if progress:
                progress("checking images", start + len(block), len(paths))


def _remembered(path: str) -> list[Header | str] | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            headers, reasons = kept["headers"].tolist(), iter(kept["reasons"].tolist())
            return [Header(*h) if h[0] else next(reasons) for h in headers]
    except Exception:  # there is none, or none of ours
        return None


def _remember(path: str, found: list[Header | str]) -> None:
    headers = [f if isinstance(f, Header) else (0, 0, 0) for f in found]
    reasons = [f for f in found if isinstance(f, str)]
    partial = f"{path}.{os.getpid()}.npz"
    with contextlib.suppress(OSError):  # a read-only home costs time only
        os.makedirs(os.path.dirname(path), exist_ok=True)
        np.savez(
            partial,
            headers=np.array(headers, np.int32).reshape(-1, 3),
            reasons=np.array(reasons, np.str_),
        )
        os.replace(partial, path)
