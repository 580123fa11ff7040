"""Looks at the data before training: `python -m ltssl_jax.inspect --config configs/tras_digits.py`.

With the flags of a training it writes, where the run will be (or to --out):

inspect.html   for people: counts, samples, copies, leakage, skipped files, shift, cost
inspect.json   the same for programs; its keys are explained in inspection/look.py
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from ltssl_jax import main as main_
from ltssl_jax import parallel
from ltssl_jax.core import InputError

COMMAND = "ltssl_jax.inspect"
OUT = flags.DEFINE_string("out", None, "Directory to write to; by default that of the run.")
FEW = flags.DEFINE_integer("few", 10, "Name classes with fewer labeled images.", lower_bound=1)
COST_SECONDS = flags.DEFINE_float(
    "cost_seconds", 5.0, "Time for train steps after compilation; 0: no cost.", lower_bound=0
)


def main(argv: Sequence[str]) -> None:
    """Inspects what the flags describe."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}; give flags only")
    config = main_.loaded()
    parallel.choose_convolutions(os.environ, importlib.metadata.version("jaxlib"))
    main_.keep_compilations()
    warnings.filterwarnings("ignore", module="PIL")  # about metadata; what matters is raised
    inspect(
        config,
        OUT.value or main_.run_directory(),
        few=FEW.value,
        cost_seconds=COST_SECONDS.value,
        command=shlex.join(["python", "-m", COMMAND, *sys.argv[1:]]),
    )


def inspect(
    config: ConfigDict,
    out: str | os.PathLike,
    *,
    few: int = 10,
    cost_seconds: float = 5.0,
    command: str = "",
    is_quiet: bool = False,
) -> dict[str, Any]:
    """Inspects the data of a run that has not begun; writes `inspect.html` and `inspect.json`.

    Args:
      config: see `defaults.base`; any number of unusable files is accepted.
      out: directory to write to.
      few: a class with fewer labeled images is named.
      cost_seconds: time for train steps after their compilation; 0 leaves the cost out.
      command: what the user typed.
      is_quiet: print nothing.

    Returns:
      The content of `inspect.json`.

    Raises:
      InputError: the data or the configuration cannot work, or `out` cannot be written to.
    """
    from ltssl_jax import planning
    from ltssl_jax.inspection import findings, look, page
    from ltssl_jax.monitoring.progress import progress

    out = _writable(out)
    config = config.copy_and_resolve_references().unlock()
    config.data.source.max_skipped = 1.0
    with progress(is_quiet=is_quiet) as report:
        source, split = planning.load_data(config, report)
        found, pictures = look.look(source, split, few=few, progress=report)
        report("timing train steps", 0, 1)
        found["cost"] = cost(config, source, split, seconds=cost_seconds)
    found["made_by"] = command
    found["findings"] = [one._asdict() for one in findings.findings(found)]
    _write(out / "inspect.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    _write(out / "inspect.html", page.render(found, pictures))
    _print(found, out, is_quiet=is_quiet)
    return found


def cost(config: ConfigDict, source, split, *, seconds: float) -> dict[str, Any]:
    """Times the train step of a run; says why where it cannot."""
    if not seconds:
        return {"reason": "--cost_seconds is 0"}
    try:
        return {"reason": "", **_measured(config, source, split, seconds)}
    except (InputError, jax.errors.JaxRuntimeError) as error:  # the latter: out of memory
        return {"reason": str(error).splitlines()[0]}


def _measured(config, source, split, seconds: float) -> dict[str, Any]:
    """Times a step of the last stage, which stands for those of the others, and of a baseline."""
    from ltssl_jax import baselines, stages

    configs, beside = stages.check(config), list(baselines.asked(config).values())
    measured = _timed(configs[-1], source, split, seconds)
    steps = sum(stage.train.steps for stage in configs)
    baseline_seconds = 0.0
    if beside:  # one costs as much as the other
        baseline_seconds = len(beside) * _total(_timed(beside[0], source, split, seconds), steps)
    return measured | {
        "steps": steps,
        "baseline_seconds": baseline_seconds,
        "total_seconds": _total(measured, steps) + baseline_seconds,
    }


def _total(measured: Mapping[str, Any], steps: int) -> float:
    return measured["compile_seconds"] + steps * measured["step_seconds"]


def _timed(config: ConfigDict, source, split, seconds: float) -> dict[str, Any]:
    """Times a step of one training."""
    from ltssl_jax import experiment, planning
    from ltssl_jax.inspection.cost import measure
    from ltssl_jax.training.step import many

    config = config.copy_and_resolve_references().unlock()
    config.optim.is_frozen = False  # costs as much, and there is no backbone yet
    runner = parallel.make(config.parallel.mode, num_devices=config.parallel.num_devices)
    planning.check_counts(config, runner)
    channels = source.train.image_shape[2]
    config.augment.mean, config.augment.std = (0.5,) * channels, (0.25,) * channels
    parts = planning.assembled(config, runner, split.labeled_counts, len(split.unlabeled))
    # The time of a step does not depend on what is in the images, so nothing is read again.
    blank = lambda positions: np.zeros((len(positions), *source.train.image_shape), np.uint8)  # noqa: E731
    source = dataclasses.replace(source, train=dataclasses.replace(source.train, read=blank))
    truth = source.train.labels[split.unlabeled].astype(np.int32)
    run = planning.Plan(config=config, source=source, split=split, truth=truth, **vars(parts))
    step = runner.map(many(planning.train_step(run)), batch_axis=1, num_shared=1, donate_state=True)
    state = runner.replicate(planning.initial_state(run))
    batches = experiment.training_feed(run, 0)
    at_once = experiment.steps_at_once(run, batches.kind)
    with contextlib.closing(batches.batches):
        stack = next(experiment.stacks(run, batches, 0, at_once))
    resident = runner.replicate(experiment.resident(run, batches))
    measured = measure(step, state, stack, resident, at_once=at_once, seconds=seconds)
    return measured | {"devices": parallel.describe(runner.devices), "feed": batches.kind}


def _writable(out: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("it is not writable")
    except OSError as error:
        raise InputError(
            f"--out {os.fspath(out)!r} cannot be used ({error}); choose another"
        ) from error
    return path


def _write(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    partial.replace(path)


def _print(found: Mapping[str, Any], out: pathlib.Path, *, is_quiet: bool) -> None:
    from ltssl_jax.inspection.page import duration
    from ltssl_jax.monitoring.progress import printer

    console = printer(is_quiet=is_quiet)
    console.print(
        f"{found['data']['name']}: "
        + ", ".join(f"{total:,} {part}" for part, total in found["totals"].items() if total)
    )
    styles = {"problem": "bold red", "warning": "yellow", "note": ""}
    for one in found["findings"]:
        console.print(f"{one['level']}: ", style=styles[one["level"]], end="")
        console.print(one["text"])
    costs = found["cost"]
    if not costs["reason"]:
        beside = f" ({duration(costs['baseline_seconds'])} of it for baselines)"
        console.print(
            f"cost: {costs['step_seconds']:.3g} s a step,"
            f" {duration(costs['total_seconds'])}{beside if costs['baseline_seconds'] else ''}"
            f" for {costs['steps']:,} steps,"
            f" {(costs['memory_bytes'] or 0) / 2**20:,.0f} MiB, on {costs['devices']}"
        )
    console.print(f"written to {out / 'inspect.html'} and inspect.json")


def cli() -> None:
    """Parses the flags and inspects."""
    main_.cli(main, COMMAND)


if __name__ == "__main__":
    cli()
