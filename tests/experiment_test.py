"""Whole runs in this process: records, interruption, refusal, and the same numbers everywhere."""

import dataclasses
import functools
import itertools
import json
import shutil
import signal

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

from ltssl_jax import defaults, experiment, planning, trained, written
from ltssl_jax.core import InputError
from ltssl_jax.data.growth import Grown
from ltssl_jax.evaluation import predictions
from tests import documented, small

METRICS = {
    "accuracy",
    "balanced_accuracy",
    "geometric_mean",
    "geometric_mean_floored",
    "worst_class_recall",
    "many",
    "medium",
    "few",
    "minority",
}
HEADS = ("base", "balanced")
TERMS = {"consistency", "supervised", "supervised_balanced", "transfer"}


def train(config, workdir):
    return experiment.train(config, workdir, is_quiet=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory and the result of one run without interruption; read it only."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train(small.config(), workdir)


def assert_same_state(*workdirs, same=np.testing.assert_array_equal):
    jax.tree.map(same, *(small.saved_state(workdir, 12) for workdir in workdirs))


def saved_steps(workdir):
    return {int(path.name) for path in (workdir / "checkpoints").iterdir()}


def contents(workdir):
    files = (path for path in sorted(workdir.rglob("*")) if path.is_file())
    return {str(path): path.read_bytes() for path in files}


# --- what a run writes ----------------------------------------------------------------------------


def test_the_files_agree_with_each_other(whole):
    workdir, result = whole
    assert json.loads((workdir / "result.json").read_text()) == json.loads(json.dumps(result))
    confusion = np.load(workdir / "confusion.npy")
    assert confusion.sum(axis=1).tolist() == [50] * 10  # every test image exactly once
    recalls = np.diag(confusion) / 50
    test = result["test"]
    np.testing.assert_allclose(list(test["recall_per_class"].values()), recalls)
    assert test["num_images"] == 500 and test["accuracy"] == np.trace(confusion) / 500
    assert test["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert result["step"] == 12 and result["scored_by"] == "head balanced"
    assert result["weights"] == "ema" and result["feed"] == "resident"
    assert 12 in saved_steps(workdir)


def test_what_the_network_says_of_each_image_is_kept(whole):
    sets = predictions.read(whole[0])
    assert list(sets) == ["test", "pool"]
    test, pool = sets["test"], sets["pool"]
    recounted = np.zeros((10, 10), int)
    np.add.at(recounted, (test.labels, test.classes), 1)
    np.testing.assert_array_equal(recounted, np.load(whole[0] / "confusion.npy"))
    run = planning.plan(small.config())
    rows = predictions.evenly(len(run.split.unlabeled), 2048)
    np.testing.assert_array_equal(pool.labels, run.source.train.labels[run.split.unlabeled[rows]])
    wrong = test.shown
    assert 0 < len(wrong) <= 48 and (test.classes[wrong] != test.labels[wrong]).all()
    np.testing.assert_array_equal(test.images, run.source.test.read(wrong))
    trained_again = trained.load(whole[0], "latest").logits(run.source.test.read(np.arange(500)))
    np.testing.assert_allclose(test.logits, trained_again, rtol=1e-3, atol=1e-4)


def test_the_configuration_is_written_resolved(whole):
    config, result = (
        json.loads((whole[0] / f"{n}.json").read_text()) for n in ("config", "result")
    )
    assert len(config["augment"]["mean"]) == len(config["augment"]["std"]) == 1  # measured
    assert config["augment"] == result["augment"] == config["identity"]["augment"]
    assert config["train"]["steps"] == 12 and config["data"]["split"]["seed"] == config["seed"]


def test_metrics_are_one_object_per_log_and_evaluation(whole):
    logs, evaluations = (small.records(whole[0], kind) for kind in ("train", "evaluation"))
    assert [line["step"] for line in logs] == [5, 10, 12]
    assert [line["step"] for line in evaluations] == [4, 8, 12]
    terms, masks = {f"loss/{name}" for name in TERMS}, {f"monitor/mask/{name}" for name in HEADS}
    known = {"step", "kind", "seconds", "images_per_second", "loss"}
    known |= {"grad_norm", "learning_rate", "input_share", "pseudo/true", "pseudo/seen"}
    known |= {f"pseudo/{name}/{counted}" for name in HEADS for counted in ("kept", "correct")}
    for line in logs:
        assert set(line) == known | terms | masks
        assert sum(line["pseudo/true"]) == pytest.approx(line["pseudo/seen"], rel=1e-5)
        assert sum(line[term] for term in terms) == pytest.approx(line["loss"], rel=1e-5)
    measured = {f"test/{key}" for key in METRICS | {"recall_per_class"}}
    for line in evaluations:
        assert set(line) == {"step", "kind", "scored_by"} | measured
    assert [line["scored_by"] for line in evaluations] == ["head base"] * 2 + ["head balanced"]


def test_every_name_is_documented(whole):
    for line in small.records(whole[0]):
        assert documented.undocumented(line, line["kind"]) == []
    result = json.loads((whole[0] / "result.json").read_text())
    flat = flatten_dict({"test": result["test"]}, sep="/") | result
    assert documented.undocumented([n for n in flat if n != "test"], "result") == []


def test_sinks_see_the_views_that_are_trained_on_once(tmp_path):
    asked = {"monitoring.tensorboard": True}
    run = experiment.plan(small.config(asked))
    watch = experiment.watcher(run, tmp_path, is_quiet=True)
    for step, number in ((0, 1), (4, 1)):  # a resumed run shows them no second time
        (sink,) = experiment.opened_sinks(run, watch, step)
        sink.close()
        content = b"".join(file.read_bytes() for file in (tmp_path / "tensorboard").iterdir())
        assert content.count(b"PNG") == number


def test_truth_is_no_guess_of_an_earlier_stage_and_known_of_all_or_not_used():
    plain = experiment.plan(small.config())
    rows = np.array([0, 5])
    guessed = (plain.truth[rows] + 1) % 10
    start = planning.Start(Grown(rows, guessed.astype(np.int32)))
    grown = experiment.plan(small.config(), start=start)
    np.testing.assert_array_equal(grown.source.train.labels[grown.split.unlabeled[rows]], guessed)
    np.testing.assert_array_equal(grown.truth, plain.truth)
    batches = experiment.training_feed(grown, 0)
    np.testing.assert_array_equal(experiment.resident(grown, batches).truth, plain.truth)
    partly = dataclasses.replace(grown, truth=np.where(plain.truth == 3, -1, plain.truth))
    assert experiment.resident(partly, batches).truth is None


def test_the_small_run_is_not_trivial(whole):
    last = small.records(whole[0], "train")[-1]
    assert last["loss/transfer"] > 0 and last["loss/consistency"] > 0
    assert 0 < last["monitor/mask/balanced"] < 1
    assert all(line["test/accuracy"] > 0 for line in small.records(whole[0], "evaluation"))


# --- interruption ---------------------------------------------------------------------------------


def stop_at(step, monkeypatch):
    """Lets a SIGTERM arrive while the batch of `step` is made."""
    training_feed = experiment.training_feed

    def interrupted_feed(run, start, progress=None):
        def batches():
            for n, batch in enumerate(made.batches, start + 1):
                if n == step:
                    signal.raise_signal(signal.SIGTERM)
                yield batch

        made = training_feed(run, start, progress)
        return dataclasses.replace(made, batches=batches())

    monkeypatch.setattr(experiment, "training_feed", interrupted_feed)


@pytest.mark.parametrize("step", [5, 8])  # between two checkpoints, and at one
def test_an_interrupted_run_continues_as_if_nothing_had_been(step, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        assert train(small.config(), tmp_path) == {}
    assert max(saved_steps(tmp_path)) == step
    assert not (tmp_path / "result.json").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    # A line of a step that the checkpoint does not know, as a killed run leaves it, and half a one.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "kind": "train", "loss": 0.0}\n{"step": 1')

    result = train(small.config(), tmp_path)
    assert_same_state(tmp_path, whole[0])
    assert result["test"] == whole[1]["test"]
    (later,) = json.loads((tmp_path / "config.json").read_text())["continued"]
    assert later["step"] == step
    assert "continued" not in written.identified(tmp_path)[0]  # no setting
    lines = [(line["kind"], line["step"]) for line in small.records(tmp_path)]
    assert len(set(lines)) == len(lines)
    logged = [step for kind, step in lines if kind == "train"]
    assert logged == sorted({5, 10, 12} | {step})


def test_a_finished_run_only_evaluates_again_whatever_maps_it(whole, tmp_path, monkeypatch):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    monkeypatch.setattr(experiment, "train_step", lambda run: pytest.fail)
    elsewhere = {"parallel.mode": "jit", "parallel.num_devices": 1, "train.log_every": 3}
    result = train(small.config(elsewhere), tmp_path)
    assert result["test"] == whole[1]["test"] and result["step"] == 12
    after = contents(tmp_path)
    assert [path for path in after if after[path] != before[path]] == [
        str(tmp_path / "result.json")
    ]


def test_what_predictions_cost_is_never_the_result(whole, tmp_path, monkeypatch):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "result.json").unlink()

    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(experiment, "predicted", fails)
    with pytest.raises(MemoryError):
        train(small.config(), tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["test"] == json.loads(json.dumps(whole[1]["test"]))


@pytest.mark.parametrize("step", [12, 99])  # the last, and one that somebody has deleted
def test_no_predictions_are_left_of_a_best_checkpoint_that_is_none(
    step, whole, tmp_path, monkeypatch, capsys
):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / predictions.BEST_FILE).write_bytes(b"of earlier")
    monkeypatch.setattr(experiment.CheckpointStore, "best_step", step)
    assert experiment.train(small.config(), tmp_path)["best_step"] == step
    assert not (tmp_path / predictions.BEST_FILE).exists()
    assert predictions.read(tmp_path)
    is_said = "no predictions_best.npz: the best checkpoint is missing" in capsys.readouterr().out
    assert is_said == (step == 99)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"method.threshold": 0.9}, r"another\s+--workdir.* method.threshold: checkpoint 0.15"),
        ({"seed": 1}, r"another\s+--workdir.* seed: checkpoint 0, this run 1"),
        ({"model.width": 5}, "model.width: checkpoint 4, this run 5"),
        ({"train.batch_size": 24}, "train.batch_size: checkpoint 16, this run 24"),
        ({"data.split.shuffle": False}, "data.split_fingerprint: checkpoint"),
        ({"train.steps": 8}, "step 12, beyond train.steps 8; raise train.steps"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_experiment_is_refused_and_nothing_is_touched(change, named, whole):
    before = contents(whole[0])
    with pytest.raises(InputError, match=f"(?s){named}"):
        train(small.config(change), whole[0])
    assert contents(whole[0]) == before


# --- the same numbers everywhere ------------------------------------------------------------------


@pytest.mark.tf
def test_images_read_ahead_and_mapped_otherwise_give_the_same_run(whole, tmp_path):
    pytest.importorskip("tensorflow")
    changes = {"data.feed": "tfdata", "parallel.mode": "shard_map"}
    result = train(small.config(changes), tmp_path)
    assert result["feed"] == "tfdata"
    assert_same_state(tmp_path, whole[0])


def test_many_steps_at_once_and_stacked_views_are_the_same_run(whole, tmp_path):
    """Begun one by one, continued between two dispatches, with a last one that is not full."""
    changes = {"train.log_every": 4, "train.checkpoint_every": 8, "train.evaluate_every": 4}
    train(small.config(changes | {"train.steps": 3}), tmp_path)
    accelerated = {"parallel.steps_at_once": 4, "parallel.stack_views": "on"}
    result = train(small.config(changes | accelerated), tmp_path)
    assert result["step"] == 12
    # As far apart as eight devices are from one.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    assert_same_state(whole[0], tmp_path, same=close)
    logged = small.records(tmp_path, "train")
    assert [line["step"] for line in logged] == [3, 4, 8, 12]
    by_step = {line["step"]: line for line in small.records(whole[0], "evaluation")}
    for line in small.records(tmp_path, "evaluation")[-2:]:
        expected = small.without_lists(by_step[line["step"]])
        assert small.without_lists(line) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("asked", [3, 5, -1])
def test_steps_at_once_that_do_not_fit_are_refused_before_anything_is_read(asked, tmp_path):
    with pytest.raises(InputError, match=f"parallel.steps_at_once is {asked}; it must be a div"):
        train(small.config({"parallel.steps_at_once": asked}), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_neither_mapping_nor_number_of_devices_matters(whole, tmp_path):
    train(small.config({"parallel.mode": "jit", "parallel.num_devices": 2}), tmp_path)
    # Adam turns roundings into differences of 1e-5 here; statistics per device are 0.2 away.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    assert_same_state(tmp_path, whole[0], same=close)


# --- data of one's own ----------------------------------------------------------------------------


def save_images(root, *, num_train, num_test):
    """Writes three classes of 8 x 8 colour images, the brighter the higher the class."""
    rng = np.random.default_rng(0)
    for part, number in (("train", num_train), ("test", num_test)):
        for k, n in itertools.product(range(3), range(number)):
            path = root / part / f"class{k}" / f"{n:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(80 * k, 80 * k + 40, (8, 8, 3), np.uint8)).save(path)


def scripted(correct):
    """Evaluates for real, then reports so many tenths correct, by size of the set and step."""
    measure = experiment.evaluate.confusion_matrix

    def confusion_matrix(eval_step, state, batches):
        num_images = int(measure(eval_step, state, batches).sum())
        hits = correct[num_images, int(state.step)] * num_images // 30
        misses = num_images // 3 - hits
        return np.eye(3, dtype=int) * hits + np.roll(np.eye(3, dtype=int), 1, axis=1) * misses

    return confusion_matrix


def test_own_images_and_validation_that_decides(tmp_path, monkeypatch):
    save_images(tmp_path / "images", num_train=40, num_test=20)
    on_validation = {(30, 4): 5, (30, 8): 9, (30, 12): 3}  # every image counted exactly once
    on_test = {(60, 4): 10, (60, 8): 2, (60, 12): 6}
    monkeypatch.setattr(experiment.evaluate, "confusion_matrix", scripted(on_validation | on_test))
    changes = {
        "data.source.kind": "folder",
        "data.source.root": str(tmp_path / "images"),
        "data.split.num_max": 12,
        "data.split.imbalance_ratio": 4.0,
        "data.split.validation_per_class": 10,
    }
    result = train(small.config(changes), tmp_path / "run")
    assert result["best_step"] == 8
    best = predictions.read(tmp_path / "run", predictions.BEST_FILE)["test"]
    images = planning.plan(small.config(changes)).source.test.read(np.arange(60))
    expected = trained.load(tmp_path / "run", "best").logits(images)
    np.testing.assert_allclose(best.logits, expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(best.logits, predictions.read(tmp_path / "run")["test"].logits)
    assert saved_steps(tmp_path / "run") == {8, 12}  # the best and the latest
    assert result["validation"]["num_images"] == 30 and result["test"]["num_images"] == 60
    assert result["test"]["accuracy"] == 0.6 and result["validation"]["accuracy"] == 0.3
    assert list(result["test"]["recall_per_class"]) == ["class0", "class1", "class2"]
    assert np.trace(np.load(tmp_path / "run/confusion.npy")) == 36


def test_channel_statistics_are_those_of_the_training_images_in_use(tmp_path):
    save_images(tmp_path, num_train=6, num_test=2)
    split = {"num_max": 3, "imbalance_ratio": 3.0, "validation_per_class": 2, "shuffle": False}
    changes = {f"data.split.{field}": value for field, value in split.items()}
    changes |= {
        "data.source.kind": "folder",
        "data.source.root": str(tmp_path),
        "train.batch_size": 8,
    }
    config = experiment.plan(small.config(changes)).config
    used = [tmp_path / f"train/class{k}/{n:02}.png" for k in range(3) for n in range(4)]
    pixels = np.concatenate([np.asarray(Image.open(path)) for path in used]).reshape(-1, 3)
    np.testing.assert_allclose(config.augment.mean, pixels.mean(axis=0) / 255)
    np.testing.assert_allclose(config.augment.std, pixels.std(axis=0) / 255)


def test_a_run_is_not_continued_on_other_images(tmp_path):
    save_images(tmp_path / "images", num_train=20, num_test=4)
    shutil.rmtree(tmp_path / "images/test")
    changes = {
        "data.source.kind": "folder",
        "data.source.root": str(tmp_path / "images"),
        "data.source.test_fraction": 0.2,
        "data.split.protocol": "given",
        "data.split.overlap": True,
        "augment.mean": (0.5, 0.5, 0.5),
        "augment.std": (0.2, 0.2, 0.2),
        "train.steps": 2,
        "train.log_every": 1,
        "train.evaluate_every": 2,
        "train.checkpoint_every": 2,
    }
    neutral = defaults.split()
    changes |= {f"data.split.{k}": neutral[k] for k in ("num_max", "imbalance_ratio", "shuffle")}
    changes |= {f"data.split.{k}": neutral[k] for k in ("unlabeled_shape", "permute_classes")}
    train(small.config(changes), tmp_path / "run")
    skipped = (tmp_path / "run/skipped.csv").stat().st_mtime_ns
    other = changes | {"data.source.holdout_seed": 1}
    with pytest.raises(
        InputError, match="(?s)holds another experiment.*data.holdout_seed.*data.images"
    ):
        train(small.config(other), tmp_path / "run")
    assert (tmp_path / "run/skipped.csv").stat().st_mtime_ns == skipped
