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
from collections.abc import Mapping
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from ltssl_jax import experiment, handover, methods
from ltssl_jax.core import InputError
from ltssl_jax.data import growth
from ltssl_jax.monitoring.progress import printer
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.monitoring.terminal import percent
from ltssl_jax.training import optim
from ltssl_jax.training.ema import Averaging

BEGINNINGS = ("scratch", "backbone", "network")
# What the stages of an experiment share: rows of the pool must mean the same images in all of them.
_SHARED = ("source", "split", "image_size", "resize", "channels")
# What may be changed without making a stage another one.
INDIFFERENT = (
    "baseline",
    "monitoring",
    "parallel",
    "train.log_every",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.eval_batch_size",
    "data.feed",
    "data.kept_gib",
    "data.source.root",
    "data.source.image_root",
    "data.source.download",
    "data.source.check",
)


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
      InputError: see `experiment.train`; or a stage is described wrongly, or otherwise than when
        it was begun.
    """
    names = tuple(config.stages.order)
    if not names:
        plain = without_stages(config)
        return experiment.train(plain, workdir, command=command, is_quiet=is_quiet)
    records = RunDirectory(workdir, is_writer=jax.process_index() == 0)
    directories = [records.path / f"{n + 1}_{name}" for n, name in enumerate(names)]
    configs, finished, previous, result = check(config), [], None, {}
    for name, stage, directory in zip(names, configs, directories, strict=True):
        _check_unchanged(directory, stage, config.stages[name])
        stated = {"directories": [d.name for d in directories], "finished": finished}
        records.write_json("stages.json", stated)
        result = result_of(directory)
        if result and jax.process_index() == 0:
            printer(is_quiet=is_quiet).print(_as_finished(directory, result))
        if not result:
            start = handover.start(
                config.stages[name], stage, previous, directory, is_quiet=is_quiet
            )
            result = experiment.train(
                stage, directory, command=command, is_quiet=is_quiet, start=start
            )
        if not result:
            return {}
        previous, finished = directory, [*finished, directory.name]
    records.write_json("stages.json", {"directories": finished, "finished": finished})
    records.write_json("result.json", result)
    return result


def without_stages(config: ConfigDict) -> ConfigDict:
    """Returns the configuration of one run: what all stages share."""
    config = config.copy_and_resolve_references().unlock()
    config.stages = ConfigDict(dict(order=()))
    return config.lock()


def result_of(directory: pathlib.Path) -> dict[str, Any]:
    """Returns the content of `result.json`; empty until a run, or a stage, has finished."""
    try:
        return json.loads((directory / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def check(config: ConfigDict) -> list[ConfigDict]:
    """Returns the configuration of every stage, before the first one begins.

    Raises:
      InputError: see `staged`; or a method, an optimizer or a rule of one of them cannot be built.
    """
    if not config.stages.order:
        return [without_stages(config)]
    configs = [staged(config, number) for number in range(len(config.stages.order))]
    for name, stage in zip(config.stages.order, configs, strict=True):
        methods.make(**stage.method.to_dict())
        optim.make(**stage.optim, total_steps=stage.train.steps)
        Averaging(**stage.ema)
        rule = config.stages[name].growth.to_dict()
        growth.check(rule.pop("rule"), {k: v for k, v in rule.items() if k != "keeps"})
    return configs


def staged(config: ConfigDict, number: int) -> ConfigDict:
    """Returns the configuration of stage `number` (from 0), with its changes.

    Raises:
      InputError: the stage is not described, or changes something that there is not.
    """
    known = [key for key in config.stages if key != "order"]
    for name in config.stages.order:
        if name not in known:
            raise InputError.unknown("stage in stages.order:", name, known)
    name = config.stages.order[number]
    stage = config.stages[name]
    if stage.begin not in BEGINNINGS:
        raise InputError.unknown(f"stages.{name}.begin", stage.begin, BEGINNINGS)
    if number == 0 and (stage.begin != "scratch" or stage.growth.rule):
        raise InputError(
            f"stages.{name} is the first stage and takes something over from the one before it;"
            " set its begin='scratch' and its growth.rule=''"
        )
    plain = _changed(config, name)
    if counting := _counting(plain.method):
        others = [_counting(_changed(config, name).method) for name in config.stages.order]
        # A stage of another method, such as a pre-training, is no generation.
        is_one = [other is not None and other.name == counting.name for other in others]
        counting.generation = sum(is_one[:number])
        InputError.check(
            sum(is_one) == counting.num_generations,
            f"num_generations of {counting.name!r}",
            counting.num_generations,
            f"{sum(is_one)}, as many as there are stages of it in stages.order",
        )
    return plain.lock()


def _counting(method: ConfigDict) -> ConfigDict | None:
    """Returns the settings, of a method or of a base in it, that count generations, if any do."""
    while method is not None and "num_generations" not in method:
        method = method.get("base")
    return method


def _changed(config: ConfigDict, name: str) -> ConfigDict:
    """Returns what all stages share with the changes of one; unlocked."""
    plain = without_stages(config).unlock()
    for block, changes in config.stages[name].changes.items():
        _change(plain, f"stages.{name}.changes.{block}", block, changes)
    return plain


def _change(plain: ConfigDict, what: str, block: str, changes: Any) -> None:
    """Changes fields of a block; a method or a model with another name is another block."""
    blocks = [key for key, value in plain.items() if isinstance(value, ConfigDict)]
    if block not in blocks or block == "stages":
        raise InputError.unknown(f"block of {what.rpartition('.')[0]}:", block, blocks)
    if not isinstance(changes, Mapping | ConfigDict):
        raise InputError(f"{what} is {changes!r}; give a dictionary of fields")
    if block in ("method", "model") and "name" in changes:
        plain[block] = changes
        return
    for field, value in changes.items():
        if field not in plain[block]:
            raise InputError.unknown(f"field of {what}:", field, plain[block])
        if block == "data" and field in _SHARED:
            raise InputError(
                f"{what}.{field} is changed, but all stages share their images; change data.{field}"
            )
        try:
            plain[block][field] = value
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{what}.{field} is {value!r}; it must be like {plain[block][field]!r}"
            ) from error


# --- is it the experiment that was begun? ---------------------------------------------------------


def _check_unchanged(directory: pathlib.Path, config: ConfigDict, stage: ConfigDict) -> None:
    """Compares a stage that was begun with what is asked for; writes it down if it was not.

    Raises:
      InputError: something that matters is different; every such field is named.
    """
    asked = {"config": config.to_dict(), "begin": stage.begin, "growth": stage.growth.to_dict()}
    asked["config"].pop("stages")
    path = directory / "stage.json"
    if not path.exists():
        RunDirectory(directory, is_writer=jax.process_index() == 0).write_json(path.name, asked)
        return
    ours = flatten_dict(json.loads(json.dumps(asked)), sep=".")
    theirs = flatten_dict(json.loads(path.read_text(encoding="utf-8")), sep=".")
    if not (directory / "result.json").exists():  # may be made longer
        ours["config.train.steps"] = theirs["config.train.steps"]
    different = [
        f"{field.removeprefix('config.')}: then {theirs.get(field)!r}, now {ours.get(field)!r}"
        for field in sorted(ours | theirs)
        if ours.get(field) != theirs.get(field)
        and not field.removeprefix("config.").startswith(INDIFFERENT)
    ]
    if different:
        raise InputError(
            f"{directory} was begun with another configuration; give another --workdir, or undo"
            " the difference:\n  " + "\n  ".join(different)
        )


def _as_finished(directory: pathlib.Path, result: Mapping[str, Any]) -> str:
    score = percent(result["test"]["balanced_accuracy"])
    return f"{directory} is finished: test balanced accuracy {score} %"
