"""What CDMAD's subtraction does to the digits: the same networks with it, without it, otherwise.

python benchmarks/cdmad_digits.py runs/methods_digits/all/cdmad/* [--json FILE]

Reads finished runs of `configs/cdmad_digits.py` and scores each on the test images by balanced
accuracy: as CDMAD predicts; by the network's logits alone; corrected by the labels' prior instead;
and with a gray or a black image in place of the white one. Prints how far the logits of the white
image spread, too: CDMAD takes them for the log prior that the network has learned.
"""

import argparse
import functools
import pathlib

import harness
import numpy as np
from sklearn.metrics import balanced_accuracy_score

from ltssl_jax import planning, trained
from ltssl_jax.training.forward import evaluate


def main():
    """Scores every run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, default=None)
    args = parser.parse_args()
    rows = {str(run): scores(run) for run in args.runs}
    names = list(next(iter(rows.values())))
    print("run | " + " | ".join(names))
    for run, row in rows.items():
        print(f"{run} | " + " | ".join(f"{row[name]:.1f}" for name in names))
    for name in names:
        print(f"{name}: {harness.spread([row[name] for row in rows.values()])}")
    harness.store(args.json, dict(rows=rows))


def scores(run):
    """Balanced accuracies in percent by name, and two spreads of logits."""
    network = trained.load(run, "latest")
    source, _ = planning.load_data(network.config)
    images = source.test.read(np.arange(len(source.test)))
    logits = answers(network, images)
    counts = network.problem.labeled_counts
    log_pi = np.log(counts / counts.sum())
    views = {"white": network.logits(images)}
    # Solid images as the network sees them, of gray levels that it knows.
    for name, level in {"gray": 128, "black": 0}.items():
        views[name] = logits - answers(network, np.full_like(images[:1], level))
    views |= {"nothing": logits, "log prior": logits - log_pi[None, :]}
    found = {
        f"less {name}": 100 * balanced_accuracy_score(source.test.labels, z.argmax(axis=1))
        for name, z in views.items()
    }
    white = (logits - views["white"])[0]
    ranges = {"range of white": np.ptp(white), "range of log prior": np.ptp(log_pi)}
    return {name: float(value) for name, value in (found | ranges).items()}


def answers(network, images):
    """The EMA network's own logits `[N, K]`."""
    forward = functools.partial(evaluate, network.model, network.state.ema)
    return np.asarray(forward(network.views.evaluation(images)).logits["base"])


if __name__ == "__main__":
    main()
