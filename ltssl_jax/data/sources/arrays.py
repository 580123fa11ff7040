"""Images in NumPy files: one `.npz`, or a directory of `.npy` files, which are memory-mapped.

train_images  [N, H, W] or [N, H, W, C], uint8 or uint16, C = 1, 3 or 4
train_labels  [N] or [N, 1] int, -1 where the class is unknown
class_names   [K] strings; or the file `data.source.classes`; else the classes are numbers

Where there are such images: test_images and test_labels, val_images and val_labels, pool_images
(which have no labels). For each of them train_groups, test_groups, ...: `[N]` int or strings, equal
for images of one patient, site or sequence; negative or empty for an image that is alone.
"""

import os
from collections.abc import Collection, Mapping

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import pixels
from ltssl_jax.data.sources.base import PARTS, Settings, Source, check_root, hash_of, read_classes
from ltssl_jax.data.sources.listing import file_stamp

USES = ("root", "classes")

_KNOWN = ("class_names", *(f"{p}_{what}" for p in PARTS for what in ("images", "labels", "groups")))

Arrays = Mapping[str, np.ndarray]


def load(settings: Settings) -> Source:
    """Opens the arrays at `root`; images are made fit when they are read.

    Raises:
      InputError: an array is missing or does not have the type, shape or values stated above.
    """
    path = check_root(
        settings.root, "arrays", "the path of a .npz file or of a directory of .npy files"
    )
    return of(_open(path), settings, path)


def of(arrays: Arrays, settings: Settings, path: str) -> Source:
    """Makes a data set of arrays that were read from `path`; raises InputError as `load`."""
    images = {p: _images(arrays, p, path) for p in PARTS if f"{p}_images" in arrays}
    labels = {p: _labels(arrays, p, path, len(images[p])) for p in images}
    groups = _groups(arrays, images, path)
    pixels.check_labeled(labels["train"], path)
    class_names = _class_names(arrays, settings, labels["train"], path)
    _check_labels(labels, len(class_names), path)
    policy = pixels.policy_of(settings, images["train"].shape[3])
    parts = {
        part: pixels.records(
            images[part],
            labels[part],
            policy,
            groups=groups.get(part),
            digest=hash_of(f"{path} {_stamps(path)} {part} {policy}".encode()),
        )
        for part in images
    }
    name = settings.name or os.path.splitext(os.path.basename(path))[0]
    return pixels.source(name, parts, class_names)


def read(path: str, names: Collection[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the arrays of a file or directory that have one of these names, and what all are."""
    try:
        if os.path.isdir(path):
            found = [entry[:-4] for entry in os.listdir(path) if entry.endswith(".npy")]
            arrays = {
                key: np.load(os.path.join(path, f"{key}.npy"), mmap_mode="r", allow_pickle=False)
                for key in found
                if key in names
            }
        else:
            with np.load(path, allow_pickle=False) as file:
                found = file.files
                arrays = {key: file[key] for key in found if key in names}
    except Exception as error:  # NumPy raises half a dozen types on files that are not its own
        raise InputError(
            f"{path} cannot be read ({error}); write it with np.savez or np.save, without objects"
        ) from error
    return arrays, found


def _open(path: str) -> dict[str, np.ndarray]:
    """Returns the arrays that mean something, once none that must be there is missing."""
    arrays, found = read(path, _KNOWN)
    wanted = ["train_images", "train_labels"]
    for part in ("val", "test"):
        both = [f"{part}_images", f"{part}_labels"]
        wanted += both if set(both) & set(found) else []
    missing = [key for key in wanted if key not in found]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(found)) or 'no arrays'}"
        )
    return arrays


def _images(arrays: Arrays, part: str, path: str) -> np.ndarray:
    images = arrays[f"{part}_images"]
    if images.dtype.newbyteorder("=") not in pixels.DTYPES or images.ndim not in (3, 4):
        raise InputError(
            f"{part}_images of {path} are {images.dtype} {images.shape}; "
            "save uint8 values from 0 to 255, or uint16, of shape [N, H, W] or [N, H, W, C]"
        )
    images = images if images.ndim == 4 else images[..., None]
    if images.shape[3] not in pixels.CHANNELS:
        raise InputError(
            f"{part}_images of {path} have shape {images.shape}; put 1, 3 or 4 channels last"
        )
    if not images.size:
        raise InputError(
            f"{part}_images of {path} are empty ({images.shape}); save images or leave them out"
        )
    return images


def _labels(arrays: Arrays, part: str, path: str, num_images: int) -> np.ndarray:
    if part == "pool":
        return np.full(num_images, -1)
    labels = arrays[f"{part}_labels"]
    is_list = labels.shape in ((num_images,), (num_images, 1))
    if not is_list or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{part}_labels of {path} are {labels.dtype} {labels.shape} for {num_images} images; "
            "save one integer per image"
        )
    return labels.reshape(num_images)


def _groups(arrays: Arrays, images: Arrays, path: str) -> dict[str, np.ndarray]:
    """Numbers the groups of all parts together."""
    given = {part: arrays[f"{part}_groups"] for part in images if f"{part}_groups" in arrays}
    for part, groups in given.items():
        if groups.shape != (len(images[part]),) or groups.dtype.kind not in "iuU":
            raise InputError(
                f"{part}_groups of {path} are {groups.dtype} {groups.shape} for "
                f"{len(images[part])} images; save one integer or one string per image"
            )
    if len({groups.dtype.kind == "U" for groups in given.values()}) > 1:
        raise InputError(
            f"the groups of {path} are strings in some parts, integers in others "
            f"({', '.join(f'{part}_groups' for part in given)}); save all alike"
        )
    numbers = {}
    for part, groups in given.items():
        is_alone = groups == "" if groups.dtype.kind == "U" else groups < 0
        known = [
            -1 if a else numbers.setdefault(g, len(numbers))
            for g, a in zip(groups.tolist(), is_alone.tolist(), strict=True)
        ]
        given[part] = np.array(known, np.int64)
    return given


def _class_names(
    arrays: Arrays, settings: Settings, labels: np.ndarray, path: str
) -> tuple[str, ...]:
    if settings.classes:
        return read_classes(settings.classes)
    if "class_names" not in arrays:
        if labels.max() > len(labels):  # 2,000,000,000 names would need all memory
            raise InputError(
                f"train_labels of {path} go up to {labels.max()} with {len(labels)} images; number "
                "the classes from 0, or save class_names"
            )
        return tuple(str(k) for k in range(int(labels.max()) + 1))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) < len(names):
        raise InputError(
            f"class_names of {path} are {names.dtype} {names.shape}; save a list of strings, one "
            "name per class, each another"
        )
    return tuple(names.tolist())


def _check_labels(labels: Arrays, num_classes: int, path: str) -> None:
    for part, values in labels.items():
        low = -1 if part in ("train", "pool") else 0
        if values.min() < low or values.max() >= num_classes:
            raise InputError(
                f"{part}_labels of {path} run from {values.min()} to {values.max()}; "
                f"with {num_classes} classes they must lie from {low} to {num_classes - 1}"
            )


def _stamps(path: str) -> list[tuple[str, tuple[int, ...]]]:
    """Says what changes when a file of the arrays does."""
    files = [path] if not os.path.isdir(path) else sorted(os.scandir(path), key=lambda e: e.name)
    return [(os.fspath(file), file_stamp(os.fspath(file))) for file in files]
