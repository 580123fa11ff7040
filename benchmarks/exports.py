"""How large is each exported format, and how long until it has answered for the first time?

The networks of `configs/tras_digits.py` and `configs/tras_cifar10.py` are exported untrained, and
loaded in processes of their own, three times each; the median counts. Seconds are those of the
processor: others may use this machine, too.
"""

import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import harness
import jax
import numpy as np

from ltssl_jax import defaults, export, setups, trained
from ltssl_jax.core import InputError
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.exporting import function

NETWORKS = {
    "digits": (defaults.small_cnn(16), (8, 8, 1)),
    "WRN-28-2": (defaults.wide_resnet(28, 2), (32, 32, 3)),
}
COLUMNS = ("import", "load", "first image", "first 256")
RUNTIMES = dict(
    stablehlo="jax", savedmodel="tensorflow", onnx="onnxruntime", safetensors="ltssl_jax.trained"
)

# In a process that has imported nothing yet: format, path and shape are its arguments.
CHILD = """
import importlib, json, sys, time
format, path, runtime, shape = *sys.argv[1:4], json.loads(sys.argv[4])
ours, times = f"ltssl_jax.exporting.{format}", []

def timed(work, *args):
    began = time.process_time()
    result = work(*args)
    times.append(time.process_time() - began)
    return result

if format in ("savedmodel", "onnx"):
    importlib.import_module(ours)  # imports JAX, which is not needed where these are used
timed(importlib.import_module, runtime)
serve = timed(importlib.import_module(ours).read_back, path)
np = importlib.import_module("numpy")
timed(serve, np.zeros((1, *shape), np.uint8))
timed(serve, np.zeros((256, *shape), np.uint8))
print(json.dumps(times))
"""


def main() -> None:
    """Exports, loads and prints."""
    args = harness.parser(__doc__).parse_args()
    rows = []
    print(" | ".join(("network", "format", "MiB", *COLUMNS)))
    for name, (model, shape) in NETWORKS.items():
        made = function.exported(untrained(model, shape), Deployment(None, None, None, ()))
        for format in export.FORMATS:
            rows.append(dict(network=name, format=format) | measured(format, made))
            print(" | ".join(f"{x:.2f}" if isinstance(x, float) else x for x in rows[-1].values()))
    harness.store(args.json, dict(rows=rows))


def untrained(model, shape):
    """Returns a network as it is before the first step."""
    config = setups.digits()
    config.method, config.model = defaults.method("tras"), model
    config.augment.update(mean=(0.5,) * shape[2], std=(0.25,) * shape[2])
    names = [str(k) for k in range(10)]
    data = dict(class_names=names, image_shape=shape, labeled_counts=[50] * 10, num_unlabeled=1000)
    network = trained.untrained(config, data)
    ema = network.model.init(jax.random.key(0), np.zeros((1, *shape), np.float32), False)
    state = network.state.replace(ema=network.state.ema.replace(**ema))
    return dataclasses.replace(network, state=state)


def measured(format, made):
    """Returns MiB and seconds; nothing where a package is missing."""
    try:
        module = export.module_of(format)
    except InputError as error:
        return {"missing": str(error)}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model")
        module.write(path, made)
        size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
        shape = json.dumps(made.facts["image_shape"])
        command = [sys.executable, "-c", CHILD, format, str(path), RUNTIMES[format], shape]
        times = [json.loads(subprocess.check_output(command)) for _ in range(3)]
    medians = map(statistics.median, zip(*times, strict=True))
    return {"MiB": size / 2**20} | dict(zip(COLUMNS, medians, strict=True))


if __name__ == "__main__":
    main()
