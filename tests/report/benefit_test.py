"""The sentence that says whether the unlabeled images helped, on hand-made runs."""

import json

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import predictions
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.report import benefit, runs


def write(path, right, *, counts=(50, 50, 50), step=12, split="s", seed=0):
    """Writes a run that recognizes `right[k]` of the `counts[k]` test images of class k."""
    path.mkdir(parents=True)
    labels = np.repeat(np.arange(3), counts)
    hits = np.concatenate([np.arange(n) < r for n, r in zip(counts, right, strict=True)])
    logits = np.eye(3, dtype=np.float32)[np.where(hits, labels, (labels + 1) % 3)]
    names, none = np.arange(len(labels)).astype(str), np.zeros(0, int)
    test = Predictions(logits, labels.astype(np.int32), names, none, np.zeros((0, 2, 2, 1)))
    np.savez(path / predictions.FILE, **predictions.arrays({"test": test}))
    recalls = [r / n for r, n in zip(right, counts, strict=True) if n]
    scores = {"balanced_accuracy": float(np.mean(recalls)), "num_images": len(labels)}
    result = {"step": step, "test": scores}
    (path / "result.json").write_text(json.dumps(result))
    data = {"class_names": ["cat", "dog", "fox"], "labeled_counts": [9, 3, 1]}
    data["split_fingerprint"] = split
    (path / "config.json").write_text(json.dumps({"seed": seed, "identity": {"data": data}}))
    return path


def compared(path, ours, theirs, **options):
    write(path, ours, **options)
    for name, right in theirs.items():
        write(path / runs.BASELINES / name, right, **options)
    return runs.read(path)


def test_help_harm_and_neither(tmp_path):
    sure, unsure = (30, 30, 30), (40, 40, 40)
    helped, harmed, same = (
        benefit.benefits(compared(tmp_path / name, ours, {"supervised_la": theirs}))[0]
        for name, ours, theirs in [
            ("helped", unsure, sure),
            ("harmed", sure, unsure),
            ("same", (41, 39, 40), unsure),
        ]
    )
    assert helped.baseline == "supervised_la" and helped.difference.value == pytest.approx(0.2)
    low, high = helped.difference.low, helped.difference.high
    assert helped.sentence == (
        "The unlabeled images helped: balanced accuracy 80.0 % with them, 60.0 % without"
        f" (supervised, logit-adjusted); difference +20.0 points, 95 % interval +{100 * low:.1f} to"
        f" +{100 * high:.1f} over 150 test images. One seed: the interval is over test images and"
        " says nothing of another split or another start."
    )
    assert harmed.sentence.startswith("The unlabeled images did harm: balanced accuracy 60.0 %")
    assert "difference −20.0 points" in harmed.sentence
    assert same.sentence.startswith("No difference can be seen between training with and without")


def test_the_strongest_baseline_comes_first(tmp_path):
    theirs = {"supervised": (20, 20, 20), "supervised_la": (30, 30, 30)}
    found = benefit.benefits(compared(tmp_path / "run", (40, 40, 40), theirs))
    assert [one.baseline for one in found] == ["supervised_la", "supervised"]
    assert "(supervised, cross entropy)" in found[1].sentence


def test_a_gain_over_the_weaker_baseline_alone_is_not_left_to_stand(tmp_path):
    but = "But a stronger baseline (supervised, logit-adjusted) shows no such gain"
    theirs = {"supervised": (20, 20, 20), "supervised_la": (45, 45, 45)}
    strong, weak = benefit.benefits(compared(tmp_path / "0", (40, 40, 40), theirs))
    assert but in weak.sentence and but not in strong.sentence
    both = compared(tmp_path / "1", (48, 48, 48), theirs)
    assert not any(but in one.sentence for one in benefit.benefits(both))
    worse = compared(tmp_path / "2", (10, 10, 10), theirs)
    assert not any(but in one.sentence for one in benefit.benefits(worse))


def test_a_small_or_incomplete_test_set_is_said(tmp_path):
    theirs = {"supervised": (30, 0, 1)}
    run = compared(tmp_path / "run", (40, 0, 4), theirs, counts=(50, 0, 5))
    (found,) = benefit.benefits(run)
    assert "1 (dog) of 3 classes have no test image and do not count." in found.sentence
    assert "small: 1 (fox) of 3 classes have fewer than 10 images in it, the fewest 5" in (
        found.sentence
    )


def test_a_baseline_of_fewer_steps_is_no_comparison(tmp_path):
    run = write(tmp_path / "run", (40, 40, 40), step=24)
    write(run / runs.BASELINES / "supervised", (30, 30, 30), step=12)
    assert benefit.benefits(runs.read(run)) == []


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "t"}])
def test_a_baseline_of_another_seed_or_split_is_no_comparison(tmp_path, change):
    run = write(tmp_path / "run", (40, 40, 40))
    for name, of in (("supervised", change), ("supervised_la", {})):
        write(run / runs.BASELINES / name, (30, 30, 30), **of)
    assert [one.baseline for one in benefit.benefits(runs.read(run))] == ["supervised_la"]


def test_runs_below_a_run_are_no_stages_of_it(tmp_path):
    run = compared(tmp_path / "run", (40, 40, 40), {"supervised": (30, 30, 30)})
    for seed in (0, 1):
        write(run.path / str(seed), (40, 40, 40), seed=seed)
    assert len(benefit.benefits(runs.read(run.path))) == 1


def test_one_seed_twice_is_no_second_seed(tmp_path):
    theirs = {"supervised": (30, 30, 30)}
    pair = [compared(tmp_path / str(n), (40, 40, 40), theirs) for n in range(2)]
    with pytest.raises(InputError, match="have the same seed; give one run of each"):
        benefit.benefits_over_seeds(pair)


def test_baselines_of_several_stages_have_the_steps_of_all(tmp_path):
    for name, step in (("1_first", 5), ("2_second", 7)):
        write(tmp_path / name, (40, 40, 40), step=step)
    stated = {"directories": ["1_first", "2_second"]}
    (tmp_path / "stages.json").write_text(json.dumps(stated))
    write(tmp_path / runs.BASELINES / "supervised", (30, 30, 30), step=12)
    assert len(benefit.benefits(runs.read(tmp_path))) == 1


def test_a_run_that_kept_no_predictions_is_not_compared(tmp_path):
    run = compared(tmp_path / "run", (40, 40, 40), {"supervised": (30, 30, 30)})
    other = write(tmp_path / "other", (40, 40, 40), seed=1)
    (run.path / predictions.FILE).unlink()
    both = [runs.read(path) for path in (run.path, other)]
    assert benefit.benefits(both[0]) == benefit.benefits_over_seeds(both) == []


def test_over_seeds_the_interval_is_over_these(tmp_path):
    theirs = [{"supervised": (30 + n, 30, 30), "supervised_la": (31, 30, 30)} for n in range(3)]
    found = benefit.benefits_over_seeds(
        [
            compared(tmp_path / str(n), (40, 40, 40), theirs[n], split=str(n), seed=n)
            for n in range(3)
        ]
    )
    assert {one.baseline for one in found} == {"supervised", "supervised_la"}
    plain = next(one for one in found if one.baseline == "supervised")
    assert plain.difference.value == pytest.approx(29 / 150)
    assert plain.difference.over == "seeds" and plain.difference.num == 3
    assert "80.0 % with them, 60.7 % without" in plain.sentence
    assert plain.sentence.endswith("over 3 seeds.") and "One seed" not in plain.sentence


def test_seeds_that_share_a_split_and_baselines_that_not_all_have(tmp_path):
    theirs = {"supervised": (30, 30, 30), "supervised_la": (31, 30, 30)}
    first = compared(tmp_path / "0", (40, 40, 40), theirs)
    second = compared(tmp_path / "1", (41, 40, 40), {"supervised": (29, 30, 30)}, seed=1)
    (found,) = benefit.benefits_over_seeds([first, second])
    assert found.baseline == "supervised" and "share one split" in found.sentence
    alone = benefit.benefits_over_seeds([first])
    assert alone == benefit.benefits(first) and len(alone) == 2


def test_what_is_written_is_what_is_said(tmp_path):
    found = benefit.benefits(compared(tmp_path / "run", (4, 4, 4), {"supervised": (3, 3, 3)}))
    (written,) = benefit.as_json(found)["benefits"]
    assert written["sentence"] == found[0].sentence and written["baseline"] == "supervised"
    assert written["difference"]["over"] == "test images" and written["difference"]["num"] == 150
