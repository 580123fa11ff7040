"""Runs with random weights: directories that can be exported without any training."""

import dataclasses
import json

import jax
import numpy as np

from ltssl_jax import defaults, trained
from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.deployment.probabilities import Deployment
from ltssl_jax.evaluation import predictions
from ltssl_jax.evaluation.calibration import Calibration
from ltssl_jax.exporting import function
from tests import small

NAMES = ("0, zero", '1 "one"', "ß é漢", "<b>")
AS_IT_IS = Deployment(None, None, None, ())
# Methods whose prediction is not just one head of the network, and all networks.
CASES = {
    "tras": dict(method="tras", warmup_epochs=1),
    "tras, first head": dict(method="tras", warmup_epochs=1, step=4),
    "cpe": dict(method="cpe", model=defaults.wide_resnet(10, 1)),
    "cdmad": dict(method="cdmad", model=defaults.cifar_resnet(8)),
    "ldam": dict(method="supervised", objective="ldam"),
}


def network(*, method="tras", step=12, shape=(8, 8, 1), model=None, data=None, seed=0, **settings):
    """Returns a `Trained` of random weights and statistics."""
    config = small.config()
    config.method = defaults.method(method, **settings)
    if model:
        config.model = model
    config.data.update(data or {})
    config.augment.update(mean=(0.3,) * shape[2], std=(0.4,) * shape[2])
    empty = trained.untrained(config, card(shape), batch_size=8, num_devices=1)
    rng = np.random.default_rng(seed)

    def random(like):  # of a size that lets signals neither die nor grow
        scale, mean = (2 * like[..., 0].size ** -0.5, 0) if like.ndim > 1 else (0.2, 1)
        return rng.normal(mean, scale, like.shape).astype(like.dtype)

    ema = jax.tree.map(random, empty.state.ema)
    return dataclasses.replace(empty, state=empty.state.replace(step=np.int32(step), ema=ema))


def card(shape):
    return dict(
        class_names=NAMES, image_shape=shape, labeled_counts=[20, 10, 4, 3], num_unlabeled=50
    )


def exported(**how):
    """Returns a network as formats write it."""
    return function.exported(network(**how), AS_IT_IS)


def run(directory, **how):
    """Writes the directory of a run that was interrupted after its first checkpoint."""
    made = network(**how)
    identity = {"data": card(made.image_shape), "versions": {}}
    text = json.dumps(made.config.to_dict() | {"identity": identity})
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(text)
    with CheckpointStore(directory / "checkpoints", json.loads(text)["identity"]) as store:
        store.save(made.state)
    return directory


def finish(directory, *, validation):
    """Adds what a finished run keeps; its network was too sure of itself on `validation` images."""
    made, images = trained.load(directory, num_devices=1), pixels(validation, (8, 8, 1))
    labels = np.arange(validation) % len(NAMES)
    said = 3 * np.eye(len(NAMES), dtype=np.float32)[(labels + (labels % 3 == 0)) % len(NAMES)]
    names = np.array([str(i) for i in labels])
    kept = predictions.Predictions(said, labels, names, np.arange(2), images[:2])
    np.savez(directory / predictions.FILE, **predictions.arrays({"validation": kept}))
    (directory / "result.json").write_text(json.dumps({"step": int(made.state.step)}))


def pixels(number, shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (number, *shape)).astype(np.uint8)


def calibration(*, temperature):
    """Returns one that changes the classes differently."""
    bias, prior = np.array([0.5, -0.5, 0.0, 0.0]), np.array([0.4, 0.3, 0.2, 0.1])
    return Calibration(1 / temperature, bias, prior, "validation", 40)
