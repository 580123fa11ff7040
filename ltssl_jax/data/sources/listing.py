"""From a list of files to a data set: what every source that has files does with its list.

Each image is used once (see `rows`). Files that cannot be used are left out and listed. Records
are in the given order, the pool last.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import images, survey
from ltssl_jax.data.sources.base import (
    CHECKS,
    ELSEWHERE,
    PARTS,
    Records,
    Settings,
    Skipped,
    Source,
    hash_of,
    read_classes,
    tally,
    visible,
)
from ltssl_jax.data.sources.rows import Row, each_once


def file_stamp(path: str) -> tuple[int, ...]:
    """Returns place, size and time of a file, or nothing if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def build(
    rows: Sequence[Row],
    settings: Settings,
    *,
    name: str,
    class_names: Sequence[str] | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
    open_file: images.OpenFile = images.plain_open,
    stamp: Callable[[str], tuple[int, ...]] = file_stamp,
) -> Source:
    """Makes a data set of the files in a list.

    Args:
      rows: the files, of all parts.
      settings: what the user said.
      name: of the data set, unless `settings` has one.
      class_names: the classes, where they are known otherwise than by labels; the file
        `settings.classes` goes before.
      skipped: rows that were left out already.
      notes: what is known already that a person should know.
      open_file: how the path of a row is opened.
      stamp: what changes when the file of a row does.

    Raises:
      InputError: no image of `train` has a label, a class is unknown to it, too many files cannot
        be used, images differ in size without `settings.image_size`, or see `rows.each_once`.
    """
    names = _class_names(rows, settings, class_names)
    # As reports write them, lest a label that is copied from one be another class.
    written = {label: visible(label) for label in {row.label for row in rows}}
    rows = [row._replace(label=written[row.label]) for row in rows]
    stamps = {row.path: stamp(row.path) for row in rows}
    rows, doubled = each_once(rows, stamps, is_plain=open_file is images.plain_open)
    _check_classes(rows, names)
    found = survey.survey(
        [row.path for row in rows],
        [stamps[row.path] for row in rows],
        open_file=open_file,
        is_decoding=settings.check == CHECKS[0],
        progress=settings.progress,
    )
    broken = [
        Skipped(row.name, row.part, why)
        for row, why in zip(rows, found, strict=True)
        if isinstance(why, str)
    ]
    skipped = (*skipped, *doubled, *broken)
    used = [(row, fact) for row, fact in zip(rows, found, strict=True) if not isinstance(fact, str)]
    _check_share(used, skipped, settings.max_skipped)
    make = _maker(used, settings, names, open_file, stamps)
    train, val, test = make(("train", "pool")), make(("val",)), make(("test",))
    if train is None or not _is_labeled(train).any():
        raise InputError(
            f"data set {settings.name or name!r} has no labeled training image; label some images "
            "of each class"
        )
    notes = (*notes, *notes_on(train, names))
    return Source(settings.name or name, train, test, names, val, skipped, notes)


def _class_names(rows, settings, class_names) -> tuple[str, ...]:
    if settings.classes:
        class_names = read_classes(settings.classes)
    elif class_names is None:
        class_names = sorted({row.label for row in rows if row.part == "train" and row.label})
    return tuple(dict.fromkeys(map(visible, class_names)))


def _check_classes(rows: Sequence[Row], class_names: tuple[str, ...]) -> None:
    known = set(class_names)
    for part in ("train", "val", "test"):
        strangers = sorted({r.label for r in rows if r.part == part and r.label} - known)
        if strangers:
            first = next(row.name for row in rows if row.part == part and row.label in strangers)
            raise InputError(
                f"the {part} images have classes that are unknown: {_some(strangers)} (first: "
                f"{first}); known are the classes of the training images, or the lines of the file "
                "data.source.classes: correct the labels, or name the classes there"
            )


def _check_share(used, skipped: Sequence[Skipped], allowed: float) -> None:
    for part in PARTS:
        lost = [s for s in skipped if s.part == part and not s.reason.startswith(ELSEWHERE)]
        total = len(lost) + sum(row.part == part for row, _ in used)
        if lost and len(lost) == total:
            reasons = tally(s.reason for s in lost)
            raise InputError(
                f"none of the {total:,} {part} images can be used ({reasons}; first: "
                f"{lost[0].name}); are the paths right (data.source.image_root says where those "
                "in a table begin)?"
            )
        if len(lost) > allowed * total:
            reasons = tally(s.reason for s in lost)
            raise InputError(
                f"{len(lost):,} of {total:,} {part} images cannot be used ({reasons}; first: "
                f"{lost[0].name}), more than data.source.max_skipped={allowed}; correct them, or "
                "raise it to train without them; `python -m ltssl_jax.inspect` lists them all"
            )


def _maker(used, settings, class_names, open_file, stamps):
    """Returns the function from parts to their records, which all have one policy and shape."""
    seen = [fact for row, fact in used if row.part == "train"] or [fact for _, fact in used]
    channels = settings.channels or (1 if all(fact.channels == 1 for fact in seen) else 3)
    policy = images.Policy(settings.image_size, settings.resize, channels)
    shape = (*_size(used, settings.image_size), channels)
    number = {label: k for k, label in enumerate(class_names)}
    groups = {g: i for i, g in enumerate(sorted({row.group for row, _ in used if row.group}))}
    num_threads = images.threads(seen[0].width, seen[0].height) if seen else 1

    def make(parts: tuple[str, ...]) -> Records | None:
        rows, headers = [], []
        for row, fact in used:
            if row.part in parts:
                rows.append(row)
                headers.append(fact)
        if not rows:
            return None
        labels = np.array([number.get(row.label, -1) for row in rows], np.int32)
        is_pool = np.array([row.part == "pool" for row in rows]) | (labels < 0)
        order = np.argsort(is_pool, kind="stable")
        rows = [rows[i] for i in order]
        paths = tuple(row.path for row in rows)
        is_grouped = any(row.group for row in rows)
        return Records(
            labels=labels[order],
            read=images.reader(paths, policy, shape, num_threads=num_threads, open_file=open_file),
            image_shape=shape,
            names=tuple(row.name for row in rows),
            groups=np.array([groups.get(r.group, -1) for r in rows]) if is_grouped else None,
            is_pool=is_pool[order] if is_pool.any() else None,
            headers=np.array(headers, np.int32)[order],
            files=paths if open_file is images.plain_open else None,
            digest=hash_of(
                repr([(path, stamps[path]) for path in paths]).encode(), repr(policy).encode()
            ),
        )

    return make


def _size(used, image_size: int) -> tuple[int, int]:
    """Returns height and width of all images, or says that they differ."""
    if image_size or not used:
        return image_size, image_size
    (row, first), *others = used
    for other, fact in others:
        if fact[:2] != first[:2]:
            raise InputError(
                f"images differ in size: {row.name} has {first.height}x{first.width} pixels (height"
                f" x width), {other.name} {fact.height}x{fact.width}; set data.image_size="
                f"{min(*first[:2], *fact[:2])} to make all of them one square"
            )
    return first.height, first.width


def notes_on(train: Records, class_names: Sequence[str]) -> list[str]:
    """Says which classes nothing teaches."""
    counts = np.bincount(train.labels[_is_labeled(train)], minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if not empty:
        return []
    return [
        f"{len(empty)} of {len(class_names)} classes have no labeled image: {_some(empty)}; "
        "they are kept, but nothing teaches them"
    ]


def _is_labeled(train: Records) -> np.ndarray:
    return train.labels >= 0 if train.is_pool is None else ~train.is_pool


def _some(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(map(repr, names[:limit]))
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
