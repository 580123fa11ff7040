"""From what a user says about images to a data set and its split."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ltssl_jax.data import holdout, protocols, sources
from ltssl_jax.data.sources import Source
from ltssl_jax.data.sources.base import Progress
from ltssl_jax.data.splits import Split


def opened(
    source: Mapping[str, Any],
    split: Mapping[str, Any],
    *,
    progress: Progress | None = None,
    **images: Any,
) -> tuple[Source, Split]:
    """Opens a source, holds out what is to be held out, and cuts the split.

    Args:
      source: `config.data.source`: a kind, its `sources.Settings`, and what is held out.
      split: `config.data.split`: the arguments of `protocols.cut`.
      progress: called while files are looked at.
      images: the settings about images: `image_size`, `resize`, `channels`.

    Raises:
      InputError: something said about the data, or the data, cannot work.
    """
    settings = dict(source)
    held = {name: settings.pop(name) for name in ("val_fraction", "test_fraction")}
    seed = settings.pop("holdout_seed")
    found = sources.load(settings.pop("kind"), **settings, **images, progress=progress)
    found = holdout.hold_out(found, **held, seed=seed)
    cut, notes = protocols.cut(
        found.train, num_classes=found.num_classes, dataset=source["name"] or found.name, **split
    )
    notes = (*found.notes, *notes, *_shared_groups(found, cut))
    return dataclasses.replace(found, notes=notes), cut


def _shared_groups(source: Source, split: Split) -> Iterator[str]:
    """Says where a given part shares groups with the training images: its numbers flatter."""
    if source.train.groups is not None and len(split.validation):
        yield (
            "data.split.validation_per_class divides groups, which makes numbers on validation too"
            " good; hold out by group (data.source.val_fraction)"
        )
    for part, records in (("test", source.test), ("val", source.val)):
        if records is None or records.groups is None or source.train.groups is None:
            continue
        is_shared = np.isin(source.train.groups, records.groups[records.groups >= 0])
        if is_shared.any():
            yield (
                f"{is_shared.sum():,} training images share a group with {part} images, which makes"
                f" numbers on {part} too good: hold out by group (data.source.test_fraction)"
            )
