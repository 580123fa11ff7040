"""Labeled-only runs beside a run: which ones, with how many steps, and when they are trained."""

import json
import shutil

import jax
import numpy as np
import pytest

from ltssl_jax import baselines, defaults, experiment
from ltssl_jax.core import InputError
from ltssl_jax.evaluation import predictions
from ltssl_jax.report import benefit, runs
from tests import small

NAMES = ["supervised", "supervised_la"]


def config(changes=()):
    return small.config({"baseline": True, "parallel.num_devices": 1} | dict(changes))


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by writing down what would be trained; `stop_at` interrupts a run."""
    calls = []

    def train(config, workdir, **options):
        calls.append((workdir.name if hasattr(workdir, "name") else workdir, config))
        if train.stop_at == len(calls):
            return {}
        workdir.mkdir(parents=True, exist_ok=True)
        result = {"step": config.train.steps, "test": {"balanced_accuracy": 0.5, "num_images": 1}}
        (workdir / "result.json").write_text(json.dumps(result))
        card = {"identity": {"data": {"class_names": ["a"], "labeled_counts": [1]}}}
        (workdir / "config.json").write_text(json.dumps(card))
        np.savez(workdir / predictions.FILE)
        return result

    train.calls, train.stop_at = calls, 0
    train.names = lambda: [name for name, _ in calls]
    monkeypatch.setattr(experiment, "train", train)
    return train


def test_a_run_and_its_baselines_from_beginning_to_sentence(tmp_path, capsys):
    asked = config({"train.steps": 4})
    assert baselines.train(asked, tmp_path)["step"] == 4
    found = benefit.benefits(runs.read(tmp_path))
    assert sorted(one.baseline for one in found) == NAMES
    assert capsys.readouterr().out.splitlines()[-2:] == [one.sentence for one in found]
    written = json.loads((tmp_path / "benefit.json").read_text())["benefits"]
    assert [one["sentence"] for one in written] == [one.sentence for one in found]
    assert written[0]["difference"]["num"] == 500
    ours, *theirs = (
        json.loads((tmp_path / path / "config.json").read_text())
        for path in (".", "baseline/supervised", "baseline/supervised_la")
    )
    assert [one["method"]["objective"] for one in theirs] == ["cross_entropy", "logit_adjusted"]
    for block in ("seed", "augment", "model", "optim", "ema", "data"):
        assert (
            theirs[0]["identity"][block] == theirs[1]["identity"][block] == ours["identity"][block]
        )
    assert baselines.have_finished(asked, tmp_path)


def test_no_baseline_unless_asked_for(trained, tmp_path, capsys):
    baselines.train(config({"baseline": False}), tmp_path / "run")
    assert trained.names() == ["run"] and capsys.readouterr().out == ""


def test_no_baseline_of_a_run_that_is_one(trained, tmp_path, capsys):
    asked = config()
    asked.method = defaults.method("supervised", objective="ldam")
    baselines.train(asked, tmp_path / "run")
    assert trained.names() == ["run"]
    assert "the run itself uses no unlabeled image" in capsys.readouterr().out
    assert baselines.have_finished(asked, tmp_path / "run")


def test_what_is_finished_is_not_trained_again_and_what_is_not_goes_on(trained, tmp_path):
    trained.stop_at = 3
    assert baselines.train(config(), tmp_path / "run", is_quiet=True) == {}
    assert trained.names() == ["run", *NAMES]
    assert not baselines.have_finished(config(), tmp_path / "run")
    assert baselines.train(config(), tmp_path / "run", is_quiet=True)["step"] == 12
    assert trained.names()[3:] == ["run", "supervised_la"]
    (tmp_path / "run/baseline/supervised" / predictions.FILE).unlink()
    baselines.train(config(), tmp_path / "run", is_quiet=True)
    assert trained.names()[5:] == ["run", "supervised"]


def test_longer_runs_get_longer_baselines(trained, tmp_path):
    for steps in (12, 15):
        baselines.train(config({"train.steps": steps}), tmp_path / "run", is_quiet=True)
    steps = [(name, config.train.steps) for name, config in trained.calls]
    assert steps == [(name, n) for n in (12, 15) for name in ["run", *NAMES]]


@pytest.mark.parametrize("field", ["seed", "split_fingerprint"])
def test_baselines_of_another_seed_or_split_are_refused(trained, tmp_path, field):
    baselines.train(config(), tmp_path, is_quiet=True)
    directory = tmp_path / "baseline/supervised"
    card = json.loads((directory / "config.json").read_text())
    (card if field == "seed" else card["identity"]["data"])[field] = 7
    (directory / "config.json").write_text(json.dumps(card))
    assert not baselines.have_finished(config(), tmp_path)
    with pytest.raises(InputError, match="supervised is of another seed or split .* delete it"):
        baselines.train(config(), tmp_path, is_quiet=True)
    shutil.rmtree(directory)
    baselines.train(config(), tmp_path, is_quiet=True)
    assert trained.names()[-1] == "supervised" and baselines.have_finished(config(), tmp_path)


@pytest.mark.parametrize("baseline", [False, True])
def test_what_was_said_of_a_shorter_run_does_not_stay(trained, tmp_path, baseline):
    file = tmp_path / "benefit.json"
    baselines.train(config(), tmp_path, is_quiet=True)
    baselines.train(config({"baseline": False}), tmp_path, is_quiet=True)
    assert file.exists()
    trained.stop_at = len(trained.calls) + 2  # a baseline, if there is one
    baselines.train(config({"train.steps": 15, "baseline": baseline}), tmp_path, is_quiet=True)
    assert not file.exists()


def test_all_is_done_when_the_sentences_are_written(trained, tmp_path):
    baselines.train(config(), tmp_path, is_quiet=True)
    assert baselines.have_finished(config(), tmp_path)
    (tmp_path / "benefit.json").unlink()
    assert not baselines.have_finished(config(), tmp_path)
    assert baselines.have_finished(config({"baseline": False}), tmp_path)
    baselines.train(config(), tmp_path, is_quiet=True)
    assert baselines.have_finished(config(), tmp_path)


def test_an_interrupted_run_gets_none_yet(trained, tmp_path):
    trained.stop_at = 1
    assert baselines.train(config(), tmp_path / "run", is_quiet=True) == {}
    assert trained.names() == ["run"]


def test_baselines_get_the_steps_of_all_stages_but_not_what_stages_change():
    staged = config({"train.mu": 3})
    staged.stages.order = ("pretrain", "tune", "tune")
    staged.stages.pretrain = defaults.stage(
        method=defaults.method("rotation"), train=dict(steps=20), optim=dict(learning_rate=1.0)
    )
    staged.stages.tune = defaults.stage(begin="backbone")
    made = baselines.asked(staged)
    assert list(made) == NAMES
    for one in made.values():
        assert one.train.steps == 20 + 12 + 12 and one.train.mu == 1
        assert one.optim.learning_rate == staged.optim.learning_rate
        assert not one.baseline and not one.stages.order


def test_labels_for_the_pool_by_a_supervised_network_are_a_use_of_the_pool():
    staged = config()
    staged.method = defaults.method("supervised")
    staged.stages.order = ("first", "second")
    staged.stages.first = defaults.stage()
    staged.stages.second = defaults.stage()
    assert not baselines.asked(staged)
    staged.stages.second = defaults.stage(growth=dict(rule="everything"))
    assert list(baselines.asked(staged)) == NAMES


def test_of_several_processes_one_writes(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    baselines.train(config(), tmp_path / "run")
    assert trained.names() == ["run", *NAMES] and capsys.readouterr().out == ""
    assert not (tmp_path / "run/benefit.json").exists()
