"""What a watched run records and returns."""

import json

import numpy as np
import pytest

from ltssl_jax.core import InputError, Log
from ltssl_jax.evaluation import metrics
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.monitoring.terminal import Terminal
from ltssl_jax.monitoring.watch import Watch

NAMES, COUNTS = ("cat", "dog", "cow"), np.array([30, 10, 3])
TEST = np.array([[9, 1, 0], [2, 3, 0], [0, 4, 1]])
VALIDATION = np.diag([2, 2, 2])


def confusions(correct=1):
    """Test recalls (.9, .6, correct / 5)."""
    test = TEST.copy()
    test[2] = [0, 5 - correct, correct]
    return {"validation": VALIDATION, "test": test}


@pytest.fixture
def watch(tmp_path):
    return Watch(
        RunDirectory(tmp_path),
        Terminal(1000, 128),
        class_names=NAMES,
        labeled_counts=COUNTS,
        images_per_step=128,
        scored_by=lambda step: f"head of step {step}",
    )


def test_training_is_recorded_with_its_speed(watch):
    watch.log(Log(100, {"loss": 1.5, "loss/supervised": 1.5}, num_steps=50, seconds=4, waited=1))
    expected = {"kind": "train", "seconds": 4, "images_per_second": 1600.0, "input_share": 0.25}
    assert watch.records.history() == [
        {"step": 100, "loss": 1.5, "loss/supervised": 1.5} | expected
    ]


def test_an_evaluation_is_recorded_with_its_head_and_every_set(watch, capsys):
    summaries = watch.evaluated(100, confusions())
    expected = {
        name: metrics.summary(matrix, COUNTS, geometric_mean_floor=1 / 300)
        for name, matrix in confusions().items()
    }
    assert summaries == expected
    (record,) = watch.records.history()
    flat = {f"{name}/{key}": x for name, summary in expected.items() for key, x in summary.items()}
    assert record == {"step": 100, "kind": "evaluation", "scored_by": "head of step 100"} | flat
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["validation:", "test:"]


def test_published_zero_replacement_depends_on_the_number_of_classes(watch):
    summary = watch.evaluated(1, confusions(correct=0))["test"]
    assert summary["geometric_mean"] == 0
    floored = (0.9 * 0.6 / 300) ** (1 / 3)
    np.testing.assert_allclose(summary["geometric_mean_floored"], floored)


def test_the_result_says_what_its_numbers_are_of(watch, capsys):
    for step, correct in enumerate([4, 2, 3], start=1):
        watch.evaluated(step, confusions(correct))
    watch.log(Log(step=3, metrics={"loss": 1.0}, num_steps=1, seconds=1.0))
    capsys.readouterr()
    result = watch.finished(3, confusions(3), {"seed": 5, "devices": "8 cpu devices"})

    assert {k: result[k] for k in ("step", "scored_by", "weights", "seed", "devices")} == {
        "step": 3,
        "scored_by": "head of step 3",
        "weights": "ema",
        "seed": 5,
        "devices": "8 cpu devices",
    }
    test = result["test"]
    assert test["num_images"] == 20 and result["validation"]["num_images"] == 6
    assert test["recall_per_class"] == {"cat": 0.9, "dog": 0.6, "cow": 0.6}
    over_time = test["balanced_accuracy_over_evaluations"]
    expected = dict(last=0.7, last20_mean=0.7, last20_median=0.7, best=2.3 / 3)
    assert over_time == pytest.approx(expected)
    assert test["balanced_accuracy"] == pytest.approx(0.7)

    assert json.loads((watch.records.path / "result.json").read_text()) == result
    np.testing.assert_array_equal(
        np.load(watch.records.path / "confusion.npy"), confusions(3)["test"]
    )
    printed = " ".join(capsys.readouterr().out.split())
    for part in ("test: 20 images", "head of step 3", "EMA weights", "step 3", "cow", "validation"):
        assert part in printed


def test_only_the_last_twenty_evaluations_are_averaged(watch):
    for step in range(1, 26):
        watch.evaluated(step, confusions(5 if step <= 5 else step % 2))
    over_time = watch.finished(25, confusions(1), {})["test"]["balanced_accuracy_over_evaluations"]
    zero, one, all_five = 0.5, 1.7 / 3, 2.5 / 3
    expected = dict(last=one, last20_mean=(zero + one) / 2, last20_median=(zero + one) / 2)
    assert over_time == pytest.approx(expected | {"best": all_five})


def test_without_an_evaluation_there_is_nothing_over_time(watch):
    assert watch.finished(1, confusions(), {})["test"]["balanced_accuracy_over_evaluations"] == {}


def test_beginning_introduces_and_forgets_what_is_repeated(watch, capsys):
    for step in (2, 4, 6):
        watch.evaluated(step, confusions())
    capsys.readouterr()
    watch.begin(4, ["devices: 8 cpu devices", "network: 3 parameters"], {"seed": 5})
    assert [record["step"] for record in watch.records.history()] == [2, 4]
    assert json.loads((watch.records.path / "config.json").read_text()) == {"seed": 5}
    assert capsys.readouterr().out.splitlines() == [
        "devices: 8 cpu devices",
        "network: 3 parameters",
        "continuing after step 4",
    ]


def test_a_new_run_continues_nothing(watch, capsys):
    watch.begin(0, [], {})
    assert capsys.readouterr().out == ""


def test_an_interrupted_run_has_no_result(watch, capsys):
    assert watch.interrupted(5) == {}
    assert "stopped after step 5; the same command continues" in capsys.readouterr().out
    assert not (watch.records.path / "result.json").exists()


def test_a_loss_that_is_no_number_ends_the_run_with_a_remedy(watch):
    with pytest.raises(InputError, match="the loss is nan at step 100; lower optim.learning_rate"):
        watch.log(Log(step=100, metrics={"loss": float("nan")}, num_steps=50, seconds=4))
