"""Images that occur twice: the same pixels, or pixels that look the same.

Candidates have perceptual hashes that differ in few bits; a comparison of small grey thumbnails
decides. Thumbnails are compared without their mean and contrast, so that brighter, resized or
recompressed copies are found; images without contrast have nothing to compare and match nobody.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

DISTANCE = 6  # bits of 64 by which the perceptual hashes of copies differ at most
CORRELATION = 0.96  # of copies' thumbnails, at least: below, CIFAR-100 shows cans of two brands
CONTRAST = 4.0  # grey levels of standard deviation, below which a thumbnail shows nothing
_BYTES = 8  # of a hash
_NEIGHBOURS = 256  # images that one is compared with, and
_PAIRS = 2**20  # pairs whose thumbnails are compared, in one order: bounds on a quadratic cost


class Copies(NamedTuple):
    """Clusters of images that are copies of each other.

    Attributes:
      clusters: positions of the images of each, two or more, ascending.
      is_complete: False where so many images look alike that not all pairs were compared.
    """

    clusters: list[np.ndarray]
    is_complete: bool = True


def exact(digests: np.ndarray) -> Copies:
    """Finds equal pixels by their digests `[N]`."""
    return Copies(_clusters(np.unique(digests, return_inverse=True)[1]))


def near(digests: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> Copies:
    """Finds images that look the same; copies of copies are in one cluster.

    Args:
      digests: `[N]` of the pixels: where they are equal, nothing needs to be compared.
      hashes: `[N]` uint64, perceptual.
      thumbnails: `[N, h, w]` uint8, grey.
    """
    _, first, number = np.unique(digests, return_index=True, return_inverse=True)
    thumbnails = Thumbnails.of(thumbnails[first])
    shown = np.flatnonzero(thumbnails.has_contrast)
    hashes = hashes[first][shown]
    cluster, is_complete = np.arange(len(first)), True
    for order, key in _orders(hashes):
        pairs, is_exhausted = _close(order, key, hashes, cluster[shown])
        pairs = shown[pairs]
        cluster = _joined(cluster, pairs[thumbnails.are_alike(pairs)])
        is_complete &= is_exhausted
    return Copies(_clusters(cluster[number]), is_complete)


class Thumbnails(NamedTuple):
    """Thumbnails `[N, h * w]` float32 of mean 0 and variance 1, and which of them show anything."""

    pixels: np.ndarray
    has_contrast: np.ndarray

    @classmethod
    def of(cls, thumbnails: np.ndarray) -> "Thumbnails":
        """Takes mean and contrast out of `[N, h, w]` uint8."""
        pixels = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
        pixels -= pixels.mean(axis=1, keepdims=True)
        contrast = np.sqrt(np.mean(pixels**2, axis=1))
        return cls(pixels / np.maximum(contrast, 1e-6)[:, None], contrast >= CONTRAST)

    def are_alike(self, pairs: np.ndarray) -> np.ndarray:
        """Says of each pair `[P, 2]` whether the two correlate."""
        blocks = [pairs[i : i + 2**15] for i in range(0, len(pairs), 2**15)]
        means = [
            np.mean(self.pixels[a] * self.pixels[b], axis=1) for a, b in map(np.transpose, blocks)
        ]
        return np.concatenate([np.empty(0), *means]) >= CORRELATION


def _orders(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields, for any two bytes of the hashes, the order that brings equal ones together.

    Six differing bits leave two of eight bytes untouched: no pair within `DISTANCE` is missed.
    """
    of_byte = hashes[:, None].view(np.uint8).astype(np.int64)
    for a, b in itertools.combinations(range(_BYTES), 2):
        key = of_byte[:, a] * 256 + of_byte[:, b]
        order = np.argsort(key, kind="stable")
        yield order, key[order]


def _close(order, key, hashes, cluster) -> tuple[np.ndarray, bool]:
    """Compares each image with the next ones of equal key, for all images at once.

    Returns pairs within `DISTANCE` that are not in one cluster yet, and whether all were compared.
    """
    at, found, num_found = np.arange(len(key)), [np.empty((0, 2), np.int64)], 0
    for offset in range(1, _NEIGHBOURS + 1):
        at = at[at + offset < len(key)]
        at = at[key[at] == key[at + offset]]
        if not len(at):
            return np.concatenate(found), True
        a, b = order[at], order[at + offset]
        is_close = np.bitwise_count(hashes[a] ^ hashes[b]) <= DISTANCE
        is_close &= cluster[a] != cluster[b]
        found.append(np.stack([a[is_close], b[is_close]], axis=1))
        num_found += len(found[-1])
        if num_found > _PAIRS:
            break
    return np.concatenate(found), False


def _joined(cluster: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Joins the clusters `[N]` of each pair."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(cluster)
    edges = (np.ones(len(pairs), bool), tuple(cluster[pairs.T]))
    return connected_components(coo_array(edges, shape=(n, n)), directed=False)[1][cluster]


def _clusters(number: np.ndarray) -> list[np.ndarray]:
    """Lists the positions of every number that occurs more than once, in the order of the first."""
    order = np.argsort(number, kind="stable")
    clusters = np.split(order, np.cumsum(np.bincount(number))[:-1]) if len(number) else []
    return sorted((c for c in clusters if len(c) > 1), key=lambda cluster: cluster[0])
