"""Runs are grouped, averaged and compared by what they have in common."""

import json

import numpy as np
import pytest

from ltssl_jax.report import collected, compared, markdown, page, runs
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


@pytest.mark.parametrize(
    "field", ["parallel.mode", "augment.mean", "baseline", "monitoring.wandb", "data.split.seed"]
)
def test_what_a_sweep_is_over_tells_configurations_apart(field):
    name = field.rpartition(".")[2]
    configs = []
    for seed, value in [(0, "a"), (1, "a"), (0, "b")]:
        of_field = {name: value}
        for block in reversed(field.split(".")[:-1]):
            of_field = {block: of_field}
        configs.append(config(seed) | of_field)
    assert len(compared.grouped(configs)) == 1
    found = compared.grouped(configs, ["train.steps", field])
    assert found == {f"{field}=a": [0, 1], f"{field}=b": [2]}


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
    assert (worse["name"], worse["runs"]) == ("a_worse", [0, 1, 2])
    assert worse["seeds"] == [(0, None), (1, None), (2, None)]
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
    short = dict(step=200, train={"steps": 200})
    other = made.write(tmp_path / "other", fingerprint="another", **short, **how)
    begun = made.write(tmp_path / "begun", finished=False, step=200, seed=9, **how)
    twice = [*six[:3], runs.read(other), runs.read(begun), six[0]]
    text = " ".join(collect(twice)["warnings"])
    assert "Runs of seed 0 have different splits" in text
    assert "numbers of steps: 200, 400" in text
    assert "left out of means: begun" in text
    assert "a_worse has several runs of one seed" in text


SCRATCH, BACKBONE = {"begin": "scratch"}, {"begin": "backbone"}


def names_of(*paths):
    found = collect([runs.read(path) for path in paths])
    return {group["name"]: group["runs"] for group in found["groups"]}


def test_experiments_are_known_by_what_all_their_stages_were(tmp_path):
    plain = made.write(tmp_path / "plain", num_classes=4, method={"name": "supervised"})
    last = ("supervised", BACKBONE)
    paths = [
        made.staged(tmp_path / f"{method}{seed}", (method, SCRATCH), last, seed=seed)
        for method in ("rotation", "moco")
        for seed in (0, 1)
    ]
    assert names_of(plain, *paths) == {
        "supervised": [0],
        "rotation → supervised": [1, 2],
        "moco → supervised": [3, 4],
    }


def test_the_first_stage_of_an_experiment_is_no_plain_run(tmp_path):
    plain = made.write(tmp_path / "plain", num_classes=4, method={"name": "rotation"})
    begun = made.staged(tmp_path / "begun", ("rotation", SCRATCH))
    assert names_of(plain, begun) == {"rotation": [0], "1_rotation.begin=scratch": [1]}


def test_experiments_that_begin_their_stages_otherwise_are_not_the_same(tmp_path):
    first, rules = ("crest", SCRATCH), ("by_rarity", "everything")
    paths = [
        made.staged(tmp_path / rule, first, ("crest", SCRATCH | {"growth": {"rule": rule}}))
        for rule in rules
    ]
    assert list(names_of(*paths)) == [f"2_crest.growth.rule={rule}" for rule in rules]
    for path, rule in zip(paths, rules, strict=True):  # as an older version says it
        (path / "2_crest/stage.json").unlink()
        card = json.loads((path / "2_crest/config.json").read_text())
        card["identity"]["start"] = f"scratch of 1_crest (0{path.name[0]:0>7}), {rule} labels"
        (path / "2_crest/config.json").write_text(json.dumps(card))
    said = [f"2_crest.begin=scratch of 1_crest, {rule} labels" for rule in rules]
    assert list(names_of(*paths)) == said
    assert runs.read(paths[0]).method == "crest ×2"


def test_stages_share_the_split_of_the_first_and_have_the_steps_of_all(tmp_path):
    plain = made.write(tmp_path / "plain", num_classes=4)
    short = dict(step=200, train={"steps": 200})
    grown = made.staged(tmp_path / "grown", ("tras", SCRATCH), ("tras", SCRATCH), **short)
    assert collect([runs.read(plain), runs.read(grown)])["warnings"] == []
    longer = made.staged(tmp_path / "longer", ("tras", SCRATCH), ("tras", SCRATCH))
    warnings = collect([runs.read(plain), runs.read(longer)])["warnings"]
    assert warnings == ["Runs differ in their numbers of steps: 400, 800."]
    found = collected.of_run(runs.read(grown))
    assert found["facts"]["training_seconds"] == 20  # two lines of 5 s each
    (path,) = grown.glob("2*/predictions.npz")
    path.unlink()
    assert any("remove 2_tras/result.json" in note for note in notes_of(grown))


def notes_of(path):
    return collected.of_run(runs.read(path))["notes"]


def test_runs_are_paired_by_both_seeds_and_never_by_chance(tmp_path):
    def run(name, split, skill):
        how = dict(method={"name": name}, skill=skill, fingerprint=str(split))
        data = {"split": {"seed": split}}
        return made.write(tmp_path / f"{name}{split}", num_classes=4, data=data, **how)

    chosen = [runs.read(run(*of)) for of in [("a", 1, 2), ("a", 2, 3), ("b", 2, 4), ("b", 1, 5)]]
    found = collect(chosen)
    scores = [one.result["test"]["balanced_accuracy"] for one in chosen]
    difference = found["differences"][0]
    assert difference["num"] == 2 and found["warnings"] == []
    assert difference["value"] == pytest.approx((scores[3] + scores[2] - scores[0] - scores[1]) / 2)
    again = collect([*chosen, chosen[3]])
    assert "several runs of seed 0, split seed 1" in again["differences"][0]["reason"]
    one = collect([chosen[1], chosen[2]])["differences"][0]
    assert one["over"] == "test images" and one["reason"] == ""


def test_a_sweep_over_splits_is_paired_by_the_other_seed(tmp_path):
    chosen = []
    for split, seed in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        data = {"split": {"seed": split}}
        path = made.write(tmp_path / f"{split}{seed}", num_classes=4, seed=seed, data=data)
        chosen.append(runs.read(path))
    found = collected.collect(chosen, axes=["data.split.seed"])["comparison"]
    assert [group["runs"] for group in found["groups"]] == [[0, 1], [2, 3]]
    assert found["differences"][0]["num"] == 2 and not found["differences"][0]["reason"]


def test_a_run_that_is_trained_further_says_so(tmp_path):
    path = made.write(tmp_path / "run", num_classes=4, train={"steps": 9999})
    assert any("is trained further, to step 9,999" in note for note in notes_of(path))
    other = made.write(tmp_path / "other", num_classes=4, method={"name": "other"})
    found = collected.collect([runs.read(path), runs.read(other)])
    assert "Finished once, now trained further: run." in found["comparison"]["warnings"]
    assert "400 (goes on)" in markdown.render(found) and "(goes on)" in page.render(found, {})
    assert not any("trained further" in note for note in notes_of(other))
