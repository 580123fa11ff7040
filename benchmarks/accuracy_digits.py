"""Accuracy of every method on long-tailed digits, beside what a user would pick instead.

python benchmarks/accuracy_digits.py --workdir runs/accuracy_digits --seeds 0,1,2,3,4

Trains each method once per seed by the digits protocol (`setups.digits`), and fits on
the same split classifiers of scikit-learn: an SVM on the labeled images, `SelfTrainingClassifier`
around a logistic regression, and `LabelSpreading`. Prints a table of balanced accuracy and of the
mean recall over the three rarest classes, with the standard deviation over the seeds. Finished runs
are kept in the work directory: the same command continues. With `--store FILE` every number is
written there, with machine, commit and command.
"""

import argparse
import json
import pathlib
import sys
import time

import harness
import numpy as np

from ltssl_jax import defaults, experiment, planning, setups
from ltssl_jax.evaluation import metrics

SEPARATE = dict(num_strong=2, forward_mode="separate")
METHODS = {
    "supervised": defaults.method("supervised"),
    "supervised, logit-adjusted": defaults.method("supervised", objective="logit_adjusted"),
    "LDAM-DRW": defaults.method("supervised", objective="ldam", reweight_from=10),
    "FixMatch": defaults.method("fixmatch", **SEPARATE),
    "FixMatch, corrected by the prior": defaults.method(
        "fixmatch", pseudo_label_tau=1.0, **SEPARATE
    ),
    "TRAS": defaults.method("tras", warmup_epochs=3),
}


def main():
    """Runs what is missing, then prints and stores the table."""
    args = parse()
    rows = {}
    for seed in args.seeds:
        for name, method in METHODS.items():
            rows.setdefault(name, []).append(trained(name, method, seed, args))
        for name, score in classical(configured(seed, args)).items():
            rows.setdefault(name, []).append(score)
    print(table(rows))
    if args.store:
        harness.store(args.store, dict(seeds=args.seeds, rows=rows))


def parse():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument(
        "--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2,3,4"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--store", type=pathlib.Path, default=None)
    return parser.parse_args()


def configured(seed, args):
    """The protocol with one seed for everything, and the changes of `--set`."""
    config = setups.digits()
    config.seed = seed
    config.update_from_flattened_dict(
        {key: json.loads(value) for key, value in (item.split("=") for item in args.set)}
    )
    return config


def trained(name, method, seed, args):
    """One run's scores, from its directory if it is finished."""
    config = configured(seed, args)
    config.method = method
    workdir = args.workdir / name.replace(" ", "_").replace(",", "") / str(seed)
    if not is_finished(workdir, config):
        began = time.time()
        experiment.train(config, workdir, is_quiet=True)
        print(f"{name}, seed {seed}: {time.time() - began:.0f} s", file=sys.stderr)
    result = json.loads((workdir / "result.json").read_text())
    return {
        "balanced_accuracy": result["test"]["balanced_accuracy"],
        "few": result["test"]["few"],
        "seconds": result["training_seconds"],
    }


def is_finished(workdir, config):
    """Says whether the directory holds the result of this very configuration."""
    if not (workdir / "result.json").exists():
        return False
    stored = json.loads((workdir / "config.json").read_text())
    blocks = {name: stored[name] for name in ("seed", "data", "method", "model", "optim", "train")}
    asked = json.loads(json.dumps(config.to_dict()))
    return blocks == {name: asked[name] for name in blocks}


def classical(config):
    """Scores of scikit-learn's classifiers on the pixels of the same split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
    from sklearn.svm import SVC

    source, split = planning.load_data(config)
    rows = np.concatenate([split.labeled, split.unlabeled])
    images = source.train.read(rows).reshape(len(rows), -1) / 255.0
    labels = source.train.labels[rows].copy()
    num_labeled = len(split.labeled)
    labels[num_labeled:] = -1  # scikit-learn's mark for unlabeled
    test = source.test.read(np.arange(len(source.test.labels)))
    test = test.reshape(len(test), -1) / 255.0
    models = {
        "SVM, balanced class weights": (
            SVC(gamma="scale", C=10.0, class_weight="balanced"),
            slice(num_labeled),
        ),
        # Around an SVM it would need calibrated probabilities, which one image a class cannot give.
        "self-training logistic regression": (
            SelfTrainingClassifier(LogisticRegression(class_weight="balanced", max_iter=1000)),
            slice(None),
        ),
        "label spreading": (LabelSpreading(kernel="knn", n_neighbors=7), slice(None)),
    }
    scores = {}
    for name, (model, part) in models.items():
        began = time.time()
        predictions = model.fit(images[part], labels[part]).predict(test)
        confusion = np.zeros((source.num_classes,) * 2, np.int64)
        np.add.at(confusion, (source.test.labels, predictions), 1)
        summary = metrics.summary(confusion, split.labeled_counts, geometric_mean_floor=0.0)
        kept = {key: summary[key] for key in ("balanced_accuracy", "few")}
        scores[name] = kept | {"seconds": time.time() - began}
    return scores


def table(rows):
    """A Markdown table: percent, mean ± sample standard deviation, n."""
    lines = ["| method | balanced accuracy | few | seconds | n |", "|---|---|---|---|---|"]
    for name, scores in rows.items():
        cells = [
            harness.spread([100 * s[key] for s in scores]) for key in ("balanced_accuracy", "few")
        ]
        seconds = np.median([s["seconds"] for s in scores])
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds:.1f} | {len(scores)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
