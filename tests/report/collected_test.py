"""The numbers of a report are those of the run, and what is missing is said."""

import json

import numpy as np
import pytest

from ltssl_jax import experiment
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.report import collected, pseudo_labels, runs
from tests import small
from tests.report import made


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = made.write(tmp_path_factory.mktemp("runs") / "one", validation=True, alarm=True)
    return runs.read(path)


@pytest.fixture(scope="module")
def found(finished):
    return collected.of_run(finished)


def test_the_headline_says_what_it_is_a_number_of(finished, found):
    headline, recalls = found["headline"], np.array(found["classes"]["recall"])
    assert headline["balanced_accuracy"] == pytest.approx(recalls.mean())
    rare = np.argsort(finished.labeled_counts, kind="stable")[:3]
    assert headline["few"] == pytest.approx(recalls[rare].mean())
    assert headline["worst_class"] == f"class {recalls.argmin()}"
    assert headline["of"] == "500 test images; head base, EMA weights, step 400"


def test_confusions_are_all_cells_and_the_worst_by_share_of_the_true_class(finished, found):
    matrix = np.zeros_like(finished.confusion)
    for true, said, images in found["confusion"]["cells"]:
        matrix[true, said] = images
    np.testing.assert_array_equal(matrix, finished.confusion)
    np.fill_diagonal(matrix, 0)
    most = found["confusion"]["most"]
    assert most[0]["images"] / most[0]["of"] == pytest.approx((matrix / 50).max())
    shares = [one["images"] / one["of"] for one in most]
    assert shares == sorted(shares, reverse=True) and all(o["true"] != o["said"] for o in most)


def test_a_temperature_is_fitted_on_validation_and_measured_on_test(found):
    calibration = found["calibration"]
    assert calibration["fitted_on"] == "500 validation images"
    before, after = (calibration[when]["summary"]["all"] for when in ("before", "after"))
    assert before["num_images"] == 500 and after["accuracy"] == before["accuracy"]
    assert after["ece"] < before["ece"]  # the made network is far too modest
    counts = sum(one["count"] for one in calibration["before"]["bins"]["few"])
    assert counts == calibration["before"]["summary"]["few"]["num_images"] == 150


def test_pseudo_labels_are_counted_by_group(finished, found):
    kind = found["pseudo"]["kinds"]["base"]
    line = [one for one in finished.history if "pseudo/base/kept" in one][-1]
    kept, correct = (np.array(line[f"pseudo/base/{name}"]) for name in ("kept", "correct"))
    few = found["classes"]["groups"]["few"]
    assert kind["steps"] == [100, 200, 300, 400]
    assert kind["coverage"][-1] == pytest.approx(kept.sum() / 1000)
    assert kind["precision"]["few"][-1] == pytest.approx(correct[few].sum() / kept[few].sum())
    assert kind["recall"]["few"][-1] == pytest.approx(correct[few].sum() / 300)
    labeled = finished.labeled_counts / finished.labeled_counts.sum()
    away = np.abs(kept / kept.sum() - labeled).sum() / 2
    assert kind["divergence"]["labeled"][-1] == pytest.approx(away)
    np.testing.assert_allclose(found["pseudo"]["priors"]["true"], 0.1)
    assert np.abs(np.array(found["pseudo"]["priors"]["estimated"]) - 0.1).max() < 0.05
    assert found["alarms"][0]["step"] == 200


@pytest.mark.parametrize("emptied", [("correct",), ("correct", "kept")])
def test_that_all_are_wrong_or_none_is_kept_is_no_lack_of_truth(tmp_path, emptied):
    path = made.write(tmp_path / "run", num_classes=4)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {key: [0.0] * 4 for key in line if key.endswith(emptied)}
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = collected.of_run(runs.read(path))
    assert not any("true classes" in note for note in found["notes"])
    assert found["pseudo"]["kinds"]["base"]["recall"]["all"] == [0.0] * 4


def test_the_truth_of_the_pool_is_that_of_all_images_seen(tmp_path):
    path = made.write(tmp_path / "run", num_classes=4)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for place, line in enumerate(one for one in lines if one["kind"] == "train"):
        line["pseudo/true"] = [70.0, 10.0, 10.0, 10.0] if place else [10.0, 30.0, 30.0, 30.0]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pseudo = collected.of_run(runs.read(path))["pseudo"]
    np.testing.assert_allclose(pseudo["priors"]["true"], [0.55, 0.15, 0.15, 0.15])


def test_of_too_few_unlabeled_images_nothing_is_estimated(tmp_path):
    path = made.write(tmp_path / "run", num_classes=20)  # of each class 12 in the sample
    found = collected.of_run(runs.read(path))
    assert set(found["pseudo"]["priors"]) == {"true", "labeled"}
    assert any("of 240 unlabeled images, too few for 20 classes" in n for n in found["notes"])
    (kind,) = found["pseudo"]["kinds"].values()
    assert set(kind["divergence"]) == {"true", "labeled"}


def test_what_is_divergence_by_chance_is_known(tmp_path):
    sample = collected.of_run(runs.read(made.write(tmp_path, num_classes=4)))["pseudo"]["sample"]
    assert sample["images"] == 248
    drawn = np.random.default_rng(0).multinomial(248, [0.25] * 4, 2000)
    away = [pseudo_labels.divergence(counts, np.full(4, 0.25)) for counts in drawn]
    assert sample["chance"] == pytest.approx(np.mean(away), rel=0.1)


def test_divergence_is_the_share_that_would_have_to_change():
    assert pseudo_labels.divergence(np.array([3.0, 1.0]), np.array([0.5, 0.5])) == 0.25
    assert pseudo_labels.divergence(np.array([2.0, 0.0]), np.array([0.0, 1.0])) == 1
    assert pseudo_labels.divergence(np.zeros(2), np.array([0.5, 0.5])) is None


def test_facts_leave_out_the_first_line_in_which_compiling_hides(finished, found):
    first = dict(finished.history[0], seconds=1000.0)
    slow = runs.Run(finished.path, finished.records, finished.config, finished.result)
    slow.__dict__["history"] = [first, *finished.history[1:]]
    assert collected.facts(slow)["steps_per_second"] == pytest.approx(300 / 15)
    assert found["facts"]["images_per_second"] == pytest.approx(901.5)
    assert found["facts"]["num_labeled"] == finished.labeled_counts.sum()


def test_long_curves_keep_their_ends():
    history = [{"step": i, "kind": "train", "loss": float(i)} for i in range(1, 5001)]
    steps = collected.curves(history)["loss"]["steps"]
    assert (steps[0], steps[-1]) == (1, 5000) and len(steps) <= 400
    assert set(np.diff(steps)) <= {12, 13}


def test_mistakes_are_described():
    logits = np.log(np.array([[0.9, 0.1], [0.2, 0.8]]))
    images = np.zeros((1, 2, 2, 1), np.uint8)
    one = Predictions(logits, np.array([1, 1]), np.array(["x", "y"]), np.array([0]), images)
    (mistake,) = collected.mistakes(one, ["cat", "dog"])
    assert mistake == {"name": "x", "true": "dog", "said": "cat", "probability": pytest.approx(0.9)}


@pytest.mark.parametrize(
    ("how", "said", "missing"),
    [
        (dict(finished=False, step=200), "not finished: step 200 of 400", "calibration"),
        (dict(kept=False, vectors=False), "has no predictions.npz", "calibration"),
        (dict(truth=False), "need the true classes", None),
        (dict(vectors=False), "No pseudo-labels to follow", None),
    ],
)
def test_what_is_missing_is_said(tmp_path, how, said, missing):
    found = collected.of_run(runs.read(made.write(tmp_path / "run", num_classes=4, **how)))
    assert any(said in note for note in found["notes"])
    assert missing is None or found[missing] is None
    json.dumps(found, allow_nan=False)


def test_a_run_that_has_only_begun_has_no_headline(tmp_path):
    path = made.write(tmp_path / "run", finished=False, step=0)
    (path / "metrics.jsonl").unlink()
    found = collected.of_run(runs.read(path))
    assert found["headline"] is None and found["curves"] == {}
    assert any("No curves" in note for note in found["notes"])


def test_damaged_predictions_are_a_sentence(tmp_path):
    path = made.write(tmp_path / "run", num_classes=4)
    (path / "predictions.npz").write_bytes(b"no archive")
    found = collected.of_run(runs.read(path))
    assert found["calibration"] is None and any("cannot be read" in n for n in found["notes"])


@pytest.mark.whole
def test_a_training_writes_what_a_report_reads(tmp_path):
    experiment.train(small.config(), tmp_path / "run", is_quiet=True)
    found = collected.of_run(runs.read(tmp_path / "run"))
    assert list(found["pseudo"]["kinds"]) == ["base", "balanced"]
    base = found["pseudo"]["kinds"]["base"]
    masks = found["curves"]["monitor/mask/base"]["values"]
    np.testing.assert_allclose(base["coverage"], masks, atol=1e-3)
    assert 0 < base["precision"]["all"][-1] < 1 and base["divergence"].keys() >= {"estimated"}
    assert found["facts"]["steps_per_second"] > 0 and found["calibration"]["before"]
    assert found["notes"] == []
