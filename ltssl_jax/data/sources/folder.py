"""Image files in directories: `root/train/CLASS/...` and `root/test/CLASS/...`.

Every format that Pillow reads, at any depth below the class; other files are passed over. Classes
are numbered in the order of their sorted names, files are sorted by path. Images become RGB, or
grey where the first image of every class is grey; alpha is dropped, the EXIF orientation applied,
16 bits become 8.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Records, Source, check_root, fit

_PIXELS_PER_THREAD = 2**14  # Pillow holds Python's lock for all but decoding itself; see `_threads`
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")  # and the 16-bit modes "I;16..."
_LAYOUT = "a directory with train/CLASS/... and test/CLASS/..."


def load(*, name: str, root: str, image_size: int, download: bool) -> Source:
    """Lists the files; images are decoded when they are read. `download` has nothing to do.

    `read` raises InputError for a file that is broken or, without `image_size`, differs in size.

    Raises:
      InputError: directories are missing or empty, or the test set has a class of its own.
    """
    path = check_root(root, "folder", _LAYOUT)
    train, test = _list_classes(path, "train"), _list_classes(path, "test")
    class_names = tuple(sorted(train))
    strangers = sorted(set(test) - set(train))
    if strangers:
        raise InputError(
            f"{path}/test has classes that {path}/train lacks: {', '.join(strangers)}; "
            "rename or remove them"
        )
    firsts = [train[class_name][0] for class_name in class_names]
    mode = "L" if all(_is_grey(os.path.join(path, first)) for first in firsts) else "RGB"
    first = os.path.join(path, firsts[0])
    shape = np.atleast_3d(_decode(first, mode, image_size)).shape
    how = (class_names, mode, image_size, shape, _threads(first))
    return Source(
        name=name or os.path.basename(path),
        train=_records(path, train, *how),
        test=_records(path, test, *how),
        class_names=class_names,
    )


def _list_classes(root: str, part: str) -> dict[str, list[str]]:
    """Maps each class of one part to its sorted files, relative to the root."""
    directory = os.path.join(root, part)
    if not os.path.isdir(directory):
        found = ", ".join(sorted(os.listdir(root))[:8]) if os.path.isdir(root) else "no directory"
        raise InputError(f"{directory} is missing (found {found or 'nothing'}); give {_LAYOUT}")
    extensions = _extensions()
    classes = {}
    prefix = len(root) + 1
    for entry in os.scandir(directory):
        if entry.is_dir() and not entry.name.startswith("."):
            files = sorted(file[prefix:] for file in _walk(entry.path, extensions))
            if not files:
                raise InputError(f"{entry.path} has no image; add some or remove the directory")
            classes[entry.name] = files
    if not classes:
        raise InputError(f"{directory} has no class directories; give {_LAYOUT}")
    return classes


def _extensions() -> tuple[str, ...]:
    formats = Image.registered_extensions()  # loads Pillow's plugins, which fill Image.OPEN
    return tuple(extension for extension, name in formats.items() if name in Image.OPEN)


def _walk(directory: str, extensions: tuple[str, ...]) -> Iterator[str]:
    for entry in os.scandir(directory):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, extensions)
        elif entry.name.lower().endswith(extensions):
            yield entry.path


def _records(root, classes, class_names, mode, image_size, shape, num_threads) -> Records:
    names = tuple(file for k in class_names for file in classes.get(k, ()))
    sizes = [len(classes.get(k, ())) for k in class_names]
    labels = np.repeat(np.arange(len(class_names), dtype=np.int32), sizes)

    def read(positions: np.ndarray) -> np.ndarray:
        images = np.empty((len(positions), *shape), np.uint8)

        def fill(rows: range) -> None:
            for row in rows:
                path = os.path.join(root, names[positions[row]])
                image = np.atleast_3d(_decode(path, mode, image_size))
                if image.shape != shape:
                    raise InputError(_size_differs(path, image.shape, shape))
                images[row] = image

        if num_threads == 1:
            fill(range(len(images)))
        else:
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(fill, _blocks(len(images), num_threads)))  # raises the first failure
        return images

    return Records(labels, read, shape, names)


def _threads(file: str) -> int:
    """Says how many threads decode images like this one fastest.

    Of 32 x 32 pixels one thread decodes 128 in 15 ms, two in 18, sixteen in 47: they wait for
    Python's lock. Of 256 x 256 two threads take half the time of one.
    """
    with _open(file) as image:
        return max(1, min(os.cpu_count(), image.width * image.height // _PIXELS_PER_THREAD))


def _blocks(num_rows: int, num_threads: int) -> list[range]:
    # Several for each thread, so that they end together.
    length = max(1, min(32, num_rows // (4 * num_threads)))
    return [range(at, min(at + length, num_rows)) for at in range(0, num_rows, length)]


def _size_differs(path: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return (
        f"{path} has {shape[0]}x{shape[1]} pixels (height x width) where the first image has "
        f"{expected[0]}x{expected[1]}; set data.image_size={min(expected[:2])} "
        "to cut and resize all images to one square"
    )


def _is_grey(path: str) -> bool:
    with _open(path) as image:
        return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def _decode(path: str, mode: str, image_size: int) -> np.ndarray:
    with _open(path) as image:
        try:
            image = ImageOps.exif_transpose(image)
        except Exception as error:
            raise InputError(_broken(path, error)) from error
        image = _to_mode(image, mode, path)
        return np.asarray(fit(image, image_size) if image_size else image)


def _to_mode(image: Image.Image, mode: str, path: str) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip at 255. Full scale goes to full scale: 65535 / 257 = 255.
        image = Image.fromarray(np.round(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise InputError(f"{path} has floating-point pixels; save it with 8 or 16 bits per channel")
    return image if image.mode == mode else image.convert(mode)


def _open(path: str) -> Image.Image:
    try:
        return Image.open(path)
    except Exception as error:  # plugins raise what they like: OSError, SyntaxError, struct.error
        raise InputError(_broken(path, error)) from error


def _broken(path: str, error: Exception) -> str:
    return f"{path} cannot be decoded ({error}); replace or remove the file"
