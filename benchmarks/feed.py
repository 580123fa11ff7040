"""Does a step ever wait for its input?

python benchmarks/feed.py --json FILE

1. Images resident on the device: the time of K steps that get their batches from the feed, over K
   times the same compiled step on one batch that is there already; in turns. Aim: within 2 %.
   Beside it the same ratio for a second run on that one batch: what the machine can tell apart.
2. Images in files, read by `tf.data` beside the steps: the share of time that a step waits for its
   batch, with a device that computes elsewhere for `--step-ms`, on the first and on the second pass
   over the images, and with the real step, which on a CPU takes its cores from decoding.
3. The arithmetic: images a second that a step consumes, that a core decodes, that the threads of
   this process decode, and what that means at `--cores`. Aim: waiting at most 10 % of the time.
"""

import argparse
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import harness
import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ltssl_jax import defaults, experiment
from ltssl_jax.core import InputError, Resident
from ltssl_jax.data.sources.base import import_tensorflow

NUM_CLASSES = 10


# --- images resident on the device ----------------------------------------------------------------


def resident(args: argparse.Namespace) -> dict[str, Any]:
    """Times steps fed by the feed and steps on one batch, in turns."""
    config = harness.cifar_like(num_classes=NUM_CLASSES, per_class=1000, size=args.size)
    config.data.feed = "resident"
    step, state, next_batch, images, run = harness.prepared(configured(config, args))
    fixed = next_batch()
    fed_by = {"fed": next_batch, "fixed": lambda: fixed, "control": lambda: fixed}
    works = {
        name: harness.steps(step, run.runner.replicate(state), source, images, args.steps)
        for name, source in fed_by.items()
    }
    times = harness.in_turns(works, rounds=args.rounds)
    host = [harness.seconds(lambda: [next_batch() for _ in range(100)]) / 100 for _ in range(5)]
    return dict(
        steps=args.steps,
        step_seconds=float(np.median(times["fixed"])) / args.steps,
        ratio=harness.ratio(times["fed"], times["fixed"]),
        control=harness.ratio(times["control"], times["fixed"]),
        host_seconds_per_batch=float(np.median(host)),
    )


def configured(config: ConfigDict, args: argparse.Namespace) -> ConfigDict:
    """Chooses network and batch."""
    config.model = defaults.wide_resnet(args.depth, args.width)
    config.train.batch_size, config.data.drop_last = args.batch, False
    config.parallel.num_devices = 1
    return config


# --- images in files ------------------------------------------------------------------------------


def folder(args: argparse.Namespace) -> pathlib.Path:
    """Returns a folder of `--images` training images and a few test images, made once."""
    name = f"{args.format}_{args.size}_{args.images}"
    root = pathlib.Path(tempfile.gettempdir(), "ltssl_jax_benchmarks", name)
    if not root.exists():
        rng = np.random.default_rng(0)
        partial = root.with_suffix(".partial")
        for part, number in (("train", args.images), ("test", 10 * NUM_CLASSES)):
            for k in range(NUM_CLASSES):
                (partial / part / str(k)).mkdir(parents=True, exist_ok=True)
            for i in range(number):
                path = partial / part / str(i % NUM_CLASSES) / f"{i}.{args.format}"
                picture(rng, args.size).save(path)
        partial.rename(root)
    return root


def picture(rng: np.random.Generator, size: int) -> Image.Image:
    """Draws coarse structure under fine noise, so that files are about as large as photographs'."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.integers(-8, 9, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def planned(args: argparse.Namespace) -> experiment.Plan:
    """Builds a run on the folder whose pool is nearly all of its images."""
    config = harness.cifar_like(num_classes=NUM_CLASSES, per_class=50)
    config.data.source.update(kind="folder", root=os.fspath(folder(args)))
    config.data.feed = "tfdata"
    config.data.split.update(
        num_max=args.images // 50, unlabeled_num_max=0, unlabeled_shape="all_rest"
    )
    return experiment.plan(configured(config, args))


def waiting(batches: Iterator[Any], consume: Callable[[Any], Any], number: int) -> dict[str, float]:
    """Measures the share of time in which batches are waited for; each is used up before the next.

    While one is used up the feed reads ahead, as it does while a device computes.
    """
    waited, began = 0.0, time.perf_counter()
    for _ in range(number):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        jax.block_until_ready(consume(batch))
    total = time.perf_counter() - began
    return dict(share=waited / total, step_seconds=(total - waited) / number, steps=number)


def waiting_elsewhere(batches: Iterator[Any], step_seconds: float, number: int) -> dict[str, float]:
    """Computes the idle share of a device with steps of that length; the host runs two ahead."""
    began = free = time.perf_counter()
    idle = 0.0
    for _ in range(number):
        next(batches)
        now = time.perf_counter()
        idle += max(0.0, now - free)
        free = max(free, now) + step_seconds
        time.sleep(max(0.0, free - now - 2 * step_seconds))
    return dict(share=idle / (free - began), step_seconds=step_seconds, steps=number)


def started(run: experiment.Plan) -> Iterator[Any]:
    """Returns the batches of a feed that has begun to read ahead."""
    batches = experiment.training_feed(run, 0).batches
    next(batches)
    return batches


def one_pass(run: experiment.Plan) -> int:
    """Counts the steps that meet every unlabeled image once."""
    return math.ceil(len(run.split.unlabeled) / (run.config.train.batch_size * run.config.train.mu))


def real_step(run: experiment.Plan) -> Callable[[Any], Any]:
    """Returns the compiled step as a consumer of batches."""
    step = run.runner.map(experiment.train_step(run), num_shared=1, donate_state=True)
    state = run.runner.replicate(experiment.initial_state(run))

    def consume(batch):
        nonlocal state
        state, metrics = step(state, run.runner.shard(batch), Resident())
        return metrics

    jax.block_until_ready(consume(next(started(run))))  # compiles
    return consume


def decoding(run: experiment.Plan, rounds: int) -> dict[str, float]:
    """Measures reading: images a second by the clock, and by the CPU seconds that it takes."""
    positions = run.split.unlabeled
    size = run.config.train.batch_size * (1 + run.config.train.mu)
    chunks = [positions[at : at + size] for at in range(0, min(2000, len(positions)), size)]
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        for chunk in chunks:
            run.source.train.read(chunk)
        walls.append((time.perf_counter() - wall) / sum(map(len, chunks)))
        cpus.append((time.process_time() - cpu) / sum(map(len, chunks)))
    wall, cpu = float(np.median(walls)), float(np.median(cpus))
    return dict(images_per_second=1 / wall, images_per_cpu_second=1 / cpu, cores_busy=cpu / wall)


def on_disk(args: argparse.Namespace) -> dict[str, Any]:
    """Measures decoding, and waiting for it."""
    run = planned(args)
    decoded = decoding(run, args.rounds)
    batches, step_seconds, number = started(run), args.step_ms / 1e3, one_pass(run)
    return dict(
        images=len(run.split.unlabeled),
        decoding=decoded,
        waiting={
            "a device elsewhere, first pass": waiting_elsewhere(batches, step_seconds, number),
            "a device elsewhere, second pass": waiting_elsewhere(batches, step_seconds, number),
            "the real step": waiting(started(run), real_step(run), 20),
        },
    )


# --- what it means --------------------------------------------------------------------------------


def arithmetic(decoded: dict[str, float], args: argparse.Namespace) -> dict[str, float]:
    """Compares what a step consumes with what cores and threads decode."""
    consumed = 2 * args.batch / (args.step_ms / 1e3)
    every_core = args.cores * decoded["images_per_cpu_second"]
    return dict(
        cores=args.cores,
        consumed_per_second=consumed,
        decoded_per_second_if_every_core_decoded=every_core,
        waiting_if_every_core_decoded=share(every_core, consumed),
        waiting_with_threads=share(decoded["images_per_second"], consumed),
    )


def share(available: float, consumed: float) -> float:
    """Returns the share of time spent waiting, where reading is as slow as that."""
    return max(0.0, 1 - available / consumed)


def show(entry: dict[str, Any], args: argparse.Namespace) -> None:
    """Prints the tables."""
    fed = entry["resident"]
    print(
        f"resident: {fed['steps']} steps of {1e3 * fed['step_seconds']:.1f} ms over as many fixed:"
    )
    for name, key in (("fed by the feed", "ratio"), ("fixed again", "control")):
        low, median, high = (100 * (fed[key][q] - 1) for q in ("low", "median", "high"))
        print(f"  {name:<16} {median:+.2f} % (quartiles {low:+.2f} to {high:+.2f})")
    print(f"  a batch takes the host {1e3 * fed['host_seconds_per_batch']:.3f} ms")
    if "disk" not in entry:
        return print(f"disk: not measured; {entry['disk_missing']}")
    disk = entry["disk"]
    print(f"disk: {disk['images']:,} images {args.size}x{args.size} {args.format}; share waiting:")
    for name, one in disk["waiting"].items():
        print(
            f"  {name:<32} {100 * one['share']:5.1f} %"
            f"  ({one['steps']} steps of {1e3 * one['step_seconds']:.1f} ms)"
        )
    explain(disk["decoding"], entry["arithmetic"], args)


def explain(decoded: dict[str, float], sums: dict[str, float], args: argparse.Namespace) -> None:
    """Prints the arithmetic in words."""
    each, wall = decoded["images_per_cpu_second"], decoded["images_per_second"]
    needed = sums["consumed_per_second"]
    print(f"decoding: {each:,.0f} images per CPU second; the threads of a process decode")
    print(f"  {wall:,.0f} a second and keep {decoded['cores_busy']:.1f} cores busy")
    print(
        f"a step of {args.step_ms} ms with {2 * args.batch} images consumes {needed:,.0f} a second:"
    )
    print(
        f"  {args.cores} cores that all decoded would give"
        f" {sums['decoded_per_second_if_every_core_decoded']:,.0f}, a wait of"
        f" {100 * sums['waiting_if_every_core_decoded']:.0f} %; {0.9 * needed / each:.1f} cores"
        f" are what a wait of 10 % needs.\n  The threads of one process, as here, make it wait"
        f" {100 * sums['waiting_with_threads']:.0f} % on images read for the first time."
    )


def main() -> None:
    """Measures, prints, stores."""
    parser = harness.parser(__doc__)
    parser.add_argument("--depth", type=int, default=10, help="of the wide ResNet")
    parser.add_argument("--width", type=int, default=1, help="of the wide ResNet")
    parser.add_argument("--batch", type=int, default=64, help="labeled images a step")
    parser.add_argument("--steps", type=int, default=2, help="steps timed at once, resident")
    parser.add_argument("--images", type=int, default=5000, help="training images in files")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--format", choices=("webp", "jpg", "png"), default="webp")
    parser.add_argument("--step-ms", type=float, default=2.4, help="of the device elsewhere")
    parser.add_argument("--cores", type=int, default=16, help="for the arithmetic")
    parser.set_defaults(rounds=21)
    args = parser.parse_args()
    entry = dict(resident=resident(args))
    try:
        import_tensorflow("the feed 'tfdata'")
    except InputError as error:
        entry["disk_missing"] = str(error)
    else:
        entry["disk"] = on_disk(args)
        entry["arithmetic"] = arithmetic(entry["disk"]["decoding"], args)
    show(entry, args)
    harness.store(args.json, entry)


if __name__ == "__main__":
    main()
