"""The numbers of a report as one dictionary of plain values, from which every form of it is made.

What a run does not say is None or empty, and a sentence of `notes` says why.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import metrics
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.report import benefit, calibrated, compared, pseudo_labels
from ltssl_jax.report.runs import Run

NUMBERS = ("balanced_accuracy", "many", "medium", "few", "worst_class_recall", "accuracy")
_POINTS = 400  # of a curve; more cannot be seen
_CONFUSIONS = 15  # in the table of the most frequent ones


def collect(
    runs: Sequence[Run], reasons: Sequence[str] = (), axes: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns what a report on these runs says: `runs`, and `comparison` of several (else None).

    Args:
      runs: at least one; those after the first configuration are compared with it.
      reasons: why others that are beside them could not be read.
      axes: fields that tell configurations apart in any case, see `compared.compare`.
    """
    found = [of_run(run) for run in runs]
    comparison = compared.compare(runs, found, axes) if len(runs) > 1 else None
    said = comparison["warnings"] if comparison else found[0]["notes"]
    said += [f"Left out: {reason}." for reason in reasons]
    return {"runs": found, "comparison": comparison}


def of_run(run: Run) -> dict[str, Any]:
    """Returns what one run says."""
    sets, notes = predictions_of(run)
    pseudo = pseudo_labels.followed(run, sets)
    benefits, doubts = _benefits(run)
    return {
        "name": run.path.resolve().name,
        "path": str(run.path),
        "method": run.method,
        "progress": progress(run),
        "headline": headline(run),
        "benefits": benefits,
        "baselines": {name: headline(one) for name, one in run.baselines.items()},
        "alarms": [_alarm(one) for one in run.history if one.get("kind") == "alarm"],
        "notes": [*_notes(run), *notes, *doubts, *pseudo.pop("notes")],
        "classes": classes(run),
        "confusion": confusion(run),
        "calibration": calibrated.calibration(run, sets),
        "pseudo": pseudo,
        "curves": curves(run.history),
        "mistakes": {name: mistakes(one, run.class_names) for name, one in sets.items()},
        "facts": facts(run),
        "config": {k: v for k, v in run.config.items() if k not in ("command", "identity")},
    }


def predictions_of(run: Run) -> tuple[dict[str, Predictions], list[str]]:
    """Returns what the network says of each set, and in words why that is missing."""
    try:
        sets = run.predictions
    except InputError as error:
        return {}, [f"No calibration and no mistakes: {error}."]
    if run.result and not sets:
        return {}, [
            "No calibration and no mistakes: the run has no predictions.npz. It is older than this"
            f" file; {run.remedy}."
        ]
    return sets, []


def progress(run: Run) -> dict[str, Any]:
    """Says how far a run is, which stage of several it shows, and if it is trained further."""
    steps = run.config.get("train", {}).get("steps")
    return {
        "is_finished": bool(run.result),
        "goes_on": bool(run.result and steps and run.step < steps),
        "step": run.step,
        "steps": steps,
        "stage": "" if run.records == run.path else run.records.name,
    }


def headline(run: Run) -> dict[str, Any] | None:
    """Returns the final numbers on the test set, or the latest; None before the first evaluation.

    Beside `NUMBERS`: `worst_class`, and `of`, which says what they are numbers of.
    """
    if run.result.get("test"):
        found = run.result["test"]
        images = f"{found['num_images']:,} test images"
        weights, step = run.result.get("weights", "ema"), run.result["step"]
    else:
        evaluations = [one for one in run.history if "test/balanced_accuracy" in one]
        if not evaluations:
            return None
        found = {k.removeprefix("test/"): v for k, v in evaluations[-1].items()}
        images, weights, step = "the test images", "ema", evaluations[-1]["step"]
    head = run.result.get("scored_by") or found.get("scored_by", "")
    of = ", ".join(filter(None, [head, f"{weights.upper()} weights", f"step {step:,}"]))
    worst = None
    if run.confusion is not None:
        worst = run.class_names[metrics.worst_class(run.confusion)[0]]
    numbers = {name: found.get(name) for name in NUMBERS}
    return numbers | {"worst_class": worst, "of": f"{images}; {of}"}


def classes(run: Run) -> dict[str, Any]:
    """Lists names, labeled counts, images and recalls `[K]` on the test set, and groups of ids."""
    recalls = support = None
    if run.confusion is not None:
        recalls = [None if np.isnan(r) else r for r in metrics.recall_per_class(run.confusion)]
        support = run.confusion.sum(axis=1).tolist()
    groups = metrics.class_groups(run.labeled_counts)
    return {
        # Bytes of a directory's name that are no UTF-8 cannot be drawn.
        "names": [name.encode("utf-8", "backslashreplace").decode() for name in run.class_names],
        "labeled": run.labeled_counts.tolist(),
        "support": support,
        "recall": recalls,
        "groups": {name: ids.tolist() for name, ids in groups.items()},
    }


def confusion(run: Run) -> dict[str, Any] | None:
    """Lists the cells that are not empty, `[true, predicted, images]`, and the worst of them.

    `most` holds the confusions that the largest share of a true class falls to.
    """
    if run.confusion is None:
        return None
    rows, columns = np.nonzero(run.confusion)
    counts, support = run.confusion[rows, columns], run.confusion.sum(axis=1)
    is_wrong = np.flatnonzero(rows != columns)
    shares = counts / support[rows]
    worst = is_wrong[np.lexsort((-counts[is_wrong], -shares[is_wrong]))][:_CONFUSIONS]
    names = run.class_names
    return {
        "cells": np.stack([rows, columns, counts], axis=1).tolist(),
        "most": [
            {
                "true": names[rows[i]],
                "said": names[columns[i]],
                "images": int(counts[i]),
                "of": int(support[rows[i]]),
            }
            for i in worst
        ],
    }


def mistakes(found: Predictions, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Describes the images of `found.shown`: the mistakes with the highest probabilities."""
    rows = found.shown
    probs, said = found.probabilities[rows], found.classes[rows]
    return [
        {
            "name": str(found.names[row]),
            "true": class_names[found.labels[row]],
            "said": class_names[said[i]],
            "probability": float(probs[i].max()),
        }
        for i, row in enumerate(rows)
    ]


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns `{"steps": [n], "values": [n]}` of each number over time, by its name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in history:
        for key, value in record.items():
            if key not in ("step", "seconds") and isinstance(value, int | float):
                found.setdefault(key, []).append((record["step"], value))
    return {name: _thinned(points) for name, points in found.items()}


def facts(run: Run) -> dict[str, Any]:
    """Returns what a person needs to know to repeat the run, or to trust it."""
    identity, data = run.config["identity"], run.data
    train = [one for one in run.history if one.get("kind") == "train"]
    # The first line holds what begins once: loading and compiling.
    seconds = sum(one.get("seconds", 0.0) for one in train[1:])
    rates = [one["images_per_second"] for one in train if one.get("images_per_second")]
    return {
        "command": run.config.get("command", ""),
        "commit": run.config.get("commit") or identity.get("commit", ""),
        "split_fingerprint": data.get("split_fingerprint", ""),
        "num_classes": len(run.class_names),
        "num_labeled": int(run.labeled_counts.sum()),
        "num_unlabeled": data.get("num_unlabeled"),
        "image_shape": data.get("image_shape"),
        "seed": run.seeds[0],
        "split_seed": run.seeds[1],
        "devices": run.result.get("devices", ""),
        "steps_per_second": (train[-1]["step"] - train[0]["step"]) / seconds if seconds else None,
        "images_per_second": statistics.median(rates) if rates else None,
        "training_seconds": sum(
            one.get("seconds") or 0.0 for stage in run.stages for one in stage.history
        ),
        "versions": identity.get("versions", {}),
    }


def _benefits(run: Run) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        found, reasons = benefit.benefits(run), run.damaged_baselines
    except InputError as error:
        found, reasons = [], [str(error)]
    doubts = [f"Not compared with its baselines: {reason}." for reason in reasons]
    return [compared.plain(one) for one in found], doubts


def _alarm(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name, "") for name in ("step", "name", "text")}


def _notes(run: Run) -> list[str]:
    notes, now = [], progress(run)
    if now["stage"]:
        notes.append(
            f"The run has several stages; this is {now['stage']}, the last that has begun. The"
            " labeled images, the split and the training time are those of all stages."
        )
    if now["goes_on"]:
        notes.append(
            f"The run has finished once and is trained further, to step {now['steps']:,}: all but"
            f" curves and pseudo-labels is of step {now['step']:,}."
        )
    if not now["is_finished"]:
        of = f" of {now['steps']:,}" if now["steps"] else ""
        notes.append(
            f"The run has not finished: step {now['step']:,}{of}. Recall per class, confusion,"
            " calibration and mistakes come with its end; the same command continues it."
        )
    if not run.history:
        notes.append("No curves: metrics.jsonl is empty or missing.")
    return notes


def _thinned(points: Sequence[tuple[int, float]]) -> dict[str, list[float]]:
    places = np.unique(np.linspace(0, len(points) - 1, min(len(points), _POINTS)).round())
    kept = [points[int(i)] for i in places]
    return {"steps": [step for step, _ in kept], "values": [value for _, value in kept]}
