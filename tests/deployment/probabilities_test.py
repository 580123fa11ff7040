"""What probabilities are made of, on runs that consist of nothing but their kept predictions."""

import json
import re

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.deployment import probabilities
from ltssl_jax.evaluation import calibration, predictions
from ltssl_jax.evaluation.predictions import Predictions, softmax
from ltssl_jax.report import runs

STEP = 300


def said_of(number, *, seed, sureness=3.0):
    """Draws a network that says of two classes too loudly what it knows."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(number) < 0.3).astype(np.int32)
    x = rng.normal(2.0 * labels)
    score = sureness * (2 * x - 2 + np.log(0.3 / 0.7))
    logits = np.stack([np.zeros(number), score], axis=1).astype(np.float32)
    names = np.arange(number).astype(str)
    return Predictions(logits, labels, names, np.arange(0), np.zeros((0, 1, 1, 1), np.uint8))


@pytest.fixture
def run(tmp_path):
    """Makes a finished run that kept these sets."""

    def made(**sets):
        data = {"class_names": ["a", "b"], "labeled_counts": [30, 10]}
        (tmp_path / "config.json").write_text(json.dumps({"identity": {"data": data}}))
        (tmp_path / "result.json").write_text(json.dumps({"step": STEP}))
        if sets:
            np.savez(tmp_path / predictions.FILE, **predictions.arrays(sets))
        return runs.read(tmp_path)

    return made


def test_validation_gives_a_temperature_and_no_class_changes(run):
    validation, test = said_of(2000, seed=0), said_of(500, seed=1, sureness=1.0)
    made = probabilities.planned(run(validation=validation, test=test), STEP)
    assert made.calibration.temperature == pytest.approx(3, rel=0.15)
    scores = made.scores(test.logits)
    np.testing.assert_array_equal(scores.argmax(axis=1), test.classes)
    np.testing.assert_allclose(scores, test.logits / made.calibration.temperature, rtol=1e-5)
    (note,) = made.notes
    assert "temperature" in note and "fitted on 2,000 validation images" in note
    assert made.to_review(np.ones(2)) == [None, None]


ALONE = [
    (STEP, "none", ["validation"], "as asked for"),
    (STEP, "auto", ["pool", "test"], "kept no predictions of labeled images"),
    (STEP, "auto", [], "kept no predictions of labeled images; train it to the end"),
    (200, "auto", ["validation"], "of step 300, not of step 200; --which=latest .*=validation"),
]


@pytest.mark.parametrize(("step", "calibrate", "sets", "why"), ALONE)
def test_without_a_fitting_set_probabilities_are_the_networks_own(run, step, calibrate, sets, why):
    one = said_of(100, seed=0)
    unknown = Predictions(**vars(one) | {"labels": np.full(100, -1)})
    found = run(**{name: one if name == "validation" else unknown for name in sets})
    made = probabilities.planned(found, step, calibrate=calibrate)
    np.testing.assert_array_equal(made.scores(one.logits), one.logits)
    assert re.search(f"the network's own .*{why}", made.notes[0])
    with pytest.raises(InputError, match=f"--prior cannot be had: .*{why}"):
        probabilities.planned(found, step, calibrate=calibrate, prior="uniform")


def test_the_best_checkpoint_is_calibrated_by_what_itself_says(run, tmp_path):
    found = run(validation=said_of(2000, seed=0))
    best = {"validation": said_of(1500, seed=2, sureness=6.0)}
    np.savez(tmp_path / predictions.BEST_FILE, **predictions.arrays(best))
    (tmp_path / "result.json").write_text(json.dumps({"step": STEP, "best_step": 200}))
    found = runs.read(tmp_path)
    made = probabilities.planned(found, 200, prior="uniform")
    assert made.calibration.num_images == 1500
    assert not any("may be surer" in note for note in made.notes)
    assert probabilities.planned(found, STEP).calibration.num_images == 2000
    assert probabilities.planned(found, 100).calibration is None


def test_the_test_images_are_spared_where_nothing_needs_them(run):
    made = probabilities.planned(run(test=said_of(100, seed=0)), STEP)
    assert made.calibration is None and "--calibrate=test" in made.notes[0]


def test_a_prior_is_bayes_rule_on_what_the_biases_found(run):
    found = run(validation=said_of(4000, seed=0))
    new = said_of(200, seed=1)
    uniform = probabilities.planned(found, STEP, prior="uniform")
    odds = np.diff(new.logits / 3 - np.log([0.7, 0.3]), axis=1)[:, 0]
    np.testing.assert_allclose(np.diff(uniform.scores(new.logits))[:, 0], odds, atol=0.25)
    assert "class biases" in uniform.notes[0] and "the prior uniform" in uniform.notes[0]
    same = probabilities.planned(found, STEP, prior="train")
    np.testing.assert_allclose(
        np.diff(same.scores(new.logits) - uniform.scores(new.logits))[:, 0], np.log(1 / 3)
    )


def test_what_the_test_images_are_used_up_for_is_said(run):
    found = run(test=said_of(400, seed=0))
    for asked in (dict(prior="uniform"), dict(precision=0.8), dict(calibrate="test")):
        made = probabilities.planned(found, STEP, **asked)
        assert made.calibration.fitted_on == "test"
        assert any("no longer a test" in note for note in made.notes)


def test_another_checkpoint_is_calibrated_only_if_asked_for(run):
    found = run(validation=said_of(400, seed=0))
    with pytest.raises(InputError, match="--prior and --precision cannot be had: .*--which=latest"):
        probabilities.planned(found, 200, prior="uniform", precision=0.9)
    made = probabilities.planned(found, 200, prior="uniform", calibrate="validation")
    assert "that of step 300; step 200" in made.notes[1]


def test_classes_that_calibration_never_saw_are_said(run):
    one = said_of(50, seed=0)
    alone = Predictions(**vars(one) | {"labels": np.zeros(50, np.int32)})
    made = probabilities.planned(run(validation=alone), STEP)
    assert "fewer than 100 images" in made.notes[1]
    assert "1 of 2 classes have no validation image" in made.notes[2]


def test_review_begins_at_the_threshold_of_the_precision(run):
    validation = said_of(3000, seed=0)
    made = probabilities.planned(run(validation=validation), STEP, precision=0.95)
    probs = softmax(made.scores(validation.logits))
    assert made.threshold == calibration.threshold_for(probs, validation.labels, 0.95)
    assert made.to_review(np.array([made.threshold - 1e-6, made.threshold])) == [True, False]
    new = said_of(5000, seed=1)
    probs = softmax(made.scores(new.logits))
    kept = ~np.array(made.to_review(probs.max(axis=1)))
    assert (new.classes == new.labels)[kept].mean() > 0.94 and 0.5 < kept.mean() < 1
    assert f"less probable than {made.threshold:.4f}" in made.notes[-1]


def test_a_precision_out_of_reach_sends_everything_to_review(run):
    made = probabilities.planned(run(validation=said_of(40, seed=0)), STEP, precision=0.99)
    assert made.to_review(np.array([0.5, 1.0])) == [True, True]
    assert made.notes[-1].startswith("review: all images, for no threshold makes sure that 99 %")


def test_damaged_predictions_are_no_obstacle_where_they_are_not_wanted(run, tmp_path):
    found = run(validation=said_of(50, seed=0))
    (tmp_path / predictions.FILE).write_bytes(b"PK no archive")
    assert probabilities.planned(found, STEP, calibrate="none").calibration is None
    with pytest.raises(InputError, match="predictions.npz cannot be read"):
        probabilities.planned(found, STEP)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (dict(calibrate="pool"), "--calibrate 'pool' is unknown"),
        (dict(calibrate="test"), "--calibrate=test cannot be had: .*validation images only"),
        (dict(precision=95.0), "--precision is 95.0; it must be between 0 and 1"),
        (dict(precision=0.9, calibrate="none"), "--precision cannot be had: as asked for; leave"),
        (dict(prior="gone.csv"), "is 'gone.csv', which is no file"),
    ],
)  # fmt: skip
def test_impossible_wishes_are_refused(asked, said, run):
    found = run(validation=said_of(50, seed=0))
    with pytest.raises(InputError, match=said):
        probabilities.planned(found, STEP, **asked)


def test_a_stage_without_a_checkpoint_does_not_speak_for_the_network(tmp_path):
    names = ["1_first", "2_second", "3_third"]
    (tmp_path / "stages.json").write_text(json.dumps({"directories": names}))
    for number, name in enumerate(names, 1):
        data = {"class_names": ["a", "b"], "labeled_counts": [30 * number, 10]}
        card = {"identity": {"data": data}, "method": {}, "train": {}, "data": {"split": {}}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(card))
        if number < 3:
            (tmp_path / name / "result.json").write_text(json.dumps({"step": number * STEP}))
    run = runs.read(tmp_path)
    assert run.records == tmp_path / "3_third" and not run.result
    found = probabilities.at_stage(run, tmp_path / "2_second")
    assert (found.path, found.records) == (tmp_path, tmp_path / "2_second")
    assert found.result["step"] == 2 * STEP and found.labeled_counts.tolist() == [30, 10]
    assert probabilities.at_stage(run, tmp_path / "3_third") == run
