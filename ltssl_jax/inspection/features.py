"""Cheap features without a trained network: whitened random patches, as in Coates & Ng.

Random patches of the images themselves are the filters of one convolution; a soft threshold and
four quadrant means give a fixed-length vector. Good enough to see classes in, and learnt from no
other data set.

Source: Coates & Ng, "The importance of encoding versus training with sparse coding and vector
quantization", ICML 2011; their random patches, soft threshold and quadrant pooling.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

SIDE = 32  # images are looked at in this size
_PATCH, _STRIDE, _FILTERS = 6, 2, 100
_THRESHOLD = 0.5
_CHUNK = 64  # images at once: their patches stay in the cache


class Dictionary(NamedTuple):
    """Filters `[P, F]` float32 on normalized patches, and the patches' mean `[P]`."""

    filters: np.ndarray
    mean: np.ndarray


def learn(images: np.ndarray, *, num_filters: int = _FILTERS, seed: int = 0) -> Dictionary:
    """Draws random patches of `[n, SIDE, SIDE, C]` uint8 images and whitens them (ZCA)."""
    rng = np.random.default_rng(seed)
    n = 20_000
    patches = _patches(images)  # a view: only the drawn ones are copied
    where = [rng.integers(size, size=n) for size in patches.shape[:3]]
    drawn = _normalized(patches[tuple(where)].reshape(n, -1))
    mean = drawn.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(drawn - mean[None, :], rowvar=False))
    zca = (vectors / np.sqrt(values.clip(min=0) + 0.1)[None, :]) @ vectors.T
    chosen = (drawn[:num_filters] - mean[None, :]) @ zca
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-6
    return Dictionary((zca @ chosen.T).astype(np.float32), mean.astype(np.float32))


def extract(images: np.ndarray, dictionary: Dictionary) -> np.ndarray:
    """Encodes `[n, SIDE, SIDE, C]` uint8 images as `[n, 8 F]` float32 features."""
    chunks = [images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy computes outside Python's lock
        return np.concatenate(list(pool.map(partial(_encode, dictionary=dictionary), chunks)))


def _encode(images: np.ndarray, dictionary: Dictionary) -> np.ndarray:
    patches = _patches(images)
    n, height, width = patches.shape[:3]
    rows = _normalized(patches.reshape(n * height * width, -1)) - dictionary.mean[None, :]
    response = (rows @ dictionary.filters).reshape(n, height, width, -1)
    half, parts = height // 2, []
    for sign in (1, -1):
        active = np.maximum(sign * response - _THRESHOLD, 0)
        for y in (slice(half), slice(half, None)):
            parts += [active[:, y, x].mean(axis=(1, 2)) for x in (slice(half), slice(half, None))]
    return np.concatenate(parts, axis=1)


def _patches(images: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(images, (_PATCH, _PATCH), axis=(1, 2))
    return windows[:, ::_STRIDE, ::_STRIDE]


def _normalized(patches: np.ndarray) -> np.ndarray:
    patches = patches.astype(np.float32)
    patches -= patches.mean(axis=1, keepdims=True)
    return patches / np.sqrt(patches.var(axis=1, keepdims=True) + 10)
