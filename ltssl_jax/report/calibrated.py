"""Whether the probabilities of a run mean what they say, on its test set."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltssl_jax.evaluation import calibration as calibration_
from ltssl_jax.evaluation import metrics
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.report.runs import Run


def calibration(run: Run, sets: Mapping[str, Predictions]) -> dict[str, Any] | None:
    """Returns reliability and errors on the test set, with and without a temperature.

    The temperature is fitted on validation images; without them there is `before` only.

    Returns:
      `before` and `after` (or None), each with `summary` and `bins` by group of classes, and
      `temperature`, `fitted_on`; None where the run has no predictions.
    """
    test, validation = sets.get("test"), sets.get("validation")
    if test is None or not np.any(test.labels >= 0):
        return None
    found = {"before": _measured(run, test, test.probabilities), "after": None}
    if validation is None or not np.any(validation.labels >= 0):
        return found | {"temperature": None, "fitted_on": ""}
    fitted = calibration_.fit(
        validation.logits, validation.labels, "validation images", with_bias=False
    )
    found["after"] = _measured(run, test, calibration_.applied(fitted, test.logits))
    fitted_on = f"{fitted.num_images:,} {fitted.fitted_on}"
    return found | {"temperature": fitted.temperature, "fitted_on": fitted_on}


def _measured(run: Run, test: Predictions, probs: np.ndarray) -> dict[str, Any]:
    labels, counts = test.labels, run.labeled_counts
    groups = metrics.class_groups(counts)
    rows = {"all": labels >= 0} | {name: np.isin(labels, ids) for name, ids in groups.items()}
    return {
        "summary": calibration_.summary(probs, labels, counts),
        "bins": {name: _bins(probs[mask], labels[mask]) for name, mask in rows.items()},
    }


def _bins(probs: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Lists the bins that are not empty."""
    found = calibration_.reliability(probs, labels)
    return [
        {"count": int(n), "confidence": float(c), "accuracy": float(a)}
        for n, c, a in zip(found.count, found.confidence, found.accuracy, strict=True)
        if n
    ]
