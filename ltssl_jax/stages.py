"""Several trainings, one after the other, as one experiment: `config.stages`.

Pre-train and fine-tune, generations with a growing labeled set, a classifier trained again on a
frozen backbone: each stage is an ordinary run in a directory of its own, with the configuration's
blocks and what the stage changes in them. It may begin with the weights of the stage before, and
with pseudo-labels made from what that network says of the pool. An interrupted experiment goes on
where it was, in the middle of a stage or between two.

    config.stages.order = ("pretrain", "finetune")
    config.stages.pretrain = defaults.stage(method=defaults.method("rotation"))
    config.stages.finetune = defaults.stage(begin="backbone")

A name that stands in the order several times is a stage that is repeated.
"""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax import experiment, planning, trained
from ltssl_jax.core import InputError
from ltssl_jax.data import growth
from ltssl_jax.data.growth import Candidates, Grown
from ltssl_jax.planning import Start
from ltssl_jax.report.progress import progress
from ltssl_jax.report.records import RunDirectory

BEGINNINGS = ("scratch", "backbone", "network")
_CHUNK = 1024  # images read at once


def train(
    config: ConfigDict, workdir: str | os.PathLike, *, command: str = "", is_quiet: bool = False
) -> dict[str, Any]:
    """Trains all stages; without any it is `experiment.train`.

    Args:
      config: see `defaults.base`; what its `stages` change is said there.
      workdir: the directory of the whole, with one directory per stage.
      command: what the user typed.
      is_quiet: print nothing.

    Returns:
      The result of the last stage; empty if it was interrupted, and can be continued.

    Raises:
      InputError: see `experiment.train`; or a stage is described wrongly.
    """
    plain, names = without_stages(config), tuple(config.stages.order)
    if not names:
        return experiment.train(plain, workdir, command=command, is_quiet=is_quiet)
    configs = check(config)
    records, previous = RunDirectory(workdir, is_writer=jax.process_index() == 0), None
    result: dict[str, Any] = {}
    for number, stage in enumerate(configs):
        directory = records.path / f"{number + 1}_{names[number]}"
        result = _finished(directory)
        if not result:
            start = _start(config.stages[names[number]], plain, previous, directory, is_quiet)
            result = experiment.train(
                stage, directory, command=command, is_quiet=is_quiet, start=start
            )
        if not result:
            return {}
        previous = directory
        records.write_json("stages.json", {"finished": [d.name for d in _until(previous)]})
    records.write_json("result.json", result)
    return result


def without_stages(config: ConfigDict) -> ConfigDict:
    """Returns the configuration of one run: what all stages share."""
    config = config.copy_and_resolve_references().unlock()
    config.stages = ConfigDict(dict(order=()))
    return config.lock()


def check(config: ConfigDict) -> list[ConfigDict]:
    """Returns the configuration of every stage, before the first one begins.

    Raises:
      InputError: see `staged`.
    """
    if not config.stages.order:
        return [without_stages(config)]
    return [staged(config, number) for number in range(len(config.stages.order))]


def staged(config: ConfigDict, number: int) -> ConfigDict:
    """Returns the configuration of stage `number` (from 0), with its changes.

    Raises:
      InputError: the stage is not described, or changes a block that there is not.
    """
    name, plain = config.stages.order[number], without_stages(config).unlock()
    if name not in config.stages:
        known = [key for key in config.stages if key != "order"]
        raise InputError.unknown("stage in stages.order:", name, known)
    stage = config.stages[name]
    if stage.begin not in BEGINNINGS:
        raise InputError.unknown(f"stages.{name}.begin", stage.begin, BEGINNINGS)
    if stage.growth.rule and stage.growth.rule not in growth.RULES:
        raise InputError.unknown(f"stages.{name}.growth.rule", stage.growth.rule, growth.RULES)
    if number == 0 and (stage.begin != "scratch" or stage.growth.rule):
        raise InputError(
            f"stages.{name} is the first stage and takes something over from the one before it;"
            " set its begin='scratch' and its growth.rule=''"
        )
    for block, changes in stage.changes.items():
        if block not in plain or block == "stages":
            raise InputError.unknown(f"block of stages.{name}.changes:", block, plain)
        if block == "method":
            plain.method = changes
        else:
            plain[block].update(changes)
    if "generation" in plain.method:
        # A stage of another method, such as a pre-training, is no generation.
        earlier = (config.stages[name].changes for name in config.stages.order[:number])
        names = [changes.get("method", config.method).name for changes in earlier]
        plain.method.generation = names.count(plain.method.name)
    return plain.lock()


def _finished(directory: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads((directory / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _until(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the directories of the stages up to this one."""
    last = int(directory.name.split("_")[0])
    for path in sorted(directory.parent.iterdir()):
        number = path.name.split("_")[0]
        if number.isdecimal() and int(number) <= last:
            yield path


# --- from one stage to the next -------------------------------------------------------------------


def _start(
    stage: ConfigDict,
    config: ConfigDict,
    previous: pathlib.Path | None,
    directory: pathlib.Path,
    is_quiet: bool,
) -> Start:
    """Collects what a stage takes over; pseudo-labels are made once and kept in its directory."""
    if previous is None:
        return Start()
    story, before = f"{stage.begin} of {previous.name}", trained.load(previous, "latest")
    grown = (_kept(previous) if stage.growth.keeps else None) or Grown.nothing()
    if stage.growth.rule:
        story += f", labels by {stage.growth.rule}"
        grown = _kept(directory) or _grown(stage, config, before, grown, directory, is_quiet)
    weights = None if stage.begin == "scratch" else before.state
    return Start(grown, weights, "backbone" if stage.begin == "backbone" else "network", story)


def _kept(directory: pathlib.Path) -> Grown | None:
    path = directory / "pseudo_labels.npz"
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return Grown(arrays["rows"], arrays["labels"])


def _grown(stage, config, before, earlier, directory, is_quiet) -> Grown:
    """Asks the network of the stage before about the pool, and applies the rule."""
    settings = stage.growth.to_dict()
    rule, _ = settings.pop("rule"), settings.pop("keeps")
    source, split = planning.load_data(config)
    with progress(is_quiet=is_quiet) as report:
        candidates = _candidates(before, source, split, earlier, report)
    new = growth.grown(rule, candidates, **settings)
    together = growth.united(earlier, new)
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / "pseudo_labels.partial.npz"
    np.savez_compressed(partial, rows=together.rows, labels=together.labels)
    partial.replace(directory / "pseudo_labels.npz")
    return together


def _candidates(before, source, split, earlier, report) -> Candidates:
    is_free = ~split.is_labeled
    is_free[earlier.rows] = False
    logits, features = _answers(before, source.train.take(split.unlabeled), "pool", report)
    _, labeled = _answers(before, source.train.take(split.labeled), "labeled images", report)
    return Candidates(
        probs=trained.softmax(logits),
        features=features,
        labeled_features=np.concatenate([labeled, features[earlier.rows]]),
        labels=np.concatenate([source.train.labels[split.labeled], earlier.labels]),
        labeled_counts=split.labeled_counts,
        is_free=is_free,
    )


def _answers(before, records, what, report) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits `[N, K]` and features `[N, D]` of all images of `records`."""
    logits, features = [], []
    for first in range(0, len(records), _CHUNK):
        images = records.read(np.arange(first, min(first + _CHUNK, len(records))))
        logits.append(before.logits(images))
        features.append(before.features(images))
        report(f"asking the network about the {what}", first + len(images), len(records))
    return np.concatenate(logits), np.concatenate(features)
