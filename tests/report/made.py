"""Run directories made by hand: what a finished training leaves, for any number of classes."""

import json

import numpy as np

from ltssl_jax.evaluation import metrics, predictions
from ltssl_jax.evaluation.predictions import Predictions

STEPS = (100, 200, 300, 400)


def write(
    path, *, names=(), num_classes=10, seed=0, skill=3.0, step=400, finished=True, truth=True,
    vectors=True, validation=False, kept=True, alarm=False, fingerprint="5p11t", **config,
):  # fmt: skip
    """Writes a run: `skill` is how clear its network is, more of it on frequent classes."""
    path.mkdir(parents=True, exist_ok=True)
    names = list(names) or [f"class {k}" for k in range(num_classes)]
    number, rng = len(names), np.random.default_rng(seed)
    counts = np.random.default_rng(7).permutation(_counts(number))
    data = dict(
        class_names=names, labeled_counts=counts.tolist(), num_unlabeled=5 * number,
        split_fingerprint=fingerprint, image_shape=[8, 8, 3],
    )  # fmt: skip
    made = dict(
        command=f"python -m ltssl_jax.main --workdir {path.name}",
        seed=seed, method={"name": "tras", "threshold": 0.95}, train={"steps": 400},
    )  # fmt: skip
    identity = {"data": data, "versions": {"jax": "1.2.3"}}
    _json(path / "config.json", made | config | {"identity": identity})
    lines = list(_lines(counts, step, vectors, truth, alarm))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        _finish(path, counts, names, rng, skill, step, truth, validation, kept)
    return path


def staged(path, *stages, finished=True, **config):
    """Writes an experiment: of each stage its method, and how it was begun."""
    names = [f"{n}_{method}" for n, (method, _) in enumerate(stages, 1)]
    path.mkdir(parents=True, exist_ok=True)
    _json(path / "stages.json", {"directories": names})
    for name, (method, began) in zip(names, stages, strict=True):
        grown = "5p11t" if name == names[0] else "grown"
        how = dict(num_classes=4, method={"name": method}, fingerprint=grown) | config
        write(path / name, finished=finished or name != names[-1], **how)
        _json(path / name / "stage.json", {"config": {}, "growth": {"rule": ""}} | began)
    return path


def _counts(number):
    return np.maximum(1, 500 * 100.0 ** (-np.arange(number) / max(1, number - 1))).astype(int)


def _json(path, content):
    path.write_text(json.dumps(content))


def _lines(counts, last, vectors, truth, alarm):
    number = len(counts)
    for place, step in enumerate(s for s in STEPS if s <= last):
        share = (place + 1) / len(STEPS)
        line = {
            "step": step, "kind": "train", "seconds": 5.0, "loss": 2 - share,
            "loss/supervised": 1.5 - share, "loss/consistency": 0.5, "learning_rate": 0.03,
            "monitor/mask/base": 0.2 * share, "images_per_second": 900.0 + place,
        }  # fmt: skip
        if vectors:
            true = np.full(number, 100.0)
            kept = np.round(true * share * (counts / counts.max()) ** 0.5)
            line |= {"pseudo/base/kept": kept.tolist(), "pseudo/seen": float(true.sum())}
            if truth:
                line |= {"pseudo/base/correct": np.round(0.9 * kept).tolist()}
                line |= {"pseudo/true": true.tolist()}
        yield line
        scores = {"balanced_accuracy": 0.5 + 0.4 * share, "few": 0.8 * share, "many": 0.9}
        yield {"step": step, "kind": "evaluation", "scored_by": "head base"} | {
            f"test/{name}": value for name, value in scores.items()
        }
        if alarm and place == 1:
            text = "90 % of the pseudo-labels are of 1 class"
            yield {"step": step, "kind": "alarm", "name": "collapse/base", "text": text}


def _finish(path, counts, names, rng, skill, step, truth, validation, kept):
    number = len(names)
    each = max(2, 500 // number)
    sets = {"test": _predicted(counts, each, rng, skill, True)}
    if validation:
        sets["validation"] = _predicted(counts, each, rng, skill, True)
    sets["pool"] = _predicted(counts, max(1, each // 2), rng, skill, truth)
    test = sets["test"]
    confusion = np.zeros((number, number), int)
    np.add.at(confusion, (test.labels, test.classes), 1)
    np.save(path / "confusion.npy", confusion)
    if kept:
        with (path / predictions.FILE).open("wb") as file:
            np.savez_compressed(file, **predictions.arrays(sets))
    scores = metrics.summary(confusion, counts, geometric_mean_floor=0.0)
    scores = {name: None if np.isnan(value) else value for name, value in scores.items()}
    result = dict(
        step=step, scored_by="head base", weights="ema", devices="1 made device",
        training_seconds=20.0, labeled_counts=counts.tolist(),
        test=scores | {"num_images": len(test)},
    )  # fmt: skip
    _json(path / "result.json", result)


def _predicted(counts, each, rng, skill, truth):
    number = len(counts)
    labels = np.repeat(np.arange(number), each).astype(np.int32)
    # The same images for every seed; what the network makes of them differs.
    clear = np.random.default_rng(3).normal(skill, 2, len(labels))
    clear += np.log10(counts)[labels] - 1 + np.log(number) / 2
    logits = rng.normal(0, 1, (len(labels), number)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += clear
    shown = predictions.confident_mistakes(logits, labels, 30)
    pictures = np.random.default_rng(5).integers(0, 256, (len(shown), 8, 8, 3), np.uint8)
    known = labels if truth else np.full_like(labels, -1)
    if not truth:
        shown, pictures = shown[:0], pictures[:0]
    return Predictions(logits, known, np.arange(len(labels)).astype(str), shown, pictures)
