"""One pass over images: each is read once, and what the inspection compares is kept of it."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ltssl_jax.data.sources.base import Records
from ltssl_jax.inspection.features import SIDE

_CHUNK = 512  # images read at once
_GREY = 16  # side of the thumbnails that copies are compared by


class Facts(NamedTuple):
    """What is kept of `N` images.

    Attributes:
      digests: `[N]` uint64, equal for equal pixels.
      hashes: `[N]` uint64, perceptual; in few bits different for images that look the same.
      thumbnails: `[N, 16, 16]` uint8, grey.
      small: `[n, SIDE, SIDE, C]` uint8, of the images that `is_kept` says.
    """

    digests: np.ndarray
    hashes: np.ndarray
    thumbnails: np.ndarray
    small: np.ndarray


def scan(
    records: Records, is_kept: np.ndarray, report: Callable[[int], None] = lambda done: None
) -> Facts:
    """Reads all images.

    Args:
      records: of `N` images.
      is_kept: `[N]` bool, for which images features will be asked.
      report: called with the number of images that were read.
    """
    chunks = []
    for start in range(0, len(records), _CHUNK):
        positions = np.arange(start, min(start + _CHUNK, len(records)))
        chunks.append(_facts(records.read(positions), is_kept[positions]))
        report(int(positions[-1]) + 1)
    if not chunks:
        chunks.append(_facts(np.empty((0, *records.image_shape), np.uint8), is_kept))
    return Facts(*map(np.concatenate, zip(*chunks, strict=True)))


def _facts(images: np.ndarray, is_kept: np.ndarray) -> Facts:
    import imagehash
    from PIL import Image

    n, channels = len(images), images.shape[3]
    digests = np.empty(n, "S8")
    hashes = np.empty((n, 64), bool)
    thumbnails = np.empty((n, _GREY, _GREY), np.uint8)
    small = np.empty((int(is_kept.sum()), SIDE, SIDE, channels), np.uint8)
    filled = 0
    for i, pixels in enumerate(np.ascontiguousarray(images)):
        digests[i] = hashlib.blake2b(pixels, digest_size=8).digest()
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        grey = image.convert("L")
        hashes[i] = imagehash.phash(grey).hash.ravel()
        thumbnails[i] = grey.resize((_GREY, _GREY), Image.Resampling.BOX)
        if is_kept[i]:
            fitted = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            small[filled] = np.asarray(fitted).reshape(SIDE, SIDE, channels)
            filled += 1
    packed = np.packbits(hashes, axis=1).view(np.uint64)[:, 0]
    return Facts(digests.view(np.uint64), packed, thumbnails, small)
