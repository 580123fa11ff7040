"""Looks at files before they are used, once: what was found is kept until a file changes."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
from PIL import Image

from ltssl_jax.data.sources import images
from ltssl_jax.data.sources.base import Progress, cache_directory, hash_of
from ltssl_jax.data.sources.images import Header, Unreadable

_BLOCK = 256  # files looked at between two reports of progress
_KEPT_EVERY = 64 * _BLOCK  # and between two times of writing what was found

Found = Header | str  # what a file says of its image, or why it cannot be used


def survey(
    paths: Sequence[str],
    stamps: Sequence[tuple[int, ...]],
    *,
    open_file: images.OpenFile = images.plain_open,
    is_decoding: bool,
    progress: Progress | None = None,
) -> list[Found]:
    """Returns the header of each file, or why it cannot be used.

    Args:
      paths: of the files.
      stamps: what changes when a file does, such as its size and time.
      open_file: how a path is opened.
      is_decoding: decode every image, which takes a while but finds truncated ones.
      progress: called with ("checking images", files done, files to do).
    """
    keys = [_key(*file, is_decoding) for file in zip(paths, stamps, strict=True)]
    kept = _Kept(paths)
    unknown = [i for i, key in enumerate(keys) if key not in kept.found]
    first = next((f for f in kept.found.values() if isinstance(f, Header)), None)
    looked_at = _looked_at([paths[i] for i in unknown], open_file, is_decoding, first)
    passing: dict[int, str] = {}
    try:
        for number, (found, is_lasting) in enumerate(looked_at):
            key = keys[unknown[number]]
            (kept.found if is_lasting else passing)[key] = found
            done = number + 1
            if progress and (done % _BLOCK == 0 or done == len(unknown)):
                progress("checking images", done, len(unknown))
            if done % _KEPT_EVERY == 0:
                kept.write()
    finally:
        if unknown:
            kept.write()
    return [passing.get(key) or kept.found[key] for key in keys]


def _key(path: str, stamp: tuple[int, ...], is_decoding: bool) -> int:
    # Another Pillow reads other files.
    text = repr((path, stamp, is_decoding, PIL.__version__, Image.MAX_IMAGE_PIXELS))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _looked_at(paths, open_file, is_decoding, known) -> Iterator[tuple[Found, bool]]:
    """Yields what is found, and whether it is still true as long as the file is the same."""

    def look(path: str) -> tuple[Found, bool]:
        try:
            return images.inspected(path, open_file, is_decoding=is_decoding), True
        except Unreadable as error:
            return str(error), error.is_lasting

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about metadata; what matters is raised
        seen = (look(path)[0] for path in paths[:_BLOCK])
        size = known or next((f for f in seen if isinstance(f, Header)), Header(1, 1, 1))
        with ThreadPoolExecutor(images.threads(size.width, size.height)) as pool:
            for start in range(0, len(paths), _BLOCK):
                yield from pool.map(look, paths[start : start + _BLOCK])


class _Kept:
    """What was found of the files below a directory, on disk."""

    def __init__(self, paths: Sequence[str]):
        self.found: dict[int, Found] = {}
        try:
            place = os.path.commonpath(paths)
        except ValueError:  # none at all, or on several drives
            place = ""
        name = f"{hash_of(place.encode('utf-8', 'surrogateescape'))[:32]}.npz"
        self._path = os.path.join(cache_directory(), "checked", name)
        # There may be none, or none of ours.
        with contextlib.suppress(Exception), np.load(self._path, allow_pickle=False) as file:
            reasons = iter(file["reasons"].tolist())
            rows = zip(file["keys"].tolist(), file["headers"].tolist(), strict=True)
            self.found = {key: Header(*h) if h[0] else next(reasons) for key, h in rows}

    def write(self) -> None:
        """Keeps everything found so far; a read-only home costs time only."""
        headers = [f if isinstance(f, Header) else (0, 0, 0) for f in self.found.values()]
        reasons = [f for f in self.found.values() if isinstance(f, str)]
        partial = f"{self._path}.{os.getpid()}.npz"
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(partial), exist_ok=True)
            np.savez(
                partial,
                keys=np.array(list(self.found), np.uint64),
                headers=np.array(headers, np.int32).reshape(-1, 3),
                reasons=np.array(reasons, np.str_),
            )
            os.replace(partial, self._path)
