"""The scikit-learn face: its conventions, its arrays, and that a fit is a run like any other."""

import doctest
import functools
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ltssl_jax import estimator, stages
from ltssl_jax.core import InputError
from ltssl_jax.data import matrices
from ltssl_jax.estimator import LongTailedSSLClassifier
from ltssl_jax.evaluation.predictions import softmax
from tests import small

NOTEBOOK = pathlib.Path(__file__).parents[1] / "docs" / "estimator.ipynb"
TINY = LongTailedSSLClassifier(
    "supervised",
    steps=2,
    batch_size=8,
    mu=1,
    augment="none",
    network=dict(name="small_cnn", width=2),
    settings={"augment.mean": (0.5,), "augment.std": (0.25,), "train.eval_batch_size": 64},
    random_state=0,
)
# As scikit-learn's checks have no images, theirs are one pixel high.
CHECKED = clone(TINY).set_params(image_shape=(1, -1))
WAIVED = {
    "check_classifiers_classes": "has a class -1, which here marks images without label",
}
LEARNS = dict(steps=100, learning_rate=0.01)  # for what is checked on its accuracy


@pytest.fixture(autouse=True)
def flags(monkeypatch):
    """Keeps what a fit adds to the flags of XLA from the processes of other tests."""
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))


@pytest.fixture
def untrained(monkeypatch):
    """Lets no training begin."""

    def train(*args, **kwargs):
        raise AssertionError("a training began")

    monkeypatch.setattr(stages, "train", train)


@pytest.fixture(scope="module")
def data():
    """60 digits `[N, 8, 8]`, numbers from 0 to 16, of three classes; half have no label."""
    images, labels = load_digits(n_class=3, return_X_y=True)
    images, truth = images[:60].reshape(-1, 8, 8), labels[:60]
    return images, np.where(np.arange(60) % 2, truth, -1), truth


@pytest.fixture(scope="module")
def names(data):
    """The labels of the digits in words; where there is none, the number -1."""
    _, labels, _ = data
    return np.where(labels < 0, -1, np.array(["zero", "one", "two"], object)[labels])


@pytest.fixture(scope="module")
def fitted(data, names, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("fitted")
    return clone(TINY).set_params(method="tras", workdir=workdir).fit(data[0], names)


# --- what is learned, and kept --------------------------------------------------------------------


def test_classes_and_probabilities_are_those_of_the_network(fitted, data):
    images, _, _ = data
    assert fitted.classes_.tolist() == ["one", "two", "zero"]
    assert fitted.n_features_in_ == 64 and fitted.image_shape_ == (8, 8, 1)
    as_bytes = np.rint(images * 255 / 16).astype(np.uint8)[..., None]
    probs = fitted.predict_proba(images)
    np.testing.assert_array_equal(probs, softmax(fitted.network_.logits(as_bytes).astype(float)))
    np.testing.assert_array_equal(fitted.predict(images), fitted.classes_[probs.argmax(axis=1)])


def test_images_of_any_shape_are_the_same_images(fitted, data):
    images, _, _ = data
    probs = fitted.predict_proba(images)
    for same in (images[..., None], images.reshape(60, 64), images.astype(int).tolist()):
        np.testing.assert_array_equal(fitted.predict_proba(same), probs)
    beyond = np.where(images == 16, 99, np.where(images == 0, -99, images))  # clipped
    np.testing.assert_array_equal(fitted.predict_proba(beyond), probs)
    with pytest.raises(InputError, match=r"images are \(4, 16\).*trained on \(8, 8, 1\)"):
        fitted.predict(images.reshape(60, 4, 16))


def test_what_has_no_label_is_not_scored(fitted, data):
    images, labels, _ = data
    predicted = fitted.predict(images)
    given = predicted.astype(object)
    given[::3], given[1::3] = -1, "zero"
    expected = np.mean([p == g for p, g in zip(predicted, given, strict=True) if g != -1])
    assert 0 < expected < 1 or set(predicted) == {"zero"}
    assert fitted.score(images, given) == expected
    only = (given != "zero").astype(float)  # right ones, and those without label, weigh
    assert fitted.score(images, given, sample_weight=only) == 1
    with pytest.raises(InputError, match="number of labels in y is 0"):
        fitted.score(images, np.full(60, -1))


def test_a_pickle_holds_what_predicts_and_nothing_else(fitted, data):
    images, _, _ = data
    kept = pickle.dumps(fitted)
    again = pickle.loads(kept)
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))
    state = again.network_.state
    assert (state.params, state.batch_stats, state.opt_state) == ((), (), ())
    assert int(state.step) == 2 and again.network_.chosen == fitted.network_.chosen
    assert b"jaxlib" not in kept and b"PjitFunction" not in kept


def test_without_any_image_that_has_no_label_the_labeled_ones_are_the_pool(data):
    images, _, truth = data
    assert clone(TINY)._config(images[..., None].astype(np.uint8), truth).data.split.overlap
    bare = np.where(truth == 2, -1, truth)
    assert not clone(TINY)._config(images[..., None].astype(np.uint8), bare).data.split.overlap


# --- a directory for each fit ---------------------------------------------------------------------


def test_a_fit_that_is_finished_in_its_directory_is_not_made_again(fitted, data, names, untrained):
    (run,) = fitted.workdir.iterdir()
    assert json.loads((run / "result.json").read_text())["step"] == 2
    again = clone(fitted).set_params(verbose=True).fit(data[0], names)
    np.testing.assert_array_equal(again.predict_proba(data[0]), fitted.predict_proba(data[0]))


def test_another_fit_has_another_directory(data):
    images, labels, truth = data
    images = np.rint(images * 15).astype(np.uint8)[..., None]

    def name(images=images, labels=labels, classes="abc", **changes):
        config = clone(TINY).set_params(**changes)._config(images, labels)
        with estimator._directory("runs", config, images, labels, list(classes)) as path:
            return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "makedirs", lambda path, exist_ok: None)
        names = [name(), name(images=255 - images), name(labels=truth), name(steps=3)]
        names += [name(random_state=1), name(method="fixmatch"), name(classes="xyz")]
        names += [name(images=images.reshape(-1, 4, 16, 1))]
        assert len(set(names)) == len(names) and name(verbose=True) == names[0]


def test_an_interruption_is_one(data, monkeypatch):
    opened = []

    def train(config, path, is_quiet):
        opened.append(path)
        return {}

    monkeypatch.setattr(stages, "train", train)
    with pytest.raises(KeyboardInterrupt):
        clone(TINY).fit(*data[:2])
    assert not os.path.exists(opened[0])


# --- what it is told ------------------------------------------------------------------------------


def test_network_and_views_suit_the_size_of_the_images():
    labels = np.array([0, 1, -1, -1])
    small_, large = (np.zeros((4, side, 40, 3), np.uint8) for side in (31, 32))
    config = LongTailedSSLClassifier()._config(small_, labels)
    assert (config.model.name, config.augment.recipe) == ("small_cnn", "digits")
    config = LongTailedSSLClassifier()._config(large, labels)
    assert (config.model.name, config.augment.recipe) == ("wide_resnet", "tras")
    named = dict(network="cifar_resnet", augment="none", method=dict(name="tras", A=3.0))
    config = LongTailedSSLClassifier(**named)._config(large, labels)
    assert (config.model.depth, config.augment.recipe, config.method.A) == (32, "none", 3.0)


def test_settings_come_last_and_are_checked():
    labels, images = np.array([0, 1, -1]), np.zeros((3, 8, 8, 1), np.uint8)
    model = LongTailedSSLClassifier(steps=50, settings={"train.steps": 60, "ema.decay": 0.5})
    config = model._config(images, labels)
    assert (config.train.steps, config.ema.decay, config.train.steps_per_epoch) == (60, 0.5, 1)
    for settings in ({"train.stepz": 60}, {"train.steps": "many"}, {"trains.steps": 1}):
        with pytest.raises(InputError, match=f"settings: '{next(iter(settings))}' cannot be"):
            model.set_params(settings=settings)._config(images, labels)


def test_numbers_of_numpy_are_numbers():
    labels, images = np.array([0, 1, -1]), np.zeros((3, 8, 8, 1), np.uint8)
    two, half = np.int64(2), np.float32(0.5)
    model = LongTailedSSLClassifier(
        dict(name="tras", threshold=half, warmup_epochs=two),
        steps=np.int64(6),
        batch_size=np.int32(8),
        mu=two,
        learning_rate=half,
        augment=np.str_("none"),
        network=dict(name="small_cnn", width=two),
        settings={"train.log_every": two, "augment.mean": (half,), "optim.weight_decay": half},
    )
    config = model._config(images, labels)
    assert json.loads(json.dumps(config.to_dict()))["method"]["threshold"] == 0.5
    assert (config.train.steps, config.train.mu, config.train.log_every) == (6, 2, 2)
    assert (config.optim.learning_rate, config.augment.mean, config.model.width) == (0.5, (0.5,), 2)
    assert model.steps is model.get_params()["steps"] and type(model.steps) is np.int64


@pytest.mark.parametrize(
    ("changes", "shape", "said"),
    [
        (dict(), (4, 48), "48 numbers each, which is no square; give image_shape"),
        (dict(image_shape=(5, -1)), (4, 48), r"image_shape is \(5, -1\), but flat images have 48"),
        (dict(image_shape=(4, 6, 2)), (4, 48), r"shape \(4, 6, 2\); give height and width"),
        (dict(), (4, 6, 6, 2), r"shape \(6, 6, 2\); give height and width"),
        (dict(network="small_cmn"), (4, 6, 6), "network 'small_cmn' is unknown.*'small_cnn'"),
        (dict(method="trass"), (4, 6, 6), "method 'trass' is unknown; did you mean 'tras'"),
        (dict(augment="digitz"), (4, 6, 6), "augment.recipe 'digitz' is unknown"),
    ],
)
def test_what_cannot_work_is_said(changes, shape, said):
    with pytest.raises(InputError, match=said):
        clone(TINY).set_params(**changes).fit(np.ones(shape), [0, 1, -1, -1])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([-1, -1, -1], "y has 0 classes; give labels of at least two"),
        ([-1, 5, 5], "y has 1 class; give labels of at least two"),
        (np.array(["a", "b", None]), "y holds None; mark images without label by -1"),
    ],
)
def test_labels_that_cannot_work_are_said(untrained, labels, said):
    with pytest.raises(InputError, match=said):
        clone(TINY).fit(np.ones((3, 4, 4)), labels)


@pytest.mark.parametrize("kind", [str, object])
def test_labels_of_strings_leave_out_minus_one(kind):
    labels = np.array(["cat", -1, "ant", -1, "cat"], kind)
    classes, numbers = matrices.numbered(labels)
    assert classes.tolist() == ["ant", "cat"] and numbers.tolist() == [1, -1, 0, -1, 1]
    classes, numbers = matrices.numbered(np.array([7.0, -1, 3]))
    assert classes.tolist() == [3, 7] and numbers.tolist() == [1, -1, 0]


def test_bytes_stay_and_other_numbers_are_spread():
    rows = np.array([[0, 7, 255]], np.uint8)
    assert matrices.range_of(rows) == (0, 255) and matrices.to_bytes(rows, 0, 255) is rows
    numbers = np.array([[-1.0, 0.0, 1.0]])
    assert matrices.range_of(numbers) == (-1, 1)
    assert matrices.to_bytes(numbers, -1, 1).tolist() == [[0, 128, 255]]
    assert matrices.to_bytes(rows, 0, 14).tolist() == [[0, 128, 255]]
    with np.errstate(all="raise"):
        assert matrices.to_bytes(np.full((1, 2), 3.0), 3, 3).tolist() == [[0, 0]]


def test_images_on_another_scale_are_noticed():
    images = np.array([[0.0, 7, 250], [3, 3, 90]])

    def warned(rows, low=0.0, high=255.0, spread=250.0):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            matrices.warn_of_scale(np.asarray(rows), low, high, spread)
        return [str(one.message) for one in caught]

    (said,) = warned(images / 250)
    assert "X are from 0 to 1," in said and "from 0 to 255" in said and "scale X" in said
    assert warned(images.astype(np.uint8), high=1.0, spread=1.0)  # the other way round
    for fine in (images, images.astype(np.uint8), images[1:] / 9, np.full((2, 3), 1.0)):
        assert not warned(fine)
    assert not warned(images > 5, spread=1.0)  # masks, in the training as well
    assert warned(images > 5)
    assert not warned(images, low=3.0, high=3.0, spread=0.0)


def test_who_predicts_on_another_scale_is_warned(fitted, data):
    with pytest.warns(UserWarning, match="the values of X are from 0 to 0.16") as caught:
        fitted.predict(data[0] / 100)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(data[0])


# --- whole ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where equal fits of different checks are made once."""
    return tmp_path_factory.mktemp("checks")


@pytest.mark.whole
@parametrize_with_checks([CHECKED], expected_failed_checks=lambda model: WAIVED, xfail_strict=True)
def test_the_checks_of_scikit_learn(estimator, check, kept):
    name = check.func.__name__ if isinstance(check, functools.partial) else check.__name__
    changes = LEARNS if name == "check_classifiers_train" else {}
    if name != "check_fit_idempotent":
        estimator.set_params(workdir=kept)
    check(estimator.set_params(**changes))


@pytest.mark.whole
def test_the_example_is_true():
    found = doctest.testmod(estimator)
    assert found.attempted >= 5 and not found.failed


@pytest.mark.whole
def test_another_process_predicts_the_same(fitted, data, tmp_path):
    joblib.dump((fitted, data[0]), tmp_path / "model")
    code = (
        "import joblib, numpy, sys; model, images = joblib.load(sys.argv[1]);"
        "numpy.save(sys.argv[2], model.predict_proba(images))"
    )
    paths = [tmp_path / "model", tmp_path / "probs.npy"]
    environment = small.environment(JAX_NUM_CPU_DEVICES="1")
    subprocess.run([sys.executable, "-c", code, *paths], check=True, env=environment)
    np.testing.assert_allclose(np.load(paths[1]), fitted.predict_proba(data[0]), atol=1e-6)


@pytest.mark.whole
def test_pipelines_are_fitted_side_by_side(data):
    images, labels, _ = data
    folds = PredefinedSplit(np.where(labels < 0, -1, np.arange(60) // 2 % 2))
    model = make_pipeline(MinMaxScaler(), TINY)
    flat = images.reshape(60, 64)
    scores = cross_val_score(model, flat, labels, cv=folds, n_jobs=2, error_score="raise")
    train, test = next(folds.split())
    assert scores[0] == model.fit(flat[train], labels[train]).score(flat[test], labels[test])


@pytest.mark.whole
def test_the_notebook_runs(monkeypatch, capsys):
    monkeypatch.setenv("NOTEBOOK_STEPS", "2")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {}
    for text in code:
        exec(compile(text, NOTEBOOK.name, "exec"), names)  # noqa: S102
    assert len(re.findall("balanced accuracy", capsys.readouterr().out)) == 4


def test_the_notebook_holds_no_output():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
