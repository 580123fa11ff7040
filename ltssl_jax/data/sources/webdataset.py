"""Shards as WebDataset writes them: tar files with images and, beside each, its label.

`root`: a directory of shards whose names begin with their part (`train-0000.tar`, `val-...`,
`test-...`, `pool-...`), or a pattern of the training shards (`data/shard-*.tar`); others by
`data.source.val`, `test` and `pool`. `KEY.jpg` (or another format that Pillow reads) belongs to
`KEY.cls`, name or number of its class, or to `KEY.json`: `{"label": ..., "group": ...}`, called so
or as `data.source.columns` says. An image without label, or with -1, is for the pool.

Shards are never unpacked: what lies where in them is listed once, images are read at their places.
"""

import functools
import glob
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import (
    COLUMNS,
    PARTS,
    Settings,
    Skipped,
    Source,
    printable,
    read_classes,
)
from ltssl_jax.data.sources.listing import Row, build, file_stamp

USES = ("root", "val", "test", "pool", "classes", "columns")

Sample = dict[str, tarfile.TarInfo]  # the files of one key, by what follows its first dot

_BLOCK = 512  # bytes of a block of a tar file; one of zeros ends it
_MAX_LABEL = 2**20  # bytes


def load(settings: Settings) -> Source:
    """Lists the shards; images are decoded when they are read.

    Raises:
      InputError: there are no shards, one is none or belongs to no part, or see `listing.build`.
    """
    shards = _shards(settings)
    top = os.path.commonpath([os.path.dirname(path) for paths in shards.values() for path in paths])
    rows: list[Row] = []
    skipped: list[Skipped] = []
    places: dict[str, tuple] = {}  # shard, offset and size of each image, and stamp of the shard
    for part, paths in shards.items():
        for path in paths:
            rows += _rows(path, os.path.relpath(path, top), part, settings, skipped, places)
    labels = {row.label for row in rows if row.part == "train" and row.label}
    are_numbers = all(label.isdecimal() for label in labels)
    return build(
        rows,
        settings,
        name=printable(os.path.basename(top)),
        class_names=sorted(labels, key=int if are_numbers else str),
        skipped=skipped,
        open_file=lambda path: io.BytesIO(_bytes(*places[path][:3])),
        stamp=lambda path: places[path][1:],
    )


def _rows(shard, called, part, settings, skipped, places) -> Iterator[Row]:
    """Yields the images of a shard, each with its label, and notes where they are."""
    names = read_classes(settings.classes) if settings.classes else ()
    columns = {role: str(name) for role, name in {**COLUMNS, **settings.columns}.items()}
    called, stamp = printable(called), file_stamp(shard)
    for key, sample in _samples(shard, called, part, skipped).items():
        name = f"{called}/{printable(key)}"
        try:
            image = _image(sample)
            label, group = _label(sample, shard, columns)
        except (ValueError, RecursionError) as error:  # the latter by JSON
            skipped.append(Skipped(name, part, str(error)))
            continue
        if label.isdecimal() and label not in names and int(label) < len(names):
            label = names[int(label)]
        path = f"{shard}/{printable(image.name)}"
        places[path] = (shard, image.offset_data, image.size, *stamp)
        yield Row(path, name, part, label, group)


def _shards(settings: Settings) -> dict[str, list[str]]:
    """Returns the shards of each part, sorted."""
    asked = {part: getattr(settings, part) for part in PARTS[1:] if getattr(settings, part)}
    others = {part: _matching(place, part) for part, place in asked.items()}
    found = _matching(settings.root, "root")
    if not os.path.isdir(os.path.expanduser(settings.root)):
        return {"train": found, **others}
    named: dict[str, list[str]] = {}
    for shard in found:
        part = re.match(r"(train|val|test|pool)(?![a-z])", os.path.basename(shard))
        if not part:
            raise InputError(
                f"{shard} is of no part: begin its name with {', '.join(PARTS)}, or give a pattern "
                "of the training shards as data.source.root, and of others as val, test and pool"
            )
        named.setdefault(part[1], []).append(shard)
    named |= others
    return {part: named[part] for part in PARTS if part in named}  # the pool last


def _matching(place: str, field: str) -> list[str]:
    path = os.path.abspath(os.path.expanduser(place))
    pattern = os.path.join(glob.escape(path), "*.tar") if os.path.isdir(path) else path
    found = [path] if os.path.isfile(path) else sorted(glob.glob(pattern))
    if not found or not place:
        raise InputError(
            f"data.source.{field} is {place!r}, where there is no shard (*.tar); give a directory "
            "of shards or a pattern such as 'data/train-*.tar'"
        )
    return found


def _samples(shard: str, called: str, part: str, skipped: list[Skipped]) -> dict[str, Sample]:
    """Lists a shard; what cannot be used of it joins `skipped`."""
    samples: dict[str, Sample] = {}
    end, size = 0, os.path.getsize(shard)
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK * member.isreg()
                directory, slash, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")
                if member.isdir() or not stem or ending.lower() not in _endings():
                    continue
                sample = samples.setdefault(f"{directory}{slash}{stem}", {})
                why = _why_not(member, size) or ending.lower() in sample and "a second such file"
                if why:
                    skipped.append(Skipped(f"{called}/{printable(member.name)}", part, why))
                else:
                    sample[ending.lower()] = member
    except Exception as error:  # tarfile raises what it likes on files that are none
        if not end:
            raise InputError(
                f"{shard} cannot be read as a shard ({error}); write it again as a tar file that "
                "is not compressed, or remove it"
            ) from error
    if end and _bytes(shard, end, _BLOCK) != bytes(_BLOCK):
        skipped.append(Skipped(called, part, "the shard ends early; what may follow is lost"))
    return {key: sample for key, sample in samples.items() if sample}


@functools.cache
def _endings() -> frozenset[str]:
    formats = Image.registered_extensions()  # loads Pillow's plugins, which fill Image.OPEN
    return frozenset({e[1:] for e, name in formats.items() if name in Image.OPEN} | {"cls", "json"})


def _why_not(member: tarfile.TarInfo, size: int) -> str:
    if not member.isreg() or member.issparse():
        return "a link, a device or a sparse file"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "its name leads out of the shard"
    return "the shard ends within it" if member.offset_data + member.size > size else ""


def _image(sample: Sample) -> tarfile.TarInfo:
    found = [member for ending, member in sample.items() if ending not in ("cls", "json")]
    if len(found) != 1:
        raise ValueError("several images of one key" if found else "a label without an image")
    return found[0]


def _label(sample: Sample, shard: str, columns: Mapping[str, str]) -> tuple[str, str]:
    """Returns class and group of a sample, as far as they are known; raises ValueError."""
    label = group = ""
    if "json" in sample:
        facts = json.loads(_text(sample["json"], shard))
        if not isinstance(facts, dict):
            raise ValueError("its JSON is no object")
        label, group = _word(facts.get(columns["label"])), _word(facts.get(columns["group"]))
    if "cls" in sample:
        label = _text(sample["cls"], shard).strip()
        if not label:
            raise ValueError("its label is empty")
    return "" if label == "-1" else label, group


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{value!r} in its JSON is neither text nor a whole number")
    return str(value).strip()


def _text(member: tarfile.TarInfo, shard: str) -> str:
    if member.size > _MAX_LABEL:
        raise ValueError("its label is longer than 1 MiB")
    try:
        return _bytes(shard, member.offset_data, member.size).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("its label is no text in UTF-8") from error


def _bytes(shard: str, offset: int, size: int) -> bytes:
    with open(shard, "rb") as file:  # of its own: threads do not share a position
        file.seek(offset)
        return file.read(size)
