"""How does the cost of a run grow with classes, pool, batch, views and devices?

python benchmarks/scaling.py --json FILE --picture FILE.svg

Times one training step, input included, along five axes, and what the host does beside the steps.
All points of an axis are timed in turns. Each axis gets a line `a + b x`, the exponent of its
growth, and a verdict: a SURPRISE is growth faster than the work itself must grow. Devices are fake
ones that share the machine's cores, in processes of their own: there the number is CPU seconds per
device, which should not grow. Where the network is not the subject it is a small one; `--depth` and
`--width` choose that of the other axes.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import harness
import jax
import numpy as np
from growth import Axis, draw, judged, show, timed
from ml_collections import ConfigDict

from ltssl_jax import defaults, experiment
from ltssl_jax.data import feed, sampler, splits
from ltssl_jax.data.sources.base import in_memory
from ltssl_jax.evaluation import evaluate
from ltssl_jax.evaluation import metrics as metrics_
from ltssl_jax.training.step import make_eval_step

CLASSES, POOL = (10, 100, 500, 2000), (10**4, 10**5, 10**6)
BATCH, VIEWS, DEVICES = (16, 32, 64, 128, 256), (1, 2, 4), (1, 2, 4, 8)
TRAINING = ("classes", "pool", "batch", "views", "devices")


# --- training steps -------------------------------------------------------------------------------


def small(**data: int) -> ConfigDict:
    """Returns a configuration of tiny images and a tiny network."""
    config = harness.cifar_like(**data, size=8)
    config.model = defaults.small_cnn(16)
    return config


def with_classes(num_classes: int, args: argparse.Namespace) -> ConfigDict:
    """Varies the number of classes."""
    return small(num_classes=num_classes, per_class=50)


def with_pool(size: int, args: argparse.Namespace) -> ConfigDict:
    """Varies the number of resident unlabeled images (minus the few hundred labeled ones)."""
    config = small(num_classes=10, per_class=size // 10)
    config.data.split.update(num_max=100, unlabeled_num_max=0, unlabeled_shape="all_rest")
    return config


def with_batch(size: int, args: argparse.Namespace) -> ConfigDict:
    """Varies the labeled images per step; as many unlabeled ones join them."""
    config = harness.cifar_like(num_classes=10, per_class=1000)
    config.model = defaults.wide_resnet(args.depth, args.width)
    config.train.batch_size = size
    return config


def with_views(num_strong: int, args: argparse.Namespace) -> ConfigDict:
    """Varies the strong views of each unlabeled image."""
    config = with_batch(64, args)
    config.method = defaults.method("fixmatch", num_strong=num_strong, forward_mode="separate")
    return config


def training(config: ConfigDict, num_steps: int) -> Callable[[], Any]:
    """Builds a run on one device; each call takes some steps of it."""
    config.parallel.num_devices = config.parallel.num_devices or 1
    config.data.feed, config.data.drop_last = "resident", False
    *parts, _ = harness.prepared(config)
    return harness.steps(*parts, num_steps)


def training_axis(name: str, args: argparse.Namespace) -> Axis:
    """Prepares all points of an axis of training steps."""
    configured, points, allowed = {
        "classes": (with_classes, CLASSES, 1),
        "pool": (with_pool, POOL, 0),
        "batch": (with_batch, BATCH, 1),
        "views": (with_views, VIEWS, 1),
    }[name]
    works = {x: training(configured(x, args), args.steps) for x in points}
    return Axis(f"training step by {name}", allowed, works, args.steps)


# --- devices, in processes of their own -----------------------------------------------------------


def child(num_devices: int, args: argparse.Namespace) -> None:
    """Answers each line of its input with the CPU seconds per device of one step."""
    config = with_batch(16 * num_devices, args)
    config.parallel.num_devices = num_devices
    work = training(config, args.steps)
    for _ in sys.stdin:
        began = time.process_time()
        jax.block_until_ready(work())
        print((time.process_time() - began) / num_devices / args.steps, flush=True)


def devices_times(args: argparse.Namespace) -> dict[int, list[float]]:
    """Asks one process per number of devices, in turns; the first answers warm them up."""
    children = {n: start_child(n, args) for n in DEVICES}

    def ask(process):
        print("go", file=process.stdin, flush=True)
        return float(process.stdout.readline())

    rounds = [{n: ask(process) for n, process in children.items()} for _ in range(args.rounds + 1)]
    for process in children.values():
        process.stdin.close()
        process.wait()
    return {n: [answers[n] for answers in rounds[1:]] for n in DEVICES}


def start_child(num_devices: int, args: argparse.Namespace) -> subprocess.Popen:
    """Starts this script on fake devices; their number is read when JAX starts."""
    options = dict(child=num_devices, depth=args.depth, width=args.width, steps=args.steps)
    return subprocess.Popen(
        [sys.executable, __file__, *(f"--{name}={value}" for name, value in options.items())],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(num_devices)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# --- beside the steps -----------------------------------------------------------------------------


def labels(size: int, num_classes: int) -> np.ndarray:
    """Returns as many labels of each class."""
    return np.arange(size, dtype=np.int32) % num_classes


def split(size: int, num_classes: int) -> Callable[[], Any]:
    """Cuts a split out of `size` images."""
    of = labels(size, num_classes)
    options = dict(num_max=10, imbalance_ratio=10.0, unlabeled_shape="all_rest")
    return lambda: splits.long_tailed(of, num_classes=num_classes, **options)


def epoch_start_times(rounds: int) -> dict[int, list[float]]:
    """Asks for the first batch of an epoch, a while after a batch of the epoch before."""
    orders = {n: sampler.indices(n, 64, seed=0, stream="unlabeled") for n in POOL}
    times = {n: [] for n in POOL}
    for epoch, (size, order) in itertools.product(range(1, rounds + 1), orders.items()):
        step = epoch * size // 64  # of this batch the first images are of the epoch before
        order(step - 1)
        time.sleep(0.2)
        times[size].append(harness.seconds(functools.partial(order, step + 1)))
    return times


def within_epoch(size: int) -> Callable[[], Any]:
    """Asks for a hundred batches of one epoch."""
    order = sampler.indices(size, 64, seed=0, stream="unlabeled")
    return lambda: [order(step) for step in range(1, 101)]


def reading(size: int) -> Callable[[], Any]:
    """Reads the images that stay on the device."""
    records = in_memory(np.zeros((size, 8, 8, 3), np.uint8), labels(size, 10))
    cut = split(size, 10)()
    return lambda: feed.training(records, cut, batch_size=64, mu=1, kind="resident", seed=0)


def evaluation(num_classes: int, args: argparse.Namespace) -> Callable[[], Any]:
    """Evaluates 40 batches of 256 images."""
    config = with_classes(num_classes, args)
    config.train.eval_batch_size, config.parallel.num_devices = 256, 1
    run = experiment.plan(config)
    state = run.runner.replicate(experiment.initial_state(run))
    step = make_eval_step(run.method, run.model, run.problem, run.views, axis=run.runner.axis)
    positions = np.arange(40 * 256) % len(run.source.train.labels)
    batches = evaluate.held(experiment.evaluation_batches(run, run.source.train.take(positions)))
    step = run.runner.map(step)
    return lambda: evaluate.confusion_matrix(step, state, batches())


def summary(num_classes: int) -> Callable[[], Any]:
    """Computes every metric of a confusion matrix."""
    confusion = np.ones((num_classes, num_classes), np.int64)
    counts = labels(num_classes, num_classes) + 1
    return lambda: metrics_.summary(confusion, counts, geometric_mean_floor=0.01)


def result(num_classes: int, args: argparse.Namespace) -> Callable[[], Any]:
    """Writes and prints the result of a run."""
    run = experiment.plan(with_classes(num_classes, args))
    watch = experiment.watcher(run, tempfile.mkdtemp(), is_quiet=True)
    confusion = np.ones((num_classes, num_classes), np.int64)
    return lambda: watch.finished(1, {"test": confusion}, {})


def host_axes(args: argparse.Namespace) -> dict[str, Axis]:
    """Prepares what happens beside the steps."""
    return {
        "split by pool": Axis(
            "split of x images, 100 classes", 1, {n: split(n, 100) for n in POOL}
        ),
        "split by classes": Axis(
            "split of 10^6 images, x classes", 0, {k: split(10**6, k) for k in CLASSES}
        ),
        "within epoch": Axis(
            "order of a batch within an epoch of x",
            0,
            {n: within_epoch(n) for n in POOL},
            repeats=100,
        ),
        "reading": Axis("reading of x resident images", 1, {n: reading(n) for n in POOL}),
        "evaluation": Axis(
            "evaluation of a batch of 256, x classes",
            1,
            {k: evaluation(k, args) for k in CLASSES},
            repeats=40,
        ),
        "metrics": Axis("metrics of x classes", 2, {k: summary(k) for k in CLASSES}),
        "result": Axis("result written, x classes", 2, {k: result(k, args) for k in CLASSES}),
    }


# --- the command --------------------------------------------------------------------------------


def measured(name: str, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Times one axis, or for "host" all of those beside the steps."""
    if name == "host":
        title = "order of the first batch of an epoch of x: a step waits for it"
        first = {"epoch start": judged(title, 0, epoch_start_times(args.rounds))}
        return first | {n: timed(axis, args.rounds) for n, axis in host_axes(args).items()}
    if name == "devices":
        title = "CPU seconds per device of a training step, 16 labeled images on each"
        return {name: judged(title, 0, devices_times(args))}
    return {name: timed(training_axis(name, args), args.rounds)}


def main() -> None:
    """Measures, prints, stores."""
    parser = harness.parser(__doc__)
    parser.add_argument("--axes", nargs="+", choices=(*TRAINING, "host"), default=None)
    parser.add_argument("--depth", type=int, default=10, help="of the wide ResNet")
    parser.add_argument("--width", type=int, default=1, help="of the wide ResNet")
    parser.add_argument("--steps", type=int, default=3, help="steps timed at once")
    parser.add_argument("--picture", type=pathlib.Path, default=None, help="PNG or SVG")
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child, args)
    entries = {}
    for name in args.axes or (*TRAINING, "host"):
        for key, entry in measured(name, args).items():
            show(entry)
            entries[key] = entry
    harness.store(args.json, dict(axes=json.loads(json.dumps(entries))))
    if args.picture:
        draw({n: e for n, e in entries.items() if n in TRAINING}, args.picture)


if __name__ == "__main__":
    main()
