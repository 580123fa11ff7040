"""StableHLO by `jax.export`: a zip file that JAX runs on processors, GPUs and TPUs.

It holds `model.stablehlo` and `facts.json`. JAX promises to read such a model for six months after
the release that wrote it, and in releases up to three weeks older.
"""

import json
import os
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import numpy as np

from ltssl_jax.exporting.function import Exported

ENDING = ".stablehlo.zip"
NEEDS = {"flatbuffers": "export"}  # package -> extra of this library that brings it
PLATFORMS = ("cpu", "cuda", "tpu")
_MODEL, _FACTS = "model.stablehlo", "facts.json"


def write(path: str | os.PathLike, exported: Exported) -> None:
    """Writes the artifact."""
    (number,) = jax.export.symbolic_shape("N")
    images = jax.ShapeDtypeStruct((number, *exported.network.image_shape), np.uint8)
    model = jax.export.export(jax.jit(exported), platforms=PLATFORMS)(images)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(_MODEL, bytes(model.serialize(vjp_order=0)))
        file.writestr(_FACTS, json.dumps(exported.facts, indent=1, ensure_ascii=False))


def facts(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what goes with the model."""
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read(_FACTS))


def read_back(path: str | os.PathLike) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns the model as JAX loads it: images `[N, H, W, C]` uint8 to named outputs `[N, K]`."""
    with zipfile.ZipFile(path) as file:
        model = jax.export.deserialize(bytearray(file.read(_MODEL)))
    return lambda images: jax.device_get(model.call(images))
