"""Images with known classes, to be scored by a network that knows its classes by name.

A directory with `CLASS/...`, or with `test/CLASS/...`; a table (see `sources.manifest`), of which
the rows of the split `test` are taken if there are any; an array file (.npz, or a directory of
.npy) with `test_images` and `test_labels`, or `images` and `labels`, or those of `train`, and
`class_names`, without which the classes are called by their numbers; .tar files (see
`sources.webdataset`), or a pattern of them; or a source that needs no files, such as `digits`.

Everything that can be wrong with labels is found before the first image is scored. A class that
the network knows and the set lacks is fine; the other way round it is an error. Only shards with
numbers are matched by position: a network that was trained on shards may know their names from a
list. Of directories and tables, images of another size than the network's are left out.
"""

import dataclasses
import glob
import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources import arrays, folder, listing, manifest, survey
from ltssl_jax.data.sources.base import (
    CHECKS,
    Records,
    Settings,
    Skipped,
    Source,
    printable,
    visible,
)

_BEGINNINGS = ("test_", "", "train_")  # of the names of arrays; the first that is there counts


class Labeled(NamedTuple):
    """Images in their order.

    Attributes:
      records: their `labels` are numbers of the network's classes, all in `[0, K)`.
      skipped: what cannot be used.
      notes: what a person should know.
      is_test: the set says that these images are for testing.
    """

    records: Records
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    is_test: bool


class _Found(NamedTuple):
    """What lies at a path: of several parts the test images alone, if `is_test` says so."""

    source: Source
    is_test: bool
    notes: tuple[str, ...] = ()


def opened(
    path: str, class_names: Sequence[str], settings: Settings, size: tuple[int, int]
) -> Labeled:
    """Opens a set.

    Args:
      path: see above.
      class_names: `K` names of the network, by which classes are matched.
      settings: about images, and for tables about columns.
      size: height and width of the network's images.

    Raises:
      InputError: there is no such set, none of its images has a class, or one has a class that is
        not among `class_names`.
    """
    class_names = [visible(name) for name in class_names]
    settings = dataclasses.replace(settings, root=path, max_skipped=1.0)
    source, is_test, notes = _found(path, class_names, settings, size)
    records = source.train if source.test is None else source.test
    labels = _renumbered(records.labels, source.class_names, class_names, path)
    is_known = labels >= 0
    records = dataclasses.replace(records, labels=labels).take(np.flatnonzero(is_known))
    notes = list(notes)
    if num_unknown := int((~is_known).sum()):
        notes.append(f"{num_unknown:,} images without class are left out")
    absent = np.setdiff1d(np.arange(len(class_names)), records.labels)
    if len(absent):
        names = _some([class_names[k] for k in absent])
        notes.append(f"{len(absent)} of {len(class_names)} classes have no image: {names}")
    return Labeled(records, source.skipped, tuple(notes), is_test)


def _found(
    path: str, class_names: Sequence[str], settings: Settings, size: tuple[int, int]
) -> _Found:
    inside = os.listdir(path) if os.path.isdir(path) else []
    ending = os.path.splitext(path)[1].lower()
    if ending == ".tar" or any(name.endswith(".tar") for name in inside):
        return _shards(path, class_names, settings)
    if not os.path.exists(path):
        if path in sources.kinds():
            source = _load(path, settings, root="")
            return _Found(source, source.test is not None)
        raise InputError(
            f"{printable(path)} does not exist; give a directory of classes, a table of image files"
            " or an array file"
        )
    if ending == ".npz" or any(name.endswith("labels.npy") for name in inside):
        return _arrays(path, len(class_names), settings)
    rows, skipped = _directory(path) if os.path.isdir(path) else _table(settings)
    rows = [row._replace(label=visible(row.label)) for row in rows]
    _check_known({row.label for row in rows if row.label}, class_names, path)
    is_test = all(row.part == "test" for row in rows)
    rows, odd = (rows, []) if settings.image_size else _of_size(rows, settings, size, path)
    source = listing.build(
        [row._replace(part="train") for row in rows],
        settings,
        name=printable(path),
        class_names=class_names,
        skipped=[*skipped, *odd],
    )
    return _Found(source, is_test)


def _of_size(
    rows: Sequence[listing.Row], settings: Settings, size: tuple[int, int], path: str
) -> tuple[list[listing.Row], list[Skipped]]:
    """Parts the rows with images of the network's size, and what is none, from all others."""
    seen = survey.survey(
        [row.path for row in rows],
        [listing.file_stamp(row.path) for row in rows],
        is_decoding=settings.check == CHECKS[0],
        progress=settings.progress,
    )
    fitting, odd = [], []
    for row, fact in zip(rows, seen, strict=True):
        if isinstance(fact, str) or (fact.height, fact.width) == size:
            fitting.append(row)
        else:
            why = f"{fact.height}x{fact.width} pixels instead of {size[0]}x{size[1]}"
            odd.append(Skipped(row.name, row.part, why))
    if not fitting:
        raise InputError(
            f"no image of {printable(path)} has the size that the network was trained on (first:"
            f" {odd[0].name}, {odd[0].reason}); resize them"
        )
    return fitting, odd


def _directory(path: str) -> tuple[list[listing.Row], list[Skipped]]:
    """Lists the images below the directories of classes."""
    tests = os.path.join(path, "test")
    top, part = (tests, "test") if os.path.isdir(tests) else (path, "train")
    rows, skipped = [], []
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("."):
            for file in folder.files(entry.path, part, skipped, root=path):
                name = printable(os.path.relpath(file, path))
                rows.append(listing.Row(file, name, part, printable(entry.name)))
    if not rows:
        raise InputError(f"{printable(path)} has no images in directories of classes; give others")
    return rows, skipped


def _table(settings: Settings) -> tuple[list[listing.Row], list[Skipped]]:
    """Lists the rows of a table; if some are for testing, these."""
    rows, skipped = manifest.listed(settings)
    tests = [row for row in rows if row.part == "test"]
    if tests:
        return tests, [one for one in skipped if one.part == "test"]
    return [row for row in rows if row.part != "pool"], skipped


def _arrays(path: str, num_classes: int, settings: Settings) -> _Found:
    names = {f"{start}{what}" for start in _BEGINNINGS for what in ("images", "labels")}
    found, all_names = arrays.read(path, names | {"class_names"})
    for start in _BEGINNINGS:
        if {f"{start}images", f"{start}labels"} <= found.keys():
            given = {f"train_{what}": found[f"{start}{what}"] for what in ("images", "labels")}
            numbers = np.array([str(k) for k in range(num_classes)])
            given["class_names"] = found.get("class_names", numbers)
            source = arrays.of(given, _about_images(settings), path)
            return _Found(source, start == _BEGINNINGS[0])
    raise InputError(
        f"{printable(path)} has {', '.join(sorted(all_names)) or 'no arrays'}; call the images"
        " test_images and their classes test_labels"
    )


def _shards(path: str, class_names: Sequence[str], settings: Settings) -> _Found:
    tests = os.path.join(path, "test*.tar")
    is_test = bool(glob.glob(tests))
    # Listed as names, too, to see whether there are any.
    places = [k for k in range(len(class_names)) if str(k) not in class_names]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as classes:
        classes.write("\n".join([*class_names, *map(str, places)]))
        classes.flush()
        root = tests if is_test else path
        source = _load("webdataset", settings, root=root, classes=classes.name)
    note = f"classes are numbers: 0 is taken for {class_names[0]!r}, and so on"
    notes = (note,) * bool(source.train.labels.max() >= len(class_names))
    named = *class_names, *(class_names[k] for k in places)
    return _Found(dataclasses.replace(source, class_names=named), is_test, notes)


def _load(kind: str, settings: Settings, **places: str) -> Source:
    asked = dataclasses.asdict(_about_images(settings)) | places
    return sources.load(kind, **asked)


def _about_images(settings: Settings) -> Settings:
    """Leaves out what only tables have."""
    return dataclasses.replace(settings, columns=Settings().columns, image_root="")


def _renumbered(
    labels: np.ndarray, names: Sequence[str], class_names: Sequence[str], path: str
) -> np.ndarray:
    """Numbers classes as the network does; -1 stays."""
    names = [visible(name) for name in names]
    used = [names[k] for k in np.unique(labels[labels >= 0])]
    _check_known(used, class_names, path)
    if not used:
        raise InputError(f"no image of {printable(path)} has a class; give labels")
    numbers = {name: k for k, name in enumerate(class_names)}
    return np.array([*(numbers.get(name, -1) for name in names), -1], np.int32)[labels]


def _check_known(names: Iterable[str], class_names: Sequence[str], path: str) -> None:
    strangers = sorted(set(names) - set(class_names))
    if strangers:
        raise InputError(
            f"{printable(path)} has classes that the network was not trained on:"
            f" {_some(strangers)}; it knows {_some(class_names)}: give them the same"
            " names, or leave these images out"
        )


def _some(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
