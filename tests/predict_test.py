"""Predictions on disk: the right class for each image, in order, whatever lies between them."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from ltssl_jax import evaluate, experiment, predict, trained
from ltssl_jax.core import InputError
from ltssl_jax.data import sources, streams
from ltssl_jax.deployment import tables
from ltssl_jax.evaluation import calibration
from ltssl_jax.evaluation import predictions as kept
from tests import small

ROOT = pathlib.Path(__file__).parents[1]
COLUMNS = ["id", "class", "probability", "runner_up", "runner_up_probability", "entropy", "review"]
# In the order of the digits that they stand for.
CLASSES = ["0, zero", '1 "one"', "2 'two'", "3 [red]", "4 ;", "5 :smile:", "6é", "7 =1+1", "8", "9"]


@pytest.fixture(scope="module")
def digits():
    """Some test images `[60, 8, 8, 1]`."""
    return sources.load("digits").test.read(np.arange(0, 480, 8))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run on image files, which are gone by now; read it only."""
    home = tmp_path_factory.mktemp("training")
    source = sources.load("digits")
    for part, records in (("train", source.train), ("test", source.test)):
        for name in CLASSES:
            (home / "images" / part / name).mkdir(parents=True)
        for i, label in enumerate(records.labels):
            image = Image.fromarray(records.read(np.array([i]))[0, :, :, 0])
            image.save(home / f"images/{part}/{CLASSES[label]}/{i:04}.png")
    config = small.config({"data.source.kind": "folder", "data.source.root": f"{home}/images"})
    experiment.train(config, home / "run", is_quiet=True)
    shutil.rmtree(home / "images")
    return home / "run"


@pytest.fixture(scope="module")
def expected(run, digits):
    """What `COLUMNS` must be after the id: strings, and numbers to compare roughly."""
    network = trained.load(run, num_devices=1)
    probs = network.probabilities(digits).astype(np.float64)
    best = np.argsort(-probs, axis=1)
    return [
        (CLASSES[i], p[i], CLASSES[j], p[j]) for p, (i, j) in zip(probs, best[:, :2], strict=True)
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(image, path, **options):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[:, :, 0]).save(path, **options)


def changed(run, edit):
    """Copies a run and edits `data` in its configuration."""
    copy = pathlib.Path(shutil.copytree(run, "copy"))
    written = json.loads((copy / "config.json").read_text())
    edit(written["data"])
    (copy / "config.json").write_text(json.dumps(written))
    return copy


def answers(run, *paths, out="out/p.csv", **options):
    """Predicts, and returns the rows of both tables."""
    predict.predict(run, [str(path) for path in paths], out, is_quiet=True, **options)
    return rows(out), rows(pathlib.Path(out).with_suffix(".skipped.csv"))


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        header, *found = csv.reader(file)
    assert header == (["name", "part", "reason"] if "skipped" in str(path) else COLUMNS)
    return found


def assert_predicted(found, names, expected):
    assert [row[0] for row in found] == names
    for row, (name, p, runner_up, q) in zip(found, expected, strict=True):
        assert (row[1], row[3], row[6]) == (name, runner_up, "")
        np.testing.assert_allclose([float(row[2]), float(row[4])], [p, q], atol=1e-5)


# --- the right answer for each image --------------------------------------------------------------


def test_a_directory_is_predicted_in_the_order_of_its_files(run, digits, expected, here):
    names = [f"pool/{chr(ord('a') + i % 3)}/{i:02}.png" for i in range(60)]
    for name, image in zip(names, digits, strict=True):
        save(image, name)
    (here / "pool/notes.txt").write_text("no image")
    order = sorted(range(60), key=names.__getitem__)
    found, skipped = answers(run, "pool", batch_size=16)
    assert_predicted(found, [names[i] for i in order], [expected[i] for i in order])
    assert skipped == [] and len({row[1] for row in found}) > 1


def test_files_are_predicted_in_the_given_order(run, digits, expected, here):
    names = ["b.png", "a.png", f"{here}/c.png", "b.png"]
    for name, image in zip(names[:3], digits, strict=False):
        save(image, name)
    found, _ = answers(run, *names)
    assert_predicted(found, names, [*expected[:3], expected[0]])


def test_of_several_stages_the_one_with_the_network_is_read(run, digits, here):
    shutil.copytree(run, "whole/1_first")
    pathlib.Path("whole/2_second").mkdir()
    shutil.copy(run / "config.json", "whole/2_second")
    pathlib.Path("whole/stages.json").write_text('{"directories": ["1_first", "2_second"]}')
    np.save("a.npy", digits[:5, :, :, 0])
    assert answers("whole", "a.npy", prior="uniform") == answers(run, "a.npy", prior="uniform")


def test_arrays_are_predicted_by_position(run, digits, expected, here):
    np.save("a.npy", digits[:20, :, :, 0])
    np.savez("b.npz", images=digits[20:30].astype(np.uint16) * 257, labels=np.zeros(10))
    np.savez("c.npz", pool_images=np.repeat(digits[30:40], 3, axis=3), train_images=digits)
    found, _ = answers(run, "a.npy", "b.npz", "c.npz")
    names = [f"a.npy[{i}]" for i in range(20)] + [f"{x}.npz[{i}]" for x in "bc" for i in range(10)]
    assert_predicted(found, names, expected[:40])


def test_a_table_is_predicted_row_by_row(run, digits, expected, here):
    for i in range(4):
        save(digits[i], f"tables/images/{i}.png")
    table = 'path,note,id\nimages/2.png,,"x, y"\nimages/0,"a\nb",\nimages/3.png,,3\n'
    pathlib.Path("tables/t.csv").write_text(table)
    found, _ = answers(run, "tables/t.csv")
    assert_predicted(found, ["x, y", "images/0", "3"], [expected[i] for i in (2, 0, 3)])

    pathlib.Path("other.csv").write_text("object,file\nB,1.png\nA,0.png\n")
    columns = dict(path="file", id="object")
    found, _ = answers(run, "other.csv", columns=columns, image_root="tables/images")
    assert_predicted(found, ["B", "A"], [expected[1], expected[0]])


def test_camera_traps_are_predicted(run, digits, expected, here):
    save(digits[0], "site/0.png")
    entry = dict(id=7, file_name="site/0.png")
    content = dict(images=[entry], annotations=[], categories=[dict(id=0, name="x")])
    pathlib.Path("traps.json").write_text(json.dumps(content))
    assert_predicted(answers(run, "traps.json")[0], ["site/0.png"], expected[:1])


def test_the_columns_are_those_of_the_training(run, digits, expected, here):
    copy = changed(run, lambda data: data["source"]["columns"].update(path="image_fn", id="object"))
    save(digits[0], "0.png")
    pathlib.Path("t.csv").write_text("object,image_fn\nx,0.png\n")
    assert_predicted(answers(copy, "t.csv")[0], ["x"], expected[:1])
    assert_predicted(answers(copy, "t.csv", columns={"id": ""})[0], ["0.png"], expected[:1])
    with pytest.raises(InputError, match="column 'path' is unknown.*image_fn.*--path_column"):
        answers(run, "t.csv")
    with pytest.raises(InputError, match="column 'name' is unknown.*object.*--id_column"):
        answers(copy, "t.csv", columns={"id": "name"})


def test_which_checkpoint_and_how_many_at_once(run, digits, here):
    np.save("a.npy", digits)
    best, _ = answers(run, "a.npy", batch_size=1)
    latest, _ = answers(run, "a.npy", which="latest")
    network = trained.load(run, "latest")
    assert network.chosen != trained.load(run).chosen  # the run is too short to have learnt
    assert (
        [row[1] for row in latest]
        == [CLASSES[k] for k in network.logits(digits).argmax(axis=1)]
        != [row[1] for row in best]
    )


def test_a_prior_and_a_precision(run, digits, here, capsys):
    np.save("a.npy", digits)
    copy = changed(run, lambda data: None)
    test = kept.read(copy)["test"]
    is_sure = test.probabilities.max(axis=1) > np.median(test.probabilities.max(axis=1))
    labels = np.where(is_sure, test.classes, (test.classes + 1) % 10)
    told = dataclasses.replace(test, labels=labels)
    sets = {"validation": told, "test": test}
    np.savez(copy / "predictions.npz", **kept.arrays(sets))
    priors = {name: 1 + (name == CLASSES[3]) for name in CLASSES}
    pathlib.Path("p.json").write_text(json.dumps(priors))
    options = dict(which="latest", prior="p.json", precision=0.7)
    predict.predict(copy, ["a.npy"], "p.csv", **options)

    prior = np.array([priors[name] for name in CLASSES]) / 11
    found = calibration.fit(told.logits, labels, "validation")
    probs = calibration.applied(found, trained.load(run, "latest").logits(digits), prior)
    assert [row[1] for row in rows("p.csv")] == [CLASSES[k] for k in probs.argmax(axis=1)]
    shown = np.array([[float(cell) for cell in (row[2], *row[4:])] for row in rows("p.csv")])
    expected = [*-np.sort(-probs, axis=1)[:, :2].T, scipy.stats.entropy(probs, axis=1)]
    np.testing.assert_allclose(shown[:, :3], np.stack(expected, axis=1), atol=1e-4)
    known = calibration.applied(found, told.logits, prior)
    threshold = calibration.threshold_for(known, labels, 0.7, prior)
    to_review = probs.max(axis=1) < threshold
    assert np.array_equal(shown[:, 3], to_review) and 0 < to_review.sum() < 60
    said = capsys.readouterr().out
    assert f"to review: {to_review.sum()} of 60" in said
    assert f"fitted on {len(told)} validation images" in said


def test_no_more_than_a_few_batches_are_in_memory(here):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 300, 200, 1), np.uint8)
    for i, image in enumerate(pixels):
        save(image, f"{i}.png")
    asked = []

    def items():
        for i in range(200):
            asked.append(i)
            yield streams.Item(f"{i}", f"{i % 5}.png")

    policy = streams.Policy(0, "crop", 1)
    batches = streams.decoded(items(), policy, (300, 200, 1), batch_size=20)
    for number, batch in enumerate(batches, 1):
        assert len(asked) <= 20 * (number + 2)
        np.testing.assert_array_equal(batch.images, np.concatenate([pixels] * 4))
        assert batch.names == [str(i) for i in range(20 * number - 20, 20 * number)]
    assert number == 10


def test_evaluate_scores_a_set_as_the_run_itself_has_scored_it(run, here):
    test = sources.load("digits").test
    order = np.random.default_rng(0).permutation(10)
    labels = np.argsort(order)[test.labels]
    images = test.read(np.arange(len(test)))
    np.savez("a.npz", images=images, labels=labels, class_names=np.array(CLASSES)[order])
    copy = changed(run, lambda data: None)
    found = evaluate.evaluate(copy, ["a.npz", "test"], "out", which="latest", is_quiet=True)
    assert found["a.npz"]["metrics"] == found["test"]["metrics"]
    for name in ("a.npz", "test"):
        confusion = np.load(f"out/{name}/confusion.npy")
        np.testing.assert_array_equal(confusion, np.load(run / "confusion.npy"))


# --- what cannot be used --------------------------------------------------------------------------


def test_broken_files_are_listed_and_the_others_predicted(run, digits, expected, here):
    save(digits[0], "pool/a.png")
    save(digits[1], "pool/c.png")
    save(np.zeros((8, 9, 1), np.uint8), "pool/large.png")
    whole = pathlib.Path("pool/a.png").read_bytes()
    pathlib.Path("pool/b.png").write_bytes(b"")
    pathlib.Path("pool/d.png").write_bytes(whole[: len(whole) // 2])
    os.symlink("..", "pool/loop")
    pathlib.Path("t.csv").write_text(
        "path\npool/gone.png\n,\n../x.png\npool/c.png\n".replace(",", "")
    )
    found, skipped = answers(run, "pool", "pool/d.png", batch_size=2)
    assert_predicted(found, ["pool/a.png", "pool/c.png"], expected[:2])
    reasons = {name: reason for name, part, reason in skipped}
    assert list(reasons) == ["pool/loop", "pool/b.png", "pool/d.png", "pool/large.png"]
    assert len(skipped) == 5 and reasons["pool/b.png"] == "the file is empty"
    assert "8x9 pixels" in reasons["pool/large.png"] and "8x8; resize" in reasons["pool/large.png"]
    found, skipped = answers(run, "t.csv")
    assert_predicted(found, ["pool/c.png"], expected[1:2])
    assert [name for name, _, _ in skipped] == ["pool/gone.png", "../x.png"]
    assert skipped[0][2] == "there is no such file"


def test_images_are_resized_where_training_did(run, digits, expected, here):
    copy = changed(run, lambda data: data.update(image_size=8, resize="pad"))
    wide = np.zeros((16, 32, 1), np.uint8)
    wide[:, 8:24] = digits[0].repeat(2, axis=0).repeat(2, axis=1)
    save(wide[:, 8:24], "square.png")
    save(wide, "wide.png")
    np.save("wide.npy", wide[None])
    found, skipped = answers(copy, "square.png", "wide.png", "wide.npy")
    assert len(found) == 3 and not skipped

    def resized(image, height, width):
        return np.asarray(Image.fromarray(image[:, :, 0]).resize((width, height), Image.BILINEAR))

    padded = np.pad(resized(wide, 4, 8), ((2, 2), (0, 0)))
    probs = trained.load(copy).probabilities(
        np.stack([resized(wide[:, 8:24], 8, 8), padded, padded])[..., None]
    )
    np.testing.assert_allclose([float(row[2]) for row in found], probs.max(axis=1), atol=1e-5)


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes only there")
def test_hostile_names_are_only_names(run, digits, expected, here):
    names = [
        "-x.png",
        "=1+1.png",
        "a\nb.png",
        'c,"d".png',
        "e\udcff.png",
        "f é漢.png",
        "[bold].png",
    ]
    for i, name in enumerate(sorted(names)):
        save(digits[i], pathlib.Path("pool") / name)
    found, _ = answers(run, "pool")
    shown = [f"pool/{name}".replace("\udcff", r"\xff") for name in sorted(names)]
    assert_predicted(found, shown, expected[: len(names)])


@pytest.fixture
def finished(here, digits):
    """Two images, a directory of rubbish, and tables of an earlier time."""
    np.save("a.npy", digits[:40])
    pathlib.Path("rubbish").mkdir()
    for i in range(3):
        pathlib.Path(f"rubbish/{i}.png").write_bytes(b"rubbish")
    pathlib.Path("empty").mkdir()
    for name in ("p.csv", "p.skipped.csv"):
        pathlib.Path(name).write_text("precious")
    return ("p.csv", "p.skipped.csv")


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["rubbish"], r"none of 3 images can be used \(3 x no image that Pillow.*rubbish/0.png"),
        (["a.npy", "gone.png"], "gone.png does not exist"),
        (["a.npy", "empty"], "empty has no image files"),
        (["p.csv", "a.npy"], "p.csv is to be predicted and would be overwritten"),
        (["x.npz"], r"x.npz has stuff; call the images images or pool_images"),
        (["float.npy"], r"float32 \(2, 8, 8, 1\); save uint8"),
        (["objects.npy"], "objects.npy cannot be read.*without objects"),
        (["a.npy", "t.csv"], r"t.csv, line 3 has 2 cells for 1 columns"),
    ],
)  # fmt: skip
def test_what_was_written_before_survives_a_mistake(paths, said, run, digits, finished):
    np.savez("x.npz", stuff=digits)
    np.save("float.npy", digits[:2].astype(np.float32))
    np.save("objects.npy", np.array([{}, None], object))
    pathlib.Path("t.csv").write_text("path\na.png\nb.png,c\n")
    before = set(os.listdir())
    with pytest.raises(InputError, match=f"(?s){said}"):
        answers(run, *paths, out="p.csv", batch_size=8)
    assert [pathlib.Path(name).read_text() for name in finished] == ["precious"] * 2
    assert set(os.listdir()) == before


def interrupt(monkeypatch, error, *, after):
    """Lets prediction raise after some batches."""
    logits, batches = trained.Trained.logits, []

    def interrupted(network, images):
        batches.append(len(images))
        if len(batches) > after:
            raise error
        return logits(network, images)

    monkeypatch.setattr(trained.Trained, "logits", interrupted)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("full")])
def test_an_interruption_keeps_what_there_is(error, run, finished, expected, monkeypatch, capsys):
    interrupt(monkeypatch, error, after=2)
    with pytest.raises(type(error)):
        predict.predict(run, ["a.npy"], "p.csv", batch_size=8)
    assert [pathlib.Path(name).read_text() for name in finished] == ["precious"] * 2
    found = rows("p.csv.partial")
    assert_predicted(found, [f"a.npy[{i}]" for i in range(16)], expected[:16])
    assert "not finished: 16 predictions are in p.csv.partial" in capsys.readouterr().out

    interrupt(monkeypatch, KeyboardInterrupt(), after=0)
    with pytest.raises(KeyboardInterrupt):
        answers(run, "a.npy", out="q.csv")
    assert not list(pathlib.Path().glob("q*"))


def test_a_full_disk_is_said_in_a_sentence(run, finished, monkeypatch):
    class Full(io.StringIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "open", lambda *_, **__: Full(), raising=False)
    with pytest.raises(InputError, match="--out 'p.csv' cannot be written.*No space"):
        predict.predict(run, ["a.npy"], "p.csv", is_quiet=True)


@pytest.mark.parametrize("out", ["rubbish", "a.npy/p.csv", "/dev/null", "", "/proc/p.csv"])
def test_an_impossible_place_is_refused_before_any_work(out, finished, monkeypatch):
    monkeypatch.setattr(trained, "load", lambda *_, **__: pytest.fail("works already"))
    with pytest.raises(InputError, match="--out .* cannot be written"):
        answers("run", "a.npy", out=out)


def test_a_diverged_network_is_no_oracle(run, finished, monkeypatch):
    bad = np.full((8, 10), np.nan, np.float32)
    monkeypatch.setattr(trained.Trained, "logits", lambda *_: bad)
    with pytest.raises(InputError, match="step .*diverged.*--which"):
        answers(run, "a.npy", out="p.csv", batch_size=8)
    assert pathlib.Path("p.csv").read_text() == "precious"


# --- the command ----------------------------------------------------------------------------------


def environment():
    """Returns what a user's process sees: none of the tests' own settings but the caches."""
    ours = ("XLA_FLAGS", "JAX_NUMPY_RANK_PROMOTION")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)}


@pytest.mark.whole
def test_the_command_predicts_and_says_what(run, digits, expected, here):
    for i in range(5):
        save(digits[i], f"pool/{i}.png")
    pathlib.Path("pool/x.png").write_bytes(b"")
    command = [sys.executable, "-m", "ltssl_jax.predict", str(run), "pool", "--out=new/p.csv"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert_predicted(rows("new/p.csv"), [f"pool/{i}.png" for i in range(5)], expected[:5])
    said = done.stdout
    assert re.search(r"network: head .*, EMA weights, step \d+, the best on test \(balanced", said)
    mean = np.mean([p for _, p, _, _ in expected[:5]])
    assert re.search(rf"all\s*│\s*5 │ 100.0 │\s*{mean:.3f}", said), said
    assert "skipped: 1 (1 x the file is empty), see new/p.skipped.csv" in said
    assert "written to new/p.csv" in said and not done.stderr
    likeliest = max({row[0] for row in expected[:5]}, key=[row[0] for row in expected[:5]].count)
    assert re.search(rf"│ {re.escape(likeliest)}\s+│", said), said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "give RUN and at least one of IMAGES.*--help"),
        (["run"], "give RUN and at least one"),
        (["run", "a", "--oout=x"], "oout.*out.*--help"),
        (["run", "a", "--batch_size=many"], "batch_size.*many"),
        (["nowhere", "a", "--out=x.csv"], "nowhere is no run"),
        (["nowhere", "a", "--batch_size", "0"], "batch size is 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_a_sentence(argv, said, here, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["predict", *argv])
    for flag in predict.FLAGS:
        predict.FLAGS[flag].unparse()
    with pytest.raises(SystemExit) as end:
        predict.cli()
    assert re.search(said, end.value.code) and end.value.code.startswith("error: ")
    assert set(os.listdir()) == set()


def test_help_names_every_flag(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict", "--help"])
    with pytest.raises(SystemExit) as end:
        predict.cli()
    said = capsys.readouterr().out
    assert not end.value.code and said.startswith("Names the class of images")
    assert all(f"--{flag}" in said.replace("[no]", "") for flag in predict.FLAGS)


def test_an_image_is_not_written_over(run, digits, finished):
    os.makedirs("some")
    Image.fromarray(digits[0, ..., 0]).save("some/0.png")
    before = pathlib.Path("some/0.png").read_bytes()
    with pytest.raises(InputError, match="no table; give a name that ends in .csv"):
        answers(run, "some", out="some/0.png", batch_size=8)
    assert pathlib.Path("some/0.png").read_bytes() == before
