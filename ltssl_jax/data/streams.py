"""Images to predict, one after the other: never more in memory than a few batches of them.

An image file; a directory of them, at any depth; a table that names them (see `sources.manifest`;
only the path and the id are read); an array `[N, H, W]` or `[N, H, W, C]` in a `.npy` file, which
is mapped to memory, or in a `.npz` file, which is read whole, called `images` or `pool_images`.

Inputs are counted, and what is wrong with them is found, before the first image is read.
"""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import folder, images, manifest, pixels, tables
from ltssl_jax.data.sources.base import Skipped, printable
from ltssl_jax.data.sources.images import Policy

_ARRAYS = ("images", "pool_images")  # names in a .npz file
_AHEAD = 2  # batches that are decoded while one is predicted
_BLOCK = 16  # images that a thread decodes before it takes others


class Item(NamedTuple):
    """An image: what predictions call it, and its file or its pixels `[H, W, C]`."""

    name: str
    image: str | np.ndarray


class Input(NamedTuple):
    """The images of one argument: how many, and the function that goes through them."""

    total: int
    items: Callable[[], Iterator[Item | Skipped]]


class Decoded(NamedTuple):
    """A batch: `[n]` names and images `[n, H, W, C]` uint8 in the given order; and what is not."""

    names: list[str]
    images: np.ndarray
    skipped: list[Skipped]


def opened(path: str, *, columns: Mapping[str, str], image_root: str = "") -> Input:
    """Finds out what a path names.

    Args:
      path: of an image, a directory, a table or an array.
      columns: names of the columns `path` and `id` of a table.
      image_root: directory that paths in a table are relative to, if not the table's own.

    Raises:
      InputError: there is nothing, or nothing of use.
    """
    if not os.path.exists(path):
        raise InputError(f"{printable(path)} does not exist; give images, directories or tables")
    if os.path.isdir(path):
        return _of_directory(path)
    ending = os.path.splitext(path)[1].lower()
    if ending in (".npy", ".npz"):
        return _of_array(path)
    if ending in tables.ENDINGS:
        return _of_table(path, columns, image_root)
    return Input(1, lambda: iter([Item(printable(path), path)]))


def decoded(
    items: Iterable[Item | Skipped],
    policy: Policy,
    shape: tuple[int, int, int],
    *,
    batch_size: int,
) -> Iterator[Decoded]:
    """Yields batches that threads decode ahead; images that cannot be used are among the skipped.

    Args:
      items: in the order that is kept.
      policy: what images become.
      shape: `(H, W, C)` that they must have then.
      batch_size: items to a batch.
    """
    items = iter(items)
    first = list(itertools.islice(items, batch_size))
    pool = ThreadPoolExecutor(_threads(first))
    ahead: deque[list[Future]] = deque()
    try:
        for batch in _batches(itertools.chain(first, items), batch_size):
            blocks = _batches(batch, _BLOCK)
            ahead.append([pool.submit(_decoded, block, policy, shape) for block in blocks])
            if len(ahead) > _AHEAD:
                yield _collected(ahead.popleft(), shape)
        while ahead:
            yield _collected(ahead.popleft(), shape)
    finally:
        pool.shutdown(cancel_futures=True)


# --- inputs ---------------------------------------------------------------------------------------


def _of_directory(directory: str) -> Input:
    skipped: list[Skipped] = []
    paths = list(folder.files(directory, "pool", skipped))
    if not paths:
        raise InputError(f"{printable(directory)} has no image files; give another directory")

    def items() -> Iterator[Item | Skipped]:
        for one in skipped:  # named, like the files, as on the command line
            yield one._replace(name=os.path.join(printable(directory), one.name))
        for path in paths:
            yield Item(printable(path), path)

    return Input(len(paths) + len(skipped), items)


def _of_table(path: str, columns: Mapping[str, str], image_root: str) -> Input:
    if image_root and not os.path.isdir(image_root):
        raise InputError(f"the image root {image_root!r} is no directory; correct it")
    table = tables.open_table(path)
    asked = [_column(table, role, columns[role]) for role in ("path", "id")]
    # Read to the end once: a mistake in the last row must not come after hours.
    total = sum(1 for _ in table.rows(asked))
    home = os.path.abspath(image_root or os.path.dirname(path))

    def items() -> Iterator[Item | Skipped]:
        files = manifest.Files(home)
        for place, (cell, id_) in table.rows(asked):
            name = manifest.clean(id_) or files.name(cell) or f"{table.unit} {place}"
            file, reason = files.find(cell)
            yield Skipped(name, "pool", reason) if reason else Item(name, file)

    return Input(total, items)


def _column(table: tables.Table, role: str, name: str) -> str | None:
    """Returns the column of a role; None where there is none and none is needed."""
    is_default = name == role
    name = table.meanings.get(role, name) if is_default else name
    if name and name in table.columns:
        return name
    if role == "path" or (name and not is_default):
        known = [column for column in table.columns if column]
        unknown = InputError.unknown(f"{table.path}: column", name, known)
        raise InputError(f"{unknown}; say with --{role}_column which one holds the {role}")
    return None


def _of_array(path: str) -> Input:
    array = np.asarray(_array(path))  # no memmap, whose rows are made slowly
    array = array[..., None] if array.ndim == 3 else array
    is_right = array.ndim == 4 and array.shape[3] in pixels.CHANNELS
    if not is_right or array.dtype.newbyteorder("=") not in pixels.DTYPES or not array.size:
        raise InputError(
            f"the images of {printable(path)} are {array.dtype} {array.shape}; save uint8 or uint16"
            " of shape [N, H, W] or [N, H, W, C] with 1, 3 or 4 channels"
        )
    return Input(
        len(array),
        lambda: (Item(f"{printable(path)}[{i}]", image) for i, image in enumerate(array)),
    )


def _array(path: str) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            name = next((name for name in _ARRAYS if name in found), None)
            if name is not None:
                return found[name]
            known = ", ".join(sorted(found)) or "no arrays"
    except Exception as error:  # NumPy raises half a dozen types on files that are not its own
        raise InputError(
            f"{printable(path)} cannot be read ({error}); write it with np.savez or np.save,"
            " without objects"
        ) from error
    raise InputError(f"{printable(path)} has {known}; call the images {' or '.join(_ARRAYS)}")


# --- decoding -------------------------------------------------------------------------------------


def _batches(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _threads(items: Iterable[Item | Skipped]) -> int:
    """Says how many threads suit images like the first one that can be read."""
    for item in items:
        if isinstance(item, Item):
            with contextlib.suppress(images.Unreadable):
                return images.threads(*_size(item.image))
    return 1


def _size(image: str | np.ndarray) -> tuple[int, int]:
    """Returns width and height."""
    return image.shape[1::-1] if isinstance(image, np.ndarray) else images.header(image)[:2]


def _decoded(items: list[Item | Skipped], policy: Policy, shape) -> list[Item | Skipped]:
    return [_made(item, policy, shape) if isinstance(item, Item) else item for item in items]


def _made(item: Item, policy: Policy, shape: tuple[int, int, int]) -> Item | Skipped:
    try:
        if isinstance(item.image, np.ndarray):
            image = pixels.made(item.image, policy)
        else:
            image = images.decode(item.image, policy)
    except images.Unreadable as error:
        return Skipped(item.name, "pool", str(error))
    if image.shape != shape:
        (height, width, _), (wanted_height, wanted_width, _) = image.shape, shape
        return Skipped(
            item.name,
            "pool",
            f"{height}x{width} pixels (height x width) where the network was trained on"
            f" {wanted_height}x{wanted_width}; resize it, or train with data.image_size",
        )
    return Item(item.name, image)


def _collected(blocks: list[Future], shape: tuple[int, int, int]) -> Decoded:
    made = [item for block in blocks for item in block.result()]
    found = [item for item in made if isinstance(item, Item)]
    pixels_ = np.array([item.image for item in found], np.uint8).reshape(-1, *shape)
    skipped = [item for item in made if isinstance(item, Skipped)]
    return Decoded([item.name for item in found], pixels_, skipped)
