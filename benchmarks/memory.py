"""Does memory stay flat while a run reads a data set that is larger than it?

python benchmarks/memory.py --json FILE

Makes `--images` JPEG files of `--size` pixels (once), labels some of them in a table, and starts
the command on the table and the folder, as a user would, once for each `--kept-gib`, the memory
that may hold decoded images. Samples the memory of its process every second, prints it by step.
Flat means: after the first tenth of the steps it grows by what is allowed to be kept, and not more.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import harness
import numpy as np
from feed import picture

# What is measured is reading, not computing: the pool is read, and left out of the loss.
CONFIG = """
from ltssl_jax import defaults, setups

def get_config():
    config = setups.own_images()
    config.model = defaults.small_cnn(1)
    config.augment.recipe = "none"
    config.method = defaults.method("supervised")
    return config
"""
NUM_CLASSES, NUM_LABELED, NUM_TEST, TENTHS = 10, 1000, 500, 10


def images(args: argparse.Namespace) -> pathlib.Path:
    """Returns a folder with `labels.csv` and `pool/`, made once."""
    root = pathlib.Path(tempfile.gettempdir(), "ltssl_jax_benchmarks")
    root /= f"pool_{args.size}_{args.images}"
    if not root.exists():
        partial = root.with_suffix(".partial")
        blocks = range(0, args.images, 1000)
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
            jobs = [pool.submit(draw, partial, b, args.images, args.size) for b in blocks]
            for i, job in enumerate(concurrent.futures.as_completed(jobs)):
                job.result()
                print(f"\rdrawn: {(i + 1) * 1000:,} of {args.images:,}", end="", flush=True)
        print()
        rows = [
            f"pool/{i // 1000:04}/{i}.jpg,class{i % NUM_CLASSES},{'train' if i % 3 else 'test'}"
            for i in range(NUM_LABELED + NUM_TEST)
        ]
        (partial / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
        partial.rename(root)
    return root


def draw(root: pathlib.Path, first: int, number: int, size: int) -> None:
    """Writes up to a thousand images into a directory of their own."""
    directory = root / f"pool/{first // 1000:04}"
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(first)
    for i in range(first, min(first + 1000, number)):
        picture(rng, size).save(directory / f"{i}.jpg")


def watched(command: list[str], workdir: pathlib.Path, pace: float = 1.0) -> list[dict[str, float]]:
    """Runs a command; returns seconds, step and MiB of resident memory, once a `pace`."""
    samples, began = [], time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        shown = threading.Thread(
            target=lambda: [print(" |", line[:110], end="") for line in process.stdout]
        )
        shown.start()
        while process.poll() is None:
            mib = resident_mib(process.pid)
            if mib:
                step = last_step(workdir / "metrics.jsonl")
                samples.append(dict(seconds=time.monotonic() - began, step=step, mib=mib))
            time.sleep(pace)
        shown.join()
    if process.returncode:
        sys.exit(f"the command failed: {process.returncode}")
    return samples


def resident_mib(pid: int) -> float:
    """Reads the resident memory of a process that is none of a file's pages (Linux)."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def last_step(path: pathlib.Path) -> int:
    """Reads how far a run has come."""
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def by_step(samples: list[dict[str, float]], num_steps: int) -> list[float]:
    """Returns the largest memory within each tenth of the steps."""
    tenths = [[] for _ in range(TENTHS)]
    for sample in samples:
        if sample["step"]:
            tenths[min(TENTHS - 1, int(sample["step"] * TENTHS / num_steps))].append(sample["mib"])
    return [max(tenth, default=float("nan")) for tenth in tenths]


def measured(args: argparse.Namespace, root: pathlib.Path, kept_gib: float) -> dict[str, object]:
    """Runs the command once."""
    workdir = pathlib.Path(tempfile.mkdtemp(prefix="memory_"))
    flags = {
        "data.source.root": root / "labels.csv",
        "data.source.pool": root / "pool",
        "data.image_size": args.size,
        "data.feed": "tfdata",
        "data.kept_gib": kept_gib,
        "train.steps": args.steps,
        "train.log_every": max(1, args.steps // 50),
        "train.evaluate_every": args.steps,
        "train.checkpoint_every": args.steps,
        "train.batch_size": args.batch,
        "train.mu": 8,
    }
    config = workdir / "config.py"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "ltssl_jax.main", f"--config={config}"]
    command += [f"--workdir={workdir}"] + [
        f"--config.{name}={value}" for name, value in flags.items()
    ]
    samples = watched(command, workdir)
    tenths = by_step(samples, args.steps)
    print(
        f"kept {kept_gib} GiB, MiB by tenth of the steps: " + " ".join(f"{m:,.0f}" for m in tenths)
    )
    return dict(kept_gib=kept_gib, mib_by_tenth=tenths, seconds=samples[-1]["seconds"])


def main() -> None:
    """Prints memory by step for each size of the memory for decoded images."""
    parser = harness.parser(__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--kept-gib", type=float, nargs="+", default=[0.0, 1.0])
    args = parser.parse_args()
    root = images(args)
    decoded = args.images * args.size**2 * 3 / 2**30
    on_disk = sum(path.stat().st_size for path in (root / "pool").rglob("*.jpg")) / 2**30
    print(f"{args.images:,} images, {decoded:.1f} GiB decoded, {on_disk:.2f} GiB on disk")
    runs = [measured(args, root, kept) for kept in args.kept_gib]
    content = dict(images=args.images, size=args.size, steps=args.steps, batch=args.batch)
    harness.store(args.json, content | dict(decoded_gib=decoded, runs=runs))


if __name__ == "__main__":
    main()
