"""Data sets: one file per kind, found by its name; adding a kind is adding a file.

Each file has a function `load(settings: Settings) -> Source`, and names in `USES` the settings that
mean something to it, beside the name and those about images.
"""

import dataclasses
import importlib
import os
import pkgutil
from typing import Any

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import tables
from ltssl_jax.data.sources.base import Records, Settings, Skipped, Source, roots

__all__ = ["Records", "Settings", "Skipped", "Source", "kinds", "load"]

_HELPERS = ("base", "images", "listing", "pixels", "rows", "survey", "tables")
_MEANT_FOR_ALL = ("name", "image_size", "resize", "channels", "check", "max_skipped", "progress")


def kinds() -> list[str]:
    """Lists the kinds of sources."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HELPERS)


def load(kind: str, **settings: Any) -> Source:
    """Opens a data set.

    Args:
      kind: one of `kinds()`, or "auto", which looks at `root`.
      settings: the fields of `Settings`.

    Raises:
      InputError: the kind is unknown, a setting means nothing to it, or the data set is missing or
        unusable.
    """
    several = roots(settings.get("root", ""))
    if kind == "auto":
        kind = _kind_of(*several)
    elif kind == "folder" and len(several) > 1:
        kind = "manifest"  # which adds labels from tables to a folder
    if kind not in kinds():
        raise InputError.unknown("data.source.kind", kind, ["auto", *kinds()])
    module = importlib.import_module(f"{__name__}.{kind}")
    said = Settings(**settings)
    for field, neutral in dataclasses.asdict(Settings()).items():
        value = getattr(said, field)
        if field not in (*_MEANT_FOR_ALL, *module.USES) and value != neutral:
            raise InputError(
                f"data.source.{field} is {value!r}, which means nothing to the source {kind!r}; "
                f"leave it at {neutral!r} (it uses {', '.join(module.USES) or 'none'})"
            )
    return module.load(said)


def _kind_of(root: str, *others: str) -> str:
    """Says which kind of source lies at `root`; tables are all that can be added to one."""
    if others:
        return "manifest"
    path = os.path.expanduser(root)
    if not root or not os.path.exists(path):
        raise InputError(
            f"data.source.root is {root!r}, where nothing is; give a table of image files, or a "
            "directory with train/CLASS/..."
        )
    if not os.path.isdir(path):
        kind_of = {".npz": "arrays", ".tar": "webdataset"}
        return kind_of.get(os.path.splitext(path)[1].lower(), "manifest")
    inside = os.listdir(path)
    if os.path.isdir(os.path.join(path, "train")):
        return "folder"
    if "train_images.npy" in inside:
        return "arrays"
    tables_ = [name for name in inside if name.lower().endswith(tables.ENDINGS)]
    if tables_ and not any(name.endswith(".tar") for name in inside):
        raise InputError(
            f"data.source.root is the directory {root!r}; give the table itself, such as "
            f"{os.path.join(root, min(tables_))}"
        )
    return "webdataset" if any(name.endswith(".tar") for name in inside) else "folder"
