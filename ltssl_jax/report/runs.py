"""Reads run directories, finished or not: records only, neither images nor networks."""

import contextlib
import functools
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import predictions
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.monitoring import records as records_

BASELINES = "baseline"  # the directory, within that of a run, of the runs it is compared with

# What is read without asking whether it is there: the names of each block, if there is the block.
_NEEDED = {
    "config.json": {
        "method": (),
        "train": (),
        "data.split": (),
        "identity.data": ("class_names", "labeled_counts"),
    },
    "result.json": {"": ("step",), "test": ("num_images", "balanced_accuracy")},
}


@dataclass(frozen=True)
class Run:
    """What a run directory says; of several stages the last one that has begun.

    Attributes:
      path: the `--workdir` of the run.
      records: the directory of the records, that of a stage where there are several.
      config: the resolved configuration, with `command` and `identity`.
      result: the content of `result.json`; empty until the run has finished.
      earlier: the stages before this one.
    """

    path: pathlib.Path
    records: pathlib.Path
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    earlier: tuple["Run", ...] = ()

    @property
    def stages(self) -> tuple["Run", ...]:
        """All stages that have begun; without stages the run itself."""
        return *self.earlier, self

    @property
    def method(self) -> str:
        """The name of the method; of several stages theirs, in order."""
        names = [one.config.get("method", {}).get("name", "?") for one in self.stages]
        numbers = [(name, len([*same])) for name, same in itertools.groupby(names)]
        return " → ".join(f"{name} ×{n}" if n > 1 else name for name, n in numbers)

    @property
    def beginning(self) -> dict[str, Any]:
        """What a stage takes over from the one before: `begin`, and `growth` of the labeled set."""
        stated = _json(self.records / "stage.json")
        if stated:
            return {name: stated.get(name) for name in ("begin", "growth")}
        story = str(self.config["identity"].get("start", ""))  # older versions have only this
        return {"begin": re.sub(r" \([0-9a-f]{8}\)", "", story)}

    @property
    def seeds(self) -> tuple[Any, Any]:
        """The seed, and that of the split: what pairs a run with one of another configuration."""
        return self.config.get("seed"), self.config.get("data", {}).get("split", {}).get("seed")

    @property
    def step(self) -> int:
        """The last step of this stage."""
        return self.result.get("step", max((one["step"] for one in self.history), default=0))

    @property
    def steps(self) -> int:
        """The steps of all stages together."""
        return sum(one.step for one in self.stages)

    @property
    def data(self) -> Mapping[str, Any]:
        """What the data were; of several stages before any pseudo-label became a label."""
        return self.stages[0].config["identity"]["data"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """`K` names."""
        return tuple(self.data["class_names"])

    @property
    def labeled_counts(self) -> np.ndarray:
        """`[K]` int, labeled images of each class as they were given."""
        return np.array(self.result.get("labeled_counts", self.data["labeled_counts"]))

    @functools.cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        return records_.history(self.records)

    @functools.cached_property
    def predictions(self) -> dict[str, Predictions]:
        """What the network says of each set at the end; empty until the run has finished."""
        return predictions.read(self.records)

    def predictions_of(self, step: int) -> dict[str, Predictions]:
        """What the network of a checkpoint says of each set; empty where that was not kept."""
        if step == self.result.get("step"):
            return self.predictions
        is_best = step == self.result.get("best_step")
        return predictions.read(self.records, predictions.BEST_FILE) if is_best else {}

    @functools.cached_property
    def confusion(self) -> np.ndarray | None:
        """`[K, K]` counts on the test set; None until the run has finished.

        Raises:
          InputError: the file is damaged.
        """
        path = self.records / "confusion.npy"
        if not self.result or not path.exists():
            return None
        try:
            found = np.load(path, allow_pickle=False)
            return found.reshape([len(self.class_names)] * 2)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); {self.remedy}") from error

    @property
    def remedy(self) -> str:
        """How a file that a run writes at its end comes to be."""
        if self.records == self.path:
            return "the same training command writes it"
        return (
            f"finished stages are not trained again: remove {self.records.name}/result.json, and"
            " the same training command writes it"
        )

    @property
    def baselines(self) -> dict[str, "Run"]:
        """The runs that this one is compared with, by name, those that have finished."""
        found, _ = self._baselines
        return {run.path.name: run for run in found if run.result}

    @property
    def damaged_baselines(self) -> list[str]:
        """Why others cannot be read, in sentences."""
        return self._baselines[1]

    @functools.cached_property
    def _baselines(self) -> tuple[list["Run"], list[str]]:
        files = sorted(self.path.glob(f"{BASELINES}/*/config.json"))
        return _readable(file.parent for file in files)


def read(path: str | os.PathLike) -> Run:
    """Reads one run.

    Raises:
      InputError: the directory holds no run.
    """
    path = pathlib.Path(path)
    *earlier, last = map(_read, _begun(path) or [path])
    return replace(last, path=path, earlier=tuple(earlier))


def axes_of(path: str | os.PathLike) -> list[str]:
    """Returns the fields that a sweep in this directory is over; none where it is no sweep's."""
    axes = _json(pathlib.Path(path) / "sweep.json").get("axes", [])
    return [axis for axis in axes if isinstance(axis, str)] if isinstance(axes, list) else []


def find(path: str | os.PathLike) -> tuple[list[Run], list[str]]:
    """Reads the run in a directory, or else all runs at any depth below it, by path.

    Baselines belong to the run that they are compared with and are left out.

    Returns:
      The runs, and why others cannot be read, in sentences.

    Raises:
      InputError: there is none that can be read.
    """
    path = pathlib.Path(path)
    with contextlib.suppress(InputError):
        return [_whole(read(path))], []
    found, reasons = _readable(_tops(path))
    if not found:
        none = f"{path} holds no run; give directories that were a --workdir"
        raise InputError(reasons[0] if reasons else none)
    return found, reasons


def _tops(path: pathlib.Path) -> list[pathlib.Path]:
    """Lists directories that look like runs but are neither stages nor baselines of others."""
    marked = {file.parent for file in path.rglob("*.json") if file.name in _MARKS}
    # A damaged or foreign file in the directory of all runs hides none of them.
    above = {d for d in marked if d != path or (d / "stages.json").exists()}
    tops = [d for d in sorted(marked) if not above.intersection(d.parents)]
    return [d for d in tops if BASELINES not in d.relative_to(path).parts]


_MARKS = ("config.json", "stages.json")


def _readable(paths: Iterable[pathlib.Path]) -> tuple[list[Run], list[str]]:
    found, reasons = [], []
    for path in paths:
        try:
            found.append(_whole(read(path)))
        except InputError as error:
            reasons.append(str(error))
    return found, reasons


def _whole(run: Run) -> Run:
    """Returns a run of which all that is read later can be read."""
    for one in run.stages:
        _ = one.history, one.confusion
    return run


def _begun(path: pathlib.Path) -> list[pathlib.Path]:
    """Lists the directories of the stages that have begun, of an experiment that has any."""
    stated = _json(path / "stages.json")
    names = stated.get("directories") or stated.get("finished")
    names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return [path / name for name in names if (path / name / "config.json").exists()]


def _read(path: pathlib.Path) -> Run:
    """Reads a run without stages, or one stage."""
    config, result = (_json(path / name) for name in _NEEDED)
    if not config.get("identity"):
        raise InputError(
            f"{path} is no run: it has no readable config.json; give a directory that was the"
            " --workdir of python -m ltssl_jax.main"
        )
    for (name, blocks), content in zip(_NEEDED.items(), (config, result), strict=True):
        for block, needed in blocks.items():
            _check(path / name, block, needed, content)
    return Run(path, path, config, result)


def _check(path: pathlib.Path, block: str, names: Iterable[str], content: Mapping) -> None:
    for key in filter(None, block.split(".")):
        content = content.get(key, {}) if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping):
        lacking = [block]
    else:
        lacking = [f"{block}.{name}".lstrip(".") for name in names if content.get(name) is None]
    # `result.json` is not there before the end, `test` in it not in each version.
    if lacking and (content != {} or path.name == "config.json"):
        raise InputError(
            f"{path} is damaged or was written by another version: it lacks {', '.join(lacking)};"
            " train again, or leave this run out"
        )


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
