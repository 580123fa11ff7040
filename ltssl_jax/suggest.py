"""Which images to label next: `python -m ltssl_jax.suggest RUN --n 50 [--out DIR]`.

RUN is the --workdir of a training. Of its unlabeled images those are suggested that are uncertain,
likely of a rare class, and unlike the labeled images and each other (`evaluation.acquisition`). Or
of others: `suggest RUN IMAGES...`, image files, directories, tables and arrays as in `predict`.

Written to DIR, RUN/suggestions by default:

suggestions.csv   a row per image, its column `label` empty, for you; see `deployment.suggestions`
suggestions.html  the images, with what the network takes them for

A filled table goes straight back in: train again with both tables, with a comma between,
--config.data.source.root=labels.csv,RUN/suggestions/suggestions.csv, and another --workdir.
"""

import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from ltssl_jax import command, planning, trained
from ltssl_jax import main as main_
from ltssl_jax.core import InputError
from ltssl_jax.data import candidates
from ltssl_jax.data.candidates import Files, Pool
from ltssl_jax.data.sources import Records
from ltssl_jax.data.sources.base import Progress, tally
from ltssl_jax.deployment import probabilities, suggestions
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.deployment.suggestions import Suggestion
from ltssl_jax.evaluation import acquisition
from ltssl_jax.evaluation.acquisition import Chosen, Worth
from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.monitoring.progress import printer, progress
from ltssl_jax.report import runs
from ltssl_jax.report.runs import Run
from ltssl_jax.trained import Trained

LABELED = 4096  # labeled images, about, that suggestions keep away from

# Not absl's own, as in `predict`.
FLAGS = flags.FlagValues()
N = flags.DEFINE_integer("n", 50, "How many images to suggest.", flag_values=FLAGS)
OUT = flags.DEFINE_string(
    "out", None, "Directory to write to; RUN/suggestions by default.", flag_values=FLAGS
)
RARE = flags.DEFINE_float(
    "rare", 1.0, "Weight of a rare class beside uncertainty; 0: no matter.", flag_values=FLAGS
)
WHICH = flags.DEFINE_string(
    "which",
    "best",
    "Checkpoint: best (on validation; without that on test), latest, or its step.",
    flag_values=FLAGS,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images at once.", flag_values=FLAGS)
HELP = flags.DEFINE_bool("help", False, "Says all this.", flag_values=FLAGS)


class Own(NamedTuple):
    """What a run is trained on now.

    Attributes:
      labeled: the labeled images; None where the images cannot be opened.
      counts: `[K]` int, of each class.
      pool: the unlabeled ones; None likewise.
      used: files that are labeled or evaluated on.
    """

    labeled: Records | None
    counts: np.ndarray
    pool: Pool | None = None
    used: Files = frozenset()


class Seen(NamedTuple):
    """What the network says of the images that can be read, and their places in the pool."""

    places: np.ndarray
    worth: Worth
    features: np.ndarray


def suggest(
    run: str | os.PathLike,
    paths: Sequence[str] = (),
    out: str | os.PathLike | None = None,
    *,
    number: int = 50,
    rare: float = 1.0,
    which: str | int = "best",
    batch_size: int = 256,
    is_quiet: bool = False,
) -> list[Suggestion]:
    """Chooses images to label, and writes a table and a sheet of them, as this module says.

    Args:
      run: the directory of a training.
      paths: images to choose from, in place of the unlabeled ones of the run.
      out: the directory to write to; `suggestions` in that of the run by default.
      number: of images; fewer are suggested where the others are copies.
      rare: weight of a rare class beside uncertainty.
      which: see `trained.load`.
      batch_size: images at once.
      is_quiet: print nothing.

    Raises:
      InputError: something that is given cannot work; whatever `out` held is as before.
    """
    InputError.check(number >= 1, "--n", number, "at least 1")
    InputError.check(0 <= rare < np.inf, "--rare", rare, "0 or positive")
    out, console = pathlib.Path(out or pathlib.Path(run, "suggestions")), printer(is_quiet=is_quiet)
    network = trained.load(run, which, batch_size=batch_size)
    record = probabilities.at_stage(runs.read(run), network.directory)
    suggestions.check_free(out)
    deployed = understood(record, int(network.state.step), console.print)
    with progress(is_quiet=is_quiet) as report:
        own = opened(network, record, report, is_needed=not paths)
        if own.labeled is None:
            console.print("the run's own images are not here: labeled ones may be suggested, too")
        columns = network.config.data.source.columns.to_dict()
        pool = candidates.of_paths(paths, columns, own.used) if paths else own.pool
        seen = looked_at(network, deployed, own.counts, pool, report)
        labeled = of_labeled(network, own.labeled, report)
    value = seen.worth.uncertainty + np.float32(rare) * seen.worth.rarity
    chosen = acquisition.choose(value, seen.features, labeled, number)
    again = retraining(network, own, out)
    rows = written(out, os.fspath(run), network, own.counts, pool, seen, chosen, again)
    console.print(f"{len(rows):,} of {len(seen.places):,} images, to fill in and to look at:")
    console.print("\n".join(os.fspath(out / name) for name in suggestions.FILES))
    if again:
        console.print(f"when the column label is filled, train again with {again}")
    return rows


def written(
    out: pathlib.Path,
    run: str,
    network: Trained,
    counts: np.ndarray,
    pool: Pool,
    seen: Seen,
    chosen: Chosen,
    again: str,
) -> list[Suggestion]:
    """Writes the table and the sheet, and returns the rows."""
    items = pool.at(seen.places[chosen.rows].tolist())
    places = map(candidates.located, items)
    rows = suggestions.told(places, seen.worth, chosen, network.class_names, counts)
    page = suggestions.render(
        rows,
        [suggestions.picture(item.image) for item in items],
        classes=list(zip(network.class_names, counts.tolist(), strict=True)),
        facts=dict(run=run, network=network.chosen, total=len(seen.places), again=again),
    )
    suggestions.write(out, rows, page)
    return rows


def retraining(network: Trained, own: Own, out: pathlib.Path) -> str:
    """Returns the option that adds a filled table to the labels of a run that trains on files."""
    root = network.config.data.source.root
    has_files = own.labeled is None or own.labeled.files is not None
    option = f"--config.data.source.root={root},{out / suggestions.TABLE}"
    return shlex.quote(option) if has_files else ""


def opened(network: Trained, record: Run, report: Progress, *, is_needed: bool) -> Own:
    """Opens the images of the run again, as training did."""
    try:
        source, split = planning.load_data(network.config, report)
    except InputError as error:
        if not is_needed:
            return Own(None, record.labeled_counts)
        raise InputError(
            f"the images of the run cannot be opened again ({error}); call from the directory where"
            " it was trained, or give images to choose from"
        ) from error
    if source.class_names != network.class_names:
        others = sorted({*source.class_names} ^ {*network.class_names})[:5]
        raise InputError(
            f"the classes of the data are not those of the network any more ({', '.join(others)});"
            " train again, in another --workdir"
        )
    return Own(
        source.train.take(split.labeled),
        split.labeled_counts,
        candidates.of_split(source, split),
        candidates.files_in_use(source, split),
    )


# --- the network ----------------------------------------------------------------------------------


def understood(record: Run, step: int, tell: Callable[[str], None]) -> Deployment:
    """Finds out how sure the network of a checkpoint may be, as far as that is known."""
    try:
        return probabilities.planned(record, step)
    except InputError:  # the kept predictions are damaged, which the choice can do without
        tell(
            f"the predictions kept in {record.records} cannot be read: probabilities are the"
            " network's own, without the temperature of validation images"
        )
        return probabilities.planned(record, step, calibrate="none")


def looked_at(
    network: Trained, deployed: Deployment, counts: np.ndarray, pool: Pool, report: Progress
) -> Seen:
    """Asks the network about all images, and keeps of each what the choice needs.

    Raises:
      InputError: no image can be used, or the network says nothing.
    """
    found, skipped = [], []
    how = network.policy, network.image_shape
    with candidates.decoded(pool, *how, batch_size=network.batch_size) as batches:
        for batch in batches:
            answers = network.answers(batch.images)
            if not np.isfinite(answers.logits).all():
                raise InputError(
                    f"the network ({network.chosen}) answers with numbers that are not finite; take"
                    " another checkpoint with --which"
                )
            worth = acquisition.worth(softmax(deployed.scores(answers.logits)), counts)
            found.append((np.array(batch.names, np.int64), answers.features, *worth))
            skipped += batch.skipped
            done = sum(len(places) for places, *_ in found) + len(skipped)
            report("looking at the images", done, pool.total)
    places, features, *worth = map(np.concatenate, zip(*found, strict=True)) if found else ([], [])
    if not len(places):
        reasons = tally(one.reason for one in skipped)
        raise InputError(
            f"there is no image to choose from ({reasons or 'all are labeled'}); give others"
        )
    return Seen(places, Worth(*worth), features)


def of_labeled(network: Trained, labeled: Records | None, report: Progress) -> np.ndarray:
    """Returns features `[M, D]` of labeled images, of each class of as many."""
    if labeled is None:
        return np.zeros((0, 1), np.float32)
    rows = acquisition.spread(labeled.labels, LABELED)
    parts = []
    for first in range(0, len(rows), network.batch_size):
        images = labeled.read(rows[first : first + network.batch_size])
        parts.append(network.answers(images).features)
        report("looking at the labeled images", first + len(images), len(rows))
    return np.concatenate(parts)


# --- the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> None:
    """Suggests what the command line says."""
    run, *paths = parsed(argv)
    command.prepare()
    suggest(
        run,
        paths,
        OUT.value,
        number=N.value,
        rare=RARE.value,
        which=command.which(WHICH.value),
        batch_size=BATCH_SIZE.value,
    )


def parsed(argv: Sequence[str]) -> list[str]:
    """Returns the arguments that are no flags, of which there must be one; a mistake is an exit."""
    found = command.arguments("suggest", __doc__, FLAGS, argv)
    if not found:
        command.refuse("suggest", "give RUN")
    return found


def cli() -> None:
    """Suggests; what is wrong with the input is said in one sentence."""
    with main_.in_one_sentence():
        main(sys.argv)


if __name__ == "__main__":
    cli()
