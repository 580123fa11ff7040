"""Images in NumPy files: one `.npz`, or a directory of `.npy` files, which are memory-mapped.

train_images  [N, H, W] or [N, H, W, C] uint8, C = 1 or 3
train_labels  [N] int, -1 where the class is unknown
test_images, test_labels
class_names   [K] strings; without it the classes are called by their numbers
"""

import os
from collections.abc import Mapping

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Records, Source, check_root, in_memory, refuse_resize

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")


def load(*, name: str, root: str, image_size: int, download: bool) -> Source:
    """Opens the arrays at `root`, used as they are; `download` has nothing to do.

    Raises:
      InputError: an array is missing or does not have the type, shape or values stated above.
    """
    path = check_root(root, "arrays", "the path of a .npz file or of a directory of .npy files")
    arrays = _open(path)
    missing = [key for key in _REQUIRED if key not in arrays]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'no arrays'}"
        )
    train = _records(arrays, "train", path)
    test = _records(arrays, "test", path)
    labels = arrays["train_labels"]
    if labels.size and labels.max() < 0:
        raise InputError(f"train_labels of {path} name no class: all are negative (unknown)")
    if "class_names" in arrays and arrays["class_names"].ndim != 1:
        raise InputError(f"class_names of {path} must be a list, one name per class")
    class_names = tuple(str(k) for k in arrays.get("class_names", range(int(labels.max()) + 1)))
    _check_labels(labels, -1, len(class_names), f"train_labels of {path}")
    _check_labels(arrays["test_labels"], 0, len(class_names), f"test_labels of {path}")
    refuse_resize(image_size, train.image_shape, "arrays")
    return Source(name or os.path.splitext(os.path.basename(path))[0], train, test, class_names)


def _open(path: str) -> Mapping[str, np.ndarray]:
    try:
        if not os.path.isdir(path):
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        names = [entry[:-4] for entry in os.listdir(path) if entry.endswith(".npy")]
        return {
            name: np.load(os.path.join(path, f"{name}.npy"), mmap_mode="r", allow_pickle=False)
            for name in names
        }
    except Exception as error:  # NumPy raises half a dozen types on files that are not its own
        raise InputError(
            f"{path} cannot be read ({error}); write it with np.savez or np.save, without objects"
        ) from error


def _records(arrays: Mapping[str, np.ndarray], part: str, path: str) -> Records:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise InputError(
            f"{part}_images of {path} are {images.dtype} {images.shape}; "
            "save uint8 values from 0 to 255 of shape [N, H, W] or [N, H, W, C]"
        )
    images = images if images.ndim == 4 else images[..., None]
    if images.shape[3] not in (1, 3):
        raise InputError(
            f"{part}_images of {path} have shape {images.shape}; put 1 or 3 channels last"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise InputError(
            f"{part}_labels of {path} are {labels.dtype} {labels.shape} for {len(images)} images; "
            "save one integer per image"
        )
    if not len(images):
        raise InputError(f"{part}_images of {path} are empty; save at least one image per class")
    return in_memory(images, labels)


def _check_labels(labels: np.ndarray, low: int, num_classes: int, what: str) -> None:
    if labels.min() < low or labels.max() >= num_classes:
        raise InputError(
            f"{what} run from {labels.min()} to {labels.max()}; "
            f"with {num_classes} classes they must lie from {low} to {num_classes - 1}"
        )
