"""From what a user says about images to a data set and its split."""

import dataclasses
from collections.abc import Mapping
from typing import Any

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
    return dataclasses.replace(found, notes=found.notes + notes), cut
