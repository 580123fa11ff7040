"""Image-classification sets of TensorFlow Datasets, by name and configuration.

`cifar10`, `svhn_cropped`, `stl10`, `eurosat/rgb`, `imagenet_resized/32x32`, `i_naturalist2018`: any
set with a split `train`, a feature `Image` (8 or 16 bits) and a feature `ClassLabel`.

test  the split `data.source.test`; else `test`, if it has labels; else `validation` or `val`; else
      none, as with EuroSAT, until `data.source.test_fraction` holds some images out
val   the split `data.source.val`
pool  the split `data.source.pool`; else `unlabelled` or `unlabeled`, as with STL-10

Where a set has several images or labels, `data.source.columns.path` and `label` name the features.
Images are decoded once. Up to 1 GiB a split stays in memory; a larger one goes to a file in the
cache directory, from where the next start has it at once.

The order is the one in which the set was prepared, which shuffles it once, the same everywhere: the
first n images of a class are not those of the original files. Counts agree with published splits,
images do not; a folder in the original order gives the originals.
"""

import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import images, pixels
from ltssl_jax.data.sources.base import (
    COLUMNS,
    PARTS,
    Progress,
    Records,
    Settings,
    Source,
    cache_directory,
    hash_of,
    import_tensorflow,
    in_memory,
)
from ltssl_jax.data.sources.listing import file_stamp

USES = ("root", "val", "test", "pool", "columns", "download")

_MAX_IN_MEMORY = 2**30  # bytes
_BLOCK = 256  # images between two reports of progress
_DEFAULTS = {"test": ("test", "validation", "val"), "pool": ("unlabelled", "unlabeled")}


def load(settings: Settings) -> Source:
    """Reads the set `name` from `root`, or from where TensorFlow Datasets keeps it by default.

    Raises:
      InputError: the set is unknown or not there, or does not have images and labels as above.
    """
    builder = _builder(settings)
    import tensorflow_datasets as tfds

    image = _feature(builder.info, settings, "path", tfds.features.Image)
    label = _feature(builder.info, settings, "label", tfds.features.ClassLabel)
    height, width, channels = builder.info.features[image].shape
    if not settings.image_size and None in (height, width):
        raise InputError(
            f"the images of {settings.name!r} differ in size; set data.image_size, for example to "
            "32"
        )
    policy = pixels.policy_of(settings, channels or 3)
    shape = pixels.shape_of(policy, height, width)
    splits = _splits(builder, label, settings)
    parts = {
        part: _records(builder, split, (image, label), policy, shape, settings.progress)
        for part, split in splits.items()
    }
    notes = [
        f"{part} images are the split {splits[part]!r}"
        for part in _DEFAULTS
        if splits.get(part, part) not in (part, getattr(settings, part))
    ]
    return pixels.source(settings.name, parts, builder.info.features[label].names, notes)


def _builder(settings: Settings) -> Any:
    if not settings.name:
        raise InputError("data.source.name is empty; the source 'tfds' needs one, such as cifar10")
    import_tensorflow("the source 'tfds'")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(settings.name, data_dir=os.path.expanduser(settings.root) or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise InputError(
            f"data.source.name is {settings.name!r}, which TensorFlow Datasets does not know; "
            "see https://www.tensorflow.org/datasets/catalog for the names"
        ) from error
    except Exception as error:  # a configuration, a version, a file that its wheel lacks
        raise InputError(
            f"data.source.name is {settings.name!r}, which TensorFlow Datasets cannot build "
            f"({error}); see https://www.tensorflow.org/datasets/catalog for the configurations"
        ) from error
    if settings.download:
        _download(builder)
    elif not builder.is_prepared():
        raise InputError(
            f"data set {settings.name!r} is not in {builder.data_dir}; download it with "
            "--config.data.source.download=True, or read images from a directory with "
            "--config.data.source.kind=folder --config.data.source.root=DIR"
        )
    return builder


def _download(builder: Any) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:  # each set has its own way to miss a file, a login, a checksum
        raise InputError(
            f"data set {builder.name!r} could not be downloaded to {builder.data_dir} ({error}); "
            "read images from a directory with --config.data.source.kind=folder "
            "--config.data.source.root=DIR"
        ) from error


def _feature(info: Any, settings: Settings, column: str, kind: type) -> str:
    """Returns the name of the only feature of a kind, or of the one that the column names."""
    import tensorflow_datasets as tfds

    found = [key for key, feature in info.features.items() if type(feature) is kind]
    asked = settings.columns.get(column, COLUMNS[column])
    if asked in found:
        key = asked
    elif len(found) == 1 and asked == COLUMNS[column]:
        (key,) = found
    else:
        raise InputError(
            f"data set {info.full_name!r} has {len(found)} features {kind.__name__} "
            f"({', '.join(found) or 'its features: ' + ', '.join(info.features)}); "
            f"data.source.columns.{column} is {asked!r} and must name one of them"
        )
    dtype = np.dtype(info.features[key].np_dtype)
    if kind is tfds.features.Image and dtype not in pixels.DTYPES:
        raise InputError(
            f"data set {info.full_name!r} has images of {dtype}; only 8 and 16 bits can be used"
        )
    return key


def _splits(builder: Any, label: str, settings: Settings) -> dict[str, str]:
    """Returns which split is which part; each split is one part at most."""
    asked = {part: getattr(settings, part, "") for part in PARTS} | {"train": "train"}
    splits = {part: split for part, split in asked.items() if split}
    known = builder.info.splits
    for part, split in splits.items():
        if split not in known:
            raise InputError(
                f"data set {settings.name!r} has no split {split!r} for data.source.{part}; it has "
                f"{', '.join(known)}"
            )
    if len(set(splits.values())) < len(splits):
        raise InputError(f"two parts are the same split of {settings.name!r}: {splits}")
    for part in ("val", "test"):
        if part in splits and not _has_labels(builder, splits[part], label):
            raise InputError(
                f"the split {splits[part]!r} of {settings.name!r} has no labels; "
                f"data.source.{part} needs another one of {', '.join(known)}"
            )
    for part, candidates in _DEFAULTS.items():
        free = [s for s in candidates if s in known and s not in splits.values()]
        usable = (s for s in free if part == "pool" or _has_labels(builder, s, label))
        if part not in splits and (split := next(usable, None)):
            splits[part] = split
    return splits


def _has_labels(builder: Any, split: str, label: str) -> bool:
    """Says whether the first images of a split have labels: competitions keep all of them back."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding({label: True}),
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    firsts = itertools.islice(tfds.as_numpy(dataset), 16)
    return any(example[label] >= 0 for example in firsts)


def _records(
    builder: Any,
    split: str,
    features: tuple[str, str],
    policy: images.Policy,
    shape: tuple[int, int, int],
    progress: Progress | None,
) -> Records:
    info = builder.info.splits[split]
    stamps = [(os.fspath(path), file_stamp(os.fspath(path))) for path in info.filepaths]
    what = (builder.info.full_name, split, features, policy, shape, info.num_examples, stamps)
    digest = hash_of(repr(what).encode())
    examples = _examples(builder, split, features, policy, progress)
    if info.num_examples * np.prod(shape) > _MAX_IN_MEMORY:
        kept = os.path.join(cache_directory(), "decoded", f"{builder.name}-{split}-{digest[:32]}")
        if not os.path.isdir(kept):
            _write(kept, examples, (info.num_examples, *shape))
        stored = np.load(os.path.join(kept, "images.npy"), mmap_mode="r")
        return in_memory(stored, np.load(os.path.join(kept, "labels.npy")), digest=digest)
    found = np.empty((info.num_examples, *shape), np.uint8)
    labels = np.empty(info.num_examples, np.int32)
    for row, (image, label) in enumerate(examples):
        found[row], labels[row] = image, label
    return in_memory(found, labels, digest=digest)


def _examples(
    builder: Any,
    split: str,
    features: tuple[str, str],
    policy: images.Policy,
    progress: Progress | None,
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the images of a split, made fit, and their labels."""
    tf = import_tensorflow("the source 'tfds'")
    import tensorflow_datasets as tfds

    # One file after the other: the order of the images is that in which the set was prepared.
    order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    only = tfds.decode.PartialDecoding(dict.fromkeys(features, True))
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=order, decoders=only)
    total = builder.info.splits[split].num_examples
    try:
        for row, example in enumerate(tfds.as_numpy(dataset), 1):
            yield pixels.made(example[features[0]], policy), max(-1, example[features[1]])
            if progress and (row % _BLOCK == 0 or row == total):
                progress(f"decoding {split}", row, total)
    except tf.errors.OpError as error:
        raise InputError(
            f"the split {split!r} in {builder.data_dir} cannot be read ({error.message}); remove "
            "the directory and prepare the data set again"
        ) from error


def _write(
    kept: str, examples: Iterator[tuple[np.ndarray, int]], shape: tuple[int, int, int, int]
) -> None:
    """Writes images one by one, so that memory stays flat, and shows them once they are whole."""
    partial = f"{kept}.{os.getpid()}"
    try:
        os.makedirs(partial)
        with open(os.path.join(partial, "images.npy"), "wb") as file:
            _start(file, shape)
            labels = [label for image, label in examples if file.write(image.tobytes())]
        np.save(os.path.join(partial, "labels.npy"), np.array(labels, np.int32))
        if not os.path.isdir(kept):  # else another process was faster
            os.rename(partial, kept)
    except OSError as error:
        gib = np.prod(shape) / 2**30
        raise InputError(
            f"the decoded images cannot be written to {kept} ({error}); make room for {gib:.1f} "
            "GiB, or set the environment variable XDG_CACHE_HOME to a directory that has it"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _start(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header: Mapping[str, Any] = dict(descr="|u1", fortran_order=False, shape=shape)
    np.lib.format.write_array_header_1_0(file, header)
