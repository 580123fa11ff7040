"""Runs are grouped, averaged and compared by what they have in common."""

import numpy as np
import pytest

from ltssl_jax.report import collected, compared, page, runs
from tests.report import made


def config(seed=0, **changes):
    method = dict(name="tras", threshold=0.95) | changes
    return {"seed": seed, "method": method, "train": {"steps": 9}}


def test_configurations_are_named_by_what_tells_them_apart():
    assert compared.grouped([config(0), config(1)]) == {"tras": [0, 1]}
    plain, low = config(), config(threshold=0.5)
    assert compared.grouped([plain, low, config(1)]) == {
        "threshold=0.95": [0, 2],
        "threshold=0.5": [1],
    }
    other = {"seed": 0, "method": {"name": "abc", "threshold": 0.95}, "train": {"steps": 9}}
    names = compared.grouped([plain, low, other])
    assert list(names) == ["tras, threshold=0.95", "tras, threshold=0.5", "abc"]


def test_what_follows_from_the_seed_makes_no_other_configuration():
    first, second = config(0), config(1)
    for one, mean in ((first, 0.4), (second, 0.6)):
        one |= {"command": str(mean), "augment": {"recipe": "x", "mean": [mean], "std": [mean]}}
        one |= {"data": {"split": {"seed": one["seed"]}}, "commit": str(mean)}
    assert len(compared.grouped([first, second])) == 1
    second["augment"]["recipe"] = "y"
    assert len(compared.grouped([first, second])) == 2


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    top = tmp_path_factory.mktemp("six")
    for seed in (0, 1, 2):
        for name, skill in (("b_better", 5.0), ("a_worse", 2.0)):
            how = dict(seed=seed, skill=skill, method={"name": name}, fingerprint=f"of {seed}")
            made.write(top / f"{name}_{seed}", num_classes=6, vectors=False, **how)
    return [runs.read(path) for path in sorted(top.iterdir())]


def collect(chosen):
    return collected.collect(chosen)["comparison"]


def test_means_deviations_and_differences_over_seeds(six):
    found = collect(six)
    scores = np.array([run.result["test"]["balanced_accuracy"] for run in six]).reshape(2, 3)
    worse, better = found["groups"]
    assert (worse["name"], worse["runs"], worse["seeds"]) == ("a_worse", [0, 1, 2], [0, 1, 2])
    number = better["numbers"]["balanced_accuracy"]
    assert number["mean"] == pytest.approx(scores[1].mean()) and number["n"] == 3
    assert number["std"] == pytest.approx(scores[1].std(ddof=1))
    difference = found["differences"][0]
    assert (difference["ours"], difference["theirs"]) == ("b_better", "a_worse")
    assert difference["value"] == pytest.approx((scores[1] - scores[0]).mean())
    assert (difference["num"], difference["over"]) == (3, "seeds")
    assert [one["metric"] for one in found["differences"]] == ["balanced_accuracy", "few"]
    assert found["warnings"] == []


def test_runs_are_paired_by_seed_whatever_their_order(six):
    ordered = collect(six)["differences"][0]
    assert collect([six[i] for i in (0, 1, 2, 5, 3, 4)])["differences"][0] == ordered


def test_one_seed_is_compared_over_images(six):
    difference = collect([six[0], six[3]])["differences"][0]
    assert difference["over"] == "test images" and difference["num"] == 498
    assert difference["low"] < difference["value"] < difference["high"]


def test_other_seeds_are_not_compared(six):
    found = collect([six[0], six[4]])
    assert "no seed in common" in found["differences"][0]["reason"]


def test_a_number_is_not_printed_without_its_n():
    assert page.spread({"mean": 0.5, "std": 0.012, "n": 3}) == "50.0 ± 1.2 (n = 3)"
    assert page.spread({"mean": 0.5, "std": None, "n": 1}) == "50.0 (n = 1)"
    assert page.spread({"mean": None, "std": None, "n": 0}) == "– (n = 0)"


def test_what_must_not_be_compared_is_warned_of(six, tmp_path):
    how = dict(vectors=False, num_classes=6)
    other = made.write(tmp_path / "other", fingerprint="another", step=200, **how)
    begun = made.write(tmp_path / "begun", finished=False, step=200, seed=9, **how)
    twice = [*six[:3], runs.read(other), runs.read(begun), six[0]]
    text = " ".join(collect(twice)["warnings"])
    assert "Runs of seed 0 have different splits" in text
    assert "numbers of steps: 200, 400" in text
    assert "left out of means: begun" in text
    assert "a_worse has several runs of one seed" in text
