"""ImageNet-127: the 1,000 classes of ImageNet-1k, merged into 127 groups of natural imbalance 286.

The groups are the parents of the classes in WordNet 3.0, and parents that lie below another of them
join it. The largest is `mammal` with 277,601 of the 1,281,167 training images, the smallest
`butterfly fish` with 969; as usual, the validation images are for testing. `imagenet127.txt` has a
line for each group: WordNet id, by which they are sorted, name, and WordNet ids of the classes.

Either `data.source.root` has directories `train/n01440764/...` and `val/n01440764/...` with images
of any size; or it is where TensorFlow Datasets keeps `imagenet_resized`, in the size that
`data.image_size` says: 64, or 32 if it is 0.

Source: Huh, Agrawal, Efros, "What makes ImageNet good for transfer learning?", arXiv:1608.08614;
long-tailed, semi-supervised: Wei et al., CReST, arXiv:2102.09559; at 32 and 64 pixels: Fan et al.,
CoSSL, arXiv:2112.04564. WordNet 3.0, copyright 2006 by Princeton University, under its licence.
"""

import dataclasses
import os
import pathlib

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import folder, listing, tfds
from ltssl_jax.data.sources.base import Records, Settings, Skipped, Source, printable

USES = ("root", "download")

_SIZES = (8, 16, 32, 64)


def load(settings: Settings) -> Source:
    """Reads the directories below `root`, where there are such, else the set of that size.

    Raises:
      InputError: see the sources `folder` and `tfds`; or a class is none of ImageNet-1k.
    """
    settings = dataclasses.replace(settings, name=settings.name or "imagenet127")
    root = os.path.abspath(os.path.expanduser(settings.root))
    if settings.root and os.path.isdir(os.path.join(root, "train")):
        return _from_directories(settings, root)
    return _from_tfds(settings)


def groups() -> dict[str, str]:
    """Returns the name of the group of each WordNet id, 1,000 of them, in the order of groups."""
    table = pathlib.Path(__file__).with_suffix(".txt").read_text(encoding="ascii")
    lines = (line[10:].split(": ") for line in table.splitlines())
    return {wnid: group for group, wnids in lines for wnid in wnids.split()}


def _from_directories(settings: Settings, root: str) -> Source:
    group_of = groups()
    rows: list[listing.Row] = []
    skipped: list[Skipped] = []
    for directory, part in (("train", "train"), ("val", "test")):
        top = os.path.join(root, directory)
        wnids = sorted(e.name for e in os.scandir(top) if e.is_dir()) if os.path.isdir(top) else []
        for wnid in wnids:
            _check_class(wnid, group_of, top)
            for path in folder.files(os.path.join(top, wnid), part, skipped, root=root):
                name = printable(os.path.relpath(path, root))
                rows.append(listing.Row(path, name, part, group_of[wnid]))
    class_names = list(dict.fromkeys(group_of.values()))
    return listing.build(rows, settings, name="", class_names=class_names, skipped=skipped)


def _check_class(wnid: str, group_of: dict[str, str], directory: str) -> None:
    if wnid not in group_of:
        raise InputError(
            f"{directory} has a directory {printable(wnid)!r}, which is no class of ImageNet-1k; "
            "the directories must be WordNet ids such as n01440764"
        )


def _from_tfds(settings: Settings) -> Source:
    size = settings.image_size or 32
    InputError.check(size in _SIZES, "data.image_size", size, f"one of {_SIZES} for imagenet127")
    resized = tfds.load(dataclasses.replace(settings, name=f"imagenet_resized/{size}x{size}"))
    group_of = groups()
    class_names = tuple(dict.fromkeys(group_of.values()))
    number = {group: k for k, group in enumerate(class_names)}
    merged = np.array([number[group_of[wnid]] for wnid in resized.class_names], np.int32)

    def merge(records: Records) -> Records:
        return dataclasses.replace(records, labels=merged[records.labels])

    return dataclasses.replace(
        resized,
        name=settings.name,
        train=merge(resized.train),
        test=resized.test and merge(resized.test),
        class_names=class_names,
    )
