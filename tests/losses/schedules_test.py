"""Ramps and annealing against their formulas, released values and bad names."""

import pathlib

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.losses import schedules

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def test_a_linear_ramp_rises_and_stays():
    ramp = [float(schedules.linear_ramp(now, 4)) for now in range(7)]
    assert ramp == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_sigmoid_ramp_is_the_released_one():
    released = np.load(GOLDEN / "mean_teacher.npz")["ramp/torch_sigmoid"]
    ours = [schedules.sigmoid_ramp(now, length) for now, length, _ in released]
    np.testing.assert_allclose(ours, released[:, 2], rtol=1e-5)


@pytest.mark.parametrize("ramp", [schedules.linear_ramp, schedules.sigmoid_ramp])
def test_no_length_is_no_ramp(ramp):
    assert float(ramp(0, 0)) == 1.0


@pytest.mark.parametrize("signal", schedules.SIGNALS)
def test_confidence_is_released_as_in_the_authors_code(signal):
    golden = np.load(GOLDEN / "uda.npz")
    stored = {k: v for k, v in golden.items() if k.startswith(f"variant/{signal}/step")}
    thresholds = {k: v for k, v in stored.items() if k.endswith("threshold/tsa")}
    assert thresholds
    for key, threshold in thresholds.items():
        step = int(key.split("/")[2].removeprefix("step"))
        ours = schedules.released_confidence(
            step, int(golden["total_steps"]), signal=signal, num_classes=5
        )
        np.testing.assert_allclose(ours, threshold, rtol=1e-6)


def test_signals_are_released_late_evenly_or_early():
    middle = {
        signal: float(schedules.released_confidence(5, 10, signal=signal, num_classes=4))
        for signal in schedules.SIGNALS
    }
    assert 0.25 < middle["exp"] < middle["linear"] == 0.625 < middle["log"] < 1


def test_an_unknown_signal_is_refused():
    with pytest.raises(InputError, match="did you mean 'linear'"):
        schedules.released_confidence(1, 2, signal="linea", num_classes=3)
