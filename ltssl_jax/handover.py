"""From one stage to the next: weights, and labels for the pool by what the network says of it."""

import json
import pathlib

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from ltssl_jax import planning, trained
from ltssl_jax.data import growth
from ltssl_jax.data.growth import Candidates, Grown
from ltssl_jax.data.sources.base import hash_of
from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.monitoring.progress import progress
from ltssl_jax.planning import Start

_CHUNK = 1024  # images read at once


def start(
    stage: ConfigDict,
    config: ConfigDict,
    previous: pathlib.Path | None,
    directory: pathlib.Path,
    *,
    is_quiet: bool = False,
) -> Start:
    """Collects what a stage takes over; its pseudo-labels are made once and kept.

    Args:
      stage: its block in `config.stages`.
      config: that of the run.
      previous: the directory of the stage before, or None.
      directory: of the stage.
      is_quiet: print nothing.
    """
    if previous is None:
        return Start()
    before = trained.load(previous, "latest", num_devices=config.parallel.num_devices)
    card = json.loads((previous / "config.json").read_text(encoding="utf-8"))["identity"]
    story = f"{stage.begin} of {previous.name} ({hash_of(json.dumps(card).encode())[:8]})"
    grown, fingerprint = Grown.nothing(), ""
    if stage.growth.rule or stage.growth.keeps:
        if not (directory / "pseudo_labels.npz").exists() and jax.process_index() == 0:
            _write(directory, *_grown(stage, config, before, previous, is_quiet))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("pseudo-labels")
        grown, fingerprint = _kept(directory)
        story += f", {stage.growth.rule or 'kept'} labels"
    weights = None if stage.begin == "scratch" else before.state
    return Start(grown, fingerprint, weights, stage.begin, story)


def _kept(directory: pathlib.Path) -> tuple[Grown, str]:
    """Returns the pseudo-labels of a stage, and of which split they are; there may be none."""
    path = directory / "pseudo_labels.npz"
    if not path.exists():
        return Grown.nothing(), ""
    with np.load(path) as arrays:
        return Grown(arrays["rows"], arrays["labels"]), str(arrays["split"])


def _write(directory: pathlib.Path, grown: Grown, fingerprint: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / "pseudo_labels.partial.npz"
    np.savez_compressed(partial, rows=grown.rows, labels=grown.labels, split=fingerprint)
    partial.replace(directory / "pseudo_labels.npz")


def _grown(stage, config, before, previous, is_quiet) -> tuple[Grown, str]:
    """Keeps the labels of the stage before, if asked to, and adds those of the rule."""
    settings = stage.growth.to_dict()
    rule, keeps = settings.pop("rule"), settings.pop("keeps")
    source, split = planning.load_data(config)
    earlier = _kept(previous)[0] if keeps else Grown.nothing()
    if not rule:
        return earlier, split.fingerprint
    with progress(is_quiet=is_quiet) as report:
        candidates = _candidates(before, source, split, earlier, report)
    return growth.united(earlier, growth.grown(rule, candidates, **settings)), split.fingerprint


def _candidates(before, source, split, earlier, report) -> Candidates:
    is_free = ~split.is_labeled
    is_free[earlier.rows] = False
    pool = _answers(before, source.train.take(split.unlabeled), "pool", report)
    labeled = _answers(before, source.train.take(split.labeled), "labeled images", report)
    return Candidates(
        probs=softmax(pool.logits),
        features=pool.features,
        labeled_features=np.concatenate([labeled.features, pool.features[earlier.rows]]),
        labels=np.concatenate([source.train.labels[split.labeled], earlier.labels]),
        labeled_counts=split.labeled_counts,
        is_free=is_free,
    )


def _answers(before, records, what, report) -> trained.Answers:
    """Asks the network about all images of `records`."""
    parts = []
    for first in range(0, len(records), _CHUNK):
        images = records.read(np.arange(first, min(first + _CHUNK, len(records))))
        parts.append(before.answers(images))
        report(f"asking the network about the {what}", first + len(images), len(records))
    return trained.Answers(*map(np.concatenate, zip(*parts, strict=True)))
