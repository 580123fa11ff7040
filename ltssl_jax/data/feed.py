"""Batches of uint8 images as a function of the step.

Two feeds hand over the very same examples. `resident` sends indices; the images are read once and
belong on the device, where the step looks them up. `tfdata` sends images, read ahead by `tf.data`,
for sets larger than the device's memory; of images in files it keeps as many as fit, decoded. A
host gets a contiguous slice of the slots of the global batch. Augmentation is the business of
neither.
"""

import atexit
import dataclasses
import itertools
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from ltssl_jax.core import EvalBatch, InputError, RawBatch, Resident, Stream
from ltssl_jax.data import sampler
from ltssl_jax.data.sources.base import Records, import_tensorflow
from ltssl_jax.data.splits import Split

KINDS = ("auto", "resident", "tfdata")
ORDERS = ("shuffled", "balanced")
_CHUNK = 1024  # images read at once where all of a set are read


@dataclasses.dataclass(frozen=True)
class Feed:
    """What training consumes.

    Attributes:
      kind: "resident" or "tfdata".
      resident: uint8 images `[N, H, W, C]` of both subsets, or Nones for "tfdata".
      batches: this host's batches (NumPy), one per step, without end; with images for "tfdata".
    """

    kind: str
    resident: Resident
    batches: Iterator[RawBatch]


def training(
    records: Records,
    split: Split,
    *,
    batch_size: int,
    mu: int,
    kind: str = "auto",
    seed: int,
    drop_last: bool = False,
    order: str = "shuffled",
    balanced: bool = False,
    start: int = 0,
    host: tuple[int, int] = (0, 1),
    budget_bytes: int = 2**30,
    kept_bytes: int = 2**32,
    progress: Callable[[int, int], None] | None = None,
) -> Feed:
    """Feeds the labeled and unlabeled batches of the steps `start`, `start + 1`, ...

    Args:
      records: the training images.
      split: positions in `records`.
      batch_size: labeled images per step, over all hosts.
      mu: unlabeled images per labeled image.
      kind: one of `KINDS`; "auto" is "resident" where both subsets fit into `budget_bytes`.
      seed: of the order; every host passes the same.
      drop_last: leave out each epoch's last partial batch, see `sampler.indices`.
      order: of the labeled images: one of `ORDERS`; "balanced" draws them class by class.
      balanced: draw a second labeled batch, class by class.
      start: first step; the same as skipping that many.
      host: number of this host, and number of hosts.
      budget_bytes: see `kind`.
      kept_bytes: main memory for images that "tfdata" has decoded, so that it decodes them once.
      progress: called with (images read, images to read) while "resident" reads.

    Raises:
      InputError: a value is out of range, the hosts cannot share a batch evenly, or TensorFlow is
        needed and missing.
    """
    _check_batches(batch_size, mu, host)
    streams = [
        _Subset.of(records, "labeled", split.labeled, batch_size, seed, drop_last, host),
        _Subset.of(records, "unlabeled", split.unlabeled, mu * batch_size, seed, drop_last, host),
    ]
    if order not in ORDERS:
        raise InputError.unknown("data.order", order, ORDERS)
    if order == "balanced":
        streams[0] = _balanced(streams[0], batch_size, seed, "labeled")
    is_resident = _choose(kind, streams, budget_bytes) == "resident"
    if balanced:
        streams.append(_balanced(streams[0], batch_size, seed, "balanced"))
    if not is_resident:
        return Feed("tfdata", Resident(), _read_ahead(_keeping(streams, kept_bytes), start))
    batches = (RawBatch(*(s.at(step) for s in streams)) for step in itertools.count(start))
    return Feed("resident", Resident(*_read_all(streams[:2], progress)), batches)


def evaluation(records: Records, *, batch_size: int) -> Iterator[EvalBatch]:
    """Yields every image once, in order; the last batch is padded by zeros.

    Padding rows have mask, index and label 0.
    """
    for first in range(0, len(records), batch_size):
        index = np.arange(first, min(first + batch_size, len(records)))
        columns = (
            index.astype(np.int32),
            records.labels[index],
            np.ones(len(index), np.float32),
            records.read(index),
        )
        yield EvalBatch(*(_pad(column, batch_size - len(index)) for column in columns))


@dataclasses.dataclass(frozen=True)
class _Subset:
    """One stream of a feed: its images, its order, and the slots of this host."""

    records: Records
    positions: np.ndarray
    labels: np.ndarray
    indices: Callable[[int], np.ndarray]
    slots: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(cls, records, stream, positions, batch_size, seed, drop_last, host):
        # No method may see the classes of unlabeled images, so no batch has them.
        labels = records.labels[positions] if stream == "labeled" else np.full(len(positions), -1)
        order = sampler.indices(
            len(positions), batch_size, seed=seed, stream=stream, drop_last=drop_last
        )
        slots = np.split(np.arange(batch_size, dtype=np.int32), host[1])[host[0]]
        return cls(
            records, positions, labels.astype(np.int32), order, slots,
            read=lambda index: records.read(positions[index]),
        )  # fmt: skip

    def at(self, step: int, *, with_images: bool = False) -> Stream:
        index = self.indices(step)[self.slots]
        image = self.read(index) if with_images else None
        return Stream(index.astype(np.int32), self.slots, self.labels[index], image)


def _balanced(labeled: _Subset, batch_size: int, seed: int, stream: str) -> _Subset:
    """Reads the labeled images in another order; each class as often as any other."""
    order = sampler.balanced(labeled.labels, batch_size, seed=seed, stream=stream)
    return dataclasses.replace(labeled, indices=order)


class _Kept:
    """Reads rows like `read`, and keeps the first ones, which a later epoch then gets for nothing.

    An epoch meets each row once, so it does not matter which ones are kept. Safe to call from
    threads: a row is marked after it was written, and one that two write gets the same twice.
    """

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]):
        self._read, self._images = read, np.empty(shape, np.uint8)  # memory is taken when written
        self._is_kept = np.zeros(shape[0], bool)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        images = np.empty((len(index), *self._images.shape[1:]), np.uint8)
        can_be = index < len(self._images)
        is_kept = can_be.copy()
        is_kept[can_be] = self._is_kept[index[can_be]]
        images[is_kept] = self._images[index[is_kept]]
        if not is_kept.all():
            images[~is_kept] = self._read(index[~is_kept])
        new = can_be & ~is_kept
        self._images[index[new]] = images[new]
        self._is_kept[index[new]] = True
        return images


def _keeping(streams: list[_Subset], num_bytes: int) -> list[_Subset]:
    """Lets streams of image files keep what fits; arrays are in memory, or mapped to it."""
    made = []
    for stream in streams:
        shape = stream.records.image_shape
        number = min(len(stream.positions), num_bytes // int(np.prod(shape)))
        if stream.records.names is not None and number:
            num_bytes -= number * int(np.prod(shape))
            stream = dataclasses.replace(stream, read=_Kept(stream.read, (number, *shape)))
        made.append(stream)
    return made


def _check_batches(batch_size: int, mu: int, host: tuple[int, int]) -> None:
    if batch_size < 1 or mu < 1:
        raise InputError(f"batch size is {batch_size} and mu is {mu}; both must be at least 1")
    if batch_size % host[1]:
        raise InputError(
            f"a batch of {batch_size} labeled images cannot be shared evenly by {host[1]} hosts; "
            f"make the batch size a multiple of {host[1]}"
        )


def _choose(kind: str, streams: list[_Subset], budget_bytes: int) -> str:
    if kind not in KINDS:
        raise InputError.unknown("data.feed", kind, KINDS)
    num_bytes = sum(len(s.positions) * int(np.prod(s.records.image_shape)) for s in streams)
    if kind == "auto":
        return "resident" if num_bytes <= budget_bytes else "tfdata"
    return kind


def _read_all(
    streams: list[_Subset], progress: Callable[[int, int], None] | None
) -> list[np.ndarray]:
    arrays = [np.empty((len(s.positions), *s.records.image_shape), np.uint8) for s in streams]
    done, total = 0, sum(map(len, arrays))
    for stream, images in zip(streams, arrays, strict=True):
        for first in range(0, len(images), _CHUNK):
            part = slice(first, first + _CHUNK)
            images[part] = stream.records.read(stream.positions[part])
            done += len(images[part])
            if progress:
                progress(done, total)
    return arrays


def _read_ahead(streams: list[_Subset], start: int) -> Iterator[RawBatch]:
    tf = import_tensorflow("the feed 'tfdata'")
    failures = []

    def plan_and_read(step):
        try:
            parts = [s.at(int(step), with_images=True) for s in streams]
        except Exception as error:  # TensorFlow would keep only its text
            failures.append(error)
            raise
        return [array for s in parts for array in (s.index, s.slot, s.label, s.image)]

    types = [tf.int32, tf.int32, tf.int32, tf.uint8] * len(streams)
    dataset = tf.data.Dataset.range(start, 2**62)
    # Two at once: one batch's tail overlaps the next one's head; `read` has threads of its own.
    dataset = dataset.map(
        lambda step: tuple(tf.numpy_function(plan_and_read, [step], types, stateful=False)),
        num_parallel_calls=2,
        deterministic=True,
    )
    batches = _drain(dataset.prefetch(2), tf.errors.OpError, failures)
    # Closed later, its threads would wait for an interpreter that is gone, and Python for them.
    remembered = weakref.ref(batches)
    atexit.register(lambda: (alive := remembered()) and alive.close())
    return batches


def _drain(dataset, tensorflow_error: type, failures: list[Exception]) -> Iterator[RawBatch]:
    try:
        for arrays in dataset.as_numpy_iterator():
            yield RawBatch(*(Stream(*arrays[i : i + 4]) for i in range(0, len(arrays), 4)))
    except tensorflow_error as error:
        raise (failures or [error])[0] from None


def _pad(column: np.ndarray, padding: int) -> np.ndarray:
    return np.concatenate([column, np.zeros((padding, *column.shape[1:]), column.dtype)])
