"""How well does `inspect` estimate the class frequencies of a pool?

python benchmarks/label_shift.py --root CIFAR10 --json FILE

Cuts long-tailed labeled sets and pools of known class frequencies out of a folder of images, lets
the estimator see labels and pool as `inspect` does, and compares. Error and shift are distances in
total variation: of the estimate from the truth, and of the labeled frequencies from the truth,
which is what one would have without an estimate. Covered: the share of classes whose true frequency
lies in the 95 % interval.
"""

import argparse
from typing import Any

import harness
import numpy as np
from threadpoolctl import threadpool_limits

from ltssl_jax.data import sources, splits
from ltssl_jax.inspection import features, probe, shift

SETTINGS = ((600, 50.0, 1000), (500, 100.0, 1000), (50, 10.0, 1000))  # N1, ratio, M1
SHAPES = ("consistent", "uniform_max", "reversed")
UNIFORM_MAX = 500
DIMENSIONS = 128


def measured(vectors, labels, num_classes: int, setting, shape: str, seed: int) -> dict[str, float]:
    """Estimates one pool."""
    num_max, ratio, most = setting
    split = splits.long_tailed(
        labels,
        num_classes=num_classes,
        num_max=num_max,
        imbalance_ratio=ratio,
        unlabeled_num_max=min(most, UNIFORM_MAX) if shape == "uniform_max" else most,
        unlabeled_shape=shape,
        shuffle=True,
        permute_classes=True,
        seed=seed,
    )
    both = probe.project(
        np.concatenate([vectors[split.labeled], vectors[split.unlabeled]]), DIMENSIONS
    )
    labeled, pool = np.split(both, [len(split.labeled)])
    found = shift.estimate(labeled, labels[split.labeled], pool, num_classes=num_classes)
    truth = split.unlabeled_counts / split.unlabeled_counts.sum()
    truth = np.array([truth[group].sum() for group in found.groups])
    return dict(
        shift=float(np.abs(found.labeled - truth).sum() / 2),
        error=float(np.abs(found.pool - truth).sum() / 2),
        covered=float(np.mean((found.low <= truth) & (truth <= found.high))),
        probe=found.balanced_accuracy,
    )


def table(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures all settings, shapes and seeds."""
    source = sources.load("folder", root=args.root, image_size=features.SIDE)
    images = source.train.read(np.arange(len(source.train)))
    vectors = features.extract(images, features.learn(images))
    rows = []
    for setting in SETTINGS:
        for shape in SHAPES:
            runs = [
                measured(vectors, source.train.labels, source.num_classes, setting, shape, seed)
                for seed in range(args.seeds)
            ]
            columns = {name: [run[name] for run in runs] for name in runs[0]}
            rows.append(dict(setting=setting, shape=shape, **columns))
            spread = [
                f"{n} {np.mean(v):.2f} +- {np.std(v, ddof=1):.2f}" for n, v in columns.items()
            ]
            print(
                f"N1 {setting[0]}, ratio {setting[1]:g}, {shape}: " + ", ".join(spread), flush=True
            )
    return rows


@threadpool_limits.wrap(limits=1)
def main() -> None:
    """Prints a line for each setting and shape."""
    parser = harness.parser(__doc__)
    parser.add_argument("--root", required=True, help="folder of images, train/CLASS/...")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    harness.store(args.json, dict(seeds=args.seeds, rows=table(args)))


if __name__ == "__main__":
    main()
