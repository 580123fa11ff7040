"""Data sets: one file per kind, found by its name; adding a kind is adding a file.

Each file has a function `load(*, name, root, image_size, download) -> Source`.
"""

import importlib
import pkgutil

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Records, Source

__all__ = ["Records", "Source", "kinds", "load"]


def kinds() -> list[str]:
    """Lists the kinds of sources."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def load(
    kind: str, *, name: str = "", root: str = "", image_size: int = 0, download: bool = False
) -> Source:
    """Opens a data set.

    Args:
      kind: one of `kinds()`.
      name: which data set, for `tfds`; elsewhere only what reports call it.
      root: a directory or file; what is expected there depends on the kind.
      image_size: side of the square that images are cut and resized to; 0 leaves them as they are.
      download: allow `tfds` to download and prepare the data set.

    Raises:
      InputError: the kind is unknown, or the data set is missing or unusable.
    """
    if kind not in kinds():
        raise InputError.unknown("data.source", kind, kinds())
    if image_size < 0:
        raise InputError(f"data.image_size is {image_size}; give 0 or a number of pixels")
    module = importlib.import_module(f"{__name__}.{kind}")
    return module.load(name=name, root=root, image_size=image_size, download=download)
