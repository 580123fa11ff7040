"""Runs a grid of configurations and seeds, and compares them.

python -m ltssl_jax.sweep --config configs/tras_digits.py --workdir runs/threshold \\
  --seeds 0,1,2 --config.method.threshold=0.9,0.95

Several values with commas between them make any field of the configuration an axis of the grid; a
tuple is one value when it stands in brackets (--config.x='(1,2),(3,4)'), a text with commas when it
stands in quotes within those of the shell (--config.x='"a,b"'). A run lies in AXIS=VALUE,.../SEED
below --workdir. The same command continues what was interrupted, and one with more seeds or values
adds them. The table at the end is in sweep.md and sweep.json.
"""

import datetime
import importlib.metadata
import os
import pathlib
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from ltssl_jax import main as main_
from ltssl_jax import parallel
from ltssl_jax.core import InputError
from ltssl_jax.monitoring.progress import printer
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.monitoring.terminal import percent
from ltssl_jax.sweeping import grid, record, side_by_side
from ltssl_jax.sweeping.grid import Trial

# Not absl's own: a program may import several commands.
FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the sweep.", flag_values=FLAGS)
SEEDS = flags.DEFINE_string("seeds", "0", "Seeds, such as 0,1,2.", flag_values=FLAGS)
JOBS = flags.DEFINE_integer(
    "jobs",
    1,
    "Runs at once, each a process with its share of the devices and a log.txt beside the run.",
    lower_bound=1,
    flag_values=FLAGS,
)
HELP = flags.DEFINE_bool("help", False, "Says all this.", flag_values=FLAGS)
COLUMNS = {
    "balanced_accuracy": "balanced accuracy",
    "few": "few",
    "worst_class_recall": "worst class",
}


def sweep(argv: Sequence[str], *, is_quiet: bool = False) -> dict[str, str]:
    """Trains what a command line asks for, and writes and prints the comparison.

    Args:
      argv: arguments, without the name of the program.
      is_quiet: print nothing.

    Returns:
      Why runs have failed, by their names.

    Raises:
      InputError: something that is asked for cannot work; nothing has been trained.
      KeyboardInterrupt: it was interrupted; the same arguments continue.
    """
    root, seeds, jobs = _parsed(grid.asked(argv).others)
    known = record.read(root)
    what = grid.asked(argv, known.get("axes", ()))
    trials = list(grid.trials(what, seeds, root))
    stated = record.joined(known, what, trials, root)
    if jobs > 1:
        jax.config.update("jax_platforms", "cpu")  # the accelerators are for the others
    for one in trials:
        _check(one, num_devices=1 if jobs > 1 else one.config.parallel.num_devices)
    files = RunDirectory(root)
    files.write_json(record.FILE, stated)
    console = printer(is_quiet=is_quiet)
    failed = _train(trials, jobs, console)
    _conclude(stated, files, console)
    return failed


def _train(trials: Sequence[Trial], jobs: int, console: Console) -> dict[str, str]:
    """Trains what is not finished; a run that fails does not end the others."""
    from ltssl_jax import baselines

    left = [one for one in trials if not baselines.have_finished(one.config, one.directory)]
    console.print(f"{len(trials)} runs, {len(trials) - len(left)} of them finished before")
    failed: dict[str, str] = {}
    began = time.monotonic()
    shares = side_by_side.shares(min(jobs, len(left))) if jobs > 1 and left else []
    runs = side_by_side.run(left, shares) if jobs > 1 else _in_turn(left, console)
    number = 0
    try:
        for number, (one, reason) in enumerate(runs, 1):
            if reason:
                failed[one.name] = reason
            seconds = (time.monotonic() - began) / number * (len(left) - number)
            left_over = datetime.timedelta(seconds=round(seconds))
            said = f"FAILED: {reason}" if reason else _score(one)
            console.print(f"[{number}/{len(left)}] {one.name}: {said}; about {left_over} left")
    except KeyboardInterrupt:
        console.print(f"stopped after {number} of {len(left)} runs; the same command continues")
        raise
    for name, reason in failed.items():
        console.print(f"failed: {name}: {reason}")
    return failed


def _in_turn(trials: Sequence[Trial], console: Console) -> Iterator[tuple[Trial, str]]:
    """Trains one after the other in this process."""
    from ltssl_jax import baselines

    for one in trials:
        console.print(f"--- {one.name}")
        reason, result, typed = "", None, shlex.join(one.command)
        try:
            result = baselines.train(
                one.config, one.directory, command=typed, is_quiet=console.quiet
            )
        except InputError as error:
            reason = str(error)
        except Exception as error:  # whatever it is, the others can do without this run
            log = one.directory / side_by_side.LOG
            one.directory.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
            reason = f"{type(error).__name__}: {error} (see {log})"
        if result == {}:
            raise KeyboardInterrupt
        yield one, reason
        jax.clear_caches()  # programs stay on disk; in memory those of all runs would add up


def _check(one: Trial, *, num_devices: int) -> None:
    """Builds what needs no image of every stage."""
    from ltssl_jax import planning, stages

    try:
        if one.config.parallel.coordinator:
            raise InputError("parallel.coordinator is set, but a sweep runs on one machine")
        for stage in stages.check(one.config):
            runner = parallel.make(stage.parallel.mode, num_devices=num_devices)
            planning.check_counts(stage, runner)
            planning.assembled(stage, runner, np.ones(2, int), 1)
    except InputError as error:
        raise InputError(f"{one.name}: {error}") from error


def _score(one: Trial) -> str:
    from ltssl_jax import stages

    share = stages.result_of(one.directory)["test"]["balanced_accuracy"]
    return f"balanced accuracy {percent(share)} %"


def _conclude(stated: Mapping[str, Any], files: RunDirectory, console: Console) -> None:
    """Compares all runs of the sweep that have finished, those of earlier commands included."""
    from ltssl_jax.report import collected, markdown, runs

    directories = [files.path / one["directory"] for one in stated["runs"]]
    finished = [runs.read(path) for path in directories if (path / "result.json").exists()]
    if not finished:
        console.print("no run has finished: there is nothing to compare")
        return
    found = collected.collect(finished, axes=stated["axes"])
    files.write_json(record.FILE, {**stated, "comparison": found["comparison"]})
    text = markdown.render(found)
    (files.path / "sweep.md").write_text(text, encoding="utf-8", errors="backslashreplace")
    for part in _said(found["comparison"]) if found["comparison"] else ():
        console.print(part)
    console.print(
        f"written to {files.path / 'sweep.md'} and {record.FILE}; curves and more:"
        f" python -m ltssl_jax.report {shlex.quote(os.fspath(files.path))}"
    )


def _said(comparison: Mapping[str, Any]) -> Iterator[Table | str]:
    """Yields means over seeds, differences from the first point of the grid, and doubts."""
    from ltssl_jax.report import page

    title = "test set, percent: mean ± standard deviation over n seeds"
    table = Table(title=title, title_justify="left")
    table.add_column(no_wrap=True)
    for name in ("n", *COLUMNS.values()):
        table.add_column(name, justify="right")
    for one in comparison["groups"]:
        numbers = [one["numbers"][key] for key in COLUMNS]
        table.add_row(one["name"], str(numbers[0]["n"]), *map(_spread, numbers))
    yield table
    for one in comparison["differences"]:
        ends = f"95 % interval {page.points(one['low'])} to {page.points(one['high'])}"
        yield f"{one['ours']} against {one['theirs']}, {page.METRICS[one['metric']]}: " + (
            one["reason"]
            or f"{page.points(one['value'])} points, {ends} over {one['num']} {one['over']}"
        )
    for one in comparison["benefits"]:
        yield f"{one['group']}: {one['sentence']}"
    yield from comparison["warnings"]


def _spread(number: Mapping[str, Any]) -> str:
    deviation = "" if number["std"] is None else f" ± {percent(number['std'])}"
    return "–" if number["mean"] is None else percent(number["mean"]) + deviation


# --- the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> None:
    """Runs what the command line says; ends with code 1 where a run has failed."""
    parallel.choose_convolutions(os.environ, importlib.metadata.version("jaxlib"))
    main_.keep_compilations()
    if sweep(argv[1:]):
        sys.exit(1)


def _parsed(arguments: Sequence[str]) -> tuple[pathlib.Path, list[int], int]:
    """Returns directory, seeds and jobs."""
    FLAGS.unparse_flags()  # a program may sweep more than once
    try:
        rest = FLAGS([grid.COMMAND, *arguments])[1:]
    except flags.Error as error:
        sys.exit(f"error: {error}; see python -m {grid.COMMAND} --help")
    if HELP.value:
        print(__doc__ + FLAGS.get_help())
        sys.exit()
    if rest:
        raise InputError(f"unexpected arguments: {' '.join(rest)}; give flags only")
    if not WORKDIR.value:
        raise InputError("--workdir is missing; give a directory for the sweep")
    return _free(pathlib.Path(WORKDIR.value)), _numbers(SEEDS.value), JOBS.value


def _free(root: pathlib.Path) -> pathlib.Path:
    """Returns a directory that is no run itself: its runs would be taken for parts of that one."""
    for name in ("config.json", "stages.json"):
        if (root / name).exists():
            raise InputError(
                f"--workdir {root} is a run, there is {name} in it; give the sweep a directory of"
                " its own"
            )
    return root


def _numbers(seeds: str) -> list[int]:
    texts = seeds.split(",")
    numbers = [int(text) for text in texts if text.strip().isdecimal()]
    if len(set(numbers)) < len(texts):
        raise InputError(f"--seeds is {seeds!r}; give different numbers, such as 0,1,2")
    return numbers


def cli() -> None:
    """Sweeps; what is wrong with the input is said in one sentence."""
    with main_.in_one_sentence():
        main(sys.argv)


if __name__ == "__main__":
    cli()
