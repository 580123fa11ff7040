"""What every source of images hands over, and what several of them need."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ltssl_jax.core import InputError


@dataclass(frozen=True)
class Records:
    """Images that can be read by position.

    Attributes:
      labels: `[N]` int32 in `[0, K)`; -1 where the class is unknown.
      read: `[n]` int positions to `[n, H, W, C]` uint8, in that order; safe to call from threads.
      image_shape: `(H, W, C)`.
      names: file of each image relative to the root, where there are files.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int, int, int]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """A data set: training and test images of the same shape, and the classes in label order."""

    name: str
    train: Records
    test: Records
    class_names: tuple[str, ...]

    def __post_init__(self):
        if self.num_classes < 2:
            raise InputError(
                f"data set {self.name!r} has {self.num_classes} class "
                f"({', '.join(self.class_names)}); classification needs at least two"
            )
        if self.train.image_shape != self.test.image_shape:
            raise InputError(
                f"data set {self.name!r}: training images are {self.train.image_shape}, "
                f"test images {self.test.image_shape} (height, width, channels); make them equal"
            )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def in_memory(images: np.ndarray, labels: np.ndarray) -> Records:
    """Wraps `[N, H, W, C]` uint8 images (an array or a memory map) and `[N]` labels."""
    return Records(labels.astype(np.int32), lambda positions: images[positions], images.shape[1:])


def fit(image: Image.Image, image_size: int) -> Image.Image:
    """Cuts the largest central square and resizes it (bilinear, antialiased) to `image_size`."""
    return ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)


def refuse_resize(image_size: int, image_shape: tuple[int, int, int], kind: str) -> None:
    """Raises InputError where a source that does not resize is asked for another size."""
    if image_size and image_shape[:2] != (image_size, image_size):
        height, width = image_shape[:2]
        raise InputError(
            f"data.image_size is {image_size} but the source {kind!r} has {height}x{width} images "
            "and does not resize; set data.image_size=0"
        )


def check_root(root: str, kind: str, what: str) -> str:
    """Returns the expanded path of `root`; raises InputError where it is empty or missing."""
    if not root:
        raise InputError(f"data.root is empty; the source {kind!r} needs {what}")
    path = os.path.abspath(os.path.expanduser(root))
    if not os.path.exists(path):
        raise InputError(f"data.root is {root!r} but {path} does not exist; give {what}")
    return path


def import_tensorflow(wanted_by: str) -> Any:
    """Imports TensorFlow and keeps it off the accelerators, which belong to JAX."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it narrates its start
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"{wanted_by} needs TensorFlow, which cannot be imported ({error}); "
            "run `pip install tensorflow-cpu tensorflow-datasets`"
        ) from error
    tf.config.set_visible_devices([], "GPU")
    return tf
