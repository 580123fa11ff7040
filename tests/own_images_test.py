"""Own images as the first page for newcomers has them: what is printed there is done here."""

import csv
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests import small

ROOT = pathlib.Path(__file__).parents[1]
KINDS = {"circle", "square", "triangle"}
# Added to what is printed, to learn the same in fewer steps, the best of which is not the last.
QUICKER = {
    "inspect": "--cost_seconds=1",
    "main": "--config.train.steps=200 --config.train.evaluate_every=50"
    " --config.train.checkpoint_every=50 --config.ema.decay=0.9"
    " --config.baseline=False",
}

pytestmark = pytest.mark.whole


def section():
    page = (ROOT / "docs/start.md").read_text(encoding="utf-8")
    return re.search(r"## Your own images\n(.*?)\n## ", page, re.S)[1]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", section(), re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Does what the section says in an empty directory; returns it and what was printed."""
    directory = tmp_path_factory.mktemp("own")
    (directory / "configs").symlink_to(ROOT / "configs")
    environment = small.environment(
        PYTHONPATH=os.fspath(ROOT), JAX_NUM_CPU_DEVICES="1", XLA_FLAGS="", COLUMNS="200"
    )

    def run(*command):
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (code,) = blocks("python")
    run(sys.executable, "-c", code)
    (commands,) = blocks("bash")
    commands = commands.replace("\\\n", " ").strip().splitlines()
    printed = []
    for line in commands:
        python, *typed = shlex.split(line)
        name = typed[1].removeprefix("ltssl_jax.")
        printed.append(run(sys.executable, *typed, *QUICKER.get(name, "").split()))
    return directory, printed


def test_every_image_gets_a_class(place):
    with (place[0] / "shapes/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [pathlib.Path(row["id"]).name for row in rows] == [f"{i:04}.png" for i in range(1200)]
    assert {row["class"] for row in rows} | {row["runner_up"] for row in rows} == KINDS
    for row in rows:
        assert 1 / 3 <= float(row["probability"]) <= 1 and row["class"] != row["runner_up"]
    with (place[0] / "shapes/labels.csv").open(newline="", encoding="utf-8") as file:
        truth = {pathlib.Path(row["path"]).name: row for row in csv.DictReader(file)}
    tested = [r for r in rows if truth.get(pathlib.Path(r["id"]).name, {}).get("split") == "test"]
    hits = sum(r["class"] == truth[pathlib.Path(r["id"]).name]["label"] for r in tested)
    # As the run itself evaluated the checkpoint that predicts, the best; far more than chance.
    exams = small.records(place[0] / "runs/shapes", "evaluation")
    best = max(exams, key=lambda exam: exam["test/balanced_accuracy"])
    assert len(tested) == 120 and hits / 120 == pytest.approx(best["test/accuracy"], abs=1e-6)
    assert hits / 120 > 0.6


def test_the_inspection_is_there_and_knows_the_data(place):
    found = json.loads((place[0] / "shapes/inspection/inspect.json").read_text())
    assert "triangle" in json.dumps(found)
    page = (place[0] / "shapes/inspection/inspect.html").read_text(encoding="utf-8")
    assert all(kind in page for kind in KINDS) and "http" not in re.sub(
        r"http://www.w3.org", "", page
    )


def test_test_images_in_the_pool_are_left_out_and_listed(place):
    with (place[0] / "runs/shapes/skipped.csv").open(newline="", encoding="utf-8") as file:
        skipped = list(csv.DictReader(file))
    assert len(skipped) == 120 and {row["reason"] for row in skipped} == {"also in test"}
