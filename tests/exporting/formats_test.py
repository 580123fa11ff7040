"""Every format gives back the function that was written, for one image or several, and facts."""

import json

import numpy as np
import pytest

from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.exporting import function, safetensors, stablehlo
from tests.exporting import made

LIGHT = [stablehlo, safetensors]  # the others import heavy packages; see serving_test.py


@pytest.fixture(params=LIGHT, ids=lambda module: module.__name__.rpartition(".")[2])
def module(request):
    return request.param


@pytest.fixture(scope="module")
def exports():
    return {name: made.exported(**how) for name, how in made.CASES.items()}


@pytest.mark.parametrize("case", ["tras", "cpe", "cdmad", "ldam"])
def test_the_same_probabilities_come_back(case, module, exports, tmp_path):
    one, images = exports[case], made.pixels(5, (8, 8, 1))
    module.write(tmp_path / "x", one)
    serve, expected = module.read_back(tmp_path / "x"), one.network.answers(images).logits
    assert expected.std(axis=0).min() > 1e-3  # so that the images matter
    for number in (5, 1) if case == "tras" else (5,):
        found = serve(images[:number])
        assert set(found) == {"probabilities", "logits"}
        np.testing.assert_allclose(found["logits"], expected[:number], rtol=0, atol=1e-4)
        probs = softmax(expected[:number])
        np.testing.assert_allclose(found["probabilities"], probs, rtol=0, atol=1e-5)


def test_the_head_is_that_of_the_epoch(exports):
    images = made.pixels(5, (8, 8, 1))
    late, early = (exports[name].expected(images) for name in ("tras", "tras, first head"))
    assert np.abs(late - early).max() > 0.01


def test_temperature_and_prior_are_inside(module, tmp_path):
    found = made.calibration(temperature=2.0)
    deployed = made.AS_IT_IS._replace(calibration=found, prior=np.array([0.7, 0.3, 0, 0]))
    network = made.network()
    one, images = function.exported(network, deployed), made.pixels(5, (8, 8, 1))
    module.write(tmp_path / "x", one)
    answers = module.read_back(tmp_path / "x")(images)
    ratios = deployed.prior / found.prior * np.exp(found.bias)
    powers = np.exp(network.logits(images) / 2) * ratios[None, :]
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(answers["logits"], network.logits(images), atol=1e-4)
    assert module.facts(tmp_path / "x")["temperature"] == 2


def test_the_facts_go_with_it(module, exports, tmp_path):
    module.write(tmp_path / "x", exports["cpe"])
    facts = module.facts(tmp_path / "x")
    assert facts == json.loads(json.dumps(exports["cpe"].facts))
    assert facts["class_names"] == list(made.NAMES) and facts["image_shape"] == [8, 8, 1]
    assert (facts["mode"], facts["resize"], facts["mean"]) == ("L", "", [0.3])
    assert facts["method"]["name"] == "cpe" and facts["model"]["name"] == "wide_resnet"
    assert facts["head"] == "head expert2" and facts["temperature"] == 1


def test_preprocessing_is_said():
    how = dict(shape=(8, 8, 3), data=dict(image_size=8, resize="pad"))
    facts = made.exported(**how).facts
    assert (facts["mode"], facts["resize"]) == ("RGB", "pad")
    assert "add black borders, then 8 x 8 pixels, bilinear" in facts["preprocessing"]
    assert made.exported(shape=(8, 8, 2)).facts["mode"] == ""


def test_other_types_are_computed_in_float32(module, tmp_path):
    model = made.small.config().model.to_dict() | {"dtype": "bfloat16"}
    rounded = made.network(model=model)
    one, images = function.exported(rounded, made.AS_IT_IS), made.pixels(5, (8, 8, 1))
    module.write(tmp_path / "x", one)
    logits = module.read_back(tmp_path / "x")(images)["logits"]
    exact = made.network().logits(images)
    np.testing.assert_allclose(logits, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    assert np.abs(rounded.logits(images) - exact).max() > 1e-3 * np.abs(exact).max()
    assert module.facts(tmp_path / "x")["model"]["dtype"] == "float32"
    assert rounded.config.model.dtype == "bfloat16"


def test_stablehlo_is_for_all_accelerators(exports, tmp_path):
    import zipfile

    import jax

    stablehlo.write(tmp_path / "x", exports["ldam"])
    with zipfile.ZipFile(tmp_path / "x") as file:
        model = jax.export.deserialize(bytearray(file.read("model.stablehlo")))
    assert model.platforms == ("cpu", "cuda", "tpu")
    (images,) = model.in_avals
    assert images.dtype == np.uint8 and images.shape[1:] == (8, 8, 1)
    assert not isinstance(images.shape[0], int)


def test_safetensors_tell_nothing_of_the_machine(tmp_path):
    network = made.network()
    network.config.parallel.coordinator = "host:1234"
    network.config.monitoring.wandb = "project"
    network.config.data.source.root = "/home/me"
    safetensors.write(tmp_path / "x", function.exported(network, made.AS_IT_IS))
    written = (tmp_path / "x").read_bytes()
    assert b"conv0" in written
    assert not any(word in written for word in (b"host:1234", b"project", b"/home/me"))


def test_safetensors_hold_the_averages_under_their_paths(exports, tmp_path):
    from safetensors.numpy import load_file

    safetensors.write(tmp_path / "x", exports["ldam"])
    tensors, ema = load_file(tmp_path / "x"), exports["ldam"].network.state.ema
    kernel = ema.params["backbone"]["conv0"]["kernel"]
    np.testing.assert_array_equal(tensors["params.backbone.conv0.kernel"], kernel)
    mean = ema.batch_stats["backbone"]["bn0"]["mean"]
    np.testing.assert_array_equal(tensors["batch_stats.backbone.bn0.mean"], mean)
