"""TensorFlow's SavedModel by `jax2tf`: a directory for TensorFlow, its Serving and its clouds.

The signature `serving_default` has the argument `images`; class names and the rest are the asset
`facts.json`. The network is one XLA operation, which TensorFlow Lite and TensorFlow.js lack.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from ltssl_jax.exporting.function import INPUT, Exported
from ltssl_jax.exporting.stablehlo import PLATFORMS

ENDING = ".savedmodel"
NEEDS = {"tensorflow": ""}  # without an extra: where it can be had, it is installed
_FACTS = "facts.json"


def write(path: str | os.PathLike, exported: Exported) -> None:
    """Writes the artifact."""
    import tensorflow as tf
    from jax.experimental import jax2tf

    shape = exported.network.image_shape
    function = jax2tf.convert(
        exported,
        polymorphic_shapes=[f"(N, {', '.join(map(str, shape))})"],
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    images = tf.TensorSpec([None, *shape], tf.uint8, name=INPUT)
    module = tf.Module()
    module.serve = tf.function(function, input_signature=[images], autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, _FACTS)
        file.write_text(json.dumps(exported.facts, indent=1, ensure_ascii=False), encoding="utf-8")
        module.facts = tf.saved_model.Asset(str(file))
        tf.saved_model.save(module, os.fspath(path), signatures={"serving_default": module.serve})


def facts(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what goes with the model."""
    return json.loads(pathlib.Path(path, "assets", _FACTS).read_text(encoding="utf-8"))


def read_back(path: str | os.PathLike) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns the model as TensorFlow loads it: images `[N, H, W, C]` uint8 to named outputs."""
    import tensorflow as tf

    module = tf.saved_model.load(os.fspath(path))
    serve = module.signatures["serving_default"]

    def answers(images: np.ndarray) -> dict[str, np.ndarray]:
        found = serve(**{INPUT: tf.constant(images)})
        return {name: value.numpy() for name, value in found.items()}

    answers.module = module  # else it, and its variables, would be gone
    return answers
