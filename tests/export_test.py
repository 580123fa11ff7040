"""The command: what it writes and says, and that nothing it cannot vouch for stays on disk."""

import json
import os
import pathlib
import re
import shutil
import sys
import zipfile
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ltssl_jax import export, trained
from ltssl_jax.core import InputError
from ltssl_jax.exporting import agreement, function, safetensors
from ltssl_jax.report import runs
from tests.exporting import made


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run of random weights, finished; read it only."""
    directory = made.run(tmp_path_factory.mktemp("run") / "run", method="supervised")
    made.finish(directory, validation=60)
    return directory


@pytest.fixture(scope="module")
def artifact(run, tmp_path_factory):
    """What was exported of it; copy it to change it."""
    out = tmp_path_factory.mktemp("artifact") / "x"
    return export.export(run, "safetensors", out, is_quiet=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lie(monkeypatch, answers):
    """Lets the format give back another function than was written."""
    monkeypatch.setattr(safetensors, "read_back", lambda path: answers)


# --- what is written ------------------------------------------------------------------------------


def test_what_is_written_is_told_and_says_what_predict_says(run, here, capsys):
    copy = shutil.copytree(run, "copy")
    path = export.export(copy, "safetensors")
    assert path == pathlib.Path("copy/exported/model.safetensors")
    said = capsys.readouterr().out
    assert re.search(r"network: head base, EMA weights, step 12", said), said
    temperature = float(re.search(r"temperature ([\d.]+), fitted on 60 validation", said)[1])
    assert re.search(r"probabilities of 39 images differ by \d\.\de[-+]\d\d at most", said)
    assert "written to copy/exported/model.safetensors (0.0" in said
    images = made.pixels(9, (8, 8, 1))
    logits = trained.load(run).logits(images)
    powers = np.exp(logits / temperature)
    probs = safetensors.read_back(path)(images)["probabilities"]
    np.testing.assert_allclose(probs, powers / powers.sum(axis=1, keepdims=True), atol=5e-3)
    assert temperature > 1.2 and os.listdir("copy/exported") == ["model.safetensors"]


def test_probabilities_are_for_the_prior_that_is_given(run, here):
    pathlib.Path("p.json").write_text(json.dumps(dict(zip(made.NAMES, (1, 1, 1, 0), strict=True))))
    path = export.export(run, "safetensors", "x", prior="p.json", is_quiet=True)
    probs = safetensors.read_back(path)(made.pixels(9, (8, 8, 1)))["probabilities"]
    assert probs[:, 3].max() < 1e-9 and probs.sum() == pytest.approx(9)


def test_the_checkpoint_is_the_one_asked_for(run, here):
    path = export.export(run, "safetensors", "x", which=12, is_quiet=True)
    assert safetensors.facts(path)["checkpoint"] == "step 12, as asked for"
    with pytest.raises(InputError, match="no checkpoint 13; give best"):
        export.export(run, "safetensors", "y", which=13)


def test_the_last_stage_is_exported(here):
    made.run(here / "staged/1_first", method="fixmatch")
    made.run(here / "staged/2_second", method="supervised")
    order = {"directories": ["1_first", "2_second"]}
    pathlib.Path("staged/stages.json").write_text(json.dumps(order))
    path = export.export("staged", "safetensors", is_quiet=True)
    assert path == pathlib.Path("staged/exported/model.safetensors")
    assert safetensors.facts(path)["method"]["name"] == "supervised"


def test_an_earlier_export_is_replaced_and_nothing_else(run, artifact, here):
    path = pathlib.Path(shutil.copy(artifact, "x"))
    assert safetensors.facts(path)["temperature"] > 1.2
    export.export(run, "safetensors", "x", calibrate="none", is_quiet=True)
    assert safetensors.facts(path)["temperature"] == 1
    pathlib.Path("dir").mkdir()
    pathlib.Path("dir/mine").write_text("precious")
    pathlib.Path("table.csv").write_text("precious")
    for out in ("dir", "table.csv"):
        with pytest.raises(InputError, match=f"'{out}' exists and is no earlier export"):
            export.export(run, "safetensors", out)
    assert pathlib.Path("dir/mine").read_text() == "precious"
    assert pathlib.Path("table.csv").read_text() == "precious"


@pytest.mark.parametrize("is_good", [True, False])
def test_what_lies_beside_it_is_not_touched(is_good, run, here, monkeypatch):
    pathlib.Path("x.partial").mkdir()
    for name in ("x.partial/mine", "y.partial"):
        pathlib.Path(name).write_text("precious")
    for out in ("x", "y"):
        if is_good:
            export.export(run, "safetensors", out, is_quiet=True)
        else:
            lie(monkeypatch, lambda images: {"probabilities": np.zeros((len(images), 4))})
            with pytest.raises(InputError, match="differ by"):
                export.export(run, "safetensors", out, is_quiet=True)
    assert set(os.listdir()) == {"x.partial", "y.partial"} | ({"x", "y"} if is_good else set())
    assert pathlib.Path("x.partial/mine").read_text() == "precious"
    assert pathlib.Path("y.partial").read_text() == "precious"


def test_an_earlier_export_survives_until_another_is_in_its_place(run, artifact, here, monkeypatch):
    path = pathlib.Path(shutil.copy(artifact, "x"))

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(InputError, match="cannot be written.*no space left"):
        export.export(run, "safetensors", path, is_quiet=True)
    assert path.read_bytes() == artifact.read_bytes() and os.listdir() == ["x"]


def test_a_directory_is_replaced_as_a_whole(here):
    module = SimpleNamespace(facts=lambda path: {"made_by": "ltssl_jax 0"})
    for name in ("first", "second"):
        with export._placed(pathlib.Path("x"), module) as scratch:
            scratch.mkdir()
            (scratch / name).touch()
    assert os.listdir() == ["x"] and os.listdir("x") == ["second"]


def test_where_things_lie_is_not_in_the_facts(run, here):
    made.run(here / "secret/unfinished", method="supervised")
    path = export.export("secret/unfinished", "safetensors", "x", is_quiet=True)
    (note,) = safetensors.facts(path)["probabilities"]
    assert note.startswith("probabilities: the network's own (the run kept no predictions")
    prior = pathlib.Path("secret/p.json")
    prior.write_text(json.dumps(dict.fromkeys(made.NAMES, 1)))
    path = export.export(run, "safetensors", "x", prior=str(prior.resolve()), is_quiet=True)
    assert "adjusted to the prior p.json" in safetensors.facts(path)["probabilities"][0]


def test_source_files_are_named_without_their_directories(run, here):
    path = export.export(run, "stablehlo", "x", is_quiet=True)
    with zipfile.ZipFile(path) as file:
        program = file.read("model.stablehlo")
    assert b"function.py" in program and b"/function.py" not in program
    assert not jax.config.jax_hlo_source_file_canonicalization_regex


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "out"), [(1e-3, "x"), (np.nan, "new/y")])
def test_a_model_that_says_something_else_is_removed(shift, out, run, artifact, here, monkeypatch):
    path, honest = pathlib.Path(shutil.copy(artifact, "x")), safetensors.read_back(artifact)
    lie(monkeypatch, lambda images: {"probabilities": honest(images)["probabilities"] + shift})
    with pytest.raises(InputError, match="differ by .* so it was removed.*JAX_PLATFORMS=cpu"):
        export.export(run, "safetensors", out)
    assert path.read_bytes() == artifact.read_bytes()
    assert {p.name for p in here.rglob("*")} <= {"new", "x"}


def test_a_model_that_is_wrong_for_one_image_alone_is_noticed():
    one, many = made.exported(), agreement.random((8, 8, 1))
    expected = one.expected(many)

    def answers(images):
        return {"probabilities": expected if len(images) > 1 else expected[3:4]}

    with pytest.raises(InputError, match="differ by"):
        agreement.difference(one, answers, many)


def test_a_diverged_network_is_not_exported():
    network = made.network()
    ema = network.state.ema
    head = ema.params["classifier_base"]["dense"]
    head["bias"] = head["bias"] * np.nan
    one = function.exported(network, made.AS_IT_IS)
    with pytest.raises(InputError, match="not finite.*diverged.*--which"):
        agreement.difference(one, lambda images: None, made.pixels(2, (8, 8, 1)))


def test_probes_are_what_the_run_has_kept_and_noise_of_all_contrasts(run):
    probes = agreement.probes(runs.read(run), (8, 8, 1))
    np.testing.assert_array_equal(probes[-2:], made.pixels(60, (8, 8, 1))[:2])
    contrast = probes[:-2].std(axis=(1, 2, 3))
    assert contrast.min() < 10 and contrast.max() > 50
    assert len(agreement.probes(runs.read(run), (8, 8, 3))) == len(probes) - 2


def test_a_missing_package_is_named_with_the_remedy(run, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    for format, said in {
        "onnx": r'needs jax2onnx.*pip install -e "\.\[onnx\]"',
        "safetensors": r'needs safetensors.*pip install -e "\.\[export\]"',
        "stablehlo": r'needs flatbuffers.*pip install -e "\.\[export\]"',
        "savedmodel": "needs tensorflow.*pip install tensorflow,",
    }.items():
        with pytest.raises(InputError, match=said):
            export.export(run, format)


@pytest.mark.parametrize("out", ["/dev/null/x", "/proc/x"])
def test_an_impossible_place_is_refused(out, run):
    with pytest.raises(InputError, match="--out .* cannot be written"):
        export.export(run, "safetensors", out, is_quiet=True)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "give one RUN and --format.*--help"),
        (["run"], "give one RUN and --format"),
        (["run", "other", "--format=onnx"], "give one RUN"),
        (["nowhere", "--format=safetensors"], "nowhere is no run"),
        (["empty", "--format=safetensors"], "empty has no checkpoint yet"),
        (["nowhere", "--format=tflite"], "--format 'tflite' is unknown.*savedmodel"),
        (["nowhere", "--oout=x"], "oout.*out.*--help"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_a_sentence(argv, said, run, here, monkeypatch):
    shutil.copytree(run, "empty")
    shutil.rmtree("empty/checkpoints")
    monkeypatch.setattr(sys, "argv", ["export", *argv])
    for flag in export.FLAGS:
        export.FLAGS[flag].unparse()
    with pytest.raises(SystemExit) as end:
        export.cli()
    assert re.search(said, end.value.code) and end.value.code.startswith("error: ")
    assert os.listdir() == ["empty"]


def test_help_names_every_flag_and_format(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", "--help"])
    with pytest.raises(SystemExit) as end:
        export.cli()
    said = capsys.readouterr().out
    assert not end.value.code and said.startswith("Makes a trained network usable elsewhere")
    assert all(f"--{flag}" in said.replace("[no]", "") for flag in export.FLAGS)
    assert all(format in said for format in export.FORMATS)
