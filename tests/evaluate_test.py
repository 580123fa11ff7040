"""Scores of labeled sets, against numbers computed here from logits that are known.

That a trained network is asked rightly is tested with `predict`, which has one.
"""

import csv
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from ltssl_jax import evaluate, trained
from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import COLUMNS
from ltssl_jax.evaluation import calibration, metrics, predictions, reweighting
from ltssl_jax.evaluation.predictions import Predictions, softmax

NAMES, COUNTS, STEP = ("a", "b", "c"), np.array([4, 40, 12]), 30


def said_of(number, *, seed, is_wild=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=number).astype(np.int32)
    logits = 4 * rng.normal(size=(number, 3)) + 4 * np.eye(3)[labels] + np.array([2.0, 0, -2])[None]
    names = np.array([f"{seed}/{i}.png" for i in range(number)])
    logits = np.full_like(logits, np.nan) if is_wild else logits
    none = np.arange(0), np.zeros((0, 1, 1, 1), np.uint8)
    return Predictions(logits.astype(np.float32), labels, names, *none)


def make_run(path, **sets):
    data = {"class_names": NAMES, "labeled_counts": COUNTS.tolist()}
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"identity": {"data": data}}))
    (path / "result.json").write_text(json.dumps({"step": STEP}))
    np.savez(path / predictions.FILE, **predictions.arrays(sets))
    return path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that kept two sets; its network says of an image its mean grey, in three ways."""
    monkeypatch.chdir(tmp_path)
    source = dict(columns=COLUMNS, root="trained.npz,more")
    data = dict(source=source, image_size=0, resize="crop")

    def logits(images):
        grey = images.mean(axis=(1, 2, 3), dtype=np.float64)[:, None]
        return (-np.abs(grey - np.array([0.0, 100, 200])[None, :]) / 20).astype(np.float32)

    network = SimpleNamespace(
        config=ConfigDict(dict(data=data)), class_names=NAMES, image_shape=(4, 4, 1),
        batch_size=7, logits=logits, scored_by="head b", chosen="step 30, the latest",
        state=SimpleNamespace(step=np.int32(STEP)),
    )  # fmt: skip
    monkeypatch.setattr(trained, "load", lambda *_, **__: network)
    return make_run(tmp_path / "run", validation=said_of(300, seed=0), test=said_of(200, seed=1))


def scored(run, *data, **options):
    return evaluate.evaluate(run, data, is_quiet=True, **options)


def table(labels, classes):
    found = np.zeros((3, 3), int)
    np.add.at(found, (labels, classes), 1)
    return found


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [*csv.reader(file)]


def test_all_numbers_of_a_kept_set(run):
    found = scored(run, "test")["test"]
    kept = predictions.read(run)
    test, validation = kept["test"], kept["validation"]
    confusion = table(test.labels, test.classes)
    assert found["metrics"] == metrics.summary(confusion, COUNTS, geometric_mean_floor=1 / 300)
    assert [row["recall"] for row in found["per_class"].values()] == pytest.approx(
        np.diag(confusion) / confusion.sum(axis=1)
    )
    assert [row["num_labeled"] for row in found["per_class"].values()] == COUNTS.tolist()
    cooled = calibration.fit(validation.logits, validation.labels, "validation", with_bias=False)
    probs = softmax(test.logits * np.float64(cooled.factor))
    assert found["calibration"]["as_predicted"]["all"] == pytest.approx(
        calibration.summary(probs, test.labels, COUNTS)["all"]
    )
    assert found["calibration"]["network"]["few"] == pytest.approx(
        calibration.summary(test.probabilities, test.labels, COUNTS)["few"]
    )
    assert found["calibration"]["network"]["few"]["ece"] > 0.02
    assert found["reweighted"]["as_predicted"] == reweighting.accuracies(confusion, COUNTS)
    # Knowing the frequencies helps, and that the network leans to the first class, too.
    adjusted = found["reweighted"]["adjusted"]
    for name, value in found["reweighted"]["as_predicted"].items():
        assert adjusted[name] > value + 0.03


def test_adjusting_is_to_the_prior_of_each_set(run):
    found = scored(run, "test")["test"]["reweighted"]["adjusted"]
    kept = predictions.read(run)
    fitted = calibration.fit(kept["validation"].logits, kept["validation"].labels, "")
    prior = 10.0 ** -np.array([1.0, 0, 0.5])
    prior /= prior.sum()
    probs = calibration.applied(fitted, kept["test"].logits, prior)
    confusion = table(kept["test"].labels, probs.argmax(axis=1))
    recall = np.diag(confusion) / confusion.sum(axis=1)
    assert found["forward10"] == pytest.approx(prior @ recall)


def test_what_is_written(run):
    found = scored(run, "test", "validation", prior="train")
    out = run / "evaluations" / "test"
    assert json.loads((out / "result.json").read_text()) == found["test"]
    header, *written = rows(out / "predictions.csv")
    assert header[:4] == ["id", "truth", "class", "probability"] and "review" not in header
    test = predictions.read(run)["test"]
    assert [row[0] for row in written] == test.names.tolist()
    assert [row[1] for row in written] == [NAMES[k] for k in test.labels]
    confusion = np.load(out / "confusion.npy")
    classes = [NAMES.index(row[2]) for row in written]
    np.testing.assert_array_equal(confusion, table(test.labels, np.array(classes)))
    assert not np.array_equal(confusion, table(test.labels, test.classes))  # that is the prior
    assert any("these very images" in note for note in found["validation"]["notes"])
    assert not any("these very images" in note for note in found["test"]["notes"])
    assert (run / "evaluations" / "validation" / "result.json").exists()


def test_images_of_other_sets_are_answered_in_batches(run):
    greys = np.array([0, 210, 90, 120, 190, 10, 205, 95, 60, 202], np.uint8)
    labels = np.array([1, 0, 2, 2, 0, 1, 0, 2, 1, 0])
    images = np.broadcast_to(greys[:, None, None], (10, 4, 4))
    np.savez("set.npz", images=images, labels=labels, class_names=np.array(["c", "a", "b"]))
    found = scored(run, "set.npz", calibrate="none", out="out")["set.npz"]
    truth = np.array([0, 2, 1, 1, 2, 0, 2, 1, 0, 2])
    classes = np.array([0, 2, 1, 1, 2, 0, 2, 1, 1, 2])
    np.testing.assert_array_equal(np.load("out/set.npz/confusion.npy"), table(truth, classes))
    assert found["metrics"]["accuracy"] == 0.9 and "adjusted" not in found["reweighted"]
    assert rows("out/set.npz/predictions.csv")[9][:3] == ["set.npz[8]", "a", "b"]


def test_classes_without_images_are_nan_in_words(run, capsys):
    images = np.zeros((2, 4, 4), np.uint8)
    np.savez("set.npz", images=images, labels=np.zeros(2, int), class_names=np.array(["a", "b"]))
    evaluate.evaluate(run, ["set.npz"])
    said = capsys.readouterr().out
    assert "2 of 3 classes have no image: 'b', 'c'" in said and "balanced accuracy" in said
    written = json.loads((run / "evaluations/set.npz/result.json").read_text())
    assert written["metrics"]["many"] is None and written["per_class"]["b"]["recall"] is None


def test_mistakes_are_found_before_anything_is_answered(run, monkeypatch):
    monkeypatch.setattr(evaluate, "_scored", lambda *_: pytest.fail("works already"))
    sets = dict(images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 1]))
    np.savez("strange.npz", **sets, class_names=np.array(["a", "z"]))
    np.savez("good.npz", **sets, class_names=np.array(["a", "b"]))
    np.savez(
        "wide.npz", **sets | dict(images=np.zeros((2, 4, 5), np.uint8)), class_names=["a", "b"]
    )
    for data, options, said in (
        (["good.npz", "strange.npz"], {}, "not trained on: 'z'"),
        (["wide.npz"], {}, r"\(4, 5, 1\).*trained on \(4, 4, 1\); resize"),
        (["good.npz", "./good.npz"], {}, "good.npz' is given twice"),
        (["test", "gone.csv"], {}, "gone.csv does not exist"),
        (
            ["test"],
            dict(which=20),
            "--which is 20, but .*of step 20, only of 30 .the latest.; give",
        ),
        (["good.npz"], dict(prior="gone.json"), "'gone.json', which is no file"),
        (["good.npz"], dict(out="good.npz"), "--out 'good.npz/good.npz' cannot be written"),
        ([], {}, "--data is .*at least once"),
    ):
        with pytest.raises(InputError, match=said):
            scored(run, *data, **options)
    assert not (run / "evaluations").exists()


def test_kept_predictions_are_those_of_the_checkpoint(run):
    best = {"validation": said_of(300, seed=3), "test": said_of(150, seed=4)}
    np.savez(run / predictions.BEST_FILE, **predictions.arrays(best))
    (run / "result.json").write_text(json.dumps({"step": STEP, "best_step": 20}))
    cases = {"best": (20, 150), 20: (20, 150), "latest": (STEP, 200), STEP: (STEP, 200)}
    for which, expected in cases.items():
        found = scored(run, "test", which=which)["test"]
        assert (found["step"], found["num_images"]) == expected
        assert f"step {expected[0]}," in found["network"]
    assert scored(run, "test")["test"]["step"] == 20
    with pytest.raises(InputError, match=r"of step 10, only of 30 .*and 20 \(the best\)"):
        scored(run, "test", which=10)
    (run / predictions.BEST_FILE).unlink()
    with pytest.raises(InputError, match="--which is 'best', but .*step 20, only of 30"):
        scored(run, "test")


def test_of_several_stages_the_one_with_a_checkpoint_has_answered(run):
    (run.parent / "whole/2_second").mkdir(parents=True)
    (run / f"checkpoints/{STEP}").mkdir(parents=True)
    run = run.rename("whole/1_first")
    (run.parent / "2_second/config.json").write_bytes((run / "config.json").read_bytes())
    (run.parent / "stages.json").write_text('{"directories": ["1_first", "2_second"]}')
    assert scored(run.parent, "test")["test"]["step"] == STEP


def test_sets_of_one_name_have_directories_of_their_own(run):
    sets = dict(images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 1]))
    for site, names in (("site1", ["a", "b"]), ("site2", ["b", "a"]), ("run", ["a", "c"])):
        (run.parent / site).mkdir(exist_ok=True)
        np.savez(f"{site}/set.npz", **sets, class_names=names)
    for _ in range(2):
        scored(run, "site1/set.npz")
        scored(run, "site2/set.npz", "run/set.npz")
    assert {path.name for path in (run / "evaluations").iterdir()} == {
        "set.npz",
        "site2_set.npz",
        "run_set.npz",
    }
    assert rows(run / "evaluations/set.npz/predictions.csv")[1][:2] == ["site1/set.npz[0]", "a"]
    assert rows(run / "evaluations/site2_set.npz/predictions.csv")[1][1] == "b"
    scored(run, "site2/set.npz", "site1/set.npz", out="together")
    assert {path.name for path in (run.parent / "together").iterdir()} == {
        "set.npz",
        "site1_set.npz",
    }


@pytest.mark.parametrize(("name", "start", "flatters"), [
    ("trained", "", True), ("trained", "test_", False), ("other", "", False),
])  # fmt: skip
def test_numbers_on_what_a_network_was_trained_on_are_said_to_flatter(run, name, start, flatters):
    images = {f"{start}images": np.zeros((2, 4, 4), np.uint8), f"{start}labels": np.array([0, 1])}
    np.savez(f"{name}.npz", **images, class_names=["a", "b"])
    (run.parent / "more").mkdir()
    found = scored(run, f"./{name}.npz")[f"./{name}.npz"]
    assert any("trained on images of this" in note for note in found["notes"]) == flatters


def test_biases_that_are_there_already_are_not_fitted_again(run, monkeypatch):
    fits, fit = [], calibration.fit
    monkeypatch.setattr(calibration, "fit", lambda *a, **k: fits.append(1) or fit(*a, **k))
    found = scored(run, "test", prior="train")["test"]["reweighted"]["adjusted"]
    assert len(fits) == 1
    again = scored(run, "test")["test"]["reweighted"]["adjusted"]
    assert len(fits) == 3 and again == pytest.approx(found)


def test_what_a_run_has_not_kept_or_cannot_say_is_refused(run, tmp_path):
    other = make_run(tmp_path / "other", test=said_of(20, seed=2, is_wild=True))
    with pytest.raises(InputError, match=r"no predictions of validation images \(it has: test\)"):
        scored(other, "validation")
    with pytest.raises(InputError, match="diverged"):
        scored(other, "test")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["run"], "give one RUN, and with --data.*--help"),
        (["--data=test"], "give one RUN"),
        (["run", "--dota=x"], "dota.*--help"),
        (["nowhere", "--data=test"], "nowhere is no run"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(argv, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(said, end_of(argv, monkeypatch).code)


def test_help_names_every_flag(monkeypatch, capsys):
    assert not end_of(["--help"], monkeypatch).code
    said = capsys.readouterr().out
    assert all(f"--{flag}" in said.replace("[no]", "") for flag in evaluate.FLAGS)


def end_of(argv, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate", *argv])
    for flag in evaluate.FLAGS:
        evaluate.FLAGS[flag].unparse()
    with pytest.raises(SystemExit) as end:
        evaluate.cli()
    return end.value
