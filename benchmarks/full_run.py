"""Whole runs of a configuration, as a user makes them: time end to end, curve, final accuracy.

python benchmarks/full_run.py --config configs/tras_cifar100.py --workdir runs/full \
  --dtypes float32,bfloat16 --seeds 0,1,2 \
  --set data.source.kind='"folder"' data.source.root='"DIR"' \
  --store benchmarks/results/full_run_NAME.json --picture benchmarks/results/full_run_NAME.png

Everything is on: evaluation, checkpoints, metrics. The question is twofold: how long does the
published number of steps take, and does computing in bfloat16 cost accuracy. Finished runs are kept
in the work directory and an interrupted one (Ctrl-C, SIGTERM, `timeout --signal=TERM 550`) goes on:
the same command continues. Its time is the sum over the calls, compilation of each included.
"""

import argparse
import importlib.util
import json
import pathlib
import time

import harness
import numpy as np

from ltssl_jax import experiment


def main():
    """Runs what is missing; prints, draws and stores what is there."""
    args = parse()
    runs = {}
    for dtype in args.dtypes:
        for seed in args.seeds:
            config = configured(args, dtype, seed)
            run = made(config, args.workdir / dtype / str(seed))
            if run is None:
                return print("interrupted; the same command continues")
            runs.setdefault(dtype, []).append(run | {"seed": seed})
    print(table(runs))
    if args.picture:
        draw(runs, args.picture)
    harness.store(args.store, dict(config=str(args.config), changes=args.set, runs=runs))


def parse():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=pathlib.Path, default="configs/tras_cifar100.py")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--dtypes", type=lambda s: s.split(","), default="float32,bfloat16")
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON")
    parser.add_argument("--store", type=pathlib.Path, default=None)
    parser.add_argument("--picture", type=pathlib.Path, default=None)
    return parser.parse_args()


def configured(args, dtype, seed):
    """The configuration file with dtype, seed, and the changes of `--set`."""
    spec = importlib.util.spec_from_file_location("config", args.config)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.seed, config.model.dtype = seed, dtype
    changes = dict(item.split("=", 1) for item in args.set)
    config.update_from_flattened_dict({key: json.loads(value) for key, value in changes.items()})
    return config


def made(config, workdir):
    """One run's times, curve and result; None if it was interrupted."""
    clock, done = workdir / "seconds.json", workdir / "result.json"
    before = json.loads(clock.read_text()) if clock.exists() else 0.0
    if not done.exists():
        began = time.perf_counter()
        result = experiment.train(config, workdir)
        before += time.perf_counter() - began
        clock.write_text(json.dumps(before))
        if not result:
            return None
    result = json.loads(done.read_text())
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    key = "test/balanced_accuracy"
    return dict(
        steps=config.train.steps,
        seconds=before,
        milliseconds_per_step=median_step(records, config),
        devices=result["devices"],
        balanced_accuracy=result["test"]["balanced_accuracy"],
        few=result["test"]["few"],
        curve=[(r["step"], r[key]) for r in records if key in r],
    )


def median_step(records, config):
    """Milliseconds of the median log window, evaluations and compilation left out."""
    images = config.train.batch_size * (1 + config.train.mu)
    rates = [r["images_per_second"] for r in records if "images_per_second" in r]
    return 1000 * images / float(np.median(rates))


def table(runs):
    """A Markdown table: percent and minutes, mean ± sample standard deviation over the seeds."""
    lines = [
        "| computed in | balanced accuracy | few | minutes end to end | ms per step | n |",
        "|---|---|---|---|---|---|",
    ]
    for dtype, of_dtype in runs.items():
        columns = [
            harness.spread([100 * r["balanced_accuracy"] for r in of_dtype], 2),
            harness.spread([100 * r["few"] for r in of_dtype], 2),
            harness.spread([r["seconds"] / 60 for r in of_dtype], 2),
            harness.spread([r["milliseconds_per_step"] for r in of_dtype], 2),
        ]
        lines.append(f"| {dtype} | {' | '.join(columns)} | {len(of_dtype)} |")
    return "\n".join(lines)


def draw(runs, path):
    """Balanced accuracy over the steps, a line per run, a colour per dtype."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, (dtype, of_dtype) in enumerate(runs.items()):
        for run in of_dtype:
            steps, scores = np.transpose(run["curve"])
            label = dtype if run is of_dtype[0] else None
            axes.plot(steps, 100 * scores, color=f"C{number}", alpha=0.7, label=label)
    axes.set(xlabel="step", ylabel="balanced accuracy on test, %")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
