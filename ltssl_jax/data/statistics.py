"""Mean and standard deviation of the channels, by which images are normalized."""

import contextlib
import json
import os

import numpy as np

from ltssl_jax.data.sources.base import Records, cache_directory, hash_of

_CHUNK = 1024  # images read at once


def of_channels(
    records: Records, positions: np.ndarray, limit: int = 10_000
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and standard deviation of each channel on the scale from 0 to 1.

    Of more than `limit` positions, evenly spaced ones are used. The standard deviation is at least
    one grey level, 1/255, so that dividing by that of a constant channel is harmless. Of images in
    files the result is kept on disk, for as long as the files do not change.
    """
    used = min(len(positions), limit)
    positions = positions[np.arange(used) * len(positions) // used]
    if not records.digest:
        return _measured(records, positions)
    name = hash_of(records.digest.encode(), positions.astype("<i8").tobytes())[:32]
    path = os.path.join(cache_directory(), "statistics", f"{name}.json")
    with contextlib.suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as file:
        kept = json.load(file)
        return tuple(kept["mean"]), tuple(kept["std"])
    mean, std = _measured(records, positions)
    with contextlib.suppress(OSError):  # a read-only home costs time only
        os.makedirs(os.path.dirname(path), exist_ok=True)
        partial = f"{path}.{os.getpid()}"
        with open(partial, "w", encoding="utf-8") as file:
            json.dump({"mean": mean, "std": std}, file)
        os.replace(partial, path)
    return mean, std


def _measured(records, positions) -> tuple[tuple[float, ...], tuple[float, ...]]:
    histogram = np.zeros((records.image_shape[2], 256), np.int64)
    for first in range(0, len(positions), _CHUNK):
        images = records.read(positions[first : first + _CHUNK])
        histogram += [np.bincount(c.ravel(), minlength=256) for c in np.moveaxis(images, -1, 0)]
    levels = np.arange(256) / 255
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ levels
    variance = (share * (levels[None, :] - mean[:, None]) ** 2).sum(axis=1)
    std = np.sqrt(variance).clip(min=1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())
