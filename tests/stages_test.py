"""Several trainings as one experiment: what is handed over, and that it goes on where it was."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from ltssl_jax import defaults, experiment, stages, trained, written
from ltssl_jax.core import InputError
from ltssl_jax.data import growth
from ltssl_jax.planning import Start
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
    stated = json.loads((whole / "stages.json").read_text())
    assert stated == {"directories": names, "finished": names}
    steps = [json.loads((whole / name / "result.json").read_text())["step"] for name in names]
    assert steps == [2, STEPS, STEPS, STEPS]
    methods = [identity(whole / name)["method"]["name"] for name in names]
    assert methods == ["supervised", "fixmatch", "fixmatch", "fixmatch"]
    stories = [re.sub(r" \(\w{8}\)", "", identity(whole / name)["start"]) for name in names]
    assert stories == [
        "",
        "scratch of 1_base, everything labels",
        "scratch of 2_grow, everything labels",
        "network of 3_grow, kept labels",
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


def test_a_frozen_backbone_is_the_evaluated_one_and_stays_and_its_head_does_not(whole):
    before, after = (trained.load(whole / n, "latest").state for n in ("3_grow", "4_head"))
    for state in (after, after.ema):
        assert_equal(state.params["backbone"], before.ema.params["backbone"])
        assert_equal(state.batch_stats["backbone"], before.ema.batch_stats["backbone"])
    old, new = (s.params["classifier_base"]["dense"]["kernel"] for s in (before.ema, after))
    assert not np.array_equal(old, new)


def test_what_was_finished_is_not_done_again(whole, tmp_path, monkeypatch, capsys):
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
    assert calls == ["1_base", "2_grow", "2_grow"] and capsys.readouterr().out == ""
    assert_equal(weights(tmp_path), weights(whole / "2_grow"))


def test_pretrained_weights_are_those_of_the_stage_before(tmp_path):
    made = config(("base", "tune"))
    made.stages.tune = defaults.stage(begin="backbone")
    stage = stages.staged(made, 1)
    experiment.train(stages.staged(made, 0), tmp_path, is_quiet=True)
    before = trained.load(tmp_path, "latest").state
    run = experiment.plan(stage, start=Start(weights=before, part="backbone"))
    fresh, begun = experiment.initial_state(experiment.plan(stage)), experiment.initial_state(run)
    assert_equal(begun.params["backbone"], before.params["backbone"])
    assert_equal(begun.ema.batch_stats["backbone"], before.ema.batch_stats["backbone"])
    assert_equal(begun.params["classifier_base"], fresh.params["classifier_base"])
    assert begun.step == 0


def test_an_experiment_that_is_finished_says_so(whole, capsys):
    before = (whole / "result.json").read_text()
    stages.train(config(), whole)
    said = capsys.readouterr().out.splitlines()
    score = 100 * json.loads(before)["test"]["balanced_accuracy"]
    assert [line.partition(": ")[0] for line in said] == [
        f"{whole / name} is finished" for name in ("1_base", "2_grow", "3_grow", "4_head")
    ]
    assert said[-1].endswith(f": test balanced accuracy {score:.1f} %")
    assert (whole / "result.json").read_text() == before


def test_without_stages_it_is_one_run(tmp_path):
    result = stages.train(config(()), tmp_path, is_quiet=True)
    assert result["step"] == STEPS and (tmp_path / "checkpoints").is_dir()


def test_labels_are_kept_through_stages_without_a_rule(whole, tmp_path, monkeypatch):
    """A rule that takes a share takes it of what is left, however many stages later."""
    monkeypatch.setitem(growth.RULES, "some", some)
    made = config(("base", "grow", "head", "grow"))
    made.stages.grow.growth = dict(rule="some", keeps=True)
    shutil.copytree(whole / "1_base", tmp_path / "1_base")  # the same, and finished
    stages.train(made, tmp_path, is_quiet=True)
    first, same, more = (kept(tmp_path / name) for name in ("2_grow", "3_head", "4_grow"))
    assert first == same and first.items() < more.items()
    assert len(more) == len(first) + (1096 - len(first) + 1) // 2


def some(candidates):
    """Half of what is free."""
    rows = np.flatnonzero(candidates.is_free)[::2]
    return growth.Grown(rows, candidates.probs[rows].argmax(axis=1).astype(np.int32))


def kept(directory):
    with np.load(directory / "pseudo_labels.npz") as arrays:
        return dict(zip(arrays["rows"].tolist(), arrays["labels"].tolist(), strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "1_base was begun with another configuration.*\n  data.split.seed: then 0"),
        ({"optim.learning_rate": 0.1}, "optim.learning_rate: then 0.002, now 0.1"),
        ({"stages.grow.growth.keeps": False}, "2_grow was begun.*\n  growth.keeps: then True"),
    ],
)
def test_another_experiment_is_refused(whole, changes, words):
    other = config()
    other.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=f"(?s){words}"):
        stages.train(other, whole, is_quiet=True)


def test_what_does_not_matter_may_change(whole):
    changes = {"train.log_every": 1, "parallel.mode": "jit", "data.feed": "resident"}
    assert stages.train(config(changes=changes), whole, is_quiet=True)["step"] == STEPS


def test_a_finished_stage_cannot_be_made_longer(whole):
    longer = config(changes={"train.steps": 2 * STEPS})
    with pytest.raises(InputError, match="2_grow was begun.*\n  train.steps: then 4, now 8"):
        stages.train(longer, whole, is_quiet=True)


def test_pseudo_labels_of_another_split_are_refused():
    plain = stages.without_stages(config(()))
    start = Start(growth.Grown(np.arange(3), np.zeros(3, np.int32)), fingerprint="another")
    with pytest.raises(
        InputError, match="the pseudo-labels of this stage are of the split another"
    ):
        experiment.plan(plain, start=start)


def test_a_backbone_that_nobody_trained_is_not_frozen():
    with pytest.raises(InputError, match="no stage before has trained a backbone"):
        experiment.plan(stages.without_stages(config((), {"optim.is_frozen": True})))


def test_the_newest_stage_with_a_checkpoint_is_read(tmp_path):
    names = [f"{n}_grow" for n in range(1, 12)]
    for name in names[:10]:
        (tmp_path / name / "checkpoints" / "4").mkdir(parents=True)
    stated = {"directories": names, "finished": names[:9]}
    (tmp_path / "stages.json").write_text(json.dumps(stated))
    assert written.last_stage(tmp_path) == tmp_path / "10_grow"


@pytest.mark.parametrize(
    ("name", "stage", "words"),
    [
        ("tuna", {}, "stage in stages.order: 'tuna' is unknown; did you mean 'tune'"),
        ("tune", {"begin": "backbon"}, "stages.tune.begin 'backbon' is unknown; did you mean"),
        ("tune", {"optimizer": {}}, "block of stages.tune.changes: 'optimizer' is unknown"),
        ("tune", {"seed": 5}, "block of stages.tune.changes: 'seed' is unknown"),
        ("tune", {"train": {"step": 2}}, "field of stages.tune.changes.train: 'step' is unknown"),
        ("tune", {"train": {"steps": "x"}}, "stages.tune.changes.train.steps is 'x'"),
        ("tune", {"train": 7}, "stages.tune.changes.train is 7"),
        ("tune", {"stages": {}}, "block of stages.tune.changes: 'stages' is unknown"),
        ("tune", {"method": "fixmatch"}, "stages.tune.changes.method is 'fixmatch'"),
        ("tune", {"ema": {"decay": 2.0}}, "ema.decay is 2.0"),
        ("tune", {"data": {"split": {}}}, "all stages share their images; change data.split"),
        ("tune", {"method": {"treshold": 1.0}}, "'treshold' is unknown; did you mean 'threshold'"),
        ("tune", {"method": {"threshold": 2.0}}, "method.threshold is 2.0"),
        ("tune", {"optim": {"momentum": 2.0}}, "optim.momentum is 2.0"),
        ("tune", {"growth": {"rule": "all"}}, "growth.rule 'all' is unknown"),
        ("tune", {"growth": {"rule": "by_rarity", "alhpa": 3}}, "'alhpa' is unknown; did you mean"),
        ("base", {}, ""),
    ],
)
def test_wrong_descriptions_are_named_before_anything_begins(name, stage, words):
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
    made = config(("base", "head"))
    made.stages.base.begin = "network"
    with pytest.raises(InputError, match="stages.base is the first stage"):
        stages.check(made)
