"""The order of examples as a pure function of the step.

A fresh permutation per epoch, computed from `(seed, stream, epoch)` alone: starting at step `k` is
the same as skipping `k` steps, so a checkpoint holds no iterator, and every host computes the same
global batch.
"""

import functools
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ltssl_jax.core import InputError


def indices(
    size: int, batch_size: int, *, seed: int, stream: str, drop_last: bool = False
) -> Callable[[int], np.ndarray]:
    """Returns the function from a step to the examples of its global batch.

    Each epoch visits every example once. A batch may straddle two epochs, unless `drop_last`: then
    an epoch is `size // batch_size` full batches and the rest of its permutation goes unused.

    Args:
      size: number of examples.
      batch_size: examples per step, over all hosts.
      seed: at least 0.
      stream: name of the stream; two streams with one seed are ordered independently.
      drop_last: as above; what PyTorch loaders with `drop_last=True` do.

    Returns:
      Step (int, at least 0) to `[batch_size]` int64 in `[0, size)`; safe to call from threads.

    Raises:
      InputError: a number is out of range, or no full batch fits into an epoch.
    """
    _check(size, batch_size, seed, stream, drop_last)
    epoch_length = size // batch_size * batch_size if drop_last else size
    slots = np.arange(batch_size)

    # Each epoch is begun one epoch ahead: a million examples take as long as many a step. Three
    # entries: a batch that straddles two epochs needs both, and begins the next one.
    @functools.lru_cache(maxsize=3)
    def begun(epoch: int) -> Future[np.ndarray]:
        return _SHUFFLER.submit(_permutation, size, (seed, zlib.crc32(stream.encode()), epoch))

    def batch(step: int) -> np.ndarray:
        epoch, offset = np.divmod(step * batch_size + slots, epoch_length)
        visited = range(epoch[0], epoch[-1] + 1)
        parts = [begun(e).result()[offset[epoch == e]] for e in visited]
        begun(visited.stop)
        return np.concatenate(parts)

    return batch


def balanced(
    labels: np.ndarray, batch_size: int, *, seed: int, stream: str
) -> Callable[[int], np.ndarray]:
    """Returns the function from a step to examples drawn class by class, with replacement.

    Every class that has examples is equally probable, and so is each of its examples; what
    PyTorch's `WeightedRandomSampler` does with weights `1 / n_k`.

    Args:
      labels: `[N]` int, at least 0.
      batch_size: examples per step, over all hosts.
      seed, stream: as in `indices`.

    Returns:
      Step (int, at least 0) to `[batch_size]` int64 in `[0, N)`.
    """
    _check(len(labels), batch_size, seed, stream, drop_last=False)
    order = np.argsort(labels, kind="stable")
    _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)

    def batch(step: int) -> np.ndarray:
        draw = _generator((seed, zlib.crc32(stream.encode()), step))
        k = draw.integers(len(sizes), size=batch_size)
        return order[first[k] + draw.integers(sizes[k])]

    return batch


_SHUFFLER = ThreadPoolExecutor(1, "shuffler")  # NumPy shuffles without holding Python's lock


def _permutation(size: int, entropy: tuple[int, ...]) -> np.ndarray:
    return _generator(entropy).permutation(size)


def _generator(entropy: tuple[int, ...]) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def _check(size, batch_size, seed, stream, drop_last) -> None:
    for name, value, low in (("size", size, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < low:
            raise InputError(f"{name} of the {stream} stream is {value}; give at least {low}")
    if drop_last and batch_size > size:
        raise InputError(
            f"the {stream} set has {size} images, fewer than one batch of {batch_size}, and "
            "drop_last leaves out partial batches; set data.drop_last=False or lower the batch size"
        )
