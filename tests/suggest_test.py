"""From a run to images worth a label, and back as labels."""

import csv
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ltssl_jax import defaults, experiment, planning, suggest, trained
from ltssl_jax.core import InputError
from ltssl_jax.data import candidates, sources
from ltssl_jax.deployment import suggestions
from ltssl_jax.evaluation import acquisition
from ltssl_jax.evaluation.predictions import softmax
from tests import small
from tests.docs import pages

ROOT = pathlib.Path(__file__).parents[1]
PER_CLASS = [20, 12, 8, 6, 5, 4, 3, 3, 3, 3]  # labeled
NUM_POOL = 90


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run on digits as files: a table of the labeled ones, a directory of all; read it only."""
    home = tmp_path_factory.mktemp("home")
    source = sources.load("digits")
    labels, images = source.train.labels, source.train.read(np.arange(len(source.train)))
    rows, kept = [("path", "label", "split")], []
    for k, number in enumerate(PER_CLASS):
        own = np.flatnonzero(labels == k)
        rows += [(f"images/{i:04}.png", f"digit {k}", "train") for i in own[:number]]
        rows += [(f"images/{i:04}.png", f"digit {k}", "test") for i in own[-6:]]
        kept += [*own[: number + NUM_POOL // 10], *own[-6:]]
    (home / "images").mkdir()
    for i in kept:
        Image.fromarray(images[i, :, :, 0]).save(home / f"images/{i:04}.png")
    with (home / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    experiment.train(config(home), home / "run", is_quiet=True)
    return home


def config(home, *tables):
    root = ",".join(map(os.fspath, (home / "labels.csv", *tables)))
    where = {"kind": "manifest", "root": root, "pool": os.fspath(home / "images")}
    made = small.config({f"data.source.{field}": value for field, value in where.items()})
    made.data.split.update(defaults.split(protocol="given"))
    return made


@pytest.fixture
def run(home, tmp_path):
    """A copy of the run, to write to."""
    return pathlib.Path(shutil.copytree(home / "run", tmp_path / "run"))


def truth(home):
    source = sources.load("digits")
    return {home / f"images/{i:04}.png": f"digit {k}" for i, k in enumerate(source.train.labels)}


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def filled(table, labels, number=None):
    """Writes the true classes into a table, as a person would with a spreadsheet."""
    rows = read(table)
    for row in rows[:number]:
        row["label"] = labels[pathlib.Path(row["path"])]
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def retargeted(run, made, to):
    """Copies a run as if it had been trained on other data."""
    copy = pathlib.Path(shutil.copytree(run, to))
    written = json.loads((copy / "config.json").read_text())
    written["data"]["source"]["root"] = made.data.source.root
    (copy / "config.json").write_text(json.dumps(written))
    return copy


def labeled_in(home):
    return {home / row["path"] for row in read(home / "labels.csv")}


# --- which images -------------------------------------------------------------------------------


def test_the_choice_is_that_of_the_rule(home, run):
    """Unlabeled images only, in the order and with the words of the table."""
    rows = suggest.suggest(run, number=15, is_quiet=True)
    assert [row._asdict() for row in rows] == read(run / "suggestions/suggestions.csv")
    assert all(row.label == "" and pathlib.Path(row.path).is_file() for row in rows)
    assert not labeled_in(home) & {pathlib.Path(row.path) for row in rows}
    assert [row.id for row in rows] == [os.path.relpath(row.path, home) for row in rows]

    network = trained.load(run)
    source, split = planning.load_data(network.config)
    assert len(split.unlabeled) == NUM_POOL
    pool, labeled = (
        network.answers(source.train.read(part)) for part in (split.unlabeled, split.labeled)
    )
    probs = softmax(pool.logits)
    worth = acquisition.worth(probs, np.array(PER_CLASS))
    chosen = acquisition.choose(
        worth.uncertainty + worth.rarity, pool.features, labeled.features, 15
    )
    names = [source.train.names[i] for i in split.unlabeled[chosen.rows]]
    assert [row.id for row in rows] == names
    said = [source.class_names[k] for k in probs[chosen.rows].argmax(axis=1)]
    assert [row.guess for row in rows] == said
    np.testing.assert_allclose([float(row.score) for row in rows], chosen.scores, rtol=1e-3)
    without = suggest.suggest(run, number=15, rare=0.0, is_quiet=True)
    assert [row.id for row in without] != names

    page = (run / "suggestions/suggestions.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 15 and names[0] in page
    assert f"labels.csv,{run}/suggestions/suggestions.csv" in page


def test_other_images_without_those_of_the_run(home, run, tmp_path):
    """From the directory of the pool, which has labeled and test images, too; or from a table."""
    rows = suggest.suggest(run, [os.fspath(home / "images")], number=200, is_quiet=True)
    assert NUM_POOL - 5 <= len(rows) <= NUM_POOL  # but for copies
    assert not labeled_in(home) & {pathlib.Path(row.path) for row in rows}
    table = tmp_path / "some.csv"
    table.write_text("path,id\n" + "".join(f"{row.path},name {row.id}\n" for row in rows[:20]))
    some = suggest.suggest(run, [os.fspath(table)], tmp_path / "out", number=5, is_quiet=True)
    assert {row.id for row in some} <= {f"name {row.id}" for row in rows[:20]} and len(some) == 5
    assert len(read(tmp_path / "out/suggestions.csv")) == 5


def test_without_the_images_of_the_run(home, run, tmp_path, capsys):
    gone = config(tmp_path / "nowhere")
    copy = retargeted(run, gone, tmp_path / "copy")
    with pytest.raises(InputError, match="images of the run cannot be opened again .*not exist"):
        suggest.suggest(copy, is_quiet=True)
    rows = suggest.suggest(copy, [os.fspath(home / "images")], number=3)
    assert len(rows) == 3 and "labeled ones may be suggested" in capsys.readouterr().out
    nothing = tmp_path / "empty.npy"
    np.save(nothing, np.zeros((2, 5, 5), np.uint8))
    with pytest.raises(InputError, match="no image to choose from .*2 x 5x5 pixels"):
        suggest.suggest(copy, [os.fspath(nothing)], tmp_path / "no", is_quiet=True)


@pytest.mark.whole
def test_arrays_have_places(tmp_path):
    """The digits have no files: `id` is the place among the training images."""
    experiment.train(small.config(), tmp_path / "run", is_quiet=True)
    rows = suggest.suggest(tmp_path / "run", number=8, is_quiet=True)
    split = planning.load_data(small.config())[1]
    assert {int(row.id) for row in rows} <= set(split.unlabeled.tolist())
    assert all(row.path == "" for row in rows)
    assert "Then train again" not in (tmp_path / "run/suggestions/suggestions.html").read_text()


def test_damaged_predictions_are_no_obstacle(home, run, tmp_path, capsys):
    """They are there for the temperature alone."""
    expected = suggest.suggest(run, number=4, which="latest", is_quiet=True)  # no validation part
    (run / "predictions.npz").write_bytes(b"x")
    rows = suggest.suggest(run, number=4, which="latest", out=tmp_path / "out")
    assert rows == expected
    said = " ".join(capsys.readouterr().out.split())
    assert f"kept in {run} cannot be read: probabilities are the network's own" in said
    assert "pickle" not in said


def test_the_option_that_is_printed_can_be_typed(home, run, tmp_path, capsys):
    suggest.suggest(run, number=2, out=tmp_path / "it's new")
    said = capsys.readouterr().out.split("train again with ")[1]
    root = f"{home}/labels.csv,{tmp_path}/it's new/suggestions.csv"
    assert shlex.split(said) == [f"--config.data.source.root={root}"]


@pytest.mark.parametrize("wrong", [dict(number=0), dict(rare=-1.0), dict(rare=np.nan)])
def test_nonsense_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="--(n|rare) is"):
        suggest.suggest(tmp_path, **wrong)


def test_a_wrong_call_ends_in_one_sentence(tmp_path, monkeypatch):
    for wrong, words in ([], "give RUN"), (["x", "--m=3"], "'m'"), ([str(tmp_path)], "is no run"):
        monkeypatch.setattr(sys, "argv", ["suggest", *wrong])
        with pytest.raises(SystemExit, match=f"^error: .*{words}"):
            suggest.cli()
    assert not [*tmp_path.iterdir()]


# --- back as labels -----------------------------------------------------------------------------


def test_labels_go_back_in(home, run, tmp_path):
    """The labeled set grows by what was filled in, and what has a label is not suggested again."""
    before = planning.load_data(config(home))
    suggest.suggest(run, number=20, is_quiet=True)
    table = run / "suggestions/suggestions.csv"
    rows = filled(table, truth(home), 15)
    with pytest.raises(InputError, match="has labels, which would be lost"):
        suggest.suggest(run, number=20, is_quiet=True)

    source, split = planning.load_data(config(home, table))
    names = before[0].class_names
    new = np.bincount([names.index(row["label"]) for row in rows[:15]], minlength=10)
    assert split.labeled_counts.tolist() == (before[1].labeled_counts + new).tolist()
    assert len(split.unlabeled) == NUM_POOL - 15 and split.fingerprint != before[1].fingerprint
    assert not [one for one in source.skipped if one.reason != "also in test"]

    again = retargeted(run, config(home, table), tmp_path / "again")
    new_class = tmp_path / "new.csv"
    new_class.write_text(f"path,label\n{rows[15]['path']},digit 10\n")
    with pytest.raises(InputError, match=r"not those of the network any more \(digit 10\); train"):
        other = retargeted(run, config(home, new_class), tmp_path / "other")
        suggest.suggest(other, out=tmp_path / "new", is_quiet=True)
    later = suggest.suggest(again, number=200, out=tmp_path / "later", is_quiet=True)
    assert not {row.id for row in later} & {row["id"] for row in rows[:15]}
    assert {row["id"] for row in rows[15:]} <= {row.id for row in later}


def test_labels_go_back_into_arrays_as_documented(tmp_path, monkeypatch):
    """Ids are places in the file, whatever the order in which the images are used."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), np.uint8)
    labels = np.array([0, -1, 1, -1, 0, 1, -1])
    names = np.array(["cat", "dog"])
    np.savez(
        "data.npz", train_images=images[:7], train_labels=labels, test_images=images[7:],
        test_labels=np.array([0, 1]), class_names=names,
    )  # fmt: skip
    made = small.config({"data.source.kind": "arrays", "data.source.root": "data.npz"})
    made.data.split.update(defaults.split(protocol="given"))
    pool = candidates.of_split(*planning.load_data(made))
    named = [(item.name, label) for item, label in zip(pool.at([0, 2]), ("dog", ""), strict=True)]
    rows = [suggestions.Suggestion("", label, id_, *5 * [""]) for id_, label in named]
    table = tmp_path / "runs/own/suggestions"
    table.mkdir(parents=True)
    suggestions.write(table, rows, "")
    (code,) = pages.blocks((ROOT / "docs/suggesting.md").read_text(encoding="utf-8"), "python")
    exec(compile(code.text, "page", "exec"), {})
    with np.load("more.npz") as more:
        assert more["train_labels"].tolist() == [0, 1, 1, -1, 0, 1, -1]
        np.testing.assert_array_equal(pool.at([0])[0].image, more["train_images"][1])


@pytest.mark.whole
def test_the_command_and_a_second_training(home, tmp_path):
    """What the command prints is what a training with more labels needs."""
    environment = small.environment(PYTHONPATH=os.fspath(ROOT), JAX_NUM_CPU_DEVICES="1")
    command = [sys.executable, "-m", "ltssl_jax.suggest", home / "run", "--n=12", "--out=more"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    root = f"{home}/labels.csv,more/suggestions.csv"
    assert f"--config.data.source.root={root}\n" in done.stdout
    filled(tmp_path / "more/suggestions.csv", truth(home))
    result = experiment.train(
        config(home, tmp_path / "more/suggestions.csv"), tmp_path / "second", is_quiet=True
    )
    assert sum(result["labeled_counts"]) == sum(PER_CLASS) + 12
