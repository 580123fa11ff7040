"""Scores a run on labeled images: `python -m ltssl_jax.evaluate RUN --data PATH [--data PATH]`.

RUN is the --workdir of a training. PATH is a directory with CLASS/..., a table of image files with
their classes, an array file with test_images and test_labels, shards; classes are matched by name
(see `data.labeled`). `test` and `validation`, unless there are such paths, are what the run itself
kept at its end, of its best network and of its last one: no image is read then.

For each PATH, in RUN/evaluations/NAME or in OUT/NAME, where NAME is the end of PATH:

result.json             all metrics, recall per class, calibration, accuracy on sets with other
                        class frequencies (forward, uniform and backward long-tailed)
confusion.npy           [K, K] counts, rows true classes, columns predicted ones
predictions.csv         id, truth, and what `ltssl_jax.predict` writes
skipped.csv             what could not be used, and why
"""

import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from ltssl_jax import command, trained, written
from ltssl_jax import main as main_
from ltssl_jax.core import InputError
from ltssl_jax.data import labeled
from ltssl_jax.data.sources import Settings
from ltssl_jax.data.sources.base import roots, tally
from ltssl_jax.deployment import evaluations, probabilities
from ltssl_jax.deployment.evaluations import Answers, Asked
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.evaluation.calibration import Calibration
from ltssl_jax.monitoring.progress import Report, printer, progress
from ltssl_jax.report import runs
from ltssl_jax.report.runs import Run
from ltssl_jax.trained import Trained

DEFAULT = "best"

# Not absl's own: every command has an --out, and a program may import several commands.
FLAGS = flags.FlagValues()
DATA = flags.DEFINE_multi_string("data", [], "A set to score; may be repeated.", flag_values=FLAGS)
OUT = flags.DEFINE_string(
    "out", None, "Directory of directories to write; RUN/evaluations by default.", flag_values=FLAGS
)
WHICH = flags.DEFINE_string(
    "which",
    DEFAULT,
    "Checkpoint: best (on validation; without that on test), latest, or its step. Predictions are"
    " kept of best and latest.",
    flag_values=FLAGS,
)
PRIOR = flags.DEFINE_string(
    "prior",
    probabilities.NETWORK,
    "How frequent the classes are: network (as it has learned), uniform, train, or a file.",
    flag_values=FLAGS,
)
CALIBRATE = flags.DEFINE_enum(
    "calibrate",
    "auto",
    probabilities.CALIBRATE,
    "Kept predictions that probabilities are calibrated on.",
    flag_values=FLAGS,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images at once.", flag_values=FLAGS)
COLUMNS = {
    role: flags.DEFINE_string(
        f"{role}_column", None, f"Column {role} of tables; that of training.", flag_values=FLAGS
    )
    for role in ("path", "label", "id", "split")
}
IMAGE_ROOT = flags.DEFINE_string(
    "image_root", "", "Where the paths in tables begin, if not beside them.", flag_values=FLAGS
)
HELP = flags.DEFINE_bool("help", False, "Says all this.", flag_values=FLAGS)


def evaluate(
    run: str | os.PathLike,
    data: Sequence[str],
    out: str | os.PathLike | None = None,
    *,
    which: str | int = DEFAULT,
    prior: str = probabilities.NETWORK,
    calibrate: str = "auto",
    batch_size: int = 256,
    columns: Mapping[str, str] | None = None,
    image_root: str = "",
    is_quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """Scores sets and writes what this module says.

    Args:
      run: the directory of a training.
      data: "test", "validation", or what `data.labeled` opens.
      out: directory of the directories to write.
      which: see `trained.load`; kept predictions are of "best" and "latest".
      prior, calibrate: see `deployment.probabilities.planned`.
      batch_size: images at once.
      columns: names of the columns of tables, where they are not those of training.
      image_root: directory that paths in tables are relative to, if not the table's own.
      is_quiet: print nothing.

    Returns:
      The content of `result.json` by set.

    Raises:
      InputError: something that is given cannot work; it is said before images are scored.
    """
    InputError.check(len(data) > 0, "--data", list(data), "given at least once")
    run, say = pathlib.Path(run), printer(is_quiet=is_quiet).print
    found = probabilities.at_stage(runs.read(run), written.last_stage(run))
    paths = {name: _path(run, name) for name in dict.fromkeys(map(os.fspath, data))}
    places = evaluations.places(out or run / "evaluations", paths)
    with progress(is_quiet=is_quiet) as report:
        sets = {
            name: evaluations.kept(found, name, which)
            for name in places
            if evaluations.is_kept(name)
        }
        if others := [name for name in places if name not in sets]:
            network = trained.load(run, which, batch_size=batch_size)
            settings = _settings(network, columns or {}, image_root, report)
            sets |= {name: _of_images(network, name, settings, report) for name in others}
        meant = {name: _meant(found, one.step, prior, calibrate) for name, one in sets.items()}
        # Everything that was given has proved right: from here on it only takes time.
        return {
            name: _scored(found, name, sets[name], meant[name], place, say)
            for name, place in places.items()
        }


class Meant(NamedTuple):
    """How logits are understood, and with class biases where predictions may be adjusted."""

    deployed: Deployment
    shifting: Calibration | None


def _path(run: pathlib.Path, name: str) -> str:
    return os.path.abspath(run / name if evaluations.is_kept(name) else name)


def _settings(
    network: Trained, columns: Mapping[str, str], image_root: str, report: Report
) -> Settings:
    data = network.config.data
    return Settings(
        columns={**data.source.columns.to_dict(), **columns},
        image_root=image_root,
        image_size=data.image_size,
        resize=data.resize,
        channels=network.image_shape[2],
        progress=report,
    )


def _of_images(network: Trained, path: str, settings: Settings, report: Report) -> Asked:
    """Opens images, and checks that the network can answer them."""
    size = tuple(network.image_shape[:2])
    found = labeled.opened(path, network.class_names, settings, size)
    records, notes = found.records, found.notes
    if records.image_shape != network.image_shape:
        raise InputError(
            f"the images of {path} are {records.image_shape} (height, width, channels), the network"
            f" was trained on {network.image_shape}; resize them"
        )

    if not found.is_test and _is_trained_on(network, path):
        notes += (
            "the network was trained on images of this table or directory: these numbers flatter",
        )

    def ask() -> Answers:
        logits = []
        for start in range(0, len(records), network.batch_size):
            rows = np.arange(start, min(start + network.batch_size, len(records)))
            logits.append(network.logits(records.read(rows)))
            report(f"predicting {path}", int(rows[-1]) + 1, len(records))
        names = records.names or [f"{path}[{i}]" for i in range(len(records))]
        return Answers(names, records.labels, np.concatenate(logits))

    says = f"{network.scored_by}, EMA weights, {network.chosen}"
    return Asked(says, int(network.state.step), ask, found.skipped, notes)


def _is_trained_on(network: Trained, path: str) -> bool:
    places = roots(network.config.data.source.root)
    return os.path.realpath(path) in (os.path.realpath(os.path.expanduser(p)) for p in places if p)


def _meant(run: Run, step: int, prior: str, calibrate: str) -> Meant:
    deployed = probabilities.planned(run, step, prior=prior, calibrate=calibrate)
    if deployed.calibration is None or deployed.prior is not None:
        return Meant(deployed, deployed.calibration)
    # Biases, which adjusting needs; the prior is replaced by that of each set.
    biased = probabilities.planned(run, step, prior="uniform", calibrate=calibrate)
    return Meant(deployed, biased.calibration)


def _scored(
    run: Run, name: str, one: Asked, meant: Meant, place: pathlib.Path, say: Callable[..., None]
) -> dict[str, Any]:
    """Answers, judges, writes and prints a set."""
    answers = one.ask()
    if not np.isfinite(answers.logits).all():
        raise InputError(
            f"the network ({one.network}) answers with numbers that are not finite: its training"
            " has diverged; take another checkpoint with --which"
        )
    notes = [*one.notes, *meant.deployed.notes]
    if meant.deployed.calibration and meant.deployed.calibration.fitted_on == name:
        notes.append("calibration and adjustment were fitted on these very images: they flatter")
    told = dict(data=name, path=_path(run.path, name), network=one.network, step=one.step)
    told["notes"] = notes
    numbers, confusion = evaluations.judged(answers, run.class_names, run.labeled_counts, *meant)
    result = told | {"num_skipped": len(one.skipped)} | numbers
    where = evaluations.written(
        place, result, confusion, answers, run.class_names, meant.deployed, one.skipped
    )
    say(f"{name}: {one.network}", *notes, sep="\n")
    for table in evaluations.tables(result):
        say(table)
    if one.skipped:
        why = tally(skipped.reason for skipped in one.skipped)
        say(f"skipped: {len(one.skipped):,} ({why}), see {where / 'skipped.csv'}")
    say(f"written to {where}")
    return result


# --- the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> None:
    """Evaluates what the command line says."""
    run = parsed(argv)
    command.prepare()
    evaluate(
        run,
        DATA.value,
        OUT.value,
        which=command.which(WHICH.value),
        prior=PRIOR.value,
        calibrate=CALIBRATE.value,
        batch_size=BATCH_SIZE.value,
        columns={role: flag.value for role, flag in COLUMNS.items() if flag.value is not None},
        image_root=IMAGE_ROOT.value,
    )


def parsed(argv: Sequence[str]) -> str:
    """Returns the argument that is no flag, of which there must be one; a mistake is an exit."""
    found = command.arguments("evaluate", __doc__, FLAGS, argv)
    if len(found) != 1 or not DATA.value:
        command.refuse("evaluate", "give one RUN, and with --data what it is scored on")
    return found[0]


def cli() -> None:
    """Evaluates; what is wrong with the input is said in one sentence."""
    with main_.in_one_sentence():
        main(sys.argv)


if __name__ == "__main__":
    cli()
