"""What a watched run records and returns."""

import json

import numpy as np
import pytest

from ltssl_jax.core import InputError, Log
from ltssl_jax.evaluation import metrics
from ltssl_jax.monitoring import watch as watch_
from ltssl_jax.monitoring.alarms import Alarms, Facts
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.monitoring.terminal import Terminal
from ltssl_jax.monitoring.watch import Watch
from tests import documented

NAMES, COUNTS = ("cat", "dog", "cow"), np.array([30, 10, 3])
TEST = np.array([[9, 1, 0], [2, 3, 0], [0, 4, 1]])
VALIDATION = np.diag([2, 2, 2])


def confusions(correct=1):
    """Test recalls (.9, .6, correct / 5)."""
    test = TEST.copy()
    test[2] = [0, 5 - correct, correct]
    return {"validation": VALIDATION, "test": test}


def recalls(matrix):
    return (np.diag(matrix) / matrix.sum(axis=1)).round(4).tolist()


@pytest.fixture
def watch(tmp_path):
    return made(tmp_path)


def made(tmp_path):
    return Watch(
        RunDirectory(tmp_path),
        Terminal(1000, 128),
        Alarms(Facts(NAMES, COUNTS, 1000)),
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
    flat |= {f"{n}/recall_per_class": recalls(m) for n, m in confusions().items()}
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


def test_lists_are_short_and_no_number_is_null(watch):
    watch.log(Log(100, {"loss": 1.0, "pseudo/base/kept": [1 / 3, 2.0]}, 50, 4.0))
    test = TEST * np.array([[1], [0], [1]])
    watch.evaluated(100, {"test": test})
    train, evaluation = watch.records.history()
    assert train["pseudo/base/kept"] == [0.3333, 2.0]
    assert evaluation["test/recall_per_class"] == [0.9, None, 0.2]


def test_of_thousands_of_classes_a_line_has_no_lists_and_alarms_hear_them(tmp_path, monkeypatch):
    monkeypatch.setattr(watch_, "LISTED", 2)
    watch = made(tmp_path)
    one_class = {"pseudo/seen": 4.0, "pseudo/base/kept": [3.0, 0.0, 0.0]}
    for step in range(200, 700, 100):
        watch.log(Log(step, {"loss": 1.0} | one_class | {"pseudo/true": [2.0, 1.0, 1.0]}, 50, 4.0))
    lines = [line for line in watch.records.history() if line["kind"] == "train"]
    found = {name: x for name, x in lines[-1].items() if name.startswith("pseudo/")}
    variety = round(2**0.5 * 4**0.5, 4)
    assert found == {
        "pseudo/seen": 4.0,
        "pseudo/base/kept_total": 3.0,
        "pseudo/base/kept_classes": 1.0,
        "pseudo/true_total": 4.0,
        "pseudo/true_classes": pytest.approx(variety, abs=1e-4),
    }
    assert documented.undocumented(found, "train") == []
    alarms = [line["name"] for line in watch.records.history() if line["kind"] == "alarm"]
    assert alarms == ["collapse/base"]
    made(tmp_path).begin(600, [], {})  # resumes without what is not there


# --- alarms and sinks -----------------------------------------------------------------------------


def starve(watch, *steps):
    for step in steps:
        watch.log(Log(step, {"loss": 1.0}, num_steps=50, seconds=4.0, waited=3.0))


def test_an_alarm_is_printed_recorded_and_in_the_result(watch, capsys):
    starve(watch, *range(10, 80, 10))
    printed = [line for line in capsys.readouterr().out.splitlines() if "ALARM" in line]
    assert len(printed) == 1 and printed[0].startswith("ALARM: the devices wait for input 75%")
    (alarm,) = [record for record in watch.records.history() if record["kind"] == "alarm"]
    assert (alarm["step"], alarm["name"]) == (50, "starving")
    assert printed[0] == f"ALARM: {alarm['text']}"
    result = watch.finished(100, confusions(0), {})
    assert result["alarms"] == [alarm] and result["training_seconds"] == 28.0
    said = "ALARM: 1 in this run: starving at step 50; metrics.jsonl has the texts"
    assert said in capsys.readouterr().out.splitlines()


def test_what_is_never_recognized_is_an_alarm_of_the_deciding_set(watch):
    assert watch.finished(100, confusions(0), {})["alarms"] == []  # validation is all right
    result = watch.finished(100, {"test": confusions(0)["test"]}, {})
    assert [alarm["name"] for alarm in result["alarms"]] == ["unrecognized/test"]
    # A finished run that only evaluates again says it no second time.
    assert watch.finished(100, {"test": confusions(0)["test"]}, {})["alarms"] == result["alarms"]


def test_a_resumed_run_says_no_alarm_again(watch, tmp_path):
    starve(watch, *range(10, 80, 10))
    resumed = made(tmp_path)
    resumed.begin(70, [], {})
    starve(resumed, 80, 90)
    assert [r["step"] for r in resumed.records.history() if r["kind"] == "alarm"] == [50]
    again = made(tmp_path)
    again.begin(40, [], {})  # the alarm is of a step that is repeated
    starve(again, 50, 60)
    assert [r["step"] for r in again.records.history() if r["kind"] == "alarm"] == [50]


class Sink:
    def __init__(self):
        self.lines, self.pictures, self.is_closed = [], [], False

    def record(self, line):
        self.lines.append(line)

    def picture(self, name, step, image):
        self.pictures.append((name, step, image.shape[-1]))

    def close(self):
        self.is_closed = True


def test_sinks_receive_every_line_and_a_picture_at_evaluations(watch):
    sinks = Sink(), Sink()
    with watch:
        watch.begin(0, [], {}, sinks)
        starve(watch, *range(10, 60, 10))
        watch.evaluated(60, confusions())
        assert not sinks[0].is_closed
    for sink in sinks:
        assert sink.is_closed
        assert sink.lines == watch.records.history()
        assert [line["kind"] for line in sink.lines] == ["train"] * 5 + ["alarm", "evaluation"]
        assert sink.pictures == [("validation/confusion", 60, 3), ("test/confusion", 60, 3)]
