"""From logits to the probabilities that a user is told: temperature, class frequencies, review.

The kept predictions of a run show how sure its network may be. They are of the network at the end
and of the best checkpoint; any other one may be surer or less sure, and is calibrated with those of
the end only if somebody asks for it.
"""

import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.deployment import class_priors
from ltssl_jax.evaluation import calibration
from ltssl_jax.evaluation.calibration import Calibration
from ltssl_jax.evaluation.predictions import Predictions, softmax
from ltssl_jax.report.runs import Run

NETWORK = "network"  # the prior that the network has learned, whatever that is
SETS = ("validation", "test")
FEW = 100  # images; on fewer, what is fitted is said to be rough
CALIBRATE = ("auto", *SETS, "none")


class Deployment(NamedTuple):
    """How logits become what is said of an image.

    Attributes:
      calibration: None where probabilities are as the network gives them.
      prior: `[K]` class frequencies where the images come from; None: those of the calibration.
      threshold: less probable predictions are to be reviewed; None where nobody asked.
      notes: what a person should know of the probabilities.
    """

    calibration: Calibration | None
    prior: np.ndarray | None
    threshold: float | None
    notes: tuple[str, ...]

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Returns `[N, K]` float64, whose softmax are the probabilities of logits `[N, K]`."""
        if self.calibration is None:
            return logits.astype(np.float64)
        return calibration.adjusted(self.calibration, logits, self.prior)

    def to_review(self, confidence: np.ndarray) -> list[bool | None]:
        """Says of `[N]` probabilities of predicted classes which are to be reviewed."""
        if self.threshold is None:
            return [None] * len(confidence)
        return (confidence < self.threshold).tolist()


def at_stage(run: Run, directory: pathlib.Path) -> Run:
    """Returns the run as it was in the stage that a network is of (`Trained.directory`).

    That need not be the last: one that has begun and saved nothing yet has records, but no network.
    """
    begun = [stage.records for stage in run.stages]
    if directory not in begun:
        return run
    number = begun.index(directory)
    return replace(run.stages[number], path=run.path, earlier=run.stages[:number])


def planned(
    run: Run,
    step: int,
    *,
    prior: str = NETWORK,
    calibrate: str = "auto",
    precision: float | None = None,
) -> Deployment:
    """Finds out how the network of a checkpoint is to be understood.

    Args:
      run: whose predictions were kept.
      step: of the checkpoint that predicts.
      prior: see `class_priors.named`.
      calibrate: on which kept predictions; "auto" takes those on validation images, and where there
        are none those on test images if `prior` or `precision` need them; "none".
      precision: share of the predictions that need no review that is to be right.

    Raises:
      InputError: something that was asked for cannot be had.
    """
    if calibrate not in CALIBRATE:
        raise InputError.unknown("--calibrate", calibrate, CALIBRATE)
    is_share = precision is None or 0 < precision < 1
    InputError.check(is_share, "--precision", precision, "between 0 and 1, such as 0.95")
    wanted = class_priors.named(prior, run.class_names, run.labeled_counts)
    needed = {"--prior": prior != NETWORK, "--precision": precision is not None}
    needed[f"--calibrate={calibrate}"] = calibrate in SETS
    needing = " and ".join(flag for flag, is_asked in needed.items() if is_asked)
    # Not even read where they are not wanted: a damaged file is then no obstacle.
    own = run.predictions_of(step) if calibrate != "none" else {}
    sets = own or (run.predictions if calibrate != "none" else {})
    name, why_not = _chosen(run, step, calibrate, needing, sets, is_own=bool(own))
    if name is None:
        return Deployment(None, None, None, (f"probabilities: the network's own ({why_not})",))
    basis = sets[name]
    found = calibration.fit(basis.logits, basis.labels, name, with_bias=wanted is not None)
    notes = [_told(found, prior), *_warnings(run, step, name, basis, is_own=bool(own))]
    made = Deployment(found, wanted, None, tuple(notes))
    if precision is None:
        return made
    probs = softmax(made.scores(basis.logits))
    threshold = calibration.threshold_for(probs, basis.labels, precision, wanted)
    return made._replace(threshold=threshold, notes=(*notes, _rule(precision, threshold, found)))


def _chosen(
    run: Run,
    step: int,
    calibrate: str,
    needing: str,
    sets: Mapping[str, Predictions],
    *,
    is_own: bool,
) -> tuple[str | None, str]:
    """Returns the set to calibrate on, or why there is none."""
    known = [name for name in SETS if _has_labels(sets, name)]
    last = run.result.get("step")
    why_not = ""
    if calibrate == "none":
        why_not = "as asked for; leave out --calibrate=none"
    elif not known:
        why_not = f"{run.path} kept no predictions of labeled images; train it to the end"
    elif calibrate != "auto":
        if calibrate in known:
            return calibrate, ""
        why_not = f"the run kept predictions of labeled {known[0]} images only; take these"
    elif not is_own:
        why_not = (
            f"what the run kept is of step {last}, not of step {step}; --which=latest predicts with"
            f" that network, --calibrate={known[0]} takes it for this one, too"
        )
    elif known[0] == "validation" or needing:
        return known[0], ""
    if needing:
        raise InputError(f"{needing} cannot be had: {why_not}")
    return None, why_not or "there are no validation images; --calibrate=test takes the test images"


def _has_labels(sets: Mapping[str, Predictions], name: str) -> bool:
    return name in sets and bool(np.any(sets[name].labels >= 0))


def _told(found: Calibration, prior: str) -> str:
    fitted = f"fitted on {found.num_images:,} {found.fitted_on} images"
    if prior == NETWORK:
        return f"probabilities: temperature {found.temperature:.3g}, {fitted}"
    return (
        f"probabilities: temperature {found.temperature:.3g} and class biases, {fitted}; adjusted"
        f" to the prior {prior}"
    )


def _warnings(run: Run, step: int, name: str, basis: Predictions, *, is_own: bool) -> list[str]:
    found = []
    if name == "test":
        found.append("numbers on the test set are no longer a test of these probabilities")
    if not is_own:
        found.append(
            f"the calibration is that of step {run.result.get('step')}; step {step}, which predicts"
            " here, may be surer or less sure"
        )
    if (basis.labels >= 0).sum() < FEW:
        found.append(f"fewer than {FEW} images: the probabilities are rough")
    absent = np.setdiff1d(np.arange(len(run.class_names)), basis.labels)
    if len(absent):
        found.append(
            f"{len(absent)} of {len(run.class_names)} classes have no {name} image: their"
            " probabilities are guesses"
        )
    return found


def _rule(precision: float, threshold: float, found: Calibration) -> str:
    images = f"the {found.num_images:,} {found.fitted_on} images"
    if np.isinf(threshold):
        return (
            f"review: all images, for no threshold makes sure that {100 * precision:g} % are right"
            f" on {images}"
        )
    return (
        f"review: images whose class is less probable than {threshold:.4f}; of those above"
        f" {100 * precision:g} % are right on {images} (lower bound, one-sided 95 %)"
    )
