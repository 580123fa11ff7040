"""Several trainings as one experiment: what is handed over, and that it goes on where it was."""

import json

import jax
import numpy as np
import pytest

from ltssl_jax import defaults, experiment, stages, trained
from ltssl_jax.core import InputError
from ltssl_jax.data import growth
from tests import small

STEPS = 4


def config(order=("base", "grow", "grow", "head"), changes=()):
    """Supervised, two generations with a growing labeled set, and a head on a frozen backbone."""
    made = small.config({"train.steps": STEPS, "parallel.num_devices": 1} | dict(changes))
    made.method = defaults.method("fixmatch", threshold=0.1)
    made.stages.order = order
    made.stages.base = defaults.stage(method=defaults.method("supervised"), train=dict(steps=2))
    made.stages.grow = defaults.stage(growth=dict(rule="everything", keeps=True))
    made.stages.head = defaults.stage(
        begin="network",
        growth=dict(keeps=True),
        optim=dict(is_frozen=True),
        data=dict(order="balanced"),
    )
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of a finished experiment; read it only."""
    workdir = tmp_path_factory.mktemp("whole")
    stages.train(config(), workdir, is_quiet=True)
    return workdir


def identity(directory):
    return json.loads((directory / "config.json").read_text())["identity"]


def weights(directory):
    state = trained.load(directory, "latest").state
    return state.params, state.batch_stats


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_every_stage_is_a_run_in_the_order_that_is_said(whole):
    names = ["1_base", "2_grow", "3_grow", "4_head"]
    assert json.loads((whole / "stages.json").read_text()) == {"finished": names}
    steps = [json.loads((whole / name / "result.json").read_text())["step"] for name in names]
    assert steps == [2, STEPS, STEPS, STEPS]
    methods = [identity(whole / name)["method"]["name"] for name in names]
    assert methods == ["supervised", "fixmatch", "fixmatch", "fixmatch"]
    assert [identity(whole / name)["start"] for name in names] == [
        "",
        "scratch of 1_base, labels by everything",
        "scratch of 2_grow, labels by everything",
        "network of 3_grow",
    ]
    assert (whole / "result.json").read_text() == (whole / "4_head/result.json").read_text()


def test_the_directory_of_the_whole_is_read_as_its_last_stage(whole):
    assert_equal(weights(whole), weights(whole / "4_head"))


def test_the_labeled_set_grows_by_what_the_network_said_and_the_split_is_not_drawn_again(whole):
    plain = experiment.plan(stages.without_stages(config()))
    before = trained.load(whole / "1_base", "latest")
    said = before.logits(plain.source.train.read(plain.split.unlabeled)).argmax(axis=1)
    with np.load(whole / "2_grow/pseudo_labels.npz") as kept:
        rows, labels = kept["rows"], kept["labels"]
    np.testing.assert_array_equal(rows, np.arange(len(plain.split.unlabeled)))
    np.testing.assert_array_equal(labels, said)
    counts = plain.split.labeled_counts + np.bincount(said, minlength=10)
    assert identity(whole / "2_grow")["data"]["labeled_counts"] == counts.tolist()
    fingerprints = [identity(p)["data"]["split_fingerprint"] for p in sorted(whole.glob("?_*"))]
    assert fingerprints[0] == plain.split.fingerprint
    # All are labeled after the first generation: nothing is left to be labeled by the second.
    assert fingerprints[1] == fingerprints[2] == fingerprints[3] != fingerprints[0]


def test_a_frozen_backbone_stays_and_its_head_does_not(whole):
    before, after = (weights(whole / name) for name in ("3_grow", "4_head"))
    for tree in (0, 1):
        assert_equal(before[tree]["backbone"], after[tree]["backbone"])
    old, new = (params["classifier_base"]["dense"]["kernel"] for params, _ in (before, after))
    assert not np.array_equal(old, new)


def test_what_was_finished_is_not_done_again(whole, tmp_path, monkeypatch):
    """Stopped in the middle of a stage, the same command makes the same network."""
    made, real, calls = config(("base", "grow")), experiment.train, []

    def interrupted(stage, directory, **options):
        calls.append(directory.name)
        if directory.name == "2_grow" and len(calls) == 2:
            real(stage, directory, **options)
            (directory / "result.json").unlink()  # as if it had been stopped after its last step
            return {}
        return real(stage, directory, **options)

    monkeypatch.setattr(experiment, "train", interrupted)
    assert stages.train(made, tmp_path, is_quiet=True) == {}
    monkeypatch.setattr(growth, "grown", None)  # the pseudo-labels are there already
    assert stages.train(made, tmp_path, is_quiet=True)["step"] == STEPS
    assert calls == ["1_base", "2_grow", "2_grow"]
    assert_equal(weights(tmp_path), weights(whole / "2_grow"))


def test_pretrained_weights_are_those_of_the_stage_before(tmp_path):
    made = config(("base", "tune"))
    made.stages.tune = defaults.stage(begin="backbone")
    stage = stages.staged(made, 1)
    experiment.train(stages.staged(made, 0), tmp_path, is_quiet=True)
    before = trained.load(tmp_path, "latest").state
    run = experiment.plan(stage, start=stages.Start(weights=before, part="backbone"))
    fresh, begun = experiment.initial_state(experiment.plan(stage)), experiment.initial_state(run)
    assert_equal(begun.params["backbone"], before.params["backbone"])
    assert_equal(begun.ema.batch_stats["backbone"], before.ema.batch_stats["backbone"])
    assert_equal(begun.params["classifier_base"], fresh.params["classifier_base"])
    assert begun.step == 0


def test_without_stages_it_is_one_run(tmp_path):
    result = stages.train(config(()), tmp_path, is_quiet=True)
    assert result["step"] == STEPS and (tmp_path / "checkpoints").is_dir()


@pytest.mark.parametrize(
    ("name", "stage", "words"),
    [
        ("tuna", {}, "stage in stages.order: 'tuna' is unknown; did you mean 'tune'"),
        ("tune", {"begin": "backbon"}, "stages.tune.begin 'backbon' is unknown; did you mean"),
        ("tune", {"optimizer": {}}, "block of stages.tune.changes: 'optimizer' is unknown"),
        ("tune", {"growth": {"rule": "all"}}, "growth.rule 'all' is unknown"),
        ("base", {}, ""),
    ],
)
def test_wrong_descriptions_are_named(name, stage, words):
    made = config(("base", name))
    made.stages.tune = defaults.stage(**stage)
    if words:
        with pytest.raises(InputError, match=words):
            stages.check(made)
    else:
        stages.check(made)


def test_the_first_stage_takes_nothing_over():
    with pytest.raises(InputError, match="stages.grow is the first stage"):
        stages.check(config(("grow", "base")))
