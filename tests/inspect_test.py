"""The command on whole data sets: digits, folders with broken files, groups on two sides."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from ltssl_jax import defaults, inspect, setups
from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Records
from ltssl_jax.inspection import overview
from tests import small

KEYS = {
    "data", "totals", "counts", "pool_unknown", "labeled_in_pool", "imbalance", "few", "absent",
    "images", "skipped", "groups", "duplicates", "shift", "frechet", "cost", "made_by", "findings",
}  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The directory written for the digits, and what was returned."""
    out = tmp_path_factory.mktemp("digits")
    config = small.config({"parallel.num_devices": 1})
    return out, inspect.inspect(config, out, cost_seconds=0.01, command="typed", is_quiet=True)


def test_both_files_are_written_and_agree(digits):
    out, found = digits
    assert sorted(path.name for path in out.iterdir()) == ["inspect.html", "inspect.json"]
    assert json.loads((out / "inspect.json").read_text()) == found
    assert set(found) == KEYS
    assert "typed" in (out / "inspect.html").read_text()


def test_counts_are_those_of_the_split(digits):
    found = digits[1]
    assert found["totals"] == {"labeled": 201, "pool": 1096, "validation": 0, "test": 500}
    assert sorted(found["counts"]["labeled"])[::9] == [3, 60]
    assert found["counts"]["test"] == [50] * 10
    assert found["imbalance"] == {"ratio": 20.0, "largest": 60, "smallest": 3}
    few = [k for k, n in enumerate(found["counts"]["labeled"]) if n < 10]
    assert found["few"] == {"threshold": 10, "classes": few}
    assert found["absent"] == {"labeled": [], "test": []}
    assert found["groups"] is None and found["skipped"]["total"] == 0


def test_the_shift_of_the_digits_is_seen(digits):
    found = digits[1]
    shift, counts = found["shift"], np.array(found["counts"]["pool"])
    estimated = {g["classes"][0]: g["pool"] for g in shift["groups"] if len(g["classes"]) == 1}
    truth = {k: counts[k] / counts.sum() for k in estimated}
    assert len(estimated) == 8  # two classes have fewer than five labels
    assert max(abs(estimated[k] - truth[k]) for k in estimated) < 0.1
    assert shift["distance"][1] > 0.2
    assert found["frechet"]["distance"] > found["frechet"]["yardstick_high"]


def test_the_real_step_is_timed(digits):
    cost = digits[1]["cost"]
    assert cost["reason"] == "" and cost["timed_steps"] >= 2 and cost["steps"] == 12
    assert cost["memory_bytes"] > 10_000 and cost["feed"] == "resident"
    total = cost["compile_seconds"] + 12 * cost["step_seconds"]
    assert cost["total_seconds"] == pytest.approx(total)


def write(path, seed, side=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(256, size=(4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def broken(tmp_path):
    """A folder with more broken files than whole ones, copies across parts, and strange names."""
    root, seed = tmp_path / "images", 0
    names = ("cats", "<b>dogs</b>".replace("/", "_"))
    for name in names:
        for part, number in (("train", 6), ("test", 3)):
            for i in range(number):
                seed += 1
                write(root / part / name / f"{i}.png", seed)
        for i in range(8):
            (root / "train" / name / f"broken {i}.png").write_bytes(b"no image" * (i % 2))
    for i in range(5):
        write(root / "pool" / f"{i}.png", 100 + i)
    (root / "pool" / "copy.png").write_bytes((root / "test" / "cats" / "1.png").read_bytes())
    (root / "train" / "cats" / "copy.png").write_bytes(
        (root / "test" / names[1] / "2.png").read_bytes()
    )
    return root


def test_a_tree_with_broken_files(broken, tmp_path):
    config = setups.digits()
    config.data.source = defaults.source("folder", root=str(broken))
    config.data.split = defaults.split(protocol="given")
    found = inspect.inspect(config, tmp_path / "out", few=7, cost_seconds=0, is_quiet=True)
    assert found["totals"] == {"labeled": 13, "pool": 6, "validation": 0, "test": 6}
    assert found["skipped"]["total"] == 16 and len(found["skipped"]["files"]) == 16
    assert {one["count"] for one in found["skipped"]["by_reason"]} == {8}
    assert sum(one["count"] for one in found["images"]["sizes"]["most_common"]) == sum(
        found["totals"].values()
    )
    exact = found["duplicates"]["exact"]
    assert exact["between"] == {"labeled/test": 1, "pool/test": 1} and exact["conflicts"] == 1
    first = found["duplicates"]["listed"][0]
    assert [one["part"] for one in first] == ["labeled", "test"]
    assert first[0]["name"] == "train/cats/copy.png"
    assert "50 are the least" in found["shift"]["reason"] and found["frechet"]["reason"]
    assert [one["level"] for one in found["findings"]][:3] == ["problem"] * 3
    assert found["few"]["classes"] == [found["data"]["class_names"].index("<b>dogs<_b>")]
    html = (tmp_path / "out" / "inspect.html").read_text()
    assert "&lt;b&gt;dogs" in html and "<b>dogs" not in html


def test_a_cost_that_cannot_be_measured_does_not_spoil_the_rest(tmp_path):
    config = small.config({"train.batch_size": 7})
    found = inspect.inspect(config, tmp_path, cost_seconds=1, is_quiet=True)
    assert "batch_size is 7" in found["cost"]["reason"]
    assert (tmp_path / "inspect.html").exists()


def test_baselines_are_part_of_the_cost(monkeypatch):
    def timed(config, *_):
        is_baseline = config.method.name == "supervised"
        return {"compile_seconds": 3.0, "step_seconds": 0.25 if is_baseline else 1.0}

    monkeypatch.setattr(inspect, "_timed", timed)
    alone = inspect.cost(small.config(), None, None, seconds=1)
    assert (alone["baseline_seconds"], alone["total_seconds"]) == (0, 3 + 12)
    found = inspect.cost(small.config({"baseline": True}), None, None, seconds=1)
    assert found["baseline_seconds"] == 2 * (3 + 12 / 4)
    assert found["total_seconds"] == 3 + 12 + found["baseline_seconds"]


def test_running_out_of_memory_is_a_reason(monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmuch more")

    monkeypatch.setattr(inspect, "_measured", full)
    found = inspect.cost(small.config(), None, None, seconds=1)
    assert found == {"reason": "RESOURCE_EXHAUSTED: out of memory"}


def test_groups_on_two_sides():
    def records(groups):
        labels = np.zeros(len(groups), np.int32)
        return Records(labels, lambda at: None, (1, 1, 1), groups=np.array(groups))

    found = {
        "labeled": records([1, 1, -1, 2]),
        "pool": records([3, 4]),
        "validation": Records(np.zeros(0, np.int32), lambda at: None, (1, 1, 1)),
        "test": records([2, 2, 4, 9, -1]),
    }
    assert overview.shared_groups(found) == [
        {"parts": ["labeled", "test"], "groups": 1, "images": 2},
        {"parts": ["pool", "test"], "groups": 1, "images": 1},
    ]
    assert overview.shared_groups({"labeled": found["labeled"]}) == []
    assert overview.shared_groups({"validation": found["validation"]}) is None


def test_labeled_images_in_the_pool_are_no_copies(tmp_path):
    config = small.config({"data.split.overlap": True})
    found = inspect.inspect(config, tmp_path, cost_seconds=0, is_quiet=True)
    assert found["labeled_in_pool"] == 201 and found["totals"]["labeled"] == 201
    assert found["totals"]["pool"] == 1096
    assert found["duplicates"]["exact"]["clusters"] == 0


def test_an_unusable_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out .*file.*choose another"):
        inspect.inspect(small.config(), tmp_path / "file", is_quiet=True)


@pytest.mark.whole
def test_the_command_says_what_matters(tmp_path):
    ours = ("XLA_FLAGS", "JAX_NUMPY_RANK_PROMOTION")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-m", "ltssl_jax.inspect", "--config=configs/tras_digits.py"]

    def said(*flags):
        return subprocess.run(
            [*command, *flags], env=environment, capture_output=True, text=True, timeout=300
        )

    done = said(f"--workdir={tmp_path}", "--few=6", "--cost_seconds=0")
    assert done.returncode == 0, done.stderr
    assert "digits: 201 labeled, 1,096 pool, 500 test" in done.stdout
    assert "3 of 10 classes have fewer than 6 labeled images" in done.stdout
    assert "imbalance ratio 20" in done.stdout
    assert (tmp_path / "inspect.json").exists()
    wrong = said("--fww=3")
    assert wrong.returncode == 1 and "fww" in wrong.stderr and "Traceback" not in wrong.stderr
    assert "python -m ltssl_jax.inspect --help" in wrong.stderr
