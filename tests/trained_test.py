"""A run is read back: the same answers without its data, on other devices; or refused in words."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from sklearn import datasets

from ltssl_jax import experiment, methods, models, planning, trained
from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.evaluation.predictions import softmax
from tests import small
from tests.methods import every


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run whose best checkpoint is not its latest; read it only."""
    workdir = tmp_path_factory.mktemp("run")
    experiment.train(small.config(), workdir, is_quiet=True)
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    """A copy to be changed."""
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture(scope="module")
def scores(run):
    """Balanced accuracy by step, as the run has written it."""
    return {r["step"]: r["test/balanced_accuracy"] for r in small.records(run, "evaluation")}


@pytest.fixture(scope="module")
def test_set():
    return sources.load("digits").test


@pytest.fixture(scope="module")
def images(test_set):
    return test_set.read(np.arange(500))


def change(run, edit):
    """Edits `config.json`."""
    written = json.loads((run / "config.json").read_text())
    edit(written)
    (run / "config.json").write_text(json.dumps(written))


def expected(run, step, images):
    """Computes logits of both heads from the files alone."""
    config = json.loads((run / "config.json").read_text())
    ema = small.saved_state(run, step)["ema"]
    heads = methods.make("tras").needs.heads
    network = models.make(**config["model"], num_classes=10, heads=heads)
    normal = (images / 255 - config["augment"]["mean"][0]) / config["augment"]["std"][0]
    return jax.device_get(network.apply(ema, normal.astype(np.float32), False))


# --- the same answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["best", "latest", 12])
def test_the_logits_are_those_of_the_checkpoint(which, run, scores, images):
    network = trained.load(run, which)
    step = max(scores, key=scores.get) if which == "best" else 12
    head = "balanced" if step > 8 else "base"
    assert int(network.state.step) == step and f"step {step}," in network.chosen
    assert network.scored_by == f"head {head}"
    logits = network.logits(images[:50])
    assert logits.dtype == np.float32
    both = expected(run, step, images[:50]).logits
    np.testing.assert_allclose(logits, both[head], rtol=0, atol=2e-5)
    assert np.abs(both["base"] - both["balanced"]).max() > 1e-2  # so the head matters


def test_features_come_with_the_logits(run, images):
    answers = trained.load(run, "latest").answers(images[:9])
    by_hand = expected(run, 12, images[:9])
    np.testing.assert_allclose(answers.features, by_hand.features, rtol=0, atol=2e-5)
    np.testing.assert_allclose(answers.logits, by_hand.logits["balanced"], rtol=0, atol=2e-5)
    assert answers.features.dtype == np.float32 and answers.features.std() > 1e-2


def test_the_run_evaluated_itself_with_the_same_network(run, test_set, images):
    predictions = trained.load(run, "latest").logits(images).argmax(axis=1)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (test_set.labels, predictions), 1)
    np.testing.assert_array_equal(confusion, np.load(run / "confusion.npy"))


@pytest.mark.parametrize(("num_devices", "batch_size"), [(1, 7), (3, 20), (8, 1)])
def test_devices_and_batches_do_not_matter(num_devices, batch_size, run, images):
    network = trained.load(run, num_devices=num_devices, batch_size=batch_size)
    assert network.batch_size % num_devices == 0 and network.batch_size >= batch_size
    for number in (0, 1, 23):
        logits = network.logits(images[:number])
        reference = trained.load(run).logits(images)[:number]
        np.testing.assert_allclose(logits, reference, rtol=0, atol=1e-5)
        assert network.answers(images[:number]).features.shape == (number, 16)


def test_neither_the_data_nor_the_devices_of_the_run_are_needed(copy, run, images, monkeypatch):
    def elsewhere(written):
        written["parallel"] |= dict(mode="pmap", num_devices=4096, per_device_statistics=True)
        written["data"]["source"] |= dict(kind="folder", root="/nowhere/at/all")

    monkeypatch.setattr(datasets, "load_digits", lambda: pytest.fail("reads the training data"))
    change(copy, elsewhere)
    logits = trained.load(copy).logits(images[:20])
    np.testing.assert_array_equal(logits, trained.load(run).logits(images[:20]))


def test_probabilities_are_the_softmax(run, images):
    network = trained.load(run)
    powers = np.exp(network.logits(images[:9]).astype(np.float64))
    expected_ = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(network.probabilities(images[:9]), expected_, rtol=1e-5)
    huge = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32))
    np.testing.assert_allclose(huge, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 9, 8, 1), np.uint8),
              np.zeros((8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.float32)],
)  # fmt: skip
def test_images_of_another_kind_are_refused(wrong, run):
    with pytest.raises(InputError, match=r"uint8 \[N, 8, 8, 1\]: make them that"):
        trained.load(run).logits(wrong)


def test_the_facts_of_the_run_come_back(run):
    network, plan = trained.load(run), planning.plan(small.config())
    assert network.class_names == plan.source.class_names
    assert network.image_shape == (8, 8, 1)
    assert network.policy == (0, "crop", 1)
    assert network.method == plan.method and network.model.heads == plan.model.heads
    assert network.model.backbone == plan.model.backbone.clone(axis_name=None)
    np.testing.assert_array_equal(network.problem.labeled_counts, plan.problem.labeled_counts)
    assert network.problem[1:4] == plan.problem[1:4]
    assert network.views == plan.views
    assert network.config.to_dict() == plan.config.to_dict()
    assert network.directory == run


def test_every_method_is_restored_without_being_initialized():
    run = planning.plan(small.config())
    for _, example in every.examples():
        parts = dataclasses.replace(run, method=example)
        like = trained._blank(run.config, parts, (8, 8, 1))
        assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(like))


# --- which checkpoint -----------------------------------------------------------------------------


def test_the_reason_is_said(run, scores):
    step = max(scores, key=scores.get)
    reason = f"the best on test (balanced accuracy {100 * scores[step]:.1f} %)"
    assert trained.load(run).chosen == f"step {step}, {reason}"
    assert trained.load(run, "latest").chosen == "step 12, the latest"
    assert trained.load(run, 12).chosen == "step 12, as asked for"


def test_best_on_validation_is_said_as_such(copy):
    lines = (copy / "metrics.jsonl").read_text().replace('"test/', '"validation/')
    cut_off = '{"step": 12, "kind": "evaluation", "test'
    (copy / "metrics.jsonl").write_text(lines + cut_off)
    assert "the best on validation (balanced" in trained.load(copy).chosen
    (copy / "metrics.jsonl").unlink()
    assert trained.load(copy).chosen.endswith(", the best")


def test_without_an_evaluation_the_latest_is_taken(copy, images):
    # As a run that was interrupted early leaves it.
    state = trained.load(copy, "latest").state.replace(step=np.int32(8))
    identity = json.loads((copy / "config.json").read_text())["identity"]
    shutil.rmtree(copy / "checkpoints")
    with CheckpointStore(copy / "checkpoints", identity) as store:
        store.save(state)
    network = trained.load(copy)
    assert network.chosen == "step 8, the latest: none was evaluated"
    assert network.scored_by == "head base"  # the eighth update ends the second epoch of four
    both = expected(copy, 8, images[:5]).logits
    np.testing.assert_allclose(network.logits(images[:5]), both["base"], rtol=0, atol=2e-5)


def test_reading_changes_nothing(copy):
    # What a run that is saving at this moment has half written.
    (copy / "checkpoints/16.orbax-checkpoint-tmp/state").mkdir(parents=True)
    before = {path: path.is_file() and path.read_bytes() for path in copy.rglob("*")}
    trained.load(copy)
    assert before == {path: path.is_file() and path.read_bytes() for path in copy.rglob("*")}


# --- what is no run -------------------------------------------------------------------------------


def without(*names):
    """Returns an edit that removes one entry of `config.json`."""

    def edit(written):
        *path, last = names
        for key in path:
            written = written[key]
        del written[last]

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (without("identity"), "lacks identity, identity.data"),
        (without("identity", "data", "image_shape"), r"lacks identity\.data\.image_shape;"),
        (without("data", "resize"), r"lacks data\.resize"),
        (lambda w: w["data"].update(source="digits"), r"lacks data\.source\.columns"),
        (lambda w: w["method"].update(name="trash"), "method 'trash' is unknown.*'tras'"),
        (lambda w: w["method"].update(zeal=1), "hyper-parameter.*'zeal'"),
        (lambda w: w["model"].update(width=8), "checkpoints .* cannot be restored .*other shapes"),
        (lambda w: w["identity"].update(seed=9), "another experiment"),
    ],
)  # fmt: skip
def test_another_version_is_refused_with_what_is_missing(edit, said, copy):
    change(copy, edit)
    with pytest.raises(InputError, match=f"(?s){said}"):
        trained.load(copy)


def test_what_is_no_run_is_refused(copy, tmp_path):
    with pytest.raises(InputError, match=r"nowhere is no run: its config.json.*--workdir"):
        trained.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="checkpoints is no run"):
        trained.load(copy / "checkpoints")
    with pytest.raises(InputError, match="config.json is no run"):
        trained.load(copy / "config.json")
    for text in ("{", "[]", '"text"'):
        (copy / "config.json").write_text(text)
        with pytest.raises(InputError, match="config.json"):
            trained.load(copy)


def test_a_checkpoint_that_is_not_there_is_refused(copy):
    for which in (5, "newest", -1):
        with pytest.raises(InputError, match=f"no checkpoint {which!r}; give best.* 12$"):
            trained.load(copy, which)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="has no checkpoint yet"):
        trained.load(copy)
    with pytest.raises(InputError, match="batch size is 0"):
        trained.load(copy, batch_size=0)


@pytest.mark.parametrize("part", ["state", "metrics", "card"])
def test_a_damaged_checkpoint_is_refused(part, copy):
    for file in copy.glob(f"checkpoints/*/{part}/**/*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(InputError, match="the checkpoints of .*copy cannot be restored"):
        trained.load(copy)
