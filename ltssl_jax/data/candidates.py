"""Images that a person might label: the pool of a run, or others, never those in use already."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltssl_jax.data import streams
from ltssl_jax.data.sources.base import Skipped, Source, printable
from ltssl_jax.data.sources.images import Policy
from ltssl_jax.data.sources.listing import file_stamp
from ltssl_jax.data.splits import Split
from ltssl_jax.data.streams import Item

Files = frozenset[tuple[int, ...]]  # what is the same for a file under all its names


class Pool(NamedTuple):
    """Images in order: how many, the function that goes through them, and those at some places."""

    total: int
    items: Callable[[], Iterable[Item | Skipped]]
    at: Callable[[Sequence[int]], list[Item]]


def of_split(source: Source, split: Split) -> Pool:
    """Returns the unlabeled images of a split, but for those that are labeled, too.

    An image without name is called by its place in the data set, counted from 0.
    """
    records = source.train.take(split.unlabeled[~split.is_labeled])

    def at(place: int) -> Item:
        name = records.names[place] if records.names else str(records.origin[place])
        if records.files:
            return Item(name, records.files[place])
        return Item(name, records.read(np.array([place]))[0])

    return Pool(
        len(records),
        lambda: map(at, range(len(records))),
        lambda places: [at(place) for place in places],
    )


def of_paths(paths: Sequence[str], columns: Mapping[str, str], used: Files) -> Pool:
    """Returns the images of files, directories, tables and arrays, but for those in use.

    Args:
      paths, columns: see `streams.opened`.
      used: files to leave out.
    """
    inputs = [streams.opened(path, columns=columns) for path in paths]

    def items() -> Iterator[Item | Skipped]:
        for item in itertools.chain.from_iterable(one.items() for one in inputs):
            if isinstance(item, Skipped) or not isinstance(item.image, str):
                yield item
            elif file_stamp(item.image)[:2] in used:
                yield Skipped(item.name, "pool", "the run uses it already")
            else:
                yield item._replace(image=os.path.abspath(item.image))

    def at(places: Sequence[int]) -> list[Item]:
        wanted = set(places)
        found = {place: item for place, item in enumerate(items()) if place in wanted}
        return [found[place] for place in places]

    return Pool(sum(one.total for one in inputs), items, at)


def files_in_use(source: Source, split: Split) -> Files:
    """Returns the files that are labeled or evaluated on."""
    train = source.train
    parts = train.take(split.labeled), train.take(split.validation), source.val, source.test
    paths = itertools.chain.from_iterable(part.files or () for part in parts if part is not None)
    return frozenset(file_stamp(path)[:2] for path in paths)


@contextlib.contextmanager
def decoded(
    pool: Pool, policy: Policy, shape: tuple[int, int, int], *, batch_size: int
) -> Iterator[Iterator[streams.Decoded]]:
    """Opens the images in batches, as `streams.decoded`, in which they are called by place."""
    items = (
        item._replace(name=str(place)) if isinstance(item, Item) else item
        for place, item in enumerate(pool.items())
    )
    batches = streams.decoded(items, policy, shape, batch_size=batch_size)
    with contextlib.closing(batches):  # lest threads go on decoding
        yield batches


def located(item: Item) -> tuple[str, str]:
    """Returns the path of an image, or nothing if it has no file, and what it is called."""
    return printable(item.image) if isinstance(item.image, str) else "", item.name
