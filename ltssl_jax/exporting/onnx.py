"""ONNX by `jax2onnx`: a file for onnxruntime, and through it for most languages and devices.

The argument is `images`, the outputs `probabilities` and `logits`; the rest is JSON in the model's
metadata, under `facts`.
"""

import json
import operator
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ltssl_jax.exporting.function import INPUT, Exported

ENDING = ".onnx"
NEEDS = {"jax2onnx": "onnx", "onnxruntime": "onnx"}
OUTPUTS = ("probabilities", "logits")
# Of 2024; runtimes read older models for ever, newer ones not at all.
_OPSET = 21


def write(path: str | os.PathLike, exported: Exported) -> None:
    """Writes the artifact."""
    import jax2onnx
    import onnx

    (number,) = jax.export.symbolic_shape("N")
    model = jax2onnx.to_onnx(
        lambda images: operator.itemgetter(*OUTPUTS)(exported(images)),
        [jax.ShapeDtypeStruct((number, *exported.network.image_shape), np.uint8)],
        opset=_OPSET,
        input_names=[INPUT],
        output_names=OUTPUTS,
    )
    model.producer_name = exported.facts["made_by"]
    onnx.helper.set_model_props(model, {"facts": json.dumps(exported.facts)})
    onnx.checker.check_model(model)
    onnx.save(model, os.fspath(path))


def facts(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what goes with the model."""
    return json.loads(_session(path).get_modelmeta().custom_metadata_map["facts"])


def read_back(path: str | os.PathLike) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns the model as onnxruntime loads it: images `[N, H, W, C]` uint8 to named outputs."""
    session = _session(path)
    return lambda images: dict(zip(OUTPUTS, session.run(OUTPUTS, {INPUT: images}), strict=True))


def _session(path: str | os.PathLike):
    import onnxruntime

    return onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
