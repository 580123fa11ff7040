"""Follows a run: writes its records and tells the person watching."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.core import InputError, Log
from ltssl_jax.evaluation import metrics as metrics_
from ltssl_jax.monitoring import card, pictures
from ltssl_jax.monitoring.alarms import Alarm, Alarms, effective_classes
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.monitoring.sinks import Sink
from ltssl_jax.monitoring.terminal import Terminal

METRIC = "balanced_accuracy"
DIGITS = 4  # after the point, in lists by class
LISTED = (
    1000  # up to so many classes lines of training have lists: 8,000 fill a fifth of a megabyte
)


class Watch:
    """Receives what happens in a run; knows nothing of how it happens.

    Args:
      records: where everything is written.
      terminal: where a person reads.
      alarms: what may be wrong.
      class_names: `K` names.
      labeled_counts: `[K]` int, for the groups of classes.
      images_per_step: labeled and unlabeled images a step consumes.
      scored_by: step to the words that say which head was evaluated.
    """

    def __init__(
        self,
        records: RunDirectory,
        terminal: Terminal,
        alarms: Alarms,
        *,
        class_names: Sequence[str],
        labeled_counts: np.ndarray,
        images_per_step: int,
        scored_by: Callable[[int], str],
    ):
        self.records, self.terminal = records, terminal
        self._alarms, self._sinks = alarms, ()
        self._class_names, self._counts = class_names, labeled_counts
        self._images_per_step, self._scored_by = images_per_step, scored_by

    def __enter__(self) -> "Watch":
        self.terminal.__enter__()
        return self

    def __exit__(self, *error):
        for sink in self._sinks:
            sink.close()
        self.terminal.__exit__(*error)

    def begin(
        self,
        step: int,
        introduction: Iterable[str],
        config: Mapping[str, Any],
        sinks: tuple[Sink, ...] = (),
    ) -> Mapping[str, Any]:
        """Introduces the run, forgets what a resumed run repeats, writes and returns `config.json`.

        Args:
          step: the run goes on from there.
          introduction: lines to print.
          config: what `config.json` says of a run that begins; see `card.continued`.
          sinks: what follows the run, too.
        """
        self._sinks = sinks
        for line in introduction:
            self.terminal.say(line)
        if step:
            self.terminal.say(f"continuing after step {step}")
        self.records.rewind(step)
        for line in self.records.history():
            if line.get("kind") == "train":
                self._alarms.heard(line)
        written = card.continued(self.records.read_json("config.json"), config, step)
        self.records.write_json("config.json", written)
        return written

    def interrupted(self, step: int) -> dict[str, Any]:
        """Says how to continue; there is no result."""
        self.terminal.say(f"stopped after step {step}; the same command continues from there")
        return {}

    def compiled(self, seconds: float) -> None:
        """Says how long the first dispatch took."""
        self.terminal.say(f"compilation and first updates: {seconds:.1f} s")

    def log(self, entry: Log) -> None:
        """Records training metrics."""
        if not math.isfinite(entry.metrics["loss"]):
            raise InputError(
                f"the loss is {entry.metrics['loss']} at step {entry.step}; lower"
                " optim.learning_rate, and start again in another --workdir"
            )
        record = {"step": entry.step, "kind": "train", "seconds": entry.seconds} | entry.metrics
        if entry.num_steps:
            rate = entry.num_steps * self._images_per_step / entry.seconds
            record["images_per_second"] = rate
            record["input_share"] = entry.waited / entry.seconds
        if entry.refreshed:
            record["refresh_seconds"] = entry.refreshed
            record["refresh_share"] = entry.refreshed / (entry.refreshed + entry.seconds)
        self._record(_listed(record))
        self.terminal.log(entry)
        self._alarm(entry.step, self._alarms.heard(record))

    def evaluated(
        self, step: int, confusions: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, float]]:
        """Records one evaluation; returns the metrics of each set."""
        summaries = {name: self._summary(matrix) for name, matrix in confusions.items()}
        flat = {f"{n}/{k}": value for n, s in summaries.items() for k, value in s.items()}
        for name, matrix in confusions.items():
            recalls = metrics_.recall_per_class(matrix)
            flat[f"{name}/recall_per_class"] = _short(recalls.tolist())
        self._record(
            {"step": step, "kind": "evaluation", "scored_by": self._scored_by(step)} | flat
        )
        for name, summary in summaries.items():
            self.terminal.evaluated(step, name, summary)
            for sink in self._sinks:
                picture = pictures.confusion(confusions[name], self._class_names)
                sink.picture(f"{name}/confusion", step, picture)
        return summaries

    def finished(
        self,
        step: int,
        confusions: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Writes `result.json` and `confusion.npy`, prints the tables, returns the result."""
        self._examine(step, confusions)
        scored_by = self._scored_by(step)
        result = dict(step=step, scored_by=scored_by, weights="ema", **facts)
        history = self.records.history()
        result["training_seconds"] = sum(r.get("seconds", 0.0) for r in history)
        result["alarms"] = [alarm for alarm in history if alarm.get("kind") == "alarm"]
        for name, matrix in confusions.items():
            summary = self._summary(matrix)
            recalls = metrics_.recall_per_class(matrix)
            over_time = [r[f"{name}/{METRIC}"] for r in history if f"{name}/{METRIC}" in r]
            result[name] = summary | {
                "num_images": int(matrix.sum()),
                "recall_per_class": dict(zip(self._class_names, recalls.tolist(), strict=True)),
                f"{METRIC}_over_evaluations": _over_time(over_time),
            }
        self.records.write_json("result.json", result)
        self.records.write_confusion(confusions["test"])
        for name in confusions:
            images = f"{result[name]['num_images']:,} images"
            title = f"{name}: {images}; {scored_by}, EMA weights, step {step}"
            worst = self._class_names[metrics_.worst_class(confusions[name])[0]]
            self.terminal.results(title, result[name], worst)
        title = f"test: recall per class, most labeled first; {scored_by}, EMA weights, step {step}"
        self.terminal.recalls(title, confusions["test"], self._class_names, self._counts)
        if alarms := [f"{a['name']} at step {a['step']}" for a in result["alarms"]]:
            said = f"{len(alarms)} in this run: {', '.join(alarms)}"
            self.terminal.alarm(f"{said}; metrics.jsonl has the texts")
        self.terminal.say(f"written to {self.records.path}")
        return result

    def _examine(self, step: int, confusions: Mapping[str, np.ndarray]) -> None:
        """Says what is wrong with a trained network, unless it was said when it was trained."""
        where = next(iter(confusions))  # validation, where there is one
        found = self._alarms.finished(where, confusions[where])
        said = {(line["step"], line.get("name")) for line in self.records.history()}
        self._alarm(step, [alarm for alarm in found if (step, alarm.name) not in said])

    def _record(self, line: Mapping[str, Any]) -> None:
        self.records.append(line)
        for sink in self._sinks:
            sink.record(line)

    def _alarm(self, step: int, alarms: Iterable[Alarm]) -> None:
        for alarm in alarms:
            self._record({"step": step, "kind": "alarm", **alarm._asdict()})
            self.terminal.alarm(alarm.text)

    def _summary(self, confusion: np.ndarray) -> dict[str, float]:
        floor = 1.0 / (100 * len(self._class_names))  # as published tables do
        return metrics_.summary(confusion, self._counts, geometric_mean_floor=floor)


def _short(value: Any) -> Any:
    """Rounds lists, which are long, to what can be seen of them."""
    return [round(item, DIGITS) for item in value] if isinstance(value, list) else value


def _listed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rounds lists by class; of too many classes only the sum and the variety are left."""
    made = {}
    for name, value in record.items():
        if isinstance(value, list) and len(value) > LISTED:
            variety = effective_classes(np.array(value))
            made |= {f"{name}_total": sum(value), f"{name}_classes": round(variety, DIGITS)}
        else:
            made[name] = _short(value)
    return made


def _over_time(values: list[float]) -> dict[str, float]:
    """The three ways in which papers of this field report one run."""
    if not values:
        return {}
    last = values[-20:]
    return {
        "last": values[-1],
        "last20_mean": statistics.fmean(last),
        "last20_median": statistics.median(last),
        "best": max(values),
    }
