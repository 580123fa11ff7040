"""Image files in directories: `root/train/CLASS/...`, and what else there is.

`root/val/CLASS/...`   to choose checkpoints by, or `data.source.val_fraction` of the labeled images
`root/test/CLASS/...`  to test on, or `data.source.test_fraction`
`root/pool/...`        images without labels

Each may also be elsewhere: `data.source.val`, `test`, `pool`. Every format that Pillow reads, at
any depth; other files are passed over, and hidden ones. Classes are numbered in the order of their
sorted names, files are sorted by path. An empty directory is a class without images.
"""

import os
import pathlib
from collections.abc import Iterator

from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import listing
from ltssl_jax.data.sources.base import Settings, Skipped, Source, check_root, printable

USES = ("root", "val", "test", "pool", "classes")

_LAYOUT = "a directory with train/CLASS/..., and test/CLASS/... or data.source.test_fraction"


def load(settings: Settings) -> Source:
    """Lists the files; images are decoded when they are read.

    Raises:
      InputError: directories are missing or empty, or see `listing.build`.
    """
    root, skipped = check_root(settings.root, "folder", _LAYOUT), []
    rows, class_names = listed(root, settings, skipped)
    name = printable(os.path.basename(root))
    return listing.build(rows, settings, name=name, class_names=class_names, skipped=skipped)


def listed(
    root: str, settings: Settings, skipped: list[Skipped]
) -> tuple[list[listing.Row], list[str]]:
    """Lists the files of all parts, and the sorted classes of `train`; others join `skipped`."""
    rows, classes = [], set()
    for part in ("train", "val", "test"):
        directory = _directory(root, part, settings)
        if directory:
            found = sorted(_class_directories(directory, part))
            classes |= {printable(label) for label in found if part == "train"}
            for label in found:
                inside = os.path.join(directory, label)
                rows += _rows(inside, root, part, printable(label), skipped)
    pool = _directory(root, "pool", settings)
    if pool:
        rows += _rows(pool, root, "pool", "", skipped)
    return rows, sorted(classes)


def files(
    directory: str, part: str, skipped: list[Skipped], *, root: str | None = None
) -> Iterator[str]:
    """Yields the image files below a directory, sorted; what cannot be entered joins `skipped`."""
    above = tuple(_identity(path) for path in pathlib.Path(os.path.realpath(directory)).parents)
    yield from sorted(_walk(directory, part, skipped, root or directory, above, _extensions()))


def _directory(root: str, part: str, settings: Settings) -> str:
    """Returns where a part is, or nothing; the training images must be somewhere."""
    asked = getattr(settings, part, "")
    if asked:
        return check_root(asked, "folder", f"a directory of {part} images", field=part)
    directory = os.path.join(root, part)
    if os.path.isdir(directory):
        return directory
    if part == "train":
        found = ", ".join(sorted(os.listdir(root))[:8]) if os.path.isdir(root) else "no directory"
        raise InputError(f"{directory} is missing (found {found or 'nothing'}); give {_LAYOUT}")
    return ""


def _class_directories(directory: str, part: str) -> list[str]:
    names = [e.name for e in os.scandir(directory) if _is_directory(e) and e.name[0] != "."]
    if not names:
        raise InputError(f"{directory} has no class directories; give {part}/CLASS/...")
    return names


def _rows(directory, root, part, label, skipped) -> Iterator[listing.Row]:
    for path in files(directory, part, skipped, root=root):
        name = printable(os.path.relpath(path, root))
        yield listing.Row(path, name, part, label, table=root)


def _walk(directory, part, skipped, root, above, extensions) -> Iterator[str]:
    try:
        here = _identity(directory)
        if here in above:
            raise OSError("a symbolic link to a directory above it")
        entries = list(os.scandir(directory))
    except OSError as error:
        name = printable(os.path.relpath(directory, root))
        skipped.append(Skipped(name, part, error.strerror or str(error)))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_directory(entry):
            yield from _walk(entry.path, part, skipped, root, (*above, here), extensions)
        elif entry.name.lower().endswith(extensions):
            yield entry.path


def _identity(directory: str | os.PathLike) -> tuple[int, int]:
    found = os.stat(directory)
    return found.st_dev, found.st_ino


def _is_directory(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _extensions() -> tuple[str, ...]:
    formats = Image.registered_extensions()  # loads Pillow's plugins, which fill Image.OPEN
    return tuple(extension for extension, name in formats.items() if name in Image.OPEN)
