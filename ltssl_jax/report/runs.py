"""Reads run directories, finished or not: records only, neither images nor networks."""

import contextlib
import functools
import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import predictions
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.monitoring import records as records_

BASELINES = "baseline"  # the directory, within that of a run, of the runs it is compared with


@dataclass(frozen=True)
class Run:
    """What a run directory says; of several stages the last one that has begun.

    Attributes:
      path: the `--workdir` of the run.
      records: the directory of the records, that of a stage where there are several.
      config: the resolved configuration, with `command` and `identity`.
      result: the content of `result.json`; empty until the run has finished.
    """

    path: pathlib.Path
    records: pathlib.Path
    config: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def class_names(self) -> tuple[str, ...]:
        """`K` names."""
        return tuple(self.config["identity"]["data"]["class_names"])

    @property
    def labeled_counts(self) -> np.ndarray:
        """`[K]` int, labeled images of each class as they were given."""
        known = self.config["identity"]["data"]["labeled_counts"]
        return np.array(self.result.get("labeled_counts", known))

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
        """`[K, K]` counts on the test set; None until the run has finished."""
        path = self.records / "confusion.npy"
        return np.load(path, allow_pickle=False) if self.result and path.exists() else None

    @property
    def baselines(self) -> dict[str, "Run"]:
        """The runs that this one is compared with, by name, those that have finished."""
        directories = sorted(self.path.glob(f"{BASELINES}/*/config.json"))
        runs = {file.parent.name: read(file.parent) for file in directories}
        return {name: run for name, run in runs.items() if run.result}


def read(path: str | os.PathLike) -> Run:
    """Reads one run.

    Raises:
      InputError: the directory holds no run.
    """
    path = pathlib.Path(path)
    records = _last_stage(path)
    config = _json(records / "config.json")
    if not config.get("identity", {}).get("data"):
        raise InputError(
            f"{path} is no run: it has no readable config.json; give a directory that was the"
            " --workdir of python -m ltssl_jax.main"
        )
    return Run(path, records, config, _json(records / "result.json"))


def find(path: str | os.PathLike) -> list[Run]:
    """Reads the run in a directory, or else all runs at any depth below it, by path.

    Baselines belong to the run that they are compared with and are left out.

    Raises:
      InputError: there is none.
    """
    path = pathlib.Path(path)
    with contextlib.suppress(InputError):
        return [read(path)]
    below = sorted(file.parent for file in path.rglob("*") if file.name in _MARKS)
    tops = [d for d in dict.fromkeys(below) if not any(p in below for p in d.parents)]
    if not tops:
        raise InputError(f"{path} holds no run; give directories that were a --workdir")
    return [read(top) for top in tops]


_MARKS = ("config.json", "stages.json")


def _last_stage(path: pathlib.Path) -> pathlib.Path:
    names = _json(path / "stages.json").get("directories", [])
    begun = [path / name for name in names if (path / name / "config.json").exists()]
    return (begun or [path])[-1]


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
