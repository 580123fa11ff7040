"""All numbers of a network on one labeled set, from its logits; as files and for the terminal."""

import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from ltssl_jax.core import InputError
from ltssl_jax.data.sources import Skipped
from ltssl_jax.deployment.probabilities import SETS, Deployment
from ltssl_jax.deployment.tables import COLUMNS, stated
from ltssl_jax.evaluation import calibration, metrics, reweighting
from ltssl_jax.evaluation.calibration import Calibration
from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.monitoring.terminal import ROWS, percent
from ltssl_jax.report.runs import Run

SHOWN = 20  # classes in the table for the terminal
TABLE = ("id", "truth", *COLUMNS[1:-1])


class Answers(NamedTuple):
    """What a network says of a set: `[N]` names and labels in `[0, K)`, logits `[N, K]`."""

    names: Sequence[str]
    labels: np.ndarray
    logits: np.ndarray


class Asked(NamedTuple):
    """A labeled set, and the network that it is answered by.

    Attributes:
      network: which one, for people.
      step: of its checkpoint.
      ask: answers the images.
      skipped: what cannot be used.
      notes: what a person should know.
    """

    network: str
    step: int
    ask: Callable[[], Answers]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def is_kept(name: str) -> bool:
    """Says whether a set is one of a run's own, which are called "test" and "validation"."""
    return name in SETS and not os.path.exists(name)


def kept(run: Run, name: str, which: str | int) -> Asked:
    """Returns one of a run's own sets, as the checkpoint `which` has answered it.

    Raises:
      InputError: the run has not kept what this checkpoint says (see `trained.load`).
    """
    last, best = run.result.get("step"), run.result.get("best_step")
    step = {"latest": last, "best": last if best is None else best}.get(which, which)
    if name not in run.predictions:
        known = ", ".join(set(run.predictions) & set(SETS)) or "none"
        raise InputError(
            f"{run.path} kept no predictions of {name} images (it has: {known}); train it to the"
            " end, or give the images"
        )
    sets = run.predictions_of(step)
    if name not in sets:
        raise InputError(
            f"--which is {which!r}, but {run.path} kept no predictions of step {step}, only of"
            f" {last} (the latest)"
            + (f" and {best} (the best)" if best not in (None, step, last) else "")
            + f"; give one of them, or the {name} images"
        )
    found = sets[name]
    known = found.labels >= 0
    if not known.any():
        raise InputError(f"no {name} image of {run.path} has a class; give other images")
    names = [*map(str, found.names[known])]
    answers = Answers(names, found.labels[known], found.logits[known])
    return Asked(f"EMA weights, step {step}, kept at the end of the run", step, lambda: answers)


def judged(
    answers: Answers,
    class_names: Sequence[str],
    labeled_counts: np.ndarray,
    deployed: Deployment,
    shifting: Calibration | None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Computes all numbers.

    Args:
      answers: at least one.
      class_names: `K` names.
      labeled_counts: `[K]` int, labeled training images.
      deployed: how logits are understood.
      shifting: with class biases: adjusts predictions to each of the re-weighted sets; None: no
        such numbers.

    Returns:
      The content of `result.json` about these, and the confusion matrix `[K, K]`.
    """
    labels, scores = answers.labels, deployed.scores(answers.logits)
    confusion = _confusion(labels, scores.argmax(axis=1), len(class_names))
    recall, support = metrics.recall_per_class(confusion), confusion.sum(axis=1)
    columns = recall.tolist(), support.tolist(), np.asarray(labeled_counts).tolist()
    floor = 1 / (100 * len(class_names))
    found = {
        "num_images": len(labels),
        "metrics": metrics.summary(confusion, labeled_counts, geometric_mean_floor=floor),
        "per_class": {
            name: {"recall": r, "num_images": n, "num_labeled": m}
            for name, r, n, m in zip(class_names, *columns, strict=True)
        },
        "calibration": {
            "as_predicted": calibration.summary(softmax(scores), labels, labeled_counts),
            "network": calibration.summary(softmax(answers.logits), labels, labeled_counts),
        },
        "reweighted": {"as_predicted": reweighting.accuracies(confusion, labeled_counts)},
    }
    if shifting is not None:
        found["reweighted"]["adjusted"] = dict(_adjusted(answers, labeled_counts, shifting))
    return found, confusion


def written(
    directory: str | os.PathLike,
    found: Mapping[str, Any],
    confusion: np.ndarray,
    answers: Answers,
    class_names: Sequence[str],
    deployed: Deployment,
    skipped: Sequence[Skipped],
) -> pathlib.Path:
    """Writes `result.json`, `confusion.npy`, `predictions.csv` and `skipped.csv`; says where.

    Raises:
      InputError: they cannot be written.
    """
    files = RunDirectory(directory, flag="--out")
    rows = stated(answers.names, deployed, answers.logits, class_names)
    truth = [class_names[k] for k in answers.labels]
    files.write_table(
        "predictions.csv",
        TABLE,
        ((row.id, name, *row.cells[1:-1]) for row, name in zip(rows, truth, strict=True)),
    )
    files.write_table("skipped.csv", Skipped._fields, skipped)
    files.write_confusion(confusion)
    files.write_json("result.json", found)
    return files.path


def places(out: str | os.PathLike, sets: Mapping[str, str]) -> dict[str, pathlib.Path]:
    """Chooses the directory of each set: another set's is left alone. None is made.

    Args:
      out: directory of the directories.
      sets: by what the user called them, their absolute paths. The last part of a path becomes the
        name, with as many of the parts before as tell it from those that are there.

    Raises:
      InputError: one is given twice, or nothing can be written there.
    """
    chosen: dict[str, pathlib.Path] = {}
    for said, path in sets.items():
        parts = [part for part in pathlib.Path(path).parts if part != os.sep]
        names = ("_".join(parts[-n:]) for n in range(1, len(parts) + 1))
        free = [pathlib.Path(out, re.sub(r"[^\w.-]+", "_", name)) for name in names]
        free = [d for d in free if _holds(d) in ("", path) and d not in chosen.values()]
        if not free or list(sets.values()).count(path) > 1:
            raise InputError(
                f"--data {said!r} is given twice; leave one out, or give another --out"
            )
        chosen[said] = free[0]
        _check_writable(free[0])
    return chosen


def _holds(directory: pathlib.Path) -> str:
    """Returns which set a directory says it is of."""
    try:
        found = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        return str(found["path"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _check_writable(directory: pathlib.Path) -> None:
    there = next(d for d in (directory.absolute(), *directory.absolute().parents) if d.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"--out {os.fspath(directory)!r} cannot be written; choose another")


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Shows the numbers to people: percent, but for Brier scores."""
    yield _of_metrics(found)
    yield _of_classes(found["per_class"])
    yield _of_calibration(found["calibration"])
    yield _of_priors(found["reweighted"])


def _confusion(labels: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    places = labels.astype(np.int64) * num_classes + classes
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def _adjusted(answers: Answers, labeled_counts, shifting) -> Iterator[tuple[str, float]]:
    for name, prior in reweighting.shifted_priors(labeled_counts).items():
        classes = calibration.adjusted(shifting, answers.logits, prior).argmax(axis=1)
        confusion = _confusion(answers.labels, classes, len(prior))
        yield name, reweighting.accuracy_under(confusion, prior)


def _of_metrics(found: Mapping[str, Any]) -> Table:
    table = _table(f"{found['num_images']:,} images", "", "%")
    for key, name in ROWS.items():
        table.add_row(name, percent(found["metrics"][key]))
    return table


def _of_classes(per_class: Mapping[str, Mapping[str, float]]) -> Table:
    table = _table("classes, the worst first", "class", "recall %", "images", "labeled")
    known = {name: row for name, row in per_class.items() if row["num_images"]}
    for name in sorted(known, key=lambda name: known[name]["recall"])[:SHOWN]:
        row = known[name]
        numbers = f"{row['num_images']:,}", f"{row['num_labeled']:,}"
        table.add_row(name, percent(row["recall"]), *numbers)
    if len(known) > SHOWN:
        table.add_row(f"{len(known) - SHOWN:,} more classes", *[""] * 3)
    return table


def _of_calibration(found: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table(
        "probabilities",
        "images",
        "confidence %",
        "accuracy %",
        "ECE %",
        "Brier",
        "ECE % of network",
    )
    for group, numbers in found["as_predicted"].items():
        shares = [percent(numbers[key]) for key in ("confidence", "accuracy", "ece")]
        own = percent(found["network"][group]["ece"])
        table.add_row(group, *shares, f"{numbers['brier']:.3f}", own)
    return table


def _of_priors(found: Mapping[str, Mapping[str, float]]) -> Table:
    table = _table("accuracy on re-weighted sets", "set", "%")
    if "adjusted" in found:
        table.add_column("% adjusted to it", justify="right")
    for name in found["as_predicted"]:
        table.add_row(name, *(percent(column[name]) for column in found.values()))
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
