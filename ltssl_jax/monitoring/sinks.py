"""Further places where a run can be followed: TensorBoard, Weights & Biases.

`metrics.jsonl` is written whatever is chosen here; a sink is given the same lines.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ltssl_jax.core import InputError


class Sink(Protocol):
    """Receives what happens in a run."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Takes a line of `metrics.jsonl`: numbers by name, and lists of numbers by class."""

    def picture(self, name: str, step: int, image: np.ndarray) -> None:
        """Takes `[H, W, 3]` uint8."""

    def close(self) -> None:
        """Writes what is not written yet."""


def opened(
    path: str | os.PathLike, step: int, config: Mapping[str, Any], *, tensorboard: bool, wandb: str
) -> tuple[Sink, ...]:
    """Opens what is asked for.

    Args:
      path: directory of the run.
      step: after which it goes on; what was said of later ones is said again.
      config: of the run, for tables of runs.
      tensorboard: write events below `path`.
      wandb: name of a project of Weights & Biases, or "".

    Raises:
      InputError: a package is missing.
    """
    made: list[Sink] = []
    if tensorboard:
        made.append(TensorBoard(pathlib.Path(path, "tensorboard"), step))
    if wandb:
        made.append(WeightsAndBiases(pathlib.Path(path), wandb, config))
    return tuple(made)


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a line by name; `step`, words and lists are none of them."""
    found = {k: v for k, v in line.items() if isinstance(v, int | float) and k != "step"}
    return {name: float(value) for name, value in found.items()}


def by_class(line: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the lists `[K]` of a line by name; NaN where there is no number."""
    lists = {name: value for name, value in line.items() if isinstance(value, list)}
    return {name: np.array(value, float) for name, value in lists.items()}


class TensorBoard:
    """Event files that `tensorboard --logdir RUNS` shows; written without TensorFlow.

    A resumed run tells the reader to forget the steps that it repeats.
    """

    def __init__(self, path: pathlib.Path, step: int):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise _missing("monitoring.tensorboard", "True", "tensorboardX", "False") from error
        # Files are named by the second: a run continued at once must not write over its own.
        named = dict(purge_step=step + 1, filename_suffix=f".{step}") if step else {}
        self._writer = SummaryWriter(os.fspath(path), **named)

    def record(self, line: Mapping[str, Any]) -> None:
        """Numbers become scalars, lists histograms whose bins are the classes."""
        step = line["step"]
        for name, value in numbers(line).items():
            self._writer.add_scalar(name, value, step)
        for name, values in by_class(line).items():
            self._add_bars(name, np.nan_to_num(values), step)
        if line.get("kind") == "alarm":
            self._writer.add_text(f"alarm/{line['name']}", line["text"], step)

    def _add_bars(self, name: str, values: np.ndarray, step: int) -> None:
        classes = np.arange(len(values))
        self._writer.add_histogram_raw(
            name,
            min=0.0,
            max=float(len(values)),
            num=float(values.sum()),
            sum=float((values * classes).sum()),
            sum_squares=float((values * classes**2).sum()),
            bucket_limits=(classes + 1.0).tolist(),
            bucket_counts=values.tolist(),
            global_step=step,
        )

    def picture(self, name: str, step: int, image: np.ndarray) -> None:
        """Becomes an image."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is not written yet."""
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb.ai, or an offline one below the run's directory (`WANDB_MODE=offline`)."""

    def __init__(self, path: pathlib.Path, project: str, config: Mapping[str, Any]):
        try:
            import wandb
        except ImportError as error:
            raise _missing("monitoring.wandb", repr(project), "wandb", "empty") from error
        self._wandb = wandb
        known = path / "wandb.json"  # which run it was, for when it is resumed
        name = json.loads(known.read_text())["id"] if known.exists() else None
        self._run = wandb.init(
            project=project, dir=path, id=name, resume="allow", name=path.name, config=dict(config)
        )
        known.write_text(json.dumps({"id": self._run.id}))

    def record(self, line: Mapping[str, Any]) -> None:
        """Numbers stay numbers, lists become histograms whose bins are the classes."""
        lists = by_class(line).items()
        bars = {n: (np.nan_to_num(v), np.arange(len(v) + 1)) for n, v in lists}
        shown = {name: self._wandb.Histogram(np_histogram=bar) for name, bar in bars.items()}
        self._run.log({**numbers(line), **shown}, step=line["step"])
        if line.get("kind") == "alarm":
            self._run.alert(title=line["name"], text=line["text"])

    def picture(self, name: str, step: int, image: np.ndarray) -> None:
        """Becomes an image."""
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Writes what is not written yet."""
        self._run.finish()


def _missing(field: str, value: str, package: str, without: str) -> InputError:
    return InputError(
        f"{field} is {value}, but the package {package} is not installed; pip install {package},"
        f" or leave {field} {without}"
    )
