"""The programs of docs/serving say what `predict` says, where this library cannot be imported."""

import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ltssl_jax import export, predict
from ltssl_jax.core import InputError
from tests.exporting import made

ROOT = pathlib.Path(__file__).parents[2]
# Run as a script is, but this library is not found however it was installed.
WITHOUT_US = """
import runpy, sys
sys.modules["ltssl_jax"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SIZES = [(8, 8), (20, 9), (7, 30)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on coloured images cut to squares, calibrated on validation images."""
    data = dict(image_size=8, resize="crop")
    how = dict(method="cdmad", shape=(8, 8, 3), data=data, seed=6)
    directory = made.run(tmp_path_factory.mktemp("serving") / "run", **how)
    made.finish(directory, validation=60)
    return directory


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Image files of several sizes and modes, one of them turned by its EXIF data."""
    directory = tmp_path_factory.mktemp("images")
    for i, (width, height) in enumerate(SIZES):
        pixels = made.pixels(1, (height, width, 3), seed=i)[0] // (1, 5, 1 + 3 * i)
        Image.fromarray(pixels.astype(np.uint8)).save(directory / f"{i}.png")
    Image.fromarray(made.pixels(1, (9, 9), seed=7)[0]).save(directory / "grey.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(made.pixels(1, (9, 30, 3), seed=8)[0]).save(
        directory / "turned.png", exif=turned
    )
    return sorted(map(str, directory.iterdir()))


@pytest.fixture(scope="module")
def expected(run, images, tmp_path_factory):
    """What `predict` writes of them: class and probability."""
    out = tmp_path_factory.mktemp("predicted") / "p.csv"
    predict.predict(run, images, out, is_quiet=True)
    with out.open(newline="", encoding="utf-8") as file:
        rows = {r["id"]: (r["class"], float(r["probability"])) for r in csv.DictReader(file)}
    assert len({name for name, _ in rows.values()}) > 1  # so that the order of classes matters
    return rows


def served(format, artifact, images, *, with_us=False):
    script = str(ROOT / f"docs/serving/from_{format}.py")
    start = [] if with_us else ["-c", WITHOUT_US]
    ours = ("XLA_FLAGS", "JAX_NUMPY_RANK_PROMOTION", "JAX_NUM_CPU_DEVICES")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, *start, script, str(artifact), *images]
    done = subprocess.run(
        command, env=environment, cwd=ROOT.parent, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {path: (name, float(probability)) for path, name, probability in rows}


def assert_same(found, expected):
    assert {path: name for path, (name, _) in found.items()} == {
        path: name for path, (name, _) in expected.items()
    }
    for path, (_, probability) in found.items():
        np.testing.assert_allclose(probability, expected[path][1], rtol=0, atol=1e-4)


@pytest.mark.whole
@pytest.mark.parametrize("format", export.FORMATS)
def test_the_programs_of_the_documents_say_what_predict_says(
    format, run, images, expected, tmp_path
):
    try:
        export.module_of(format)
    except InputError as error:
        pytest.skip(str(error))
    artifact = export.export(run, format, tmp_path / "artifact", is_quiet=True)
    assert_same(served(format, artifact, images, with_us=format == "safetensors"), expected)


@pytest.mark.whole
@pytest.mark.parametrize("format", ["savedmodel", "onnx"])
def test_every_kind_of_network_survives(format, tmp_path):
    try:
        module = export.module_of(format)
    except InputError as error:
        pytest.skip(str(error))
    images = made.pixels(5, (8, 8, 1))
    for name in ("cpe", "cdmad", "ldam"):
        one = made.exported(**made.CASES[name])
        module.write(tmp_path / name, one)
        serve = module.read_back(tmp_path / name)
        probs = serve(images)["probabilities"]
        np.testing.assert_allclose(probs, one.expected(images), rtol=0, atol=1e-5)
        assert module.facts(tmp_path / name) == one.facts


def test_without_us_means_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import ltssl_jax")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, str(script)], capture_output=True, text=True
    )
    assert "ModuleNotFoundError" in done.stderr
