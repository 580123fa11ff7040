"""safetensors: the weights alone, under their paths in Flax, for who builds the network anew.

Of the checkpoint there are the moving averages, `params.*` and `batch_stats.*`. The metadata hold
four JSON texts: `facts`, `config` (of the run, what a network is built from), `data` (counts) and
`shift` (see `Exported`). `read_back` builds the network from them with this library.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from ltssl_jax import trained, written
from ltssl_jax.core import Ema
from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.exporting.function import Exported

ENDING = ".safetensors"
NEEDS = {"safetensors": "export"}
_TEXTS = ("facts", "config", "data", "shift")
# What `trained.untrained` reads; the rest is about the run's machine and where its images lay.
_FIELDS = {
    "data": ("image_size", "resize"),
    "parallel": ("per_device_statistics",),
}
_BLOCKS = ("seed", "augment", "model", "method", "optim", "train")


def write(path: str | os.PathLike, exported: Exported) -> None:
    """Writes the artifact."""
    from safetensors.numpy import save

    network = exported.network
    whole = network.config.to_dict()
    config = {name: whole[name] for name in _BLOCKS}
    for block, fields in _FIELDS.items():
        config[block] = {name: whole[block][name] for name in fields}
    data = {
        "class_names": network.class_names,
        "image_shape": network.image_shape,
        "labeled_counts": np.asarray(network.problem.labeled_counts).tolist(),
        "num_unlabeled": network.problem.num_unlabeled,
        "step": int(network.state.step),
    }
    texts = zip(_TEXTS, (exported.facts, config, data, exported.shift.tolist()), strict=True)
    tensors = flatten_dict(vars(network.state.ema), sep=".")
    pathlib.Path(path).write_bytes(
        save(
            {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
            {name: json.dumps(text, ensure_ascii=False) for name, text in texts},
        )
    )


def facts(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what goes with the weights."""
    return json.loads(_read(path)[1]["facts"])


def read_back(path: str | os.PathLike) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns the network, built by this library: images `[N, H, W, C]` uint8 to named outputs."""
    tensors, texts = _read(path)
    about, config, data, shift = (json.loads(texts[name]) for name in _TEXTS)
    network = trained.untrained(ConfigDict(written.with_tuples(config)), data)
    state = network.state.replace(step=np.int32(data["step"]), ema=Ema(**tensors))
    network = dataclasses.replace(network, state=state)

    def answers(images: np.ndarray) -> dict[str, np.ndarray]:
        logits = network.logits(images)
        scores = logits / np.float32(about["temperature"]) + np.array([shift], np.float32)
        return {"probabilities": softmax(scores), "logits": logits}

    return answers


def _read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the tensors, nested as they are in Flax, and the metadata."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return unflatten_dict(tensors, sep="."), file.metadata()
