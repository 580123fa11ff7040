"""Names the class of images: `python -m ltssl_jax.predict RUN IMAGES... --out predictions.csv`.

RUN is the --workdir of a training, finished or not. IMAGES are image files, directories of them
(at any depth), tables that name them (CSV, Parquet: columns `path` and, if you like, `id`), or
arrays (.npy, or .npz with `images`). Neither the training data nor its devices are needed.

The table has one row per image, in the given order:

id                      of the table; else the path as it was given, of an array with [position]
class, probability      what the network says, by the EMA weights, and how sure it is
runner_up, runner_up_probability
entropy                 of all probabilities, in nats: 0 if one class is certain
review                  1: a person should look, 0: not; empty without --precision

Where the run kept what its network says of validation images, these give probabilities their
temperature; docs/predicting.md says when, and when not to believe them.

What cannot be read is listed in `predictions.skipped.csv`, with the reason. Both files appear when
they are complete; until then, and after an interruption, the rows so far are in `*.partial`.
"""

import contextlib
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from absl import flags

from ltssl_jax import command, trained
from ltssl_jax import main as main_
from ltssl_jax.core import InputError
from ltssl_jax.data import streams
from ltssl_jax.deployment import probabilities
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.deployment.tables import Output, Prediction, Tally, stated
from ltssl_jax.monitoring.progress import printer, progress
from ltssl_jax.report import runs
from ltssl_jax.trained import Trained

# Not absl's own: every command has an --out, and a program may import several commands.
FLAGS = flags.FlagValues()
OUT = flags.DEFINE_string("out", "predictions.csv", "The table to write.", flag_values=FLAGS)
WHICH = flags.DEFINE_string(
    "which",
    "best",
    "Checkpoint: best (on validation; without that on test), latest, or its step.",
    flag_values=FLAGS,
)
PRIOR = flags.DEFINE_string(
    "prior",
    probabilities.NETWORK,
    "How frequent the classes are where the images come from: network (as it has learned), uniform,"
    " train (as in the labeled images), or a file: CSV with class and prior, or a JSON object.",
    flag_values=FLAGS,
)
CALIBRATE = flags.DEFINE_enum(
    "calibrate",
    "auto",
    probabilities.CALIBRATE,
    "Kept predictions that probabilities are calibrated on.",
    flag_values=FLAGS,
)
PRECISION = flags.DEFINE_float(
    "precision",
    None,
    "Share of the images not to review whose class is to be right, such as 0.95.",
    flag_values=FLAGS,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images at once.", flag_values=FLAGS)
PATH_COLUMN = flags.DEFINE_string(
    "path_column", None, "Column of tables with the paths; that of training.", flag_values=FLAGS
)
ID_COLUMN = flags.DEFINE_string(
    "id_column", None, "Column of tables with the ids; that of training.", flag_values=FLAGS
)
IMAGE_ROOT = flags.DEFINE_string(
    "image_root", "", "Where the paths in tables begin, if not beside them.", flag_values=FLAGS
)
HELP = flags.DEFINE_bool("help", False, "Says all this.", flag_values=FLAGS)


def predict(
    run: str | os.PathLike,
    paths: Sequence[str],
    out: str | os.PathLike,
    *,
    which: str | int = "best",
    prior: str = probabilities.NETWORK,
    calibrate: str = "auto",
    precision: float | None = None,
    batch_size: int = 256,
    columns: Mapping[str, str] | None = None,
    image_root: str = "",
    is_quiet: bool = False,
) -> Counter[str]:
    """Predicts images and writes two tables, as this module says.

    Args:
      run: the directory of a training.
      paths: images, directories, tables and arrays; see `data.streams`.
      out: the table to write.
      which: see `trained.load`.
      prior, calibrate, precision: see `deployment.probabilities.planned`.
      batch_size: images at once.
      columns: names of the columns `path` and `id` of tables, where they are not those of training.
      image_root: directory that paths in tables are relative to, if not the table's own.
      is_quiet: print nothing.

    Returns:
      How many images were given to each class.

    Raises:
      InputError: something that is given cannot work; whatever `out` was is as before.
    """
    console = printer(is_quiet=is_quiet)
    output = Output(out, paths, console)
    network = trained.load(run, which, batch_size=batch_size)
    console.print(f"network: {network.scored_by}, EMA weights, {network.chosen}")
    deployed = probabilities.planned(
        probabilities.at_stage(runs.read(run), network.directory),
        int(network.state.step),
        prior=prior,
        calibrate=calibrate,
        precision=precision,
    )
    console.print("\n".join(deployed.notes))
    names = {**network.config.data.source.columns.to_dict(), **(columns or {})}
    inputs = [streams.opened(path, columns=names, image_root=image_root) for path in paths]
    total, tally = sum(one.total for one in inputs), Tally()
    with progress(is_quiet=is_quiet) as report, output, decoded(network, inputs) as batches:
        for batch in batches:
            rows = predictions(network, deployed, batch)
            output.write(rows, batch.skipped)
            tally.add(rows, batch.skipped)
            report("predicting", tally.num_images + tally.num_skipped, total)
        tally.check()
    console.print(tally.table())
    if precision is not None:
        console.print(f"to review: {tally.num_to_review:,} of {tally.num_images:,}")
    if tally.num_skipped:
        console.print(f"skipped: {tally.num_skipped:,} ({tally.why()}), see {output.skipped}")
    console.print(f"written to {output.predictions}")
    return tally.counts


def decoded(network: Trained, inputs: Iterable[streams.Input]) -> contextlib.closing:
    """Returns the images in batches; to be closed, lest threads go on decoding."""
    items = itertools.chain.from_iterable(one.items() for one in inputs)
    return contextlib.closing(
        streams.decoded(items, network.policy, network.image_shape, batch_size=network.batch_size)
    )


def predictions(network: Trained, deployed: Deployment, batch: streams.Decoded) -> list[Prediction]:
    """Returns what is said of each image.

    Raises:
      InputError: the network says nothing: its training has diverged.
    """
    logits = network.logits(batch.images)
    if not np.isfinite(logits).all():
        raise InputError(
            f"the network ({network.chosen}) answers with numbers that are not finite: its training"
            " has diverged; take another checkpoint with --which"
        )
    return stated(batch.names, deployed, logits, network.class_names)


# --- the command ----------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> None:
    """Predicts what the command line says."""
    run, *paths = parsed(argv)
    command.prepare()
    columns = dict(path=PATH_COLUMN.value, id=ID_COLUMN.value)
    predict(
        run,
        paths,
        OUT.value,
        which=command.which(WHICH.value),
        prior=PRIOR.value,
        calibrate=CALIBRATE.value,
        precision=PRECISION.value,
        batch_size=BATCH_SIZE.value,
        columns={role: name for role, name in columns.items() if name is not None},
        image_root=IMAGE_ROOT.value,
    )


def parsed(argv: Sequence[str]) -> list[str]:
    """Returns the arguments that are no flags, of which there must be two; a mistake is an exit."""
    found = command.arguments("predict", __doc__, FLAGS, argv)
    if len(found) < 2:
        command.refuse("predict", "give RUN and at least one of IMAGES")
    return found


def cli() -> None:
    """Predicts; what is wrong with the input is said in one sentence."""
    with main_.in_one_sentence():
        main(sys.argv)


if __name__ == "__main__":
    cli()
