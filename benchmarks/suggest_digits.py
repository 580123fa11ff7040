"""Which unlabeled digits are worth a label: those suggested, beside others.

python benchmarks/suggest_digits.py --workdir runs/suggest_digits --seeds 0,1,2 --json FILE

Trains `configs/tras_digits.py` on both pools, has 50 images suggested, and counts what is in them:
images of the three classes with the fewest labels, of wrong guess, and classes. Beside them: the 50
least certain images (margin), and as many at random (mean of 20 draws). With `--retrain` those
suggested and those at random (the first draw) get their true labels, where the pool is as
long-tailed as the labels, and the same configuration is trained again with them. Finished runs are
kept in the work directory: the same command continues.
"""

import json
import pathlib

import harness
import methods_digits
import numpy as np

from ltssl_jax import experiment, planning, suggest, trained
from ltssl_jax.data.growth import Grown
from ltssl_jax.evaluation import acquisition
from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.planning import Start

NUMBER, DRAWS, RETRAINED = 50, 20, "longtail"
COLUMNS = {"rare": "of the 3 rarest classes", "wrong": "wrongly guessed", "classes": "classes"}


def main():
    """Prints both tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    parser.add_argument("--retrain", action="store_true", help="with the labels of both")
    args = parser.parse_args()
    found, learned = {}, {}
    for pool in methods_digits.POOLS:
        for seed in args.seeds:
            config = methods_digits.configured("tras", seed, pool)
            place = args.workdir / pool / "tras" / str(seed)
            before = scores(config, place)
            source, split = planning.load_data(config)
            chosen = choices(place, source, split, seed)
            for name, draws in chosen.items():
                counted = [counts(source, split, *draw) for draw in draws]
                mean = {key: float(np.mean([one[key] for one in counted])) for key in COLUMNS}
                found.setdefault(pool, {}).setdefault(name, []).append(mean)
            if pool == RETRAINED and args.retrain:
                learned.setdefault("before", []).append(before)
                for name in ("random", "suggested"):
                    start = labeled(source, split, chosen[name][0][0])
                    after = scores(config, args.workdir / name / str(seed), start)
                    learned.setdefault(name, []).append(after)
    report(found, learned)
    harness.store(args.json, dict(seeds=args.seeds, number=NUMBER, found=found, learned=learned))


def scores(config, place, start=None):
    """One run's scores on the test set, from its directory if it is finished."""
    if not (place / "result.json").exists():
        experiment.train(config, place, is_quiet=True, start=start)
    result = json.loads((place / "result.json").read_text())["test"]
    return {key: result[key] for key in ("balanced_accuracy", "few")}


def choices(run, source, split, seed):
    """Rows of the pool with what the network takes all of it for, by the way of choosing."""
    network = trained.load(run)
    probs = softmax(network.logits(source.train.read(split.unlabeled)))
    guesses, least = probs.argmax(axis=1), acquisition.worth(probs, split.labeled_counts)
    rng, total = np.random.default_rng(seed), len(probs)
    row_of = {str(position): row for row, position in enumerate(split.unlabeled)}

    def suggested(rare):
        rows = suggest.suggest(run, number=NUMBER, rare=rare, is_quiet=True)
        return [([row_of[row.id] for row in rows], guesses)]

    return {
        "random": [(rng.choice(total, NUMBER, replace=False), guesses) for _ in range(DRAWS)],
        "margin": [(np.argsort(-least.uncertainty, kind="stable")[:NUMBER], guesses)],
        "suggested": suggested(1.0),
        "suggested, --rare=0": suggested(0.0),
    }


def counts(source, split, rows, guesses):
    """What is in a choice."""
    labels = source.train.labels[split.unlabeled[rows]]
    few = np.argsort(split.labeled_counts, kind="stable")[:3]
    return dict(
        rare=np.isin(labels, few).sum(),
        wrong=(labels != guesses[rows]).sum(),
        classes=len(np.unique(labels)),
    )


def labeled(source, split, rows):
    """What a training begins with that has the true labels of these rows."""
    rows = np.sort(rows)
    labels = source.train.labels[split.unlabeled[rows]]
    return Start(Grown(rows.astype(np.int64), labels), split.fingerprint)


def report(found, learned):
    """Prints what was found, and what was learned from it."""
    print(f"| pool | {NUMBER} images | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for pool, ways in found.items():
        for name, rows in ways.items():
            cells = [harness.spread([row[key] for row in rows]) for key in COLUMNS]
            print(f"| {pool} | {name} | {' | '.join(cells)} |")
    if learned:
        print("\n| labels | balanced accuracy % | few % |\n|---|---|---|")
    for name, rows in learned.items():
        cells = [harness.spread([100 * row[key] for row in rows]) for key in rows[0]]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
