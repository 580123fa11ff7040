"""What the benchmarks share: data of real shapes, paired timing, and where numbers come from.

A speed is only ever reported as a ratio of two things timed in turns in one run: a machine's own
speed drifts by more than most differences.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax import experiment, parallel, setups

parallel.choose_convolutions(
    os.environ, importlib.metadata.version("jaxlib")
)  # as the command does
HERE = pathlib.Path(__file__).parent


def cifar_like(*, num_classes: int = 100, per_class: int = 500, size: int = 32) -> ConfigDict:
    """Returns `configs/tras_cifar100.py` on random images `size x size x 3`, made once per shape.

    A fifth of a class is labeled at most, half of it unlabeled; everything can be changed.
    """
    path = pathlib.Path(tempfile.gettempdir(), "ltssl_jax_benchmarks")
    path /= f"random_{num_classes}x{per_class}_{size}.npz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        shape = (num_classes * per_class, size, size, 3)
        labels = np.arange(shape[0], dtype=np.int32) % num_classes
        images = rng.integers(0, 256, shape, np.uint8)
        np.savez(
            path, train_images=images, train_labels=labels, test_images=images[:num_classes],
            test_labels=labels[:num_classes],
        )  # fmt: skip
    config = setups.tras("cifar100")
    config.data.source.update(kind="arrays", name="", root=os.fspath(path))
    config.data.split.update(
        num_max=per_class // 5, unlabeled_num_max=per_class // 2, imbalance_ratio=10.0
    )
    return config


def prepared(config: ConfigDict) -> tuple[Callable, Any, Callable[[], Any], Any, experiment.Plan]:
    """Builds one run: compiled step (donates its state), state, next batch, resident, plan."""
    run = experiment.plan(config)
    step = run.runner.map(experiment.train_step(run), num_shared=1, donate_state=True)
    state = run.runner.replicate(experiment.initial_state(run))
    feed = experiment.training_feed(run, 0)
    batches = map(run.runner.shard, feed.batches)
    return step, state, lambda: next(batches), run.runner.replicate(feed.resident), run


def steps(
    step: Callable, state: Any, next_batch: Callable, resident: Any, number: int
) -> Callable[[], Any]:
    """Returns what makes a number of steps, each call from where the last one ended."""

    def work():
        nonlocal state
        for _ in range(number):
            state, metrics = step(state, next_batch(), resident)
        return metrics

    return work


def seconds(work: Callable[[], Any]) -> float:
    """Times one call, until its results are there."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


def in_turns(
    works: Mapping[str, Callable[[], Any]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Times each work once per round, in an order that turns around from round to round."""
    for work in list(works.values()) * warm_up:
        jax.block_until_ready(work())
    times = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: 1 if number % 2 == 0 else -1]:
            times[name].append(seconds(works[name]))
    return times


def ratio(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Summarizes `one / other` round by round: median and quartiles."""
    quartiles = np.percentile(np.divide(one, other), [25, 50, 75])
    return dict(zip(("low", "median", "high"), quartiles.tolist(), strict=True))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Writes mean ± sample standard deviation, which one value does not have."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def facts() -> dict[str, Any]:
    """Says what produced a number: command, commit, date, machine and versions."""
    commit = subprocess.run(
        ["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    devices = jax.devices()
    return dict(
        # An interpreter's place says nothing to another machine.
        command=shlex.join(["python"] + [a.rpartition("/bin/")[2] for a in sys.argv]),
        commit=commit,
        date=datetime.date.today().isoformat(),
        machine=f"{platform.machine()}, {os.cpu_count()} cores,"
        f" {len(devices)} {devices[0].device_kind} device(s)",
        python=platform.python_version(),
        jax=jax.__version__,
        xla_flags=os.environ.get("XLA_FLAGS", ""),
    )


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--json", type=pathlib.Path, default=None, help="write the evidence here")
    made.add_argument("--rounds", type=int, default=7, help="rounds of paired timing")
    return made


def store(path: pathlib.Path | None, content: Mapping[str, Any]) -> None:
    """Writes the evidence with its facts, if a path was given."""
    if path:
        path.write_text(json.dumps(facts() | dict(content), indent=1) + "\n")
