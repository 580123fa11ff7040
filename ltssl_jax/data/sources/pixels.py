"""From arrays of pixels to a data set: the policy of `images` for sources that have no files.

Grey, RGB and RGBA arrays of 8 or 16 bits become what `data.image_size`, `data.resize` and
`data.channels` say, as files do. 16 bits become 8 by division by 257, full scale to full scale.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import images, listing
from ltssl_jax.data.sources.base import Records, Settings, Source, hash_of

CHANNELS = (1, 3, 4)
DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def policy_of(settings: Settings, channels: int) -> images.Policy:
    """Returns what images become whose arrays have so many channels; alpha is kept if asked for."""
    kept = settings.channels or min(channels, 3)
    return images.Policy(settings.image_size, settings.resize, kept)


def shape_of(policy: images.Policy, height: int, width: int) -> tuple[int, int, int]:
    """Returns the shape that `made` gives to an image of this size."""
    return policy.size or height, policy.size or width, policy.channels


def made(image: np.ndarray, policy: images.Policy) -> np.ndarray:
    """Makes `[H, W, C]` uint8 or uint16 into the image of the policy, uint8."""
    image = _eight_bits(image)
    if image.shape[2] != policy.channels:
        pixels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        image = np.atleast_3d(np.asarray(pixels.convert(_MODES[policy.channels])))
    return images.fit_array(image, policy.size, policy.resize)


def records(pixels: np.ndarray, labels: np.ndarray, policy: images.Policy, **known: Any) -> Records:
    """Wraps arrays, or memory maps, whose images are made when they are read.

    Args:
      pixels: `[N, H, W, C]` uint8 or uint16.
      labels: `[N]` int.
      policy: what images become.
      known: further fields of `Records`.
    """
    shape = shape_of(policy, *pixels.shape[1:3])

    def read(positions: np.ndarray) -> np.ndarray:
        found = _eight_bits(pixels[positions])
        if found.shape[1:] == shape:
            return found
        return np.array([made(image, policy) for image in found], np.uint8).reshape(-1, *shape)

    return Records(labels.astype(np.int32), read, shape, **known)


def source(
    name: str,
    parts: Mapping[str, Records],
    class_names: Sequence[str],
    notes: Sequence[str] = (),
) -> Source:
    """Makes a data set of the records of each of `base.PARTS` that there is; `train` must be.

    Raises:
      InputError: no training image has a label, or images of two parts differ in shape.
    """
    check_labeled(parts["train"].labels, name)
    train = _with_pool(name, parts["train"], parts.get("pool"))
    notes = (*notes, *listing.notes_on(train, class_names))
    return Source(name, train, parts.get("test"), tuple(class_names), parts.get("val"), notes=notes)


def check_labeled(labels: np.ndarray, name: str) -> None:
    """Raises InputError where no training image of the data set has a label."""
    if labels.max() < 0:
        raise InputError(
            f"the training labels of {name!r} name no class: all are negative (unknown); label "
            "some images of each class"
        )


def _with_pool(name: str, train: Records, pool: Records | None) -> Records:
    """Puts images without label behind those with one, as the start of the pool."""
    is_bare = train.labels < 0
    if np.any(is_bare[:-1] > is_bare[1:]):
        train = train.take(np.argsort(is_bare, kind="stable"))
    train = dataclasses.replace(train, is_pool=np.sort(is_bare) if is_bare.any() else None)
    return train if pool is None else _joined(name, train, pool)


def _joined(name: str, train: Records, pool: Records) -> Records:
    if pool.image_shape != train.image_shape:
        raise InputError(
            f"data set {name!r}: training images are {train.image_shape}, pool images "
            f"{pool.image_shape} (height, width, channels); make them equal, for example with "
            "data.image_size"
        )

    def read(positions: np.ndarray) -> np.ndarray:
        found = np.empty((len(positions), *train.image_shape), np.uint8)
        is_train = positions < len(train)
        found[is_train] = train.read(positions[is_train])
        found[~is_train] = pool.read(positions[~is_train] - len(train))
        return found

    def both(field: str, neutral: Any) -> np.ndarray | None:
        values = [getattr(part, field) for part in (train, pool)]
        if all(value is None for value in values):
            return None
        filled = [
            np.full(len(part), neutral) if value is None else value
            for part, value in zip((train, pool), values, strict=True)
        ]
        return np.concatenate(filled)

    pool = dataclasses.replace(pool, is_pool=np.ones(len(pool), bool))
    origins = [_origin(train), len(train) + _origin(pool)]
    is_known = train.digest and pool.digest
    return Records(
        labels=np.concatenate([train.labels, pool.labels]),
        read=read,
        image_shape=train.image_shape,
        groups=both("groups", -1),
        is_pool=both("is_pool", False),
        digest=hash_of(train.digest.encode(), pool.digest.encode()) if is_known else "",
        origin=np.concatenate(origins),
    )


def _origin(records: Records) -> np.ndarray:
    return np.arange(len(records)) if records.origin is None else records.origin


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # to the nearest
