"""What a run did with its unlabeled images, over time: how many pseudo-labels, and which."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.evaluation import metrics, priors
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.report.runs import Run

_MOST_BY_CHANCE = 0.1  # of divergence: an estimate from fewer images is not shown
_PREFIX, _KEPT, _TRUE = "pseudo/", "/kept", "pseudo/true"


def followed(run: Run, sets: Mapping[str, Predictions]) -> dict[str, Any]:
    """Follows each kind of pseudo-labels of the method.

    Returns:
      `kinds`, by name: `steps`, `coverage` (kept share of the unlabeled images that were seen),
      `precision` and `recall` by group of classes (None where truth is unknown), `divergence` of
      the kept classes by what it is measured from, `last`, the same per class at the end; `priors`,
      class frequencies `[K]` of the pool by where they come from; `sample`, of the estimated
      ones (None without): `images`, and `chance`, the divergence that comes of their small number;
      `notes`.
    """
    lines = [one for one in run.history if any(key.endswith(_KEPT) for key in one)]
    keys = [key for one in lines for key in one if key.endswith(_KEPT)]
    kinds = [key[len(_PREFIX) : -len(_KEPT)] for key in dict.fromkeys(keys)]
    kinds.sort(key=lambda name: name != "base")
    known, sample, notes = _priors(run, sets)
    groups = metrics.class_groups(run.labeled_counts)
    found = {name: _kind(name, lines, known, groups) for name in kinds}
    if not kinds:
        notes = [
            "No pseudo-labels to follow: the method makes none, or metrics.jsonl has no count."
        ]
    elif not any(one["last"]["precision"] for one in found.values()):
        notes.append(
            "Precision and recall of pseudo-labels need the true classes of the unlabeled images,"
            " which are unknown here."
        )
    shares = {name: prior.tolist() for name, prior in known.items()}
    return {"kinds": found, "priors": shares, "sample": sample, "notes": notes}


def divergence(kept: np.ndarray, prior: np.ndarray) -> float | None:
    """Returns the share of kept pseudo-labels that would have to change class to follow a prior.

    Args:
      kept: `[K]` counts.
      prior: `[K]` frequencies.
    """
    total = kept.sum()
    return float(np.abs(kept / total - prior).sum() / 2) if total > 0 else None


def _kind(
    name: str,
    lines: Sequence[Mapping[str, Any]],
    known: Mapping[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    lines = [one for one in lines if f"{_PREFIX}{name}{_KEPT}" in one]
    kept = np.array([one[f"{_PREFIX}{name}{_KEPT}"] for one in lines], float)
    correct = _vectors(lines, f"{_PREFIX}{name}/correct", kept.shape)
    true = _vectors(lines, _TRUE, kept.shape)
    ids = {"all": np.arange(kept.shape[1]), **groups}
    return {
        "steps": [one["step"] for one in lines],
        "coverage": [
            _share(row.sum(), one.get(f"{_PREFIX}seen"))
            for row, one in zip(kept, lines, strict=True)
        ],
        "precision": _by_group(correct, kept, ids),
        "recall": _by_group(correct, true, ids),
        "divergence": {of: [divergence(row, p) for row in kept] for of, p in known.items()},
        "last": {
            "kept": kept[-1].tolist(),
            "precision": _shares(correct, kept),
            "recall": _shares(correct, true),
        },
    }


def _vectors(
    lines: Sequence[Mapping[str, Any]], key: str, shape: tuple[int, int]
) -> np.ndarray | None:
    if not all(one.get(key) is not None for one in lines):
        return None
    found = np.array([one[key] for one in lines], float)
    return found if found.shape == shape else None


def _by_group(
    part: np.ndarray | None, whole: np.ndarray | None, ids: Mapping[str, np.ndarray]
) -> dict[str, list[float | None]] | None:
    if part is None or whole is None:
        return None
    return {
        name: [_share(a[group].sum(), b[group].sum()) for a, b in zip(part, whole, strict=True)]
        for name, group in ids.items()
    }


def _shares(part: np.ndarray | None, whole: np.ndarray | None) -> list[float | None] | None:
    if part is None or whole is None:
        return None
    return [_share(a, b) for a, b in zip(part[-1], whole[-1], strict=True)]


def _share(part: float, whole: float | None) -> float | None:
    return float(part / whole) if whole else None


def _priors(
    run: Run, sets: Mapping[str, Predictions]
) -> tuple[dict[str, np.ndarray], dict[str, Any] | None, list[str]]:
    """Class frequencies of the pool as far as they are known, and of the labeled images."""
    estimated, sample, note = _estimated(run, sets.get("pool"))
    lines = [one[_TRUE] for one in run.history if one.get(_TRUE) is not None]
    # Each line is a mean over as many images.
    counts = {"true": np.sum(lines, axis=0), "labeled": run.labeled_counts}
    found = {name: of / of.sum() for name, of in counts.items() if of.sum()}
    if sample is None:
        return found, None, [note]
    return {"estimated": estimated} | found, sample, []


def _estimated(
    run: Run, pool: Predictions | None
) -> tuple[np.ndarray | None, dict[str, Any] | None, str]:
    """Returns frequencies and what they are from, or why there are none."""
    if pool is None or not len(pool) or run.confusion is None:
        return None, None, (
            "The class frequencies of the pool are estimated when the run has finished; until then"
            " pseudo-labels are not compared with an estimate."
        )  # fmt: skip
    counts = np.bincount(pool.classes, minlength=len(run.class_names))
    estimated = priors.of_pool(counts, run.confusion)
    chance = _chance(estimated, len(pool))
    if chance > _MOST_BY_CHANCE:
        return None, None, (
            f"The class frequencies of the pool are not estimated: predictions are kept of"
            f" {len(pool):,} unlabeled images, too few for {len(counts):,} classes; chance alone"
            f" would look like a divergence of {100 * chance:.0f} %."
        )  # fmt: skip
    return estimated, {"images": len(pool), "chance": chance}, ""


def _chance(prior: np.ndarray, number: int) -> float:
    """Returns the mean divergence of as many images, drawn by a prior, from this prior."""
    deviations = np.sqrt(prior * (1 - prior) / number)
    return float(np.sqrt(2 / np.pi) * deviations.sum() / 2)  # as if normal
