"""Did the unlabeled images help? A run beside the labeled images alone, in a sentence.

The sentence compares balanced accuracy on the test set. Of one run its interval is over test
images, of several seeds over these: it says which.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import comparison
from ltssl_jax.evaluation.comparison import Interval
from ltssl_jax.monitoring.terminal import percent
from ltssl_jax.report.runs import Run

METRIC = "balanced_accuracy"
NAMES = {"supervised": "supervised, cross entropy", "supervised_la": "supervised, logit-adjusted"}
FEW_IMAGES = 10  # of a class in the test set: with fewer the interval knows too little of it
_ONE_SEED = (
    "One seed: the interval is over test images and says nothing of another split or another start."
)
_ONE_SPLIT = "The seeds share one split: another one may say otherwise."


class Benefit(NamedTuple):
    """What a run has over one of its baselines.

    Attributes:
      baseline: its name.
      difference: of balanced accuracy in `[-1, 1]`, the run minus the baseline.
      sentence: the same for a person.
    """

    baseline: str
    difference: Interval
    sentence: str


def benefits(run: Run) -> list[Benefit]:
    """Compares a run with each of its baselines, the strongest first.

    Baselines that have not as many steps as the run yet, or another seed or split, are left out,
    and so are all where a run has kept no predictions.

    Raises:
      InputError: a baseline has another test set.
    """
    found = []
    for name, baseline in _comparable(run).items():
        of = [one.predictions["test"] for one in (run, baseline)]
        difference = comparison.over_images(*of)
        scores = [one.result["test"][METRIC] for one in (run, baseline)]
        text = f"{_sentence(name, difference, scores)} {_ONE_SEED}{_doubts(run)}"
        found.append(Benefit(name, difference, text))
    return _ranked(found)


def benefits_over_seeds(seeds: Sequence[Run]) -> list[Benefit]:
    """Compares runs of several seeds with those baselines that all of them have.

    A single run is compared by `benefits`.

    Raises:
      InputError: a seed is there twice: the interval over seeds would be too narrow.
    """
    if len(seeds) < 2:
        return [one for run in seeds for one in benefits(run)]
    if len({run.seeds for run in seeds}) < len(seeds):
        paths = ", ".join(str(run.path) for run in seeds)
        raise InputError(f"two of {paths} have the same seed; give one run of each seed")
    theirs = [_comparable(run) for run in seeds]
    found = []
    for name in NAMES:
        if all(name in baselines for baselines in theirs):
            pairs = [[run, of[name]] for run, of in zip(seeds, theirs, strict=True)]
            scores = [[one.result["test"][METRIC] for one in pair] for pair in pairs]
            difference = comparison.over_seeds(*zip(*scores, strict=True))
            means = [statistics.fmean(of) for of in zip(*scores, strict=True)]
            splits = {run.data.get("split_fingerprint") for run in seeds}
            doubt = f" {_ONE_SPLIT}" if len(splits) == 1 else ""
            text = f"{_sentence(name, difference, means)}{doubt}{_doubts(seeds[0])}"
            found.append(Benefit(name, difference, text))
    return _ranked(found)


def is_of(run: Run, baseline: Run) -> bool:
    """Says whether a baseline has the seed and the split of a run, as it must to be one of it."""
    ours, theirs = ((one.seeds[0], one.data.get("split_fingerprint")) for one in (run, baseline))
    return ours == theirs


def as_json(found: Sequence[Benefit]) -> dict[str, Any]:
    """Returns what is written to `benefit.json`."""
    return {"benefits": [one._asdict() | {"difference": one.difference._asdict()} for one in found]}


def _ranked(found: Sequence[Benefit]) -> list[Benefit]:
    """Puts the strongest baseline first; a gain over the others alone is not left to stand."""
    ranked = sorted(found, key=lambda one: one.difference.value)
    if not ranked or ranked[0].difference.low > 0:
        return ranked
    but = (
        f" But a stronger baseline ({NAMES[ranked[0].baseline]}) shows no such gain, and that"
        " is the one to beat."
    )
    return [
        one._replace(sentence=one.sentence + but) if one.difference.low > 0 else one
        for one in ranked
    ]


def _comparable(run: Run) -> Mapping[str, Run]:
    """Returns the baselines of the run with as many steps as all of its stages together."""
    if "test" not in run.predictions:
        return {}
    return {
        name: one
        for name, one in run.baselines.items()
        if name in NAMES and "test" in one.predictions
        if one.result["step"] == run.steps and is_of(run, one)
    }


def _sentence(name: str, difference: Interval, scores: Sequence[float]) -> str:
    if difference.low > 0:
        verdict = "The unlabeled images helped"
    elif difference.high < 0:
        verdict = "The unlabeled images did harm"
    else:
        verdict = "No difference can be seen between training with and without unlabeled images"
    ours, theirs = map(percent, scores)
    low, value, high = (_points(x) for x in (difference.low, difference.value, difference.high))
    return (
        f"{verdict}: balanced accuracy {ours} % with them, {theirs} % without"
        f" ({NAMES[name]}); difference {value} points, 95 % interval {low} to {high} over"
        f" {difference.num:,} {difference.over}."
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _doubts(run: Run) -> str:
    """Says of which classes the test set knows nothing or little."""
    labels = run.predictions["test"].labels
    counts = np.bincount(labels[labels >= 0], minlength=len(run.class_names))
    missing = [run.class_names[k] for k in np.flatnonzero(counts == 0)]
    few = int(counts[counts > 0].min())
    doubts = ""
    if missing:
        doubts += (
            f" {_listed(missing)} of {len(counts)} classes have no test image and do not count."
        )
    if few < FEW_IMAGES:
        rare = [run.class_names[k] for k in np.flatnonzero((counts > 0) & (counts < FEW_IMAGES))]
        doubts += (
            f" The test set is small: {_listed(rare)} of {len(counts)} classes have fewer than"
            f" {FEW_IMAGES} images in it, the fewest {few}; the true interval is wider."
        )
    return doubts


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} ({shown})"
